"""JSON of any length, a value at a time: one array of objects, or an object a line, read by ranges of bytes.

A file is scanned once for where its rows begin (`ranges`), so that workers read their own part of it alone.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final, Literal, Protocol

from mmcorpus.curation.store.json_values import json_value

MAX_VALUE: Final = 128 << 20
"""Bytes of a row, images in base64 included."""
_READ: Final = 1 << 20
_SPACE: Final = b" \t\r\n"
_BEFORE: Final = re.compile("(?:\xef\xbb\xbf)?[ \\t\\r\\n]*")
_BETWEEN: Final = re.compile("[ \\t\\r\\n,]*")
_TOKEN: Final = re.compile(r'[^\[\]{}"]*+(?:([\[{])|[\]}]|"(?:[^"\\]|\\.)*+")', re.DOTALL)
_SCALAR: Final = re.compile(r"[^,\]]*+")
_decoder: Final = json.JSONDecoder()
Layout = Literal["json", "jsonl"]
Range = tuple[int, int, int]
"""First byte, one past the last, and how many rows lie there."""


class Readable(Protocol):
    """A file, decompressed."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes."""

    def seek(self, offset: int, /) -> int:
        """Go to a byte."""


class BadJson(ValueError):
    """Text that is not JSON, so that reading cannot go on behind it."""


def layout_of(head: bytes) -> Layout | None:
    """By a text's first bytes: `json` for an array of objects, `jsonl` for an object a line; None for neither."""
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip(_SPACE)
    if text.startswith(b"["):
        return "json" if not text[1:].lstrip(_SPACE) or text[1:].lstrip(_SPACE)[:1] in b"{]" else None
    if not text.startswith(b"{"):
        return None
    line = text.split(b"\n", 1)[0].rstrip(_SPACE)
    return "jsonl" if line != b"{" else None


def ranges(file: Readable, layout: Layout, rows: int) -> list[Range]:
    """The ranges of a file that hold `rows` rows each, the last one fewer.

    Raises:
        BadJson: the array is damaged.
    """
    found: list[Range] = []
    for start, end, _ in _spans(file, layout):
        if found and found[-1][2] < rows:
            found[-1] = found[-1][0], end, found[-1][2] + 1
        else:
            found.append((start, end, 1))
    return found


def read_rows(file: Readable, layout: Layout, part: Range) -> Iterator[dict[str, Any] | str]:
    """The rows of a range, in order; in place of one that is no object, why."""
    for _, _, data in _spans(file, layout, part[0], part[1]):
        yield _row(data)


def _row(data: bytes) -> dict[str, Any] | str:
    if len(data) > MAX_VALUE:
        return f"a row of {len(data):,} bytes; at most {MAX_VALUE:,} are read"
    try:
        value = json_value(data)
    except UnicodeDecodeError as error:
        return f"it is not UTF-8: {error.reason} at byte {error.start}"
    except ValueError as error:
        return f"it is no JSON: {error}"
    return value if isinstance(value, dict) else f"it is {type(value).__name__}, not an object"


def _spans(file: Readable, layout: Layout, start: int = 0, end: int | None = None) -> Iterator[tuple[int, int, bytes]]:
    """Where each row begins and ends, and its bytes."""
    return _lines(file, start, end) if layout == "jsonl" else _elements(file, start, end)


class _Window:
    """A file's bytes from a place on, as many as are looked at, a character each: quotes and brackets are ASCII's."""

    def __init__(self, file: Readable, start: int, end: int | None) -> None:
        file.seek(start)
        self._file, self._end, self._next = file, end, start
        self.text, self.at = "", 0

    @property
    def place(self) -> int:
        """Of the next byte, in the file."""
        return self._next - len(self.text) + self.at

    def more(self, size: int = _READ) -> bool:
        """Read on; what was passed is let go."""
        size = size if self._end is None else min(size, self._end - self._next)
        new = self._file.read(size) if size > 0 else b""
        if new:
            self.text, self.at = self.text[self.at :] + new.decode("latin-1"), 0
            self._next += len(new)
        return bool(new)

    def skip(self, what: re.Pattern[str]) -> str:
        """Pass over characters; the next one, empty at the end."""
        while True:
            found = what.match(self.text, self.at)
            self.at = found.end() if found else self.at
            if self.at < len(self.text) or not self.more():
                return self.text[self.at : self.at + 1]

    def value(self) -> tuple[int, int, bytes]:
        """The value that comes next: where it begins and ends, and its bytes."""
        while True:
            try:
                _, end = _decoder.raw_decode(self.text, self.at)
                if end < len(self.text) or not self.more():
                    start, self.at = self.place, end
                    return start, self.place, self.text[self.at - (self.place - start) : self.at].encode("latin-1")
            except json.JSONDecodeError as error:
                left = len(self.text) - self.at
                if left > MAX_VALUE or not self.more(max(_READ, left)):
                    at = self.place - self.at + error.pos
                    raise BadJson(f"it is damaged at byte {at:,}, or a value there is too long: {error.msg}") from None
            except (RecursionError, ValueError):  # nested too deeply, or a number of more digits than Python takes
                return self._passed_over()

    def _passed_over(self) -> tuple[int, int, bytes]:
        """As `value`, of one that Python cannot hold: where it ends, its quotes and brackets alone tell."""
        start, depth, at = self.place, 0, self.at
        token = _TOKEN if self.text[at] in "[{" else _SCALAR
        while True:
            left, before, found = len(self.text) - self.at, self.at, token.match(self.text, at)
            if token is _SCALAR and found is not None and found.end() == len(self.text):
                found = None if left <= MAX_VALUE and self.more(max(_READ, left)) else found
            elif found is None and (left > MAX_VALUE or not self.more(max(_READ, left))):
                raise BadJson(f"the value at byte {start:,} does not end, or is too long")
            if found is None:
                at -= before - self.at
                continue
            at = found.end()
            if token is _TOKEN:
                depth += 1 if found[1] else 0 if self.text[at - 1] == '"' else -1
            if depth == 0:
                data, self.at = self.text[self.at : at].encode("latin-1"), at
                return start, self.place, data


def _lines(file: Readable, start: int, end: int | None) -> Iterator[tuple[int, int, bytes]]:
    file.seek(start)
    at, rest, length = start, [b""], 0
    while end is None or at + length < end:
        data = file.read(_READ if end is None else min(_READ, end - at - length))
        if not data:
            break
        first, *others = data.split(b"\n")
        rest += [first] if length <= MAX_VALUE else []  # of a line that is too long, no more than says so
        length += len(first)
        for line in others:
            yield from _line(at, length, b"".join(rest))
            at, rest, length = at + length + 1, [line], len(line)
    yield from _line(at, length, b"".join(rest))


def _line(at: int, length: int, line: bytes) -> Iterator[tuple[int, int, bytes]]:
    text = line.removeprefix(b"\xef\xbb\xbf") if at == 0 else line
    if text.strip(_SPACE):
        yield at, at + length, text.rstrip(_SPACE).removesuffix(b",")  # of an array without its brackets


def _elements(file: Readable, start: int, end: int | None) -> Iterator[tuple[int, int, bytes]]:
    """The elements of an array; from within it, those of a range that begins with one."""
    window = _Window(file, start, end)
    if start == 0 and window.skip(_BEFORE) == "[":
        window.at += 1
    while True:
        following = window.skip(_BETWEEN)
        if following in ("", "]"):
            if not following and end is None:
                raise BadJson(f"the array does not end: the file ends at byte {window.place:,}")
            return
        yield window.value()
