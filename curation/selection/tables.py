"""Selections as files: a parquet of `uid` and `count` sorted by uid, DataComp's `.npy`, or a `.txt` of uids."""

from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids

SCHEMA: Final = pa.schema({"uid": pa.string(), "count": pa.int32()})
Counts = npt.NDArray[np.int64]
_MOST: Final = np.iinfo(np.int32).max


def merge(pairs: uids.Pairs, counts: Counts) -> tuple[uids.Pairs, Counts]:
    """Rows of uids and counts as a multiset: sorted distinct pairs; repeats add up, what counts 0 is left out.

    Raises:
        ValueError: a count beyond 32 bits.
    """
    index = uids.order(pairs)
    distinct, repeats = uids.count(pairs[index])
    counts = counts[index]
    if len(distinct) != len(pairs):
        counts = np.add.reduceat(counts, np.cumsum(repeats) - repeats)
    if len(counts) and counts.max() > _MOST:
        raise ValueError(f"a count of {counts.max():,} is more than a selection can hold ({_MOST:,})")
    return distinct[counts > 0], counts[counts > 0]


def make_selection(pairs: uids.Pairs, counts: Counts) -> pa.Table:
    """The selection of these rows, merged."""
    distinct, counts = merge(pairs, counts)
    return pa.table([uids.decode(distinct), pa.array(counts.astype(np.int32))], schema=SCHEMA)


def selection_pairs(selection: pa.Table) -> tuple[uids.Pairs, Counts]:
    """A selection's uids as sorted distinct pairs, and their counts (repeated uids add up)."""
    return merge(uids.encode(selection["uid"]), np.asarray(selection["count"].to_numpy(), np.int64))


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
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
            raise  # the storage's; Arrow's own, of damaged pages, have no number
        raise ValueError(f"{path}: not a selection: neither .npy, .txt nor parquet ({error})") from error
    if "uid" not in table.column_names:
        raise ValueError(f"{path}: not a selection: it has no uid column, only {', '.join(table.column_names)}")
    for name in ("uid", "count"):
        if table.column_names.count(name) > 1:
            raise ValueError(f"{path}: not a selection: it has several columns named {name}")
    try:
        if "count" not in table.column_names:
            return make_selection(*uids.count(uids.encode(table["uid"])))
        if table["count"].null_count or not pa.types.is_integer(table["count"].type):
            raise ValueError("not a selection: `count` must be whole numbers without nulls")
        return make_selection(*selection_pairs(table))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error


def write_selection(path: str, selection: pa.Table) -> None:
    """Write a selection in the form that the path's ending names; equal selections give equal bytes.

    `.npy` and `.txt` list a uid as often as its count says.
    """
    write_pairs(path, *selection_pairs(selection))


def check_name(path: str) -> None:
    """Raises ValueError for a path whose ending names no form that a selection is written in."""
    if not path.endswith((".parquet", ".npy", ".txt")):
        raise ValueError(f"{path}: a selection is written as .parquet, .npy (DataComp's) or .txt (a uid a line)")


def write_pairs(path: str, pairs: uids.Pairs, counts: Counts) -> None:
    """`write_selection` of rows of uids and counts."""
    if not path.endswith((".npy", ".txt")):
        storage.write_table(path, make_selection(pairs, counts))
        return
    listed = np.repeat(*merge(pairs, counts))
    if path.endswith(".npy"):
        uids.write_npy(path, listed)
    else:
        storage.write_bytes(path, "".join(f"{uid}\n" for uid in uids.decode(listed).to_pylist()).encode())
