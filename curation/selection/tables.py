"""Selections as files: a parquet of `uid` and `count` sorted by uid, DataComp's `.npy`, or a `.txt` of uids."""

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from curation import storage
from curation.selection import uids

_FIELDS: Final[list[Any]] = [pa.field("uid", pa.string()), pa.field("count", pa.int32())]
SCHEMA: Final = pa.schema(_FIELDS)
_MOST: Final = np.iinfo(np.int32).max


def make_selection(pairs: uids.Pairs, counts: npt.NDArray[np.int64]) -> pa.Table:
    """The selection of these distinct uids, sorted; samples whose count is 0 are left out.

    Raises:
        ValueError: a count beyond 32 bits.
    """
    chosen = counts > 0
    pairs, counts = pairs[chosen], counts[chosen]
    if len(counts) and counts.max() > _MOST:
        raise ValueError(f"a count of {counts.max():,} is more than a selection can hold ({_MOST:,})")
    index = uids.order(pairs)
    return pa.table([uids.decode(pairs[index]), pa.array(counts[index].astype(np.int32))], schema=SCHEMA)


def selection_pairs(selection: pa.Table) -> tuple[uids.Pairs, npt.NDArray[np.int64]]:
    """A selection's uids as sorted distinct pairs, and their counts (repeated uids add up)."""
    pairs = uids.encode(selection["uid"])
    counts = np.asarray(selection["count"].to_numpy(), np.int64)
    index = uids.order(pairs)
    distinct, repeats = uids.count(pairs)
    if len(distinct) == len(pairs):
        return distinct, counts[index]
    starts = np.cumsum(repeats) - repeats
    return distinct, np.add.reduceat(counts[index], starts) if len(starts) else counts


def read_selection(path: str) -> pa.Table:
    """A selection as a table of `uid` (string) and `count` (int32, >= 1), sorted by uid.

    By its name: `.npy` is DataComp's (also raw `u8,u8` bytes; a uid listed n times has count n), `.txt` one uid a line
    (repeats count), anything else parquet; parquet without a `count` column counts each row once.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a selection.
    """
    if path.endswith(".npy"):
        return make_selection(*uids.count(uids.read_npy(path)))
    if path.endswith(".txt"):
        lines = storage.read_bytes(path).decode("utf-8", "replace").split()
        try:
            return make_selection(*uids.count(uids.encode(lines)))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error
    try:
        table = storage.read_table(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path}: not a selection: neither .npy, .txt nor parquet ({error})") from error
    if "uid" not in table.column_names:
        raise ValueError(f"{path}: not a selection: it has no uid column, only {', '.join(table.column_names)}")
    if "count" not in table.column_names:
        return make_selection(*uids.count(uids.encode(table["uid"])))
    if table["count"].null_count or not pa.types.is_integer(table["count"].type):
        raise ValueError(f"{path}: not a selection: `count` must be whole numbers without nulls")
    return make_selection(*selection_pairs(table))


def write_selection(path: str, selection: pa.Table) -> None:
    """Write a selection in the form that the path's ending names; equal selections give equal bytes.

    `.npy` and `.txt` list a uid as often as its count says.
    """
    pairs, counts = selection_pairs(selection)
    if path.endswith(".npy"):
        uids.write_npy(path, np.repeat(pairs, counts))
    elif path.endswith(".txt"):
        listed = uids.decode(np.repeat(pairs, counts)).to_pylist()
        storage.write_bytes(path, "".join(f"{uid}\n" for uid in listed).encode())
    else:
        storage.write_table(path, make_selection(pairs, counts))
