"""Rows of a parquet file in memory that is bounded by bytes, whatever its pages, dictionaries and lists expand to."""

import contextlib
import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

pc: Any = pyarrow.compute  # its stubs do not know dictionaries

MAX_PAGE: Final = 256 * 2**20
"""Bytes of a page once it is decompressed, which it is as a whole."""
MAX_ENTRIES: Final = 2**26
"""Values in the lists of one column and row group: one row may hold them all."""
BATCH_BYTES: Final = 64 * 2**20
"""Of rows turned into Python's values at a time."""
MAX_ROWS, MAX_ROWS_PER_BYTE = 1_000_000, 64
"""Of a file: so many, and for each of its bytes so many more. Rows that differ take more than a bit each; of equal
ones a file of a kilobyte may say that it has as many as can be counted."""
_SMALL_DICTIONARY: Final = BATCH_BYTES // 4
"""Bytes; rows of one are read four at a time at least. To look for its longest value costs its decompression."""
_ENTRY: Final = 16
"""Bytes that a list's entry takes besides its own."""
Sizes = npt.NDArray[np.int64]


class TooLarge(ValueError):
    """A row group that does not fit into the bounds; its text says why."""


class ParquetRows:
    """A parquet file, read in batches of bounded size."""

    def __init__(self, file: IO[bytes]) -> None:
        """Raises pa.ArrowException for what is no parquet file, or says of its rows what cannot be."""
        self._file = file
        try:
            self._plain = pq.ParquetFile(file)
        except UnicodeDecodeError:
            raise pa.ArrowInvalid("the name of a column is not UTF-8") from None
        self.metadata: Any = self._plain.metadata
        size = file.seek(0, io.SEEK_END)
        rows = sum(self.metadata.row_group(group).num_rows for group in range(self.metadata.num_row_groups))
        if rows > MAX_ROWS + MAX_ROWS_PER_BYTE * size:
            raise pa.ArrowInvalid(f"it says that it has {rows:,} rows in {size:,} bytes")
        if rows != self.metadata.num_rows:
            raise pa.ArrowInvalid(f"it says that it has {self.metadata.num_rows:,} rows, and its row groups {rows:,}")
        self.names: list[str] = list(self._plain.schema_arrow.names)
        about = self._plain.schema
        self._leaves = [about.column(number) for number in range(len(about))]
        texts = [leaf.path for leaf in self._leaves if leaf.physical_type == "BYTE_ARRAY"]
        # As they are stored: a value that a dictionary has once is in memory once, however often it occurs.
        self._coded = pq.ParquetFile(file, metadata=self.metadata, read_dictionary=texts)

    def batches(self, group: int, columns: Sequence[str], rows: int) -> Iterator[pa.RecordBatch]:
        """The batches of a row group, of at most `rows` rows, fewer where these are wide.

        Raises:
            TooLarge: a page or a row's lists are beyond the bounds; nothing was read of them.
            pa.ArrowException, OSError: as Arrow does, of damaged pages.
        """
        about = self.metadata.row_group(group)
        prefixes = tuple(f"{name}." for name in columns)
        entries, texts, others = about.num_rows, 0, 0
        for number, leaf in enumerate(self._leaves):
            if f"{leaf.path}.".startswith(prefixes):
                chunk = column_chunk(self._plain, group, number)
                rows = min(rows, _rows_at_once(self._file, chunk, leaf))
                if leaf.logical_type.type == "NONE":
                    others = max(others, _dictionary_bytes(self._file, chunk, leaf))
                else:
                    texts = max(texts, _dictionary_bytes(self._file, chunk, leaf))
                entries = max(entries, chunk.num_values)
                if chunk.num_values - about.num_rows > MAX_ENTRIES:
                    raise TooLarge(f"column {leaf.path} has lists of {chunk.num_values:,} values")
        options: Any = {"row_groups": [group], "columns": list(columns), "use_threads": False}
        longest = max(texts, others)
        if entries == about.num_rows and others <= _SMALL_DICTIONARY:  # what images have, read a few rows at a time
            rows = min(rows, BATCH_BYTES // max(1, others))
        if entries > about.num_rows or longest * rows > BATCH_BYTES:
            first = next(self._coded.iter_batches(batch_size=1, **options), None)
            longest = max(map(_longest, [] if first is None else first.columns), default=0)
        at_once = rows if entries == about.num_rows else entries  # one row's lists may hold all
        table = self._plain if longest * at_once <= BATCH_BYTES else self._coded
        left = about.num_rows
        for batch in table.iter_batches(batch_size=rows, **options):
            left -= len(batch)
            yield batch
        if left and columns:
            raise pa.ArrowInvalid(
                f"row group {group} says that it has {about.num_rows:,} rows, and {left:,} are not there"
            )


class _Reached(Exception):
    """Arrow wants a file's data, and has found nothing wrong with its footer."""


class _Footer(io.RawIOBase):
    """A file of which no more than the footer is there; it is as long as that may say."""

    _at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + (1 << 62 if whence == io.SEEK_END else 0)
        return self._at

    def tell(self) -> int:
        return self._at

    def read(self, size: int = -1) -> bytes:
        raise _Reached


def column_chunk(table: pq.ParquetFile, group: int, number: int) -> Any:
    """What a footer says of a column in a row group.

    A footer that contradicts itself ends the process there (std::terminate, with pyarrow 26: `ColumnChunk` is called as
    if it could not throw). So Arrow begins to read the column first, which raises what is wrong.

    Raises pa.ArrowException, OSError.
    """
    with contextlib.suppress(_Reached):
        pq.ParquetFile(_Footer(), metadata=table.metadata).reader.read_row_group(
            group, column_indices=[number], use_threads=False
        )
    return table.metadata.row_group(group).column(number)


def _longest(array: Any) -> int:
    """The bytes of the longest value in an array's dictionaries."""
    kind = array.type
    if pa.types.is_dictionary(kind):
        return int(row_sizes(array.dictionary).max(initial=0))
    if pa.types.is_struct(kind):
        return max((_longest(array.field(number)) for number in range(kind.num_fields)), default=0)
    if pa.types.is_map(kind):
        return max(_longest(array.keys), _longest(array.items))
    return _longest(array.values) if pa.types.is_nested(kind) else 0


def python_rows(
    batch: pa.RecordBatch, columns: Sequence[str], most: int, limits: Mapping[str, int] = MappingProxyType({})
) -> Iterator[tuple[Any, ...] | str]:
    """A batch's rows as Python's values; instead of a row of more than `most` bytes, the words that say so.

    A value that a dictionary has once is made once, however many rows have it, and none that is too long.

    Args:
        limits: bytes of a value, at most, by column; the others have `most` together.
    """
    arrays: list[Any] = [batch.column(name) for name in columns]
    own = {name: row_sizes(array) for name, array in zip(columns, arrays, strict=True)}
    sizes = sum(own.values(), np.zeros(len(batch), np.int64))
    over = sizes > most
    for name, limit in limits.items():
        if name in own:
            over |= own[name] > limit
    if sizes.sum() <= BATCH_BYTES and not over.any():
        with contextlib.suppress(UnicodeDecodeError):  # a row's, which costs itself
            decoded = list(map(_decoded, arrays))
            yield from zip(*decoded, strict=True)
            return
    values = [_by_row(array) for array in arrays]
    for index, (size, long) in enumerate(zip(sizes.tolist(), over.tolist(), strict=True)):
        if not long:
            try:
                yield tuple(value(index) for value in values)
            except UnicodeDecodeError as error:
                yield f"not UTF-8: {error.object.decode('utf-8', 'replace')[:200]}"
        elif size > most:
            yield f"a row of {size:,} bytes; at most {most:,} are read"
        else:
            name, limit = next((name, limit) for name, limit in limits.items() if own[name][index] > limit)
            yield f"{name} of {own[name][index]:,} bytes; at most {limit:,} are read"


def _by_row(array: Any) -> Callable[[int], Any]:
    """A row's value by its number; a dictionary's values are the same objects for all rows."""
    if not pa.types.is_dictionary(array.type):
        return lambda row: array[row].as_py()
    indices, dictionary = array.indices, array.dictionary
    entry = functools.lru_cache(maxsize=len(dictionary))(lambda index: dictionary[index].as_py())

    def value(row: int) -> Any:
        index = indices[row].as_py()
        return None if index is None else entry(index)

    return value


def _decoded(array: Any) -> list[Any]:
    if pa.types.is_dictionary(array.type):
        array = array.cast(array.type.value_type)
    values: list[Any] = array.to_pylist()
    return values


def row_sizes(array: Any) -> Sizes:
    """The bytes of each row's value, repeats in dictionaries and lists counted as often as they occur; shape (n,)."""
    kind: Any = array.type
    if isinstance(array, pa.ExtensionArray):
        return row_sizes(array.storage)
    if pa.types.is_dictionary(kind):
        own = np.append(row_sizes(array.dictionary), 0)
        return own[pc.fill_null(array.indices, len(own) - 1).to_numpy(zero_copy_only=False).astype(np.int64)]
    if pa.types.is_struct(kind):
        fields = (row_sizes(array.field(number)) for number in range(kind.num_fields))
        return sum(fields, np.zeros(len(array), np.int64))
    if pa.types.is_map(kind) or pa.types.is_list(kind) or pa.types.is_large_list(kind):
        entries = (array.keys, array.items) if pa.types.is_map(kind) else (array.values,)
        before = np.zeros(len(entries[0]) + 1, np.int64)
        np.cumsum(sum(map(row_sizes, entries)) + _ENTRY, out=before[1:])
        places = array.offsets.to_numpy()
        return np.diff(before[places])
    if pa.types.is_fixed_size_list(kind):
        inner = row_sizes(array.values)[array.offset * kind.list_size :][: len(array) * kind.list_size]
        return inner.reshape(len(array), kind.list_size).sum(axis=1) + _ENTRY * kind.list_size
    try:
        lengths = pc.fill_null(pc.binary_length(array), 0)
    except pa.ArrowNotImplementedError:  # numbers, dates, truth values
        return np.full(len(array), 8, np.int64)
    return lengths.to_numpy(zero_copy_only=False).astype(np.int64)


def _rows_at_once(file: IO[bytes], chunk: Any, column: Any) -> int:
    """The rows of a column chunk that fit into `BATCH_BYTES`, about; raises TooLarge for a page that is too large."""
    per_row = max(1, column.length if column.physical_type == "FIXED_LEN_BYTE_ARRAY" else 1)
    # A footer may say that there is little in pages that are large. In a file that is not here, looking at each page
    # fetches most of what lies between them, too: there it is believed.
    if chunk.total_uncompressed_size > BATCH_BYTES or _is_here(file):
        for size, values in pages(file, chunk):
            if size > MAX_PAGE:
                raise TooLarge(f"column {chunk.path_in_schema} has a page of {size:,} bytes (at most {MAX_PAGE:,})")
            per_row = max(per_row, size // max(1, values))
    return max(1, BATCH_BYTES // per_row)


def _is_here(file: IO[bytes]) -> bool:
    try:
        file.fileno()
    except OSError:
        return False
    return True


def _dictionary_bytes(file: IO[bytes], chunk: Any, column: Any) -> int:
    """The bytes of a column chunk's dictionary of texts or bytes, which bound its longest value; those of the whole
    chunk where the first page cannot be told."""
    if column.physical_type != "BYTE_ARRAY":
        return 0
    kind, size, _ = next(_pages(file, chunk), (_DICTIONARY, int(chunk.total_uncompressed_size), 0))
    return size if kind == _DICTIONARY else 0


def pages(file: IO[bytes], chunk: Any) -> Iterator[tuple[int, int]]:
    """The pages of a column chunk: bytes once decompressed, and values (of a dictionary 0, as its rows are unknown).

    Only their headers are read (the Parquet format, parquet.thrift, PageHeader, in Thrift's compact protocol). It ends
    at a damaged one; Arrow, which reads the same, says what is wrong.
    """
    return ((size, values) for _, size, values in _pages(file, chunk))


def _pages(file: IO[bytes], chunk: Any) -> Iterator[tuple[int, int, int]]:
    """As `pages`, before it the page's type."""
    at = chunk.dictionary_page_offset or chunk.data_page_offset
    at = min(at, chunk.data_page_offset)
    end = at + chunk.total_compressed_size
    while 0 <= at < end:
        file.seek(at)
        try:
            fields, length = _page_header(file)
            kind, size, packed = fields[1], fields[2], fields[3]
            page = fields.get(5) or fields.get(8) or {}
            values = page.get(1, 0)
            if size < 0 or packed < 0:
                raise ValueError("a negative size")
        except (KeyError, IndexError, TypeError, AttributeError, ValueError):
            return
        yield kind, size, values or size
        at += length + packed


_HEADERS: Final = (1024, 64 * 1024, 16 * 2**20)
"""Bytes that are looked at for a page header: it is short, but that statistics in it may hold texts. Arrow reads no
longer one."""


def _page_header(file: IO[bytes]) -> tuple[dict[int, Any], int]:
    """Its fields, and its length in bytes. Raises IndexError, ValueError."""
    data = b""
    for most in _HEADERS:
        data += file.read(most - len(data))
        header = _Thrift(data)
        try:
            return header.struct(), header.at
        except IndexError:  # it is longer, or the file ends
            if len(data) < most:
                break
    raise IndexError


_DICTIONARY: Final = 2
"""The type of a page."""


class _Thrift:
    """Thrift's compact protocol: structs as dicts by field number, of which only whole numbers and structs are kept.

    Every value takes bytes that are there, so that work is bounded by the data, whatever its lengths say. Raises
    IndexError where it ends, ValueError for what is not of the protocol.
    """

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self, depth: int = 0) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while head := self._byte():
            number = number + (head >> 4) if head >> 4 else self._zigzag()
            fields[number] = self._value(head & 15, depth + 1)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        if depth > 16:
            raise ValueError("nested too deeply")
        if kind in (1, 2):
            return kind == 1
        if kind in (4, 5, 6):
            return self._zigzag()
        if kind == 12:
            return self.struct(depth)
        if kind in (3, 7):
            self._skip({3: 1, 7: 8}[kind])
        elif kind == 8:
            self._skip(self._varint())
        elif kind in (9, 10):
            head = self._byte()
            for _ in range(self._varint() if head >> 4 == 15 else head >> 4):
                self._value(3 if head & 15 in (1, 2) else head & 15, depth + 1)
        else:
            raise ValueError(f"type {kind}")
        return None

    def _byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def _skip(self, size: int) -> None:
        self.at += size
        if self.at > len(self.data):
            raise IndexError

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self._byte()
            value |= (byte & 127) << shift
            if byte < 128:
                return value
        raise ValueError("a number of more than 64 bits")

    def _zigzag(self) -> int:
        value = self._varint()
        return (value >> 1) ^ -(value & 1)
