"""One window of a plan: its samples gathered, packed, and put into an order that depends on uids and seed alone."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.packing.best import pack_items
from mmcorpus.packing.binpack import Limit
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.draws import mix, sample_words
from mmcorpus.packing.numbers import MOST_COPIES
from mmcorpus.packing.verdicts import FittedRows

PLAN_SCHEMA: Final = pa.schema(
    [
        ("sequence", pa.int64()),
        ("position", pa.int32()),
        ("uid", pa.string()),
        ("copy", pa.int32()),
        ("part", pa.int32()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("shard", pa.string()),
        ("tokens", pa.int32()),
        ("images", pa.int32()),
        ("length", pa.int32()),
    ]
)
_SHARD: Final = r"^[^/\\\\]*[^/\\\\.][^/\\\\]*$"
"""A file's name, in no other folder."""
CROPS: Final = pa.field("crops", pa.int32())
"""One column more where an image may have several crops."""


def plan_schema(config: PlanConfig) -> pa.Schema:
    """The columns of a plan's parquet."""
    return PLAN_SCHEMA.append(CROPS) if config.counts_crops else PLAN_SCHEMA


def pack_window(config: PlanConfig, rows: Sequence[tuple[str, str, str, FittedRows]], windows: int) -> pa.Table:
    """The plan's rows of one of its `windows`, of (source, kind, shard, rows), sequences numbered from 0.

    Samples are packed in the order of a hash of uid, copy, part and seed: equal lengths mix sources and
    shards, and copies and parts of one sample lie apart.
    """
    origin = np.repeat(np.arange(len(rows)), [len(fitted.uids) for *_, fitted in rows])
    uids = np.concatenate([fitted.uids for *_, fitted in rows] or [np.zeros(0, dtype="S32")])
    counts, firsts, steps, parts, tokens, images, crops, lengths = (
        np.concatenate([getattr(fitted, name) for *_, fitted in rows] or [np.zeros(0, dtype=np.int64)])
        for name in ("counts", "firsts", "steps", "parts", "tokens", "images", "crops", "lengths")
    )
    item = np.repeat(np.arange(len(uids)), counts)
    copy = firsts[item] + steps[item] * (np.arange(len(item)) - np.repeat(np.cumsum(counts) - counts, counts))
    words = sample_words(uids[item], copy, config.seed, parts[item])
    order = np.argsort(words, kind="stable")
    item, copy, words = item[order], copy[order], words[order]

    limited = (("images", images, config.max_images), ("crops", crops, config.max_crops))
    limits = [Limit(name=name, sizes=own[item], most=most) for name, own, most in limited if most]
    # Of the samples alone, so that a window is packed alike by whichever worker, in whatever order.
    drawn = int(np.bitwise_xor.reduce(words, initial=np.uint64(config.seed)))
    bins = pack_items(lengths[item], config.context_length, limits=limits, seed=drawn, windows=windows)
    # Samples are in hash order, so a bin's first one has its smallest hash; hashed again, else full bins came first.
    _, first = np.unique(bins.bin, return_index=True)
    rank = np.empty(len(bins), dtype=np.int64)
    rank[np.argsort(mix(words[first]), kind="stable")] = np.arange(len(bins))
    sequence = rank[bins.bin]
    order = np.argsort(sequence, kind="stable")
    item, copy, sequence = item[order], copy[order], sequence[order]
    position = np.arange(len(item)) - np.searchsorted(sequence, sequence, side="left")

    def named(column: int) -> pa.Array:
        return pa.array([row[column] for row in rows], pa.string()).take(origin[item])

    columns = {
        "sequence": sequence,
        "position": position,
        "uid": pa.array(uids[item]).cast(pa.string()),
        "copy": copy,
        "part": parts[item],
        "source": named(0),
        "kind": named(1),
        "shard": named(2),
        "tokens": tokens[item],
        "images": images[item],
        "length": lengths[item],
        "crops": crops[item],
    }
    schema = plan_schema(config)
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def check_rows(rows: pa.Table, kinds: Mapping[str, str]) -> None:
    """Raise ValueError, saying what is wrong, unless a window's rows are a plan of sources of these `kinds`."""
    lacking = [field.name for field in PLAN_SCHEMA if field.name not in rows.column_names]
    if lacking:
        raise ValueError(f"it has no column {', '.join(lacking)}")
    for field in PLAN_SCHEMA:
        if rows[field.name].type != field.type or rows[field.name].null_count:
            raise ValueError(f"its column {field.name} is not {field.type} without nulls")
    for told in rows.group_by(["source", "kind"]).aggregate([]).to_pylist():
        if kinds.get(told["source"]) != told["kind"]:
            raise ValueError(f"it has the source {told['source']!r} of kind {told['kind']!r}; it names {dict(kinds)}")
    if not pc.all(pc.match_substring_regex(pc.unique(rows["shard"]), _SHARD)).as_py():
        raise ValueError("a shard's name is none")
    least = {"sequence": 0, "position": 0, "copy": 0, "part": 0, "tokens": 1, "images": 0, "length": 1}
    for name, low in least.items():
        if pc.min(rows[name]).as_py() < low or (name == "copy" and pc.max(rows[name]).as_py() > MOST_COPIES):
            raise ValueError(f"its column {name} holds a number that is none of a plan's")
    if (np.diff(rows["sequence"].to_numpy()) < 0).any():
        raise ValueError("its sequences are not in order")
