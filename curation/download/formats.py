"""URL lists as they are published: parquet, CSV, TSV, JSON lines, text, each also compressed, as a stream of rows.

What a file is, its first bytes tell; its name decides only which files of a folder are lists, and between texts that
look alike. A file that is damaged is an error with its name; a row that cannot be read costs itself.
"""

import contextlib
import difflib
import logging
import os
import posixpath
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mmcorpus.curation.download.list_text import Lines, Row, csv_rows, fields, json_objects, json_rows, url_rows
from mmcorpus.curation.store import compressed, storage
from mmcorpus.curation.store.parquet_rows import ParquetRows, TooLarge, python_rows
from mmcorpus.filters.secrets import masked_text

FORMATS: Final = ("parquet", "csv", "tsv", "jsonl", "txt")
COMPRESSIONS: Final = ("gz", "bz2", "xz", "zst")
BATCH_ROWS: Final = 8_192
MAX_ROW: Final = 4 * 2**20
"""Bytes of a parquet row's wanted columns."""
MAX_TEXT: Final = 128 * 1024
"""Bytes of an address or a caption, each of which is hashed, row by row."""
HEAD: Final = 2**20
"""Bytes by which a format is told; a header line is not longer."""
_KEPT_HEAD: Final = 64 * 1024
_MAX_NAMES: Final = 1_000
_DELIMITERS: Final = (",", "\t", ";", "|")
_OTHERS: Final = (
    (b"PK\x03\x04", "a zip archive (or an Excel file); unpack it, or save it as CSV"),
    (b"ARROW1", "an Arrow (Feather) file; save it as parquet"),
    (b"ORC", "an ORC file; save it as parquet"),
    (b"Obj\x01", "an Avro file; save it as parquet"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file; save it as CSV"),
    (b"%PDF", "a PDF file"),
    (b"version https://git-lfs", "a pointer of Git LFS, not the list itself; fetch it with git lfs pull"),
    (b"\x04\x22\x4d\x18", "an lz4 file; unpack it"),
    (b"7z\xbc\xaf", "a 7-Zip archive; unpack it"),
)
_log = logging.getLogger(__name__)


class ListError(ValueError):
    """A URL list that cannot be read; its text says which, why, and what to do, without secrets of its URL."""

    def __init__(self, text: str) -> None:
        super().__init__(masked_text(text))


@dataclass(frozen=True, kw_only=True)
class ListFile:
    """A list file, as its first bytes tell."""

    path: str
    kind: str
    """`parquet`, `csv` (whatever its delimiter), `jsonl` or `txt`."""
    compression: str | None = None
    head: bytes = b""
    """Its first bytes, decompressed."""
    delimiter: str = ","
    names: tuple[str, ...] = ()
    """The header of a `csv`."""

    @property
    def empty(self) -> bool:
        return self.kind != "parquet" and not self.head


def find_lists(urls: str | Sequence[str]) -> list[str]:
    """The list files behind a path, folder, glob or URL, or several of these, in order of name within each.

    A file that is named itself may be called anything. Of a folder, and the folders in it, files whose names end like a
    list's; `.txt` files only where there are no others, as these come with licences and notes. What is passed over is
    logged.

    Raises ListError where there is none.
    """
    found: list[str] = []
    for path in [urls] if isinstance(urls, str | os.PathLike) else urls:
        found.extend(_expand(os.fspath(path)))
    if not found:
        raise ListError("no URL list was given")
    return found


def _expand(path: str) -> list[str]:
    if path.startswith(("http://", "https://")):
        return [path]
    fs, inner = storage.filesystem(path)
    fs.invalidate_cache()
    if any(sign in inner for sign in "*?[") and not fs.exists(inner):
        names = sorted(str(name) for name in fs.glob(inner))
        for name in names:
            _check_name(name)
    elif fs.isdir(inner):
        names = _in_folder(path, inner, sorted(str(name) for name in fs.find(inner)))
    elif fs.exists(inner):
        names = [inner]
    else:
        raise ListError(f"there is no URL list at {path}")
    if not names:
        raise ListError(f"no URL list at {path}; looked for files ending in .{', .'.join(FORMATS)}")
    return [str(fs.unstrip_protocol(name)) if "://" in path else name for name in names]


def _in_folder(path: str, folder: str, names: list[str]) -> list[str]:
    """The lists among a folder's files."""
    below = {name: name.removeprefix(folder.rstrip("/") + "/") for name in names}
    shown = [name for name in names if not any(part.startswith(("_", ".")) for part in below[name].split("/"))]
    formats = {name: _format_or_none(name) for name in shown}
    others = set(formats.values()) - {None, "txt"}
    lists = [name for name, kind in formats.items() if kind in (others or {"txt"})]
    if passed := [below[name] for name in shown if name not in lists]:
        more = f" and {len(passed) - 5} more" if len(passed) > 5 else ""
        _log.warning("%s: passed over, as no URL lists: %s%s", path, ", ".join(passed[:5]), more)
    return lists


def _check_name(path: str) -> None:
    if _format_or_none(path) is None:
        raise ListError(f"{path}: a URL list's name ends in .{', .'.join(FORMATS)} (or one of these and .gz)")


def _format_or_none(path: str) -> str | None:
    parts = _name(path).split(".")
    if parts[-1] in COMPRESSIONS and len(parts) > 2:
        parts.pop()
    return parts[-1] if len(parts) > 1 and parts[-1] in FORMATS else None


def _name(path: str) -> str:
    return posixpath.basename(compressed.plain_name(path))


@contextlib.contextmanager
def _reading(path: str) -> Iterator[IO[bytes]]:
    """A list's file; what the file is to blame for becomes a ListError with its name."""
    fs, inner = storage.filesystem(path)
    try:
        with fs.open(inner, "rb") as file:
            yield file
    except compressed.DecodeError as error:
        raise ListError(f"{path} is damaged: {error}; fetch or write it again") from None
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise  # the storage's; Arrow's own have no number
        said = str(error).splitlines()[0][:200]
        raise ListError(f"{path} is not a readable parquet file: {said}; fetch or write it again") from None


def inspect(path: str, url_col: str) -> ListFile:
    """Identify a list file: its format, delimiter and columns. Raises ListError for what is no list."""
    named = _format_or_none(path) or ""
    with _reading(path) as file:
        raw = file.read(HEAD)
        if raw.startswith(b"PAR1"):
            return ListFile(path=path, kind="parquet")
        compression = compressed.compression_of(raw)
        _refuse_others(path, raw, compression, named)
        head = raw
        if compression is not None:
            head = b""
            for chunk in compressed.chunks(_Joined(raw, file), compression):
                head += chunk
                if len(head) >= HEAD:
                    break
            head = head[:HEAD]
            inside = compressed.compression_of(head)
            if inside is not None or head.startswith(b"PAR1"):
                raise ListError(f"{path} is {inside or 'parquet'} in {compression}; unpack it once")
            _refuse_others(path, head, compression, named)
        if not head:
            return ListFile(path=path, kind=named, compression=compression)
        return _text_kind(path, compression, head, url_col, named)


def _refuse_others(path: str, head: bytes, compression: str | None, named: str) -> None:
    """Raises ListError for what is known to be something else than a list."""
    for magic, words in _OTHERS:
        if head.startswith(magic):
            raise ListError(f"{path} is {words}")
    if compression is None and head and _name(path).endswith(tuple(f".{end}" for end in COMPRESSIONS)):
        end = _name(path).rpartition(".")[2]
        raise ListError(f"{path} is not compressed, though its name ends in .{end} (it begins with {head[:8]!r}); "
                        f"if it is whole, take .{end} off its name")  # fmt: skip
    if not head and named == "parquet":
        raise ListError(f"{path} is not a readable parquet file: it is empty; fetch or write it again")
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        raise ListError(f"{path} is a web page, not a list; see in a browser what its server says")


class _Joined:
    """Bytes that were read already, and the rest of their file."""

    def __init__(self, first: bytes, file: IO[bytes]) -> None:
        self._first, self._file = first, file

    def read(self, size: int, /) -> bytes:
        taken, self._first = self._first[:size], self._first[size:]
        return taken or self._file.read(size)


def _text_kind(path: str, compression: str | None, head: bytes, url_col: str, named: str) -> ListFile:
    """A text's format by its first line."""
    lines = list(Lines(iter([head]), head, whole=len(head) < HEAD))
    first = next((line for line in lines if line is not None and line.strip()), "").removesuffix("\r")
    begins = first.lstrip()
    if first.count("\0") * 20 > len(first):
        raise ListError(f"{path} is not {_what(named)}: it begins with {head[:8]!r}")
    if begins.rstrip() == "[" or (begins.startswith("[{") and named in ("jsonl", "parquet")):
        raise ListError(f"{path} is one JSON array, not an object a line; convert it: jq -c '.[]' FILE > LIST.jsonl")
    own = "\t" if named == "tsv" else ","
    marks = (own, *(mark for mark in _DELIMITERS if mark != own))
    headers = {mark: fields(first, mark) for mark in marks}
    delimiter = next((mark for mark, names in headers.items() if url_col in map(str.strip, names)), None)
    kind = "jsonl" if begins.startswith("{") else "csv" if delimiter is not None or named == "tsv" else named
    if kind == "parquet":
        raise ListError(f"{path} is not a readable parquet file: it begins with {head[:8]!r}")
    if not kind:
        raise ListError(
            f"{path} is no list by its first line, in which no column is {url_col!r}, nor by its name, which would end "
            f"in .{', .'.join(FORMATS)} (or one of these and .gz)"
        )
    if kind == "csv" and len(lines) == 1 and len(head) == HEAD:
        raise ListError(f"{path} has no header line: its first line is longer than {HEAD:,} bytes")
    delimiter = delimiter or max(marks, key=lambda mark: len(headers[mark]))  # for the error that names the columns
    return ListFile(
        path=path, kind=kind, compression=compression, head=head[:_KEPT_HEAD], delimiter=delimiter,
        names=tuple(headers[delimiter]),
    )  # fmt: skip


def _what(named: str) -> str:
    return "a readable parquet file" if named == "parquet" else "text"


def column_types(file: ListFile, wanted: Sequence[str]) -> dict[str, pa.DataType]:
    """The Arrow types in which a list's columns are kept: parquet's own for numbers, dates and truth values, else text.

    A column of parquet that is null throughout has the type null.

    Raises ListError for a column that is not there, with those that are and the nearest name, or that is there twice.
    """
    if file.kind == "txt" or file.empty:
        return dict.fromkeys(wanted, pa.string())
    if file.kind == "parquet":
        with _reading(file.path) as opened:
            schema = pq.read_schema(opened)
        places = _places(file.path, wanted, schema.names)
        return {name: _kept_type(schema.field(place).type) for name, place in places.items()}
    if file.kind == "csv":
        _places(file.path, wanted, file.names)
        return dict.fromkeys(wanted, pa.string())
    missing, present = set(wanted), dict[str, None]()
    with _lines(file) as lines:
        for row in json_objects(lines):  # keys may be left out where they are null, for millions of rows
            if isinstance(row, dict):
                missing -= row.keys()
                if len(present) < _MAX_NAMES:
                    present.update(dict.fromkeys(row))
            if not missing:
                break
    if missing and present:
        _places(file.path, sorted(missing, key=list(wanted).index), list(present))
    return dict.fromkeys(wanted, pa.string())


def nested_type(file: ListFile, name: str) -> str | None:
    """The type of a parquet column that holds lists or structs, in words; None for others."""
    if file.kind != "parquet":
        return None
    with _reading(file.path) as opened:
        schema = pq.read_schema(opened)
    kind = schema.field(_places(file.path, [name], schema.names)[name]).type
    return str(kind) if pa.types.is_nested(kind) else None


def _kept_type(kind: Any) -> Any:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    kept = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_temporal, pa.types.is_null)
    return kind if any(check(kind) for check in kept) else pa.string()


def _places(path: str, wanted: Sequence[str], present: Sequence[str]) -> dict[str, int]:
    """Where the wanted columns are; blanks around a name in the file do not count if it is the only one."""
    names, bare = list(present), [name.strip() for name in present]
    places = {}
    for name in wanted:
        there = next((them for them in (names, bare) if name in them), None)
        if there is None:
            lower = {other.lower(): other for other in reversed(names)}
            close = difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)
            hint = f"; did you mean {lower[close[0]]!r}?" if close else "."
            raise ListError(f"{path} has no column {name!r}{hint} It has: {', '.join(map(repr, names)) or 'none'}")
        if Counter(there)[name] > 1:
            raise ListError(f"{path} has {Counter(there)[name]} columns named {name!r}; rename or remove all but one")
        places[name] = there.index(name)
    return places


def read_list(file: ListFile, wanted: Sequence[str], url_col: str, texts: Collection[str] = ()) -> Iterator[Row]:
    """A list's rows in order, the wanted columns of each; memory is bounded, whatever they expand to.

    Args:
        texts: columns that each row is known by. In parquet, which may hold a text once for millions of rows, those of
            more than `MAX_TEXT` bytes cost their row before they are made.

    Raises ListError for a file that turns out to be damaged.
    """
    if file.empty:
        return
    if file.kind == "parquet":
        yield from _parquet_rows(file.path, wanted, texts)
        return
    with _lines(file) as lines:
        if file.kind == "txt":
            yield from url_rows(lines, url_col)
        elif file.kind == "jsonl":
            yield from json_rows(lines, wanted)
        else:
            next(line for line in lines if line is None or line.strip())
            places = _places(file.path, wanted, file.names)
            yield from csv_rows(lines, file.delimiter, file.names, places, places[url_col])
        if lines.not_utf8:
            name = lines.other_encoding
            _log.warning(
                "%s: %s lines are not UTF-8 (%s) and cost their rows (bad_row) where a wanted column holds them; %s",
                file.path, f"{lines.not_utf8:,}", lines.first_not_utf8,
                f"if they look right in {name}, convert the list: iconv -f {name} -t UTF-8" if name else
                "they are text in no encoding that is known; what wrote the list may have cut or mixed texts",
            )  # fmt: skip


@contextlib.contextmanager
def _lines(file: ListFile) -> Iterator[Lines]:
    with _reading(file.path) as opened:
        yield Lines(compressed.chunks(opened, file.compression), file.head)


def _parquet_rows(path: str, wanted: Sequence[str], texts: Collection[str]) -> Iterator[Row]:
    with _reading(path) as file:
        table = ParquetRows(file)
        columns = [table.names[place] for place in _places(path, wanted, table.names).values()]
        limits = {column: MAX_TEXT for column, name in zip(columns, wanted, strict=True) if name in texts}
        for group in range(table.metadata.num_row_groups):
            try:
                for batch in table.batches(group, columns, BATCH_ROWS):
                    for row in python_rows(batch, columns, MAX_ROW, limits):
                        yield row if isinstance(row, str) else dict(zip(wanted, row, strict=True))
            except TooLarge as error:
                for _ in range(table.metadata.row_group(group).num_rows):
                    yield f"row group {group}: {error}"
