"""Tables of others, row by row in memory that is bounded: parquet, and Arrow's file and stream format.

Which it is, the first bytes tell. Columns of images hold structs `{bytes, path}` (Hugging Face `datasets`), bytes, or
lists of either.
"""

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import IO, Any, Final, Literal, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.parquet_rows import ParquetRows, row_sizes

pc: Any = pyarrow.compute  # its stubs do not know nested columns

PARQUET: Final = "parquet"
ARROW: Final = "arrow"
BATCH_ROWS: Final = 256
MAX_ROW: Final = 1 << 30
"""Bytes of a row that is read, its images too."""
_PIECE: Final = 1 << 19
"""Bytes of rows that are Python's values at a time: memory that is used again costs a third."""
_STREAM: Final = b"\xff\xff\xff\xff"


class RowTable(Protocol):
    """A table in groups of rows that are read apart: row groups, or record batches."""

    names: list[str]
    schema: pa.Schema
    groups: list[int]
    """Rows of each."""

    def batches(self, group: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """A group's rows in order, a few at a time."""


def table_kind(head: bytes) -> Literal["parquet", "arrow"] | None:
    """`parquet` or `arrow`, by a file's first bytes; None for what is neither."""
    if head.startswith(b"PAR1"):
        return PARQUET
    if head.startswith(b"ARROW1") or (head.startswith(_STREAM) and head[4:8] != _STREAM):
        return ARROW
    return None


def binary_columns(schema: pa.Schema) -> list[str]:
    """The columns that are bytes or have bytes in them, as images are."""
    return [field.name for field in schema if _has_bytes(field.type)]


def _has_bytes(kind: Any) -> bool:
    if pa.types.is_dictionary(kind):
        return _has_bytes(kind.value_type)
    tests = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    inside = (kind.field(number).type for number in range(kind.num_fields))
    return any(test(kind) for test in tests) or any(map(_has_bytes, inside))


@contextlib.contextmanager
def open_table(path: str) -> Iterator[RowTable]:
    """A parquet or Arrow file. Raises storage.Damaged for one that cannot be read, in the block too."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(storage.reading(path, "parquet or Arrow file"))
        file: Any
        if storage.is_local(path):
            file = stack.enter_context(pa.memory_map(storage.filesystem(path)[1], "r"))
        else:
            fs, inner = storage.filesystem(path)
            file = stack.enter_context(fs.open(inner, "rb"))
        kind = table_kind(file.read(8))
        file.seek(0)
        if kind is None:
            raise ValueError("it begins as neither does")
        yield _Parquet(file) if kind == PARQUET else _Arrow(file)


class _Parquet:
    def __init__(self, file: IO[bytes]) -> None:
        self._rows = ParquetRows(file)
        self.names = self._rows.names
        self.schema = self._rows.metadata.schema.to_arrow_schema()
        metadata = self._rows.metadata
        self.groups = [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]

    def batches(self, group: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return self._rows.batches(group, columns, BATCH_ROWS)


class _Arrow:
    """Record batches, which a local file has in memory only while they are looked at."""

    def __init__(self, file: Any) -> None:
        first = file.read(6)
        file.seek(0)
        self._file = pa.ipc.open_file(file) if first == b"ARROW1" else None
        self._stream = None if self._file is not None else list(pa.ipc.open_stream(file))
        if self._file is not None:
            self.schema = self._file.schema
            count = self._file.num_record_batches
        else:
            assert self._stream is not None
            file.seek(0)
            self.schema = pa.ipc.open_stream(file).schema
            count = len(self._stream)
        self.names = list(self.schema.names)
        self.groups = [len(self._batch(number)) for number in range(count)]

    def _batch(self, number: int) -> pa.RecordBatch:
        if self._file is not None:
            return self._file.get_batch(number)
        assert self._stream is not None
        return self._stream[number]

    def batches(self, group: int, columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
        return sound(self._batch(group).select(list(columns)), BATCH_ROWS)


def sound(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """A batch of an Arrow file, so many rows at a time. Raises pa.ArrowInvalid for a damaged one."""
    try:
        batch.validate(full=True)
    except pa.ArrowInvalid:  # a text that is not UTF-8 costs its row; anything else is damage
        pa.RecordBatch.from_arrays(list(map(_as_bytes, batch.columns)), batch.schema.names).validate(full=True)
    for start in range(0, len(batch), rows):
        yield batch.slice(start, rows)


def _as_bytes(array: Any) -> Any:
    kinds = {pa.string(): pa.binary(), pa.large_string(): pa.large_binary()}
    return array.view(kinds[array.type]) if array.type in kinds else array


def rows_of(
    table: RowTable,
    columns: Sequence[str],
    first: int = 0,
    end: int | None = None,
    *,
    most: int = MAX_ROW,
    limits: Mapping[str, int] = MappingProxyType({}),
) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """The rows from `first` up to `end` with their numbers, each as Python's values; in place of one of more than
    `most` bytes, or with a value of more than `limits` has for its column, why it is not read. Groups without any of
    these rows are not touched."""
    for row, cells in _cells(table, columns, first, end, _values, most, limits):
        yield row, cells if isinstance(cells, str) else dict(zip(columns, cells, strict=True))


def _cells(
    table: RowTable,
    columns: Sequence[str],
    first: int,
    end: int | None,
    values_of: Callable[[Any], Iterable[Any]],
    most: int = MAX_ROW,
    limits: Mapping[str, int] = MappingProxyType({}),
    piece: int = _PIECE,
) -> Iterator[tuple[int, tuple[Any, ...] | str]]:
    """As `rows_of`, of each row the values of its columns as `values_of` makes them of an array, of so many bytes of
    rows at a time."""
    at = 0
    for group, length in enumerate(table.groups):
        start, at = at, at + length
        if at <= first or (end is not None and start >= end):
            continue
        for batch in table.batches(group, columns):
            skipped = min(max(0, first - start), len(batch))
            left = len(batch) if end is None else max(0, min(len(batch), end - start))
            own = {name: row_sizes(batch.column(name)) for name in columns}
            sizes = sum(own.values(), np.zeros(len(batch), np.int64))
            over = {name: own[name] > limit for name, limit in limits.items() if name in own}
            for column in over.values():
                sizes[column] = np.maximum(sizes[column], most + 1)  # a piece of its own
            for first_row, last in _pieces(sizes, skipped, left, min(piece, most)):
                long = next((name for name, column in over.items() if column[first_row]), None)
                if long is not None:
                    why = f"{long} of {own[long][first_row]:,} bytes; at most {limits[long]:,} are read"
                    yield start + first_row, why
                    continue
                if sizes[first_row] > most:
                    yield start + first_row, f"a row of {sizes[first_row]:,} bytes; at most {most:,} are read"
                    continue
                values = [values_of(batch.column(name).slice(first_row, last - first_row)) for name in columns]
                rows = zip(*values, strict=True) if values else itertools.repeat((), last - first_row)
                yield from enumerate(rows, start + first_row)
            start += len(batch)
            if end is not None and start >= end:
                return


def _pieces(sizes: Any, first: int, end: int, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of rows that are turned into Python's values at once; one that is too long stands alone."""
    held = 0
    for row, size in enumerate(sizes[first:end].tolist(), first):
        if row > first and held + size > most:
            yield first, row
            first, held = row, 0
        held += size
    if end > first:
        yield first, end


def _values(array: Any) -> list[Any]:
    """Python's values; text that is no UTF-8 as bytes, and what is nested around such a text as null, as are dates and
    times that Python does not have."""
    try:
        values: list[Any] = array.to_pylist()
        return values
    except (ValueError, OverflowError):
        return [_value(scalar) for scalar in array]


def _value(scalar: Any) -> Any:
    try:
        return scalar.as_py()
    except UnicodeDecodeError:
        return None if pa.types.is_nested(scalar.type) else scalar.cast(pa.binary()).as_py()
    except (ValueError, OverflowError):
        return None


@dataclass(frozen=True, slots=True)
class ImageValue:
    """An image as a cell of a table, or a value of JSON, has it: its bytes, or a path or an address."""

    data: bytes | None = None
    path: str | None = None


_NAMES: Final = ("bytes", "path", "url", "file_name", "image", "base64", "data")
"""What JSON's objects call an image: in base64 (`bytes` too, as JSON has none), or its path or address."""


def image_values(value: Any) -> list[ImageValue]:
    """The images of a cell, in order; nulls are none. Raises ValueError for what is no image.

    Read are bytes, texts (paths, addresses, base64, data URLs), `{bytes, path}` of which one may be null, `{url}` and
    what else is called so, and lists.
    """
    if value is None or value == "":
        return []
    if isinstance(value, list | tuple):
        return [image for entry in value for image in image_values(entry)]
    if isinstance(value, bytes | bytearray | memoryview):
        return [ImageValue(data=bytes(value))]
    if isinstance(value, str):
        return [ImageValue(path=value)]
    if isinstance(value, Mapping):
        data = value.get("bytes")
        if isinstance(data, bytes) and data:
            return [ImageValue(data=data)]
        where = next((told for name in _NAMES if isinstance(told := value.get(name), str) and told), None)
        if where:
            return [ImageValue(path=where)]
        if data is None and set(value) <= {"bytes", "path", "url"}:
            return []
    raise ValueError(f"{type(value).__name__} is no image: it needs bytes, a path or an address")


def images_of_rows(
    path: str, columns: Sequence[str], wanted: Iterable[int]
) -> Iterator[tuple[int, list[bytes | None]]]:
    """The images of some rows of a table, which come in order of the rows: all those of `columns`, column by column.

    Raises:
        LookupError: it has no such column.
        storage.Damaged: the file cannot be read.
    """
    rows = sorted(set(wanted))
    if not rows:
        return
    left = set(rows)
    with open_table(path) as table:
        if missing := [name for name in columns if name not in table.names]:
            raise LookupError(f"has no column {missing[0]!r}")
        for number, row in _some_rows(table, columns, rows):
            if number in left and not isinstance(row, str):
                yield number, [data for images in row for data in images]


def _images_of(array: Any) -> Iterator[list[bytes | None]]:
    """Of each cell the bytes of its images, copied when it comes: what lies elsewhere, or is none, is None.

    Of `{bytes, path}`, and of lists of it, the bytes are taken by themselves: a dict a cell costs more than its image.
    """
    kind = array.type
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        inner = _images_of(array.flatten())
        lengths = pc.fill_null(pc.list_value_length(array), 0).to_pylist()
        for length in lengths:
            yield [data for images in itertools.islice(inner, length) for data in images]
    elif not (pa.types.is_struct(kind) and kind.get_field_index("bytes") >= 0):
        yield from map(_bytes_of, map(_value, array))
    else:
        cells = pc.struct_field(array, "bytes")
        for row, data in enumerate(_bytes_in(cells)):
            yield [data] if isinstance(data, bytes) and data else _bytes_of(_value(array[row]))


def _bytes_in(cells: Any) -> Iterator[Any]:
    """The values of an array, copied when they come; of bytes without a scalar of pyarrow's for each, with which an
    image of 64 KB costs 5.9 µs instead of 4.2."""
    width = 4 if pa.types.is_binary(cells.type) else 8 if pa.types.is_large_binary(cells.type) else 0
    if not width or not len(cells):
        yield from map(_value, cells)
        return
    _, offsets, data = cells.buffers()
    view = memoryview(b"" if data is None else data)
    places = np.frombuffer(offsets, f"i{width}", len(cells) + 1, width * cells.offset).tolist()
    there = cells.is_valid().to_pylist() if cells.null_count else itertools.repeat(True, len(cells))
    for start, end, valid in zip(places[:-1], places[1:], there, strict=True):
        yield bytes(view[start:end]) if valid else None


def _bytes_of(value: Any) -> list[bytes | None]:
    try:
        return [image.data for image in image_values(value)]
    except ValueError:  # nobody refers to it
        return []


def _some_rows(
    table: RowTable, columns: Sequence[str], rows: Sequence[int]
) -> Iterator[tuple[int, tuple[list[bytes | None], ...] | str]]:
    """The images of the rows of the groups that hold any that is wanted; between those of one group all are read."""
    at, place = 0, 0
    for length in table.groups:
        start, at = at, at + length
        inside = []
        while place < len(rows) and rows[place] < at:
            inside.append(rows[place])
            place += 1
        if inside:
            yield from _cells(table, columns, max(start, inside[0]), inside[-1] + 1, _images_of, piece=MAX_ROW)
