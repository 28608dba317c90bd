"""URL lists that are text: lines of bounded length, and the rows of CSV, TSV, JSON lines and plain URLs in them."""

import codecs
import csv
import json
import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

from mmcorpus.curation.store.compressed import DecodeError

MAX_LINE: Final = 16 * 2**20
"""Bytes of a line, and characters of a CSV row of several; a longer one is not read."""
Row = dict[str, Any] | str
"""The wanted columns of a row; or, for one that cannot be read as a row, its text or what is wrong with it."""
_ESCAPED: Final = re.compile("[\udc80-\udcff]")
"""Bytes that are not UTF-8, as the codec's error handler `surrogateescape` gives them."""
_CONTROLS: Final = re.compile("[\0-\x08\x0e-\x1a\x1c-\x1f\x7f-\x9f\ufffd]")
_SAMPLE: Final = 64 * 1024
"""Bytes of lines in another encoding by which it is told."""
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def encoding_of(head: bytes) -> tuple[str, int]:
    """A text's encoding by its first bytes, and the length of its byte order mark; UTF-8 where nothing says otherwise.

    UTF-16 without a mark is known by the zeros of its ASCII characters.
    """
    for mark, name in _BOMS:
        if head.startswith(mark):
            return name, len(mark)
    first = head[:16]
    if len(first) >= 4 and not any(first[1::2]) and all(first[::2]):
        return "utf-16-le", 0
    if len(first) >= 4 and not any(first[::2]) and all(first[1::2]):
        return "utf-16-be", 0
    return "utf-8", 0


class Lines:
    """The lines of a text without their `\\n`; None for one that is longer than `MAX_LINE`."""

    def __init__(self, chunks: Iterator[bytes], head: bytes, *, whole: bool = True) -> None:
        """`head` is how the text begins, some kilobytes of it; `chunks` begin there too.

        The text ends with them if they are the `whole` of it; else they may end within a character.
        """
        encoding, mark = encoding_of(head)
        self._chunks = _without(chunks, mark)
        if encoding != "utf-8":
            self._chunks = _as_utf8(self._chunks, encoding, whole)
        start = head[mark:].decode(encoding, "replace")
        self._old_mac = "\r" in start and "\n" not in start
        self.not_utf8 = 0
        """Lines that are not UTF-8, so far."""
        self.first_not_utf8 = ""
        """The first of them: its number and its byte."""
        self._others = bytearray()
        self._number = 0
        self._back: deque[str | None] = deque()
        self._lines = self._read()

    def __iter__(self) -> Iterator[str | None]:
        return self

    def __next__(self) -> str | None:
        return self._back.popleft() if self._back else next(self._lines)

    def put_back(self, lines: Sequence[str | None]) -> None:
        """Have these lines come next."""
        self._back.extendleft(reversed(lines))

    def _read(self) -> Iterator[str | None]:
        parts: list[bytes] = []
        size, too_long = 0, False
        for chunk in self._chunks:
            if self._old_mac:
                chunk = chunk.replace(b"\r", b"\n")
            end = chunk.rfind(b"\n") + 1
            if end:
                block = chunk[:end]
                if too_long or size + block.find(b"\n") > MAX_LINE:  # exact, wherever the pieces end
                    self._number += 1
                    yield None
                    parts, block = [], block[block.find(b"\n") + 1 :]
                yield from self._texts(b"".join((*parts, block)))
                parts, size, too_long = [], 0, False
            parts.append(chunk[end:])
            size += len(chunk) - end
            if size > MAX_LINE:
                parts, size, too_long = [], 0, True
        if too_long:
            yield None
        elif size:
            yield from self._texts(b"".join(parts))

    def _texts(self, block: bytes) -> list[str]:
        """The lines of a block, which ends where a line does."""
        try:
            lines = block.decode().split("\n")
        except UnicodeDecodeError:
            lines = block.decode("utf-8", "surrogateescape").split("\n")
            for number, line in enumerate(lines, self._number + 1):
                if (found := _ESCAPED.search(line)) is not None:
                    self.not_utf8 += 1
                    if len(self._others) < _SAMPLE:
                        self._others += line[:_SAMPLE].encode("utf-8", "surrogateescape") + b"\n"
                    byte = ord(found[0]) - 0xDC00
                    self.first_not_utf8 = self.first_not_utf8 or f"line {number} has the byte 0x{byte:02x}"
        if not lines[-1]:
            lines.pop()
        self._number += len(lines)
        return lines

    @property
    def other_encoding(self) -> str | None:
        """The encoding in which the lines that are not UTF-8, so far, are text (chardetng's guess); None if there is
        none."""
        import turbohtml.detect

        sample = bytes(self._others)
        name = turbohtml.detect.detect(sample).encoding
        if not sample or name is None:
            return None
        try:
            text = sample.decode(f"whatwg-{name.lower()}")
        except (LookupError, UnicodeDecodeError):
            return None
        # Every byte is a character of some encodings: what has control characters is no text.
        return None if _CONTROLS.search(text) else name.upper()


def _without(chunks: Iterator[bytes], size: int) -> Iterator[bytes]:
    for chunk in chunks:
        yield chunk[size:]
        size = max(0, size - len(chunk))


def _as_utf8(chunks: Iterator[bytes], encoding: str, whole: bool) -> Iterator[bytes]:
    decoder = codecs.getincrementaldecoder(encoding)("surrogatepass")
    try:
        for chunk in chunks:
            yield decoder.decode(chunk).encode("utf-8", "surrogatepass")
        decoder.decode(b"", final=whole)
    except UnicodeDecodeError as error:
        raise DecodeError(f"it is not {encoding.upper()}, as its first bytes say: {error.reason}") from None


def url_rows(lines: Lines, url_col: str) -> Iterator[Row]:
    """A URL a line; empty lines are passed over."""
    for line in lines:
        if line is None:
            yield _TOO_LONG
        elif _ESCAPED.search(line):
            yield _not_utf8(line)
        elif text := line.strip():
            yield {url_col: text}


def json_rows(lines: Lines, wanted: Sequence[str]) -> Iterator[Row]:
    """The wanted columns of JSON objects, one a line; a key that is left out is null."""
    for row in json_objects(lines):
        yield {name: row.get(name) for name in wanted} if isinstance(row, dict) else row


def json_objects(lines: Iterable[str | None]) -> Iterator[Row]:
    """The JSON objects of lines, whole; empty lines are passed over."""
    for line in lines:
        if line is None:
            yield _TOO_LONG
            continue
        text = line.strip()
        if not text:
            continue
        try:
            row = json.loads(text.removesuffix(","))  # of an array without its brackets
        except (ValueError, RecursionError):
            row = None
        if _ESCAPED.search(text):
            yield _not_utf8(text)
        else:
            yield row if isinstance(row, dict) else text


_TOO_LONG: Final = f"a line of more than {MAX_LINE:,} bytes"


def _not_utf8(line: str) -> str:
    return "not UTF-8: " + line.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def fields(line: str, delimiter: str) -> list[str]:
    """The fields of one line, such as a header, quoted or not."""
    csv.field_size_limit(2 * MAX_LINE)
    try:
        return next(csv.reader([line], delimiter=delimiter), [])
    except csv.Error:  # a carriage return in the midst of it
        return line.split(delimiter)


def csv_rows(lines: Lines, delimiter: str, names: Sequence[str], wanted: dict[str, int], url: int) -> Iterator[Row]:
    """The rows after a header.

    A quotation mark that begins a field may quote it (RFC 4180), or be the first character of a caption that nobody
    quoted, as in CC3M's TSV. It quotes where the quoting is right and the row has as many fields as the header; not
    where it would make one field of lines that are rows themselves. A bare one is kept as text and costs no other row.

    Args:
        names: the header's.
        wanted: names of columns and their places.
        url: the place of the URLs, by which a line is known to be a row itself.
    """
    csv.field_size_limit(2 * MAX_LINE)
    reader = _CsvReader(lines, delimiter, len(names), url)
    for line in lines:
        if line is None:
            yield _TOO_LONG
            continue
        if not line or line == "\r":
            continue
        values = reader.fields(line) if '"' in line else reader.split(line)
        if len(values) != len(names):
            yield ",".join(values)
            continue
        row = {name: values[place] for name, place in wanted.items()}
        if lines.not_utf8 and any(map(_ESCAPED.search, row.values())):
            yield _not_utf8(line)
        else:
            yield row


class _CsvReader:
    def __init__(self, lines: Lines, delimiter: str, fields: int, url: int) -> None:
        self.lines, self.delimiter, self.count, self.url = lines, delimiter, fields, url

    def split(self, line: str) -> list[str]:
        """A line's fields, quotation marks being text."""
        return line.removesuffix("\r").split(self.delimiter)

    def fields(self, line: str) -> list[str]:
        """The fields of the row that begins with a line in which quotation marks are."""
        taken: list[str | None] = []
        try:
            values = next(csv.reader(self._from(line, taken), delimiter=self.delimiter, strict=True))
        except csv.Error:
            values = []
        if len(values) == self.count and not (taken and self._bare(line, taken)):
            return values
        # An odd number of quotation marks opens or closes a quoted field: what was looked at here ends at the next
        # such line, so that no line is looked at more than twice.
        self.lines.put_back(taken)
        literal = self.split(line)
        if len(literal) == self.count:
            return literal
        lenient = fields(line, self.delimiter)
        return lenient if len(lenient) == self.count else literal

    def _from(self, line: str, taken: list[str | None]) -> Iterator[str]:
        """The line and those after it, which are noted as taken, up to `MAX_LINE` characters."""
        yield f"{line}\n"
        size = len(line)
        for more in self.lines:
            taken.append(more)
            size += len(more or "")
            if more is None or size > MAX_LINE:
                return
            yield f"{more}\n"

    def _bare(self, line: str, taken: Iterable[str | None]) -> bool:
        """True if a field that goes over several lines would be made of rows."""
        return len(self.split(line)) == self.count and any(self._is_row(more) for more in taken)

    def _is_row(self, line: str | None) -> bool:
        values = self.split(line or "")
        return len(values) == self.count and _ADDRESS.match(values[self.url]) is not None


_ADDRESS: Final = re.compile(r'\s*+(?:"\s*+)?https?://', re.IGNORECASE)
