"""Image addresses: their identity, how the long ones are shown, and the bytes that `data:` addresses hold."""

import base64
import binascii
import re
from typing import Final
from urllib.parse import unquote_to_bytes

from mmcorpus.curation.download.images import BadImage
from mmcorpus.curation.store.uid import pair_uid

_INLINE: Final = "data:"
_BLANKS: Final = re.compile(rb"\s+")


def address_uid(url: str) -> str:
    """The uid of an image address, which is also the one that a list without captions gives it."""
    return pair_uid(url, "")


def is_inline(url: str) -> bool:
    """True if the address holds the image itself."""
    return url[:5].lower() == _INLINE


def shown_url(url: str) -> str:
    """The address as tables show it: of a `data:` address its type, size and uid in place of the bytes."""
    if not is_inline(url):
        return url
    header, comma, _ = url[len(_INLINE) :].partition(",")
    kind = header.partition(";")[0].strip()[:64] if comma else ""
    return f"data:{kind};characters={len(url)};uid={address_uid(url)}"


def decode_inline(url: str, max_bytes: int) -> tuple[bytes, str]:
    """The bytes of a `data:` address and its content type, as forgiving as browsers are.

    Raises BadImage (`bad_url`, `empty_body`, `too_many_bytes`).
    """
    header, comma, encoded = url[len(_INLINE) :].partition(",")
    if not is_inline(url) or not comma:
        raise BadImage("bad_url", "a data: address without a comma")
    kind, *parameters = (part.strip().lower() for part in header.split(";"))
    # Base64 is a third longer than what it holds, percent-encoding at most three times as long.
    if len(encoded) > 3 * max_bytes + 1024:
        raise BadImage("too_many_bytes", f"over {max_bytes}")
    data = unquote_to_bytes(encoded)
    if "base64" in parameters:
        data = _BLANKS.sub(b"", data).translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
        try:
            data = base64.b64decode(data + b"=" * (-len(data) % 4), validate=True)
        except binascii.Error as error:
            raise BadImage("bad_url", f"not base64: {error}") from None
    if not data:
        raise BadImage("empty_body")
    if len(data) > max_bytes:
        raise BadImage("too_many_bytes", f"over {max_bytes}")
    return data, kind
