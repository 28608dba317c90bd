"""Work files: Arrow IPC files of many record batches, so that a task reads its part of every other task's file.

A file is written whole or not at all, and its schema's metadata says what was counted while it was made, so that a
resumed run reports what an undisturbed one does.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.store import storage

PARTS: Final = 256
"""Into how many parts keys, pairs and clusters are cut by hash. A task takes a run of them."""
SUFFIX: Final = ".arrow"

_COUNTS: Final = b"mmcorpus"
_GOLDEN: Final = np.uint64(0x9E3779B97F4A7C15)

Indices = npt.NDArray[np.int64]
Hashes = npt.NDArray[np.uint64]
Columns = dict[str, npt.NDArray[Any]]
"""Columns of equal length, by name."""


def part_of(hashes: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """The part, 0-255, of each number; numbers that differ little are spread."""
    mixed = np.asarray(hashes).astype(np.uint64) * _GOLDEN
    mixed = (mixed ^ (mixed >> np.uint64(32))) * _GOLDEN
    return (mixed >> np.uint64(56)).astype(np.uint8)


def write_split(
    path: str,
    columns: Columns | pa.Table,
    part: npt.NDArray[Any],
    count: int,
    says: dict[str, Any],
    *,
    compression: str | None = None,
) -> None:
    """Commit rows in `count` parts, `part` saying which each row belongs to; within a part they keep their order."""
    order = np.argsort(part, kind="stable")
    if isinstance(columns, pa.Table):
        table = columns.take(order)
    else:
        table = pa.table({name: values[order] for name, values in columns.items()})
    ends = np.cumsum(np.bincount(part, minlength=count))
    parts = (table.slice(start, end - start) for start, end in zip([0, *ends[:-1]], ends, strict=True))
    write_parts(path, table.schema, parts, says, compression=compression)


def write_whole(path: str, table: pa.Table | Columns, says: dict[str, Any], *, compression: str | None = None) -> None:
    """Commit a file of one part."""
    table = pa.table(table)
    write_parts(path, table.schema, [table], says, compression=compression)


def write_parts(
    path: str, schema: pa.Schema, parts: Iterable[pa.Table], says: dict[str, Any], *, compression: str | None = None
) -> None:
    """Commit tables as the parts of one file, with what it says of itself.

    Args:
        says: JSON-able.
        compression: `zstd` for texts; keys are random and do not get smaller.
    """
    schema = schema.with_metadata({_COUNTS: json.dumps(says, sort_keys=True).encode()})
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with storage.atomic_write(path) as file, pa.ipc.new_file(file, schema, options=options) as writer:
        for part in parts:
            batches = part.replace_schema_metadata(schema.metadata).combine_chunks().to_batches()
            if len(batches) > 1:
                raise ValueError(f"{path}: a part of {part.nbytes} bytes is too large for Arrow; make smaller shards")
            writer.write_batch(batches[0] if batches else pa.RecordBatch.from_pylist([], schema=schema))


def read_parts(path: str, numbers: Iterable[int] | None = None) -> pa.Table:
    """Some parts of a file as one table; None for all."""
    with _open(path) as file, storage.reading(path, "work file"):
        reader = pa.ipc.open_file(file)
        wanted = range(reader.num_record_batches) if numbers is None else numbers
        return pa.Table.from_batches([reader.get_batch(number) for number in wanted], reader.schema)


def read_columns_of(paths: Iterable[str], numbers: Sequence[int] | None, kinds: dict[str, Any]) -> Columns:
    """Some parts of many files as numpy columns, in the order of the files.

    Args:
        kinds: the columns and their types, for when there is no file.
    """
    tables = [read_parts(path, numbers) for path in paths]
    return {
        name: np.concatenate([np.empty(0, kind), *(numpy_of(table[name]) for table in tables)]).astype(kind, copy=False)
        for name, kind in kinds.items()
    }


def numpy_of(column: pa.ChunkedArray | pa.Array) -> npt.NDArray[Any]:
    """A column of numbers without nulls as numpy has them."""
    return np.asarray(column.to_numpy())


def says(path: str) -> dict[str, Any]:
    """A work file's own metadata; empty if it is no work file of ours."""
    try:
        with _open(path) as file, storage.reading(path, "work file"):
            text = (pa.ipc.open_file(file).schema.metadata or {}).get(_COUNTS)
            return json.loads(text) if text else {}
    except storage.Damaged:
        return {}


def runs(total: int, size: int) -> list[range]:
    """The 256 parts shared out over as many tasks as `total` takes at `size` a task."""
    tasks = int(np.clip(-(-total // size), 1, PARTS))
    edges = [PARTS * task // tasks for task in range(tasks + 1)]
    return [range(edges[task], edges[task + 1]) for task in range(tasks)]


def group_starts(*columns: npt.NDArray[Any]) -> Indices:
    """Where groups of equal rows begin in sorted columns."""
    if not len(columns[0]):
        return np.empty(0, np.int64)
    new = np.ones(len(columns[0]), np.bool_)
    new[1:] = False
    for column in columns:
        new[1:] |= column[1:] != column[:-1]
    return np.flatnonzero(new)


def pack_pairs(first: Indices, second: Indices) -> Hashes:
    """Pairs of row numbers as one number each, sorted, without repeats."""
    low, high = np.minimum(first, second).astype(np.uint64), np.maximum(first, second).astype(np.uint64)
    return np.unique(low << np.uint64(32) | high)


def unpack_pairs(pairs: Hashes) -> tuple[Indices, Indices]:
    """The reverse of `pack_pairs`: the lower and the higher row number."""
    return (pairs >> np.uint64(32)).astype(np.int64), (pairs & np.uint64(0xFFFFFFFF)).astype(np.int64)


def _open(path: str) -> Any:
    fs, inner = storage.filesystem(path)
    return pa.OSFile(inner) if storage.is_local(path) else fs.open(inner, "rb")
