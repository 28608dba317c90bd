"""HTTP answers that end: a server that drips, hangs, or sends for ever is given up in stated time, with a reason.

aiohttp's own limits are a time for the whole answer, which a large file on a slow line exceeds, and one between two
bytes, which a byte a second never does. Here the head has a time of its own, interim answers included; the body has a
least rate over the time that was spent waiting for it, so that a reader may take its time; a file that is said to be
large has to come faster, so that a day is waited for any, read whole or in parts; and there is a most number of bytes
wherever a server does not have to say one, or is not asked for more.
"""

import asyncio
import functools
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import aiohttp

CONNECT_SECONDS: Final = 30.0
HEAD_SECONDS: Final = 60.0
"""For status line and headers, of each redirect anew; at most ten are followed."""
GRACE_SECONDS: Final = 60.0
"""A body is waited for so long, whatever comes; after it, `LEAST_RATE` has to be kept."""
LEAST_RATE: Final = 10 << 10
"""Bytes a second, over all the time that was spent waiting."""
MOST_AT_ONCE: Final = 2 << 30
"""Bytes of a body that is read whole into memory."""
MOST_OF_AN_ANSWER: Final = 64 << 20
"""Bytes of what a model server answers."""
MOST: Final = 1 << 40
"""Bytes of any body."""
MOST_SECONDS: Final = 86_400.0
"""For all of a file whose length the server says: its least rate is what brings it in that time, if that is more."""
PARTS_SECONDS: Final = 3600.0
"""For parts of a file, each of which may be too short for a least rate of its own; then they have to keep it."""
MOST_UNSIZED: Final = 4 << 30
"""Bytes of a body whose length the server does not say."""
UNSIZED_SECONDS: Final = 3600.0
"""For such a body, what its reader does meanwhile included."""
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d+)")
_WHOLE: Final = re.compile(r"bytes \d{1,18}-\d{1,18}/(\d{1,18})")
_PART: Final = 1 << 20
"""Bytes. Who asks for less reads here and there, and waits for each answer to begin rather than for bytes."""
_ADDRESSES: Final = 10_000
"""Of which it is known how long their parts were waited for."""


class GivenUp(OSError):
    """An answer that took too long, came too slowly, or had no end. (As a TimeoutError fsspec would lose its text.)"""


@functools.cache
def response_class(*, answer: bool = False) -> "type[aiohttp.ClientResponse]":
    """aiohttp's answer with these limits, for `aiohttp.ClientSession(response_class=…)`.

    answer: a model server's, which thinks before it speaks: it has at most `MOST_OF_AN_ANSWER` bytes, and the session's
    own time.
    """
    import aiohttp

    waited: dict[str, Waited] = {}

    class PacedResponse(aiohttp.ClientResponse):
        async def start(self, connection: Any) -> aiohttp.ClientResponse:
            paced = not answer and self.method in ("GET", "HEAD")  # what is sent comes before an answer's head
            try:
                async with asyncio.timeout(HEAD_SECONDS if paced else None):
                    await super().start(connection)
            except TimeoutError:
                if not paced:
                    raise
                raise GivenUp(f"no whole head of an answer within {HEAD_SECONDS:g} s") from None
            length = self.content_length
            if length is not None and length > MOST and self.method != "HEAD":
                raise GivenUp(f"a body that is said to have {length:,} bytes; at most {MOST:,} are read")
            asked = _RANGE.fullmatch(self.request_info.headers.get("Range", ""))
            part = int(asked[2]) - int(asked[1]) + 1 if asked and self.status == 206 else MOST_AT_ONCE
            sized = length is not None and not {"Transfer-Encoding", "Content-Encoding"} & self.headers.keys()
            parted = self.status == 206 and part >= _PART
            whole = _WHOLE.fullmatch(self.headers.get("Content-Range", ""))
            if len(waited) > _ADDRESSES:
                del waited[next(iter(waited))]
            body = Body(
                self.content,
                at_once=MOST_OF_AN_ANSWER if answer else part,
                sized=sized,
                seconds=None if answer else GRACE_SECONDS,
                size=int(whole[1]) if whole else length or 0,
                of=waited.setdefault(str(self.url), Waited()) if parted else None,
            )
            self.content = body  # type: ignore[assignment]
            return self

    return PacedResponse


@dataclass(slots=True)
class Waited:
    """What came of an address in this process, and how long it was waited for."""

    bytes: int = 0
    seconds: float = 0.0


class Body:
    """A body's reader (`aiohttp.StreamReader`) that counts bytes, and the seconds for which it waits."""

    def __init__(
        self,
        content: "aiohttp.StreamReader",
        *,
        at_once: int,
        sized: bool,
        seconds: float | None,
        size: int = 0,
        of: Waited | None = None,
    ) -> None:
        """at_once: the most bytes of a body that is read whole; sized: whether the server says how many there are;
        seconds: None for no least rate; size: of the whole file, as far as it is known; of: the file's account."""
        self._content, self._at_once, self._sized, self._seconds = content, at_once, sized, seconds
        self._began = time.monotonic()
        self._own, self._all = Waited(), of or Waited()
        self._rate = max(LEAST_RATE, size / MOST_SECONDS)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._content, name)

    async def read(self, n: int = -1) -> bytes:
        """Up to `n` bytes, all of the body if that is negative. Raises GivenUp."""
        if n >= 0:
            return await self._next(n)
        parts, size = [], 0
        while part := await self._next(-1):
            parts.append(part)
            size += len(part)
            if size > self._at_once:
                raise GivenUp(f"a body of more than the {self._at_once:,} bytes that are read of it")
        return b"".join(parts)

    async def readany(self) -> bytes:
        """What has come, at least a byte; empty at the end. Raises GivenUp."""
        return await self._next(-1)

    async def _next(self, n: int) -> bytes:
        loop = asyncio.get_running_loop()
        start = loop.time()
        try:
            async with asyncio.timeout(self._seconds):
                part = await (self._content.readany() if n < 0 else self._content.read(n))
        except TimeoutError:
            if self._seconds is None:
                raise
            raise GivenUp(f"no byte of a body within {self._seconds:g} s") from None
        for most, account in ((self._seconds, self._own), (PARTS_SECONDS, self._all)):
            account.bytes += len(part)
            account.seconds += loop.time() - start
            if self._seconds is None or most is None or account.seconds <= most:
                continue
            if account.bytes < self._rate * account.seconds:
                raise GivenUp(
                    f"a body that drips: {account.bytes:,} bytes in {account.seconds:.0f} s; at its size "
                    f"{self._rate:,.0f} bytes a second are the least"
                )
        if not self._sized and self._own.bytes > MOST_UNSIZED:
            raise GivenUp(f"a body of no stated length, of more than {MOST_UNSIZED:,} bytes")
        if not self._sized and time.monotonic() > self._began + UNSIZED_SECONDS:
            raise GivenUp(f"a body of no stated length, that did not end within {UNSIZED_SECONDS:g} s")
        return part


def timeout() -> "aiohttp.ClientTimeout":
    """What a session with `response_class` leaves to aiohttp: the time until a connection stands."""
    import aiohttp

    return aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS)
