"""URL lists as they are published: parquet, csv, tsv, jsonl, txt, each also compressed, read as a stream of rows."""

import csv
import difflib
import io
import json
import os
import posixpath
from collections.abc import Iterator, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from mmcorpus.curation.store import storage
from mmcorpus.filters.secrets import masked_text

FORMATS: Final = ("parquet", "csv", "tsv", "jsonl", "txt")
COMPRESSIONS: Final = ("gz", "bz2", "xz", "zst")
BATCH_ROWS: Final = 8_192
MAX_FIELD_CHARACTERS: Final = 16 * 2**20

Row = dict[str, Any] | str
"""The wanted columns of a row; or, for one that cannot be read as a row, its text."""


class ListError(ValueError):
    """A URL list that cannot be read; its text says which, why, and what to do, without secrets of its URL."""

    def __init__(self, text: str) -> None:
        super().__init__(masked_text(text))


def find_lists(urls: str | Sequence[str]) -> list[str]:
    """The list files behind a path, folder, glob or URL, or several of these, in order of name within each.

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
        list_format(path)
        return [path]
    fs, inner = storage.filesystem(path)
    fs.invalidate_cache()
    if any(sign in inner for sign in "*?[") and not fs.exists(inner):
        names = sorted(str(name) for name in fs.glob(inner))
    elif fs.isdir(inner):
        names = sorted(str(name) for name in fs.ls(inner, detail=False))
        names = [name for name in names if not posixpath.basename(name).startswith(("_", "."))]
        names = [name for name in names if _format_or_none(name)]
    elif fs.exists(inner):
        names = [inner]
    else:
        raise ListError(f"there is no URL list at {path}")
    if not names:
        raise ListError(f"no URL list at {path}; looked for files ending in .{', .'.join(FORMATS)}")
    paths = [str(fs.unstrip_protocol(name)) if "://" in path else name for name in names]
    for name in paths:
        list_format(name)
    return paths


def list_format(path: str) -> str:
    """A list's format by its name; raises ListError for others."""
    found = _format_or_none(path)
    if found is None:
        raise ListError(f"{path}: a URL list's name ends in .{', .'.join(FORMATS)} (or one of these and .gz)")
    return found


def _format_or_none(path: str) -> str | None:
    name = urlsplit(path).path if "://" in path else path
    parts = posixpath.basename(name).lower().split(".")
    if parts[-1] in COMPRESSIONS and len(parts) > 2:
        parts.pop()
    return parts[-1] if len(parts) > 1 and parts[-1] in FORMATS else None


def column_types(path: str, wanted: Sequence[str]) -> dict[str, pa.DataType]:
    """The Arrow types in which a list's columns are kept: parquet's own for numbers, dates and truth values, else text.

    Raises ListError for a column that is not there, with those that are and the nearest name.
    """
    kind = list_format(path)
    if kind == "txt":
        return dict.fromkeys(wanted, pa.string())
    if kind == "parquet":
        try:
            schema = storage.read_schema(path)
        except pa.ArrowInvalid as error:
            raise ListError(f"{path} is not a readable parquet file: {error}") from None
        _require(path, wanted, schema.names)
        kept = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_temporal)
        types = ((name, schema.field(name).type) for name in wanted)
        return {name: found if any(check(found) for check in kept) else pa.string() for name, found in types}
    if kind in ("csv", "tsv"):
        with _text(path) as file:
            _require(path, wanted, next(_reader(file, kind), []))
        return dict.fromkeys(wanted, pa.string())
    present: dict[str, None] = {}
    for row, _ in zip(_jsonl_objects(path), range(1_000), strict=False):  # keys may be left out where they are null
        present.update(dict.fromkeys(row) if isinstance(row, dict) else {})
    if present:
        _require(path, wanted, list(present))
    return dict.fromkeys(wanted, pa.string())


def _require(path: str, wanted: Sequence[str], present: Sequence[str]) -> None:
    for name in wanted:
        if name not in present:
            near = difflib.get_close_matches(name, present, n=1, cutoff=0.5)
            hint = f"; did you mean {near[0]!r}?" if near else "."
            raise ListError(f"{path} has no column {name!r}{hint} It has: {', '.join(map(repr, present)) or 'none'}")


def read_list(path: str, wanted: Sequence[str], url_col: str) -> Iterator[Row]:
    """A list's rows in order, the wanted columns of each, bounded in memory."""
    kind = list_format(path)
    if kind == "parquet":
        yield from _parquet_rows(path, wanted)
    elif kind == "txt":
        with _text(path) as file:
            yield from ({url_col: line.strip()} for line in file if line.strip())
    elif kind == "jsonl":
        for row in _jsonl_objects(path):
            yield {name: row.get(name) for name in wanted} if isinstance(row, dict) else row
    else:
        yield from _csv_rows(path, wanted, kind)


def _parquet_rows(path: str, wanted: Sequence[str]) -> Iterator[Row]:
    fs, inner = storage.filesystem(path)
    with fs.open(inner, "rb") as file:
        for batch in pq.ParquetFile(file).iter_batches(batch_size=BATCH_ROWS, columns=list(wanted)):
            columns = [batch.column(name).to_pylist() for name in wanted]
            for values in zip(*columns, strict=True):
                yield dict(zip(wanted, values, strict=True))


def _csv_rows(path: str, wanted: Sequence[str], kind: str) -> Iterator[Row]:
    csv.field_size_limit(MAX_FIELD_CHARACTERS)
    with _text(path) as file:
        reader = _reader(file, kind)
        header: list[str] = next(reader, [])
        places = [(name, header.index(name)) for name in wanted]
        while True:
            try:
                values = next(reader)
            except StopIteration:
                return
            except csv.Error as error:  # the reader goes on with the next line
                yield str(error)
                continue
            if len(values) == len(header):
                yield {name: values[place] for name, place in places}
            elif values:
                yield ",".join(values)


def _reader(file: io.TextIOWrapper, kind: str) -> Any:
    return csv.reader(file, delimiter="\t" if kind == "tsv" else ",")


def _jsonl_objects(path: str) -> Iterator[Any]:
    with _text(path) as file:
        for line in file:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield row if isinstance(row, dict) else line.strip()


def _text(path: str) -> io.TextIOWrapper:
    opened: Any = fsspec.open(path, "rt", compression="infer", encoding="utf-8-sig", errors="replace", newline="")
    return opened.open()
