"""Listings of stores and web servers that end: in stated numbers of names and pages, or with the reason why not.

`web.install` registers the filesystems here and in `object_stores.py` in the place of fsspec's own.
"""

import contextvars
import errno
from typing import Any, Final

from fsspec.implementations.http import HTTPFileSystem

from mmcorpus.filters import web
from mmcorpus.filters.secrets import masked_text

MOST_NAMES: Final = 2_000_000
"""Names of one listing; each takes about a kilobyte of memory."""
FREE_PAGES: Final = 1_000
"""Pages that may bring as little as they like; of more, each has to bring `NAMES_A_PAGE` on average."""
NAMES_A_PAGE: Final = 10
NOT_THERE: Final = frozenset({403, 404, 410})
"""Statuses of what a web server does not have; public buckets say 403 of it."""
MOST_LEVELS: Final = 100
"""Of a web server's folders one in another."""


class EndlessListing(ValueError):
    """A listing that goes in a circle, or has more pages or names than are read."""


class Listing:
    """What was read so far of one."""

    def __init__(self, place: str) -> None:
        self._place = place
        self.pages = self.names = 0

    def add(self, names: int) -> None:
        """One more page. Raises EndlessListing."""
        self.pages += 1
        self.names += names
        if self.names > MOST_NAMES:
            raise self.endless(
                f"has no end in sight; at most {MOST_NAMES:,} names are read, so name a folder with fewer"
            )
        if self.pages > FREE_PAGES + self.names // NAMES_A_PAGE:
            raise self.endless("does not get on")

    def endless(self, what: str) -> EndlessListing:
        """The error that says so."""
        had = f"{self.names:,} names in {self.pages:,} pages"
        return EndlessListing(f"the listing of {self._place} {what} ({had}); look at what is listed there")


_current: contextvars.ContextVar[Listing | None] = contextvars.ContextVar("listing", default=None)


class Http(HTTPFileSystem):
    """fsspec's filesystem of web servers, whose folders may hold themselves."""

    async def _info(self, url: str, **kwargs: Any) -> Any:
        try:
            return await super()._info(url, **kwargs)
        except FileNotFoundError as error:  # fsspec says so whatever happened
            why = error.__cause__
            if why is None or getattr(why, "status", None) in NOT_THERE or isinstance(why, FileNotFoundError):
                raise
            raise OSError(errno.EIO, f"the server does not say what it has: {web.reason(why)}", url) from why

    async def _find(self, path: str, *args: Any, **kwargs: Any) -> Any:
        told = _current.set(Listing(masked_text(path)))
        try:
            return await super()._find(path, *args, **kwargs)
        finally:
            _current.reset(told)

    async def _ls(self, url: str, *args: Any, **kwargs: Any) -> Any:
        found = await super()._ls(url, *args, **kwargs)
        if (listing := _current.get()) is not None:
            listing.add(len(found))
            if url.count("/") > MOST_LEVELS:
                raise listing.endless(f"has folders in folders over {MOST_LEVELS} deep")
        return found
