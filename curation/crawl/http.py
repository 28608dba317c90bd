"""The HTTP answer inside a WARC record: its headers, and its body as a browser would get it."""

import io
import re
import zlib
from dataclasses import dataclass
from typing import Final

from mmcorpus.curation.crawl.streams import ZSTD_CHUNK

MAX_HEAD: Final = 128 * 1024
"""An answer whose headers are longer is no answer."""
HTML_TYPES: Final = frozenset({"text/html", "application/xhtml+xml"})
UNKNOWN_TYPES: Final = frozenset({"", "unknown/unknown", "application/unknown", "*/*"})
"""Types of which the WHATWG's MIME Sniffing Standard (§7) says to look at the bytes."""
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_CHARSET: Final = re.compile(r"""charset\s*=\s*["']?\s*([^\s"';,]+)""", re.IGNORECASE)
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*([0-9a-fA-F]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_TAGS: Final = "!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p"
_HTML: Final = re.compile(
    rf"(?:\xef\xbb\xbf)?[\t\n\f\r ]*<(?:(?:{_TAGS})[ \t\n\f\r>/]|!--|\?xml)".encode("latin-1"), re.I
)


class Undecodable(ValueError):
    """A body that is not what its encodings say."""


class TooLarge(ValueError):
    """A body that decodes to more than the limit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """An HTTP answer."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    """As sent."""

    def get(self, name: str) -> str:
        """A header's first value, empty if it is not there."""
        return next((value for key, value in self.headers if key.lower() == name), "")

    @property
    def mime(self) -> str:
        """The type without parameters, lower case."""
        return mime_of(self.get("content-type"))


def parse_headers(block: bytes, *, status_line: bool = True) -> tuple[str, tuple[tuple[str, str], ...]]:
    """The first line and the headers of a block, in order; what is not a header is passed over.

    Raises ValueError for headers that are too long.
    """
    from fastwarc.warc import HeaderMap

    if b"\r\n" not in block:
        block = block.replace(b"\n", b"\r\n")
    headers = HeaderMap()
    try:
        headers.parse(io.BytesIO(block + b"\r\n\r\n"), has_status_line=status_line)
    except OSError as error:  # a line is longer than it takes; nothing was read from anywhere
        raise ValueError(str(error)) from None
    line = headers.status_line_bytes or b""
    return line.decode("utf-8", "replace").strip(), headers.to_tuples()


def parse_answer(block: bytes) -> Answer | None:
    """The answer in a record's block; None if it is none."""
    if not block.startswith(b"HTTP/"):
        return None
    end = _HEAD_END.search(block, 0, MAX_HEAD)
    if end is None:
        return None
    try:
        line, headers = parse_headers(block[: end.start()])
    except ValueError:
        return None
    _, _, rest = line.partition(" ")
    number, _, reason = rest.strip().partition(" ")
    if not (number.isascii() and number.isdigit() and len(number) == 3):
        return None
    return Answer(status=int(number), reason=reason.strip(), headers=headers, body=block[end.end() :])


def mime_of(content_type: str) -> str:
    """`text/html` of `Text/HTML; charset=utf-8`."""
    return content_type.partition(";")[0].partition(",")[0].strip().lower()


def charset_of(content_type: str) -> str | None:
    """The charset that a Content-Type names."""
    found = _CHARSET.search(content_type)
    return found[1] if found else None


def looks_like_html(body: bytes) -> bool:
    """True if a body begins as HTML does (MIME Sniffing Standard, §7.1)."""
    return _HTML.match(body[:1024]) is not None


def decode_body(answer: Answer, limit: int) -> bytes:
    """An answer's body without its transfer and content encodings.

    Crawlers that undo an encoding often leave its header, so that a body that is not what a header says at its first
    bytes is taken as it is. Raises `TooLarge` above `limit` bytes, `Undecodable` where data breaks off or is damaged.
    """
    body = answer.body
    if "chunked" in answer.get("transfer-encoding").lower():
        body = _dechunk(body)
    codings = [name.strip().lower() for key, value in answer.headers if key.lower() == "content-encoding"
               for name in value.split(",")]  # fmt: skip
    for coding in reversed(codings):
        body = _decode(body, coding, limit)
    if len(body) > limit:
        raise TooLarge(f"more than {limit} bytes")
    return body


def _dechunk(body: bytes) -> bytes:
    parts: list[bytes] = []
    at = 0
    while True:
        size = _CHUNK_SIZE.match(body, at)
        if size is None:
            if at == 0:
                return body  # somebody undid it
            raise Undecodable("chunked: a chunk's size is missing")
        at, length = size.end(), int(size[1], 16)
        if length == 0:
            return b"".join(parts)
        parts.append(body[at : at + length])
        if at + length > len(body):
            raise Undecodable("chunked: the last chunk breaks off")
        at += length
        while body[at : at + 1] in (b"\r", b"\n"):
            at += 1


def _decode(body: bytes, coding: str, limit: int) -> bytes:
    if coding in ("gzip", "x-gzip"):
        return _inflate(body, 31, limit) if body.startswith(b"\x1f\x8b") else body
    if coding == "deflate":
        return _deflate(body, limit)
    if coding == "br":
        return _brotli(body, limit)
    if coding == "zstd":
        return _zstd(body, limit) if body.startswith(b"\x28\xb5\x2f\xfd") else body
    if coding in ("", "identity", "none", "utf-8", "binary", "8bit"):
        return body
    if looks_like_html(body):
        return body
    raise Undecodable(f"content encoding {coding[:40]!r}")


def _inflate(body: bytes, wbits: int, limit: int) -> bytes:
    parts, left = [], limit
    while body:
        decoder = zlib.decompressobj(wbits=wbits)
        try:
            parts.append(decoder.decompress(body, left + 1))
        except zlib.error as error:
            raise Undecodable(str(error)) from None
        left -= len(parts[-1])
        if left < 0:
            raise TooLarge(f"more than {limit} bytes")
        if not decoder.eof:
            raise Undecodable("compressed data breaks off")
        # Members after the first are part of the file; anything else after it is not.
        body = decoder.unused_data if wbits == 31 and decoder.unused_data.startswith(b"\x1f\x8b") else b""
    return b"".join(parts)


def _deflate(body: bytes, limit: int) -> bytes:
    """zlib's format, as the standard says, or a bare stream, as some servers send it."""
    if looks_like_html(body):
        return body
    zlibs = len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _inflate(body, 15 if zlibs else -15, limit)


def _brotli(body: bytes, limit: int) -> bytes:
    import brotli

    decoder = brotli.Decompressor()
    parts, left, data = [], limit, body
    try:
        while True:
            part = decoder.process(data, output_buffer_limit=left + 1)
            data = b""
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise TooLarge(f"more than {limit} bytes")
            if decoder.is_finished():
                return b"".join(parts)
            if not part and decoder.can_accept_more_data():
                raise Undecodable("brotli: compressed data breaks off")
    except brotli.error as error:
        if looks_like_html(body):
            return body
        raise Undecodable(f"brotli: {error}") from None


def _zstd(body: bytes, limit: int) -> bytes:
    import zstandard

    parts, left = [], limit
    while body.startswith(b"\x28\xb5\x2f\xfd"):
        decoder = zstandard.ZstdDecompressor(max_window_size=2**27).decompressobj()
        for at in range(0, len(body), ZSTD_CHUNK):
            try:
                parts.append(decoder.decompress(body[at : at + ZSTD_CHUNK]))
            except (zstandard.ZstdError, MemoryError) as error:
                raise Undecodable(f"zstd: {error}") from None
            left -= len(parts[-1])
            if left < 0:
                raise TooLarge(f"more than {limit} bytes")
            if decoder.eof:
                body = decoder.unused_data + body[at + ZSTD_CHUNK :]
                break
        else:
            raise Undecodable("zstd: compressed data breaks off")
    return b"".join(parts)
