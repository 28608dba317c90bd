"""The HTTP answer inside a WARC record: its headers, and its body as a browser would get it."""

import io
import re
from dataclasses import dataclass
from typing import Final

from mmcorpus.curation.store import compressed, encodings
from mmcorpus.curation.store.encodings import TooLarge, Undecodable

MAX_HEAD: Final = 128 * 1024
"""An answer whose headers are longer is no answer."""
HTML_TYPES: Final = frozenset({"text/html", "application/xhtml+xml"})
UNKNOWN_TYPES: Final = frozenset({"", "unknown/unknown", "application/unknown", "*/*"})
"""Types of which the WHATWG's MIME Sniffing Standard (§7) says to look at the bytes."""
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_CHARSET: Final = re.compile(r"""charset\s*+=\s*+(?:["']\s*+)?([^\s"';,]+)""", re.IGNORECASE)
_CHUNK_SIZE: Final = re.compile(rb"[ \t]*+([0-9a-fA-F]++)[ \t]*+(?:;[^\r\n]*+)?\r?\n")
_CUT_SIZE: Final = re.compile(rb"[ \t]*+[0-9a-fA-F]*+[ \t]*+(?:;[^\r\n]*+)?\r?\Z")
"""The end of a body that breaks off within the line of a chunk's size."""
_TAGS: Final = "!doctype html|html|head|script|iframe|h1|div|font|table|a|style|title|b|body|br|p"
_HTML: Final = re.compile(
    rf"(?:\xef\xbb\xbf)?[\t\n\f\r ]*<(?:(?:{_TAGS})[ \t\n\f\r>/]|!--|\?xml)".encode("latin-1"), re.I
)


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
    except OSError:  # a line is longer than it takes; nothing was read from anywhere
        longest = max(map(len, block.split(b"\r\n")))
        raise ValueError(f"a header line of {longest:,} bytes is longer than what is read of one") from None
    line = headers.status_line_bytes or b""
    return line.decode("utf-8", "replace").strip(), headers.to_tuples()


def parse_answer(block: bytes) -> Answer | None:
    """The answer in a record's block; None if it is none.

    Raises ValueError for headers that are too long.
    """
    if not block.startswith(b"HTTP/"):
        return None
    end = _HEAD_END.search(block, 0, MAX_HEAD)
    if end is None and len(block) > MAX_HEAD:
        raise ValueError(f"its HTTP headers have more than {MAX_HEAD:,} bytes, which are not read")
    if end is None:
        return None
    line, headers = parse_headers(block[: end.start()])
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


def decode_body(answer: Answer, limit: int, *, cut: bool = False) -> bytes:
    """An answer's body without its transfer and content encodings.

    Crawlers that undo an encoding often leave its header, so that a body that is not what a header says at its first
    bytes is taken as it is. Time is linear in the body and in what it decodes to.

    Args:
        cut: the crawler says that it cut the body short: it is read as far as it goes. So is, as browsers do it, a body
            in chunks that lacks the last one.

    Raises:
        TooLarge: it would be more than `limit` bytes.
        Undecodable: data is damaged, or breaks off where nobody says that it was cut.
    """
    body = answer.body
    if "chunked" in answer.get("transfer-encoding").lower():
        body, whole = _dechunk(body)
        cut = cut or not whole
    codings = [name for key, value in answer.headers if key.lower() == "content-encoding"
               for name in value.split(",")]  # fmt: skip
    # The answer is here already, so that it may have more members than a server is let send, and any window.
    body = encodings.decode(
        body, codings, limit, cut=cut, members=limit, window=compressed.WINDOW, is_undone=looks_like_html
    )
    if len(body) > limit:
        raise TooLarge(f"more than {limit} bytes")
    return body


def _dechunk(body: bytes) -> tuple[bytes, bool]:
    """The chunks joined, and whether the last one is there. A body that is not in chunks stays: somebody undid it."""
    joined = bytearray()
    at = 0
    while size := _CHUNK_SIZE.match(body, at):
        at, length = size.end(), int(size[1], 16)
        if length == 0:
            return bytes(joined), True
        joined += body[at : at + length]
        at = min(at + length, len(body))
        while body[at : at + 1] in (b"\r", b"\n"):
            at += 1
    if at == 0:
        return body, True
    if at < len(body) and not _CUT_SIZE.match(body, at):
        raise Undecodable("chunked: a chunk's size is missing")
    return bytes(joined), False
