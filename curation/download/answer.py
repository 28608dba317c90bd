"""An HTTP/1 answer read from a socket as browsers and curl read it, bounded in bytes.

The standard library's reader stops at 100 headers, at a status line without HTTP/1, and at interim answers but 100.
"""

import io
import re
from dataclasses import dataclass
from typing import Any, Final

from mmcorpus.curation.download.connect import CHUNK_BYTES, Failure
from mmcorpus.curation.store import encodings
from mmcorpus.filters.formats import format_of

MAX_HEAD_BYTES: Final = 256 * 1024
"""Of all the status lines and headers of an answer, interim ones included: what browsers take."""
_STATUS: Final = re.compile(rb"(?:HTTP/\d{1,3}(?:\.\d{1,3})?|ICY)[ \t]+(\d{3})(?!\d)", re.IGNORECASE)
_CHUNK: Final = re.compile(rb"[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:[;\r\n]|$)")
_IMAGES: Final = frozenset({"jpeg", "png", "gif", "webp", "avif", "heic", "tiff"})
"""Formats whose first bytes are no other's by chance."""
_SIZE_LINE: Final = 8_192
_CUT: Final = "closed before the end of the body"


@dataclass(frozen=True, slots=True)
class Head:
    """An answer's status and headers."""

    status: int
    headers: tuple[tuple[str, str], ...]
    """In order, names in lower case, values decoded as Latin-1."""

    def values(self, name: str) -> list[str]:
        """All values of a header, given in lower case."""
        return [value for key, value in self.headers if key == name]

    def get(self, name: str) -> str | None:
        """A header's first value."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def content_type(self) -> str:
        """`image/jpeg`, lower case, without parameters; text/plain where there is none, as MIME has it."""
        value = (self.get("content-type") or "").partition(";")[0].strip().lower()
        return value if value.count("/") == 1 else "text/plain"


def read_head(file: "io.BufferedReader[Any]") -> Head:
    """The head of the final answer; interim ones (100, 102, 103) are passed over.

    Raises Failure `connection` where there is none, or one longer than MAX_HEAD_BYTES.
    """
    left = MAX_HEAD_BYTES

    def line() -> bytes:
        nonlocal left
        found = file.readline(left + 1)
        left -= len(found)
        if left < 0:
            raise Failure("connection", f"headers of more than {MAX_HEAD_BYTES:,} bytes, more than browsers take")
        return found

    while True:
        first = line()
        while first in (b"\r\n", b"\n"):
            first = line()
        if not first:
            raise Failure("connection", "reset", retry=True)
        status = _STATUS.match(first)
        if status is None or int(status[1]) < 100:
            raise Failure("connection", "malformed headers")
        fields: list[tuple[str, list[str]]] = []
        while (text := line()) not in (b"\r\n", b"\n", b""):
            if text[:1] in b" \t" and fields:  # a folded line goes on with the header before it
                fields[-1][1].append(text.decode("latin-1").strip())
                continue
            name, colon, value = text.decode("latin-1").partition(":")
            if colon:
                fields.append((name.strip().lower(), [value.strip()]))
        if not 100 <= int(status[1]) < 200 or int(status[1]) == 101:
            return Head(int(status[1]), tuple((name, " ".join(values)) for name, values in fields))


def read_body(file: "io.BufferedReader[Any]", head: Head, limit: int) -> bytes:
    """The body, one receive at a time so that no count of bytes is waited for past the deadline, codings undone.

    Raises Failure: `too_many_bytes` over `limit`, before and after decoding; `connection` for one that is cut off or
    whose chunks are malformed; `bad_encoding` for one that is not what Content-Encoding says.
    """
    transfer = [name.strip().lower() for value in head.values("transfer-encoding") for name in value.split(",")]
    chunked, length = "chunked" in transfer, _length(head)
    if head.status == 204:
        return b""
    if chunked:
        data = _chunks(file, limit)
    else:
        data = _read(file, length, limit)
    codings = [name for value in head.values("content-encoding") for name in value.split(",")]
    codings += [name for name in transfer if name != "chunked"]
    if not codings:
        return data
    try:
        return encodings.decode(data, codings, limit, is_undone=_is_image)
    except encodings.TooLarge:
        raise Failure("too_many_bytes", f"over {limit}") from None
    except encodings.BreaksOff as error:
        if chunked or length is not None:  # it came whole, so that it is the same the next time
            raise Failure("bad_encoding", str(error)) from None
        raise Failure("connection", _CUT, retry=True) from None
    except encodings.Undecodable as error:
        raise Failure("bad_encoding", str(error)) from None


def _is_image(body: bytes) -> bool:
    """True for a body that begins as an image: nothing is to be undone, whatever its headers say. Stores of objects
    keep `aws-chunked` from the upload, and browsers show the image."""
    return format_of(body[:1024]) in _IMAGES


def _length(head: Head) -> int | None:
    """Content-Length; None where there is none that is a number."""
    for value in head.values("content-length"):
        digits = value.partition(",")[0].strip()
        if digits.isascii() and digits.isdigit():
            return int(digits[:19])
    return None


def _read(file: "io.BufferedReader[Any]", length: int | None, limit: int) -> bytes:
    if length is not None and length > limit:
        raise Failure("too_many_bytes", f"over {limit}")
    parts, total = [], 0
    while length is None or total < length:
        part = file.read1(CHUNK_BYTES if length is None else min(CHUNK_BYTES, length - total))
        if not part:
            break
        parts.append(part)
        total += len(part)
        if total > limit:
            raise Failure("too_many_bytes", f"over {limit}")
    if length is not None and total < length:
        raise Failure("connection", _CUT, retry=True)
    return b"".join(parts)


def _chunks(file: "io.BufferedReader[Any]", limit: int) -> bytes:
    data = bytearray()
    while True:
        line = file.readline(_SIZE_LINE)
        if not line:
            raise Failure("connection", _CUT, retry=True)
        size = _CHUNK.match(line)
        if size is None:
            raise Failure("connection", "malformed body")
        left = int(size[1], 16)
        if left == 0:
            return bytes(data)
        if len(data) + left > limit:
            raise Failure("too_many_bytes", f"over {limit}")
        while left:
            part = file.read1(min(CHUNK_BYTES, left))
            if not part:
                raise Failure("connection", _CUT, retry=True)
            data += part
            left -= len(part)
        file.readline(_SIZE_LINE)  # the line end after a chunk
