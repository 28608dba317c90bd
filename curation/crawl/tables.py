"""Rows of parquet, Arrow and JSONL files one by one, from any row on; a row that cannot be read costs itself."""

import contextlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from mmcorpus.curation.crawl.records import START, Position
from mmcorpus.curation.store.compressed import (
    DECODE_ERRORS,
    breaks_off,
    compression_of,
    decompressed,
    is_storage_error,
    plain_name,
)
from mmcorpus.curation.store.parquet_rows import ParquetRows, TooLarge, python_rows
from mmcorpus.curation.store.row_tables import ARROW, sound, table_kind

_NO_ROW: Final = 1 << 62
"""Beyond the last one of a file that is damaged."""
BATCH_ROWS: Final = 64
"""Of parquet at a time: a row may have megabytes."""
MAX_LINE: Final = 64 * 2**20
"""A JSONL line that is longer is not read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """A row, or why there is none."""

    values: dict[str, Any]
    position: Position
    """The next row's."""
    offset: int
    """Of a plain JSONL file the byte, else the row."""
    length: int | None
    """Of a JSONL file, the line's bytes."""
    problem: tuple[str, str] | None = None
    """A code and details."""


def column_names(path: str, file: IO[bytes]) -> list[str]:
    """A table's columns; of JSONL those of its first rows. The file is read from its beginning."""
    if _is_parquet(path, file):
        return list(pq.read_schema(file).names)
    if is_arrow(file):
        with _opened_arrow(file) as (schema, _):
            return list(schema.names)
    names: dict[str, None] = {}
    for row, _ in zip(read_rows(path, file, None, START), range(20), strict=False):
        names.update(dict.fromkeys(row.values))
    return list(names)


def read_rows(path: str, file: IO[bytes], columns: list[str] | None, position: Position) -> Iterator[Row]:
    """The rows of a table from a position on; `columns` (of parquet and Arrow; those that are not there are null) or
    all.

    Raises pa.ArrowInvalid for a file that is no parquet file.
    """
    if _is_parquet(path, file):
        return _parquet(file, columns, position)
    return _arrow(file, columns, position) if is_arrow(file) else _jsonl(path, file, position)


def is_arrow(file: IO[bytes]) -> bool:
    """By the first bytes; the file's place is its beginning afterwards."""
    file.seek(0)
    head = file.read(8)
    file.seek(0)
    return table_kind(head) == ARROW


def _is_parquet(path: str, file: IO[bytes]) -> bool:
    """By the first bytes, whatever the name; of a file that cannot be told from JSONL by the name."""
    file.seek(0)
    head = file.read(1024)
    file.seek(0)
    if head.startswith(b"PAR1"):
        return True
    told = compression_of(head) is not None or head.lstrip().startswith(b"{")
    return plain_name(path).endswith(".parquet") and not told


def _parquet(file: IO[bytes], columns: list[str] | None, position: Position) -> Iterator[Row]:
    table = ParquetRows(file)
    there = [name for name in table.names if columns is None or name in columns]
    first = 0
    for group in range(table.metadata.num_row_groups):
        count = table.metadata.row_group(group).num_rows
        if first + count > position.offset:
            yield from _row_group(table, group, first, there, position.offset)
        first += count


def _row_group(table: ParquetRows, group: int, first: int, columns: list[str], begin: int) -> Iterator[Row]:
    count = table.metadata.row_group(group).num_rows
    row = first
    try:
        for batch in table.batches(group, columns, BATCH_ROWS):
            if row + len(batch) <= begin:
                row += len(batch)
                continue
            for values in python_rows(batch, columns, MAX_LINE):
                if row >= begin:
                    place: Any = {"position": Position(row + 1), "offset": row, "length": None}
                    if isinstance(values, str):
                        yield Row(values={}, problem=("too_large", values), **place)
                    else:
                        yield Row(values=dict(zip(columns, values, strict=True)), **place)
                row += 1
    except (pa.ArrowException, OSError, UnicodeDecodeError, TooLarge) as error:
        if is_storage_error(error):
            raise
        detail = f"rows {row} to {first + count - 1}: {str(error).splitlines()[0][:200]}"
        yield Row(
            values={}, position=Position(first + count), offset=max(row, begin), length=None,
            problem=("too_large" if isinstance(error, TooLarge) else "bad_record", detail),
        )  # fmt: skip


@contextlib.contextmanager
def _opened_arrow(file: IO[bytes]) -> Iterator[tuple[pa.Schema, Iterator[pa.RecordBatch]]]:
    """The schema of an Arrow file or stream, and its batches, each in memory only while it is looked at."""
    is_file = file.read(6) == b"ARROW1"
    file.seek(0)
    if is_file:
        table = pa.ipc.open_file(file)
        yield table.schema, map(table.get_batch, range(table.num_record_batches))
    else:
        stream = pa.ipc.open_stream(file)
        yield stream.schema, iter(stream)


def _arrow(file: IO[bytes], columns: list[str] | None, position: Position) -> Iterator[Row]:
    row = 0
    if position.offset == _NO_ROW:
        return
    try:
        with _opened_arrow(file) as (schema, batches):
            there = [name for name in schema.names if columns is None or name in columns]
            for whole in batches:
                if row + len(whole) <= position.offset:
                    row += len(whole)
                    continue
                for batch in sound(whole.select(there), BATCH_ROWS):
                    for values in python_rows(batch, there, MAX_LINE):
                        row += 1
                        if row <= position.offset:
                            continue
                        place: Any = {"position": Position(row), "offset": row - 1, "length": None}
                        if isinstance(values, str):
                            yield Row(values={}, problem=("too_large", values), **place)
                        else:
                            yield Row(values=dict(zip(there, values, strict=True)), **place)
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        if is_storage_error(error):
            raise
        problem = ("bad_record", f"from row {row} on: {str(error).splitlines()[0][:200]}")
        yield Row(values={}, position=Position(_NO_ROW), offset=row, length=None, problem=problem)


def _jsonl(path: str, file: IO[bytes], position: Position) -> Iterator[Row]:
    file, compressed = decompressed(path, file, position.offset)
    lines, offset = 0, position.offset
    while True:
        problem, line, size = None, b"", 0
        try:
            line = file.readline(MAX_LINE)
            size = len(line)
            while len(line) == MAX_LINE and not line.endswith(b"\n"):
                problem = ("too_large", f"a line of more than {MAX_LINE} bytes")
                line = file.readline(MAX_LINE)
                size += len(line)
        except DECODE_ERRORS as error:
            if is_storage_error(error):
                raise
            problem = ("truncated" if breaks_off(error) else "bad_record", str(error)[:200])
        broken = problem is not None and problem[0] != "too_large"
        if not size and not broken:
            return
        lines += 1
        begin, offset = offset, offset + size
        if not compressed or lines > position.skip:
            row = _parse(line) if problem is None else {}
            if row is None:
                row, problem = {}, ("bad_record", f"not a JSON object: {line[:80]!r}")
            if row or problem:
                number, place = (lines - 1, Position(0, lines)) if compressed else (begin, Position(offset))
                yield Row(values=row, position=place, offset=number, length=size, problem=problem)
        if broken:
            return


def _parse(line: bytes) -> dict[str, Any] | None:
    """The object of a line; empty for an empty line, None for what is none."""
    if not line.strip():
        return {}
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and found else None
