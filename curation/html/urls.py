"""Addresses as a page names them, to absolute ones that can be fetched."""

import re
from typing import Final
from urllib.parse import quote, urldefrag, urljoin, urlsplit

_CONTROL: Final = re.compile(r"[\t\n\r]")
_SAFE: Final = "%/:=&?~+!$,;'@()*[]|"
"""Characters that are not percent-encoded: those that browsers leave as they are in paths and queries."""
_MOST_PARTS: Final = 200
"""Of the path of a base; a longer one (a crawler's trap) is taken for its host's root."""
MAX_LENGTH: Final = 8_000
"""In characters; a longer address is no address, and no base: each of a page's addresses is joined to it."""


def base_url(url: str, base: str | None) -> str:
    """The base of a page's relative addresses: its own address, moved by its `<base href>`."""
    if not _is_base(url):
        url = url[: url.find("/", url.find("://") + 3) + 1][:MAX_LENGTH]
    base = None if base is None else _CONTROL.sub("", base).strip()
    if base is None or not _is_base(base):
        return url
    try:
        joined = urljoin(url, base)
        scheme = urlsplit(joined).scheme
    except ValueError:
        return url
    # A base of another scheme (data:, javascript:) is passed over by browsers too (HTML §4.2.3).
    return joined if scheme in ("http", "https", "file", urlsplit(url).scheme) else url


def _is_base(url: str) -> bool:
    """False for an address to which each of a page's addresses would be joined in too long a time."""
    return len(url) <= MAX_LENGTH and url.partition("?")[0].count("/") <= _MOST_PARTS


def absolute_url(base: str, address: str) -> str | None:
    """The address as a browser would ask for it, without its fragment; None for anything but http and https."""
    address = _CONTROL.sub("", address).strip()
    if not address or len(address) > MAX_LENGTH or address.startswith("#"):
        return None
    if "\\" in address:
        path, mark, query = address.partition("?")
        address = path.replace("\\", "/") + mark + query
    try:
        joined = urldefrag(urljoin(base, address)).url
        parts = urlsplit(joined)
        _ = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return None
    return _encode(joined, parts.netloc)


def _encode(url: str, netloc: str) -> str | None:
    if not netloc.isascii():
        try:
            ascii_netloc = netloc.encode("idna").decode("ascii")
        except UnicodeError:
            return None
        url = url.replace(netloc, ascii_netloc, 1)
    try:
        return quote(url, safe=_SAFE)
    except UnicodeEncodeError:  # a lone surrogate
        return None
