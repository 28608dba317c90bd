"""One window of a plan: its samples gathered, packed, and put into an order that depends on uids and seed alone."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import pyarrow as pa

from mmcorpus.packing.best import pack_items
from mmcorpus.packing.binpack import Limit
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.draws import mix, sample_words
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
