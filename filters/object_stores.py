"""S3 through fsspec, with listings and answers that end: registered by `web.install` in s3fs's place.

A listing comes in pages, each of which says where the next begins; that there is an end is the store's word alone.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import aiobotocore.httpsession
import s3fs

from mmcorpus.filters import paced
from mmcorpus.filters.listings import Listing
from mmcorpus.filters.secrets import masked_text

PAGE_SECONDS: Final = 300.0
"""For one page, asked again where the store fails included."""
_NAMED: Final = ("Contents", "Versions", "DeleteMarkers", "CommonPrefixes")
_NEXT: Final = ("NextContinuationToken", "NextKeyMarker", "NextVersionIdMarker")


class _Session(aiobotocore.httpsession.AIOHTTPSession):
    async def _get_session(self, proxy_url: Any) -> Any:
        session = await super()._get_session(proxy_url)
        session._response_class = paced.response_class()  # aiobotocore gives no way to name it
        return session


class S3(s3fs.S3FileSystem):
    """s3fs's filesystem with bounded listings and paced answers."""

    def _prepare_config_kwargs(self) -> Any:
        return {"http_session_cls": _Session} | super()._prepare_config_kwargs()

    async def _list_pages(self, method: str, **kwargs: Any) -> AsyncIterator[Any]:
        place = masked_text(f"s3://{kwargs.get('Bucket', '')}/{kwargs.get('Prefix', '')}")
        listing, tokens, firsts = Listing(place), set[str](), set[str]()
        source = aiter(super()._list_pages(method, **kwargs))
        while True:
            try:
                async with asyncio.timeout(PAGE_SECONDS):
                    page = await anext(source)
            except StopAsyncIteration:
                return
            except TimeoutError:
                late = f"nothing within {PAGE_SECONDS:g} s"
                raise paced.GivenUp(f"the listing of {place}, page {listing.pages + 1:,}: {late}") from None
            named = [entry for key in _NAMED for entry in page.get(key, ())]
            listing.add(len(named))
            first = repr([named[0].get(key) for key in ("Key", "Prefix", "VersionId")]) if named else ""
            token = repr([page.get(key) for key in _NEXT])
            if first in firsts or (page.get("IsTruncated") and token in tokens):
                raise listing.endless("goes in a circle: it comes again to what it had")
            tokens.add(token)
            firsts |= {first} if named else set()
            yield page
