"""Second stage: rows that share a key. A task has all records of its part of the keys, sorts them and looks at runs."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np

from mmcorpus.curation.dedup.forest import spanning_forest
from mmcorpus.curation.dedup.method import Hashes, Indices
from mmcorpus.curation.dedup.plan import Plan
from mmcorpus.curation.engine.items import run_numbered, task_path
from mmcorpus.curation.engine.partitions import (
    PARTS,
    Columns,
    group_starts,
    numpy_of,
    pack_pairs,
    part_of,
    read_parts,
    runs,
    unpack_pairs,
    write_split,
    write_whole,
)

RECORDS: Final = 4_000_000
"""Keys that a task sorts, about: some 400 MB."""


def find_pairs(plan: Plan, *, workers: int | None) -> tuple[list[str], list[str]]:
    """Sort all keys and find who shares one.

    Returns:
        forests of rows that are duplicates without a comparison; and candidates, cut into parts by their lower row,
        for `bucketwise` methods buckets and their rows. None where nothing is verified.
    """
    parts = runs(sum(unit.records for unit in plan.units), RECORDS)
    last = plan.path("pairs" if plan.method.verifies else "equal")
    files = run_numbered(last, partial(_find_pairs, plan, parts), len(parts), title="pairs", workers=workers)
    equal = [task_path(plan.path("equal"), number) for number in range(len(parts))]
    return equal, files if plan.method.verifies else []


def _find_pairs(plan: Plan, parts: Sequence[range], number: int) -> dict[str, int]:
    """The work on some parts of the keys."""
    method, records = plan.method, shared_keys(plan, parts[number])
    equal = task_path(plan.path("equal"), number)
    if not method.verifies:
        names = [name for name in ("key", "table", "identity") if name in records]
        forest = star(records["row"], group_starts(*(records[name] for name in names)))
        write_whole(equal, forest, {"links": len(forest["row"])})
        return {"links": len(forest["row"])}
    forest = spanning_forest(np.empty(0, np.int64), np.empty(0, np.int64))
    if "identity" in records:
        one_of_each = group_starts(records["key"], records["table"], records["identity"])
        forest = star(records["row"], one_of_each)
        records = {name: values[one_of_each] for name, values in records.items()}
    if method.bucketwise:
        bucket = records["key"] ^ (records["table"].astype(np.uint64) << np.uint64(48))
        columns: Columns = {"bucket": bucket, "row": records["row"].astype(np.uint32)}
        part = part_of(bucket)
    else:
        pairs = bucket_pairs(records, method.bucket_limit)
        pairs = pairs[unpack_pairs(pairs)[1] >= plan.indexed]  # the index's were compared when they were put there
        columns, part = {"pair": pairs}, part_of(pairs >> np.uint64(32))
    write_whole(equal, forest, {"links": len(forest["row"])})
    write_split(task_path(plan.path("pairs"), number), columns, part, PARTS, {"candidates": len(part)})
    return {"candidates": len(part)}


def shared_keys(plan: Plan, parts: range) -> dict[str, Any]:
    """The records of keys that two rows or more share, sorted by key, table, identity and row.

    Most keys are alone and are dropped after the first sort, which is of the keys only.
    """
    columns: dict[str, list[Any]] = {}
    for unit, start in zip(plan.units, plan.starts, strict=False):
        table = read_parts(unit.keys, parts)
        for name in table.column_names:
            values = numpy_of(table[name])
            if name == "position":
                name, values = "row", values.astype(np.int64) + start
            columns.setdefault(name, []).append(values)
    records = {name: np.concatenate(columns.pop(name)) for name in list(columns)}
    if not records:
        return {"key": np.empty(0, np.uint64), "table": np.empty(0, np.uint16), "row": np.empty(0, np.int64)}
    order = np.argsort(records["key"])
    key = records["key"][order]
    shared = np.zeros(len(key) + 1, np.bool_)
    shared[1:-1] = key[1:] == key[:-1]
    order = order[shared[1:] | shared[:-1]]
    records = {name: values[order] for name, values in records.items()}
    names = [name for name in ("row", "identity", "table", "key") if name in records]
    order = np.lexsort([records[name] for name in names])
    return {name: values[order] for name, values in records.items()}


def star(rows: Indices, starts: Indices) -> Columns:
    """The forest of groups of rows that are one cluster each and may overlap: every row linked to its group's first."""
    sizes = np.diff(np.append(starts, len(rows)))
    heads = np.repeat(rows[starts], sizes)
    linked = rows != heads
    return spanning_forest(heads[linked], rows[linked])


def bucket_pairs(records: dict[str, Any], limit: int) -> Hashes:
    """The candidates of sorted records, packed: all pairs of a key's rows up to `limit` of them; of larger buckets
    each row with the limit / 2 before it and with the bucket's limit / 2 first ones."""
    rows = records["row"]
    starts = group_starts(records["key"], records["table"])
    sizes = np.diff(np.append(starts, len(rows)))
    # Rows in the order of their numbers: identities are hashes, and neighbours in the corpus are likelier duplicates.
    bucket = np.repeat(np.arange(len(starts)), sizes)
    rows = rows[np.lexsort((rows, bucket))]
    large = sizes > limit
    reach = np.where(large, limit // 2, limit)[bucket]
    found = [np.empty(0, np.uint64)]
    alive = np.arange(len(rows))
    for step in range(1, limit):
        alive = alive[reach[alive] >= step]
        alive = alive[alive + step < len(rows)]
        alive = alive[bucket[alive] == bucket[alive + step]]
        if not len(alive):
            break
        found.append(pack_pairs(rows[alive], rows[alive + step]))
    among = np.flatnonzero(large[bucket])
    for leader in range(limit // 2 if len(among) else 0):
        heads = rows[starts[bucket[among]] + leader]
        apart = rows[among] != heads
        found.append(pack_pairs(heads[apart], rows[among][apart]))
    return np.unique(np.concatenate(found))
