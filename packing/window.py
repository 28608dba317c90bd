"""One window of a plan: its samples gathered, packed, and put into an order that depends on uids and seed alone."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.packing.balanced import pack_items
from mmcorpus.packing.config import PlanConfig
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
Words = npt.NDArray[np.uint64]


def pack_window(config: PlanConfig, rows: Sequence[tuple[str, str, str, FittedRows]], first_sequence: int) -> pa.Table:
    """The plan's rows of a window of (source, kind, shard, rows), sequences numbered from `first_sequence`.

    Samples are packed in the order of a hash of uid, copy, part and seed: equal lengths mix sources and
    shards, and copies and parts of one sample lie apart.
    """
    origin = np.repeat(np.arange(len(rows)), [len(fitted.uids) for *_, fitted in rows])
    uids = np.concatenate([fitted.uids for *_, fitted in rows] or [np.zeros(0, dtype="S32")])
    counts, parts, tokens, images, lengths = (
        np.concatenate([getattr(fitted, name) for *_, fitted in rows] or [np.zeros(0, dtype=np.int64)])
        for name in ("counts", "parts", "tokens", "images", "lengths")
    )
    item = np.repeat(np.arange(len(uids)), counts)
    copy = np.arange(len(item)) - np.repeat(np.cumsum(counts) - counts, counts)
    words = sample_words(uids[item], copy, config.seed, parts[item])
    order = np.argsort(words, kind="stable")
    item, copy, words = item[order], copy[order], words[order]

    bins = pack_items(lengths[item], config.context_length, images=images[item], max_images=config.max_images)
    # Samples are in hash order, so a bin's first one has its smallest hash; hashed again, else full bins came first.
    _, first = np.unique(bins.bin, return_index=True)
    rank = np.empty(len(bins), dtype=np.int64)
    rank[np.argsort(_mix(words[first]), kind="stable")] = np.arange(len(bins))
    sequence = rank[bins.bin]
    order = np.argsort(sequence, kind="stable")
    item, copy, sequence = item[order], copy[order], sequence[order]
    position = np.arange(len(item)) - np.searchsorted(sequence, sequence, side="left")

    def named(column: int) -> pa.Array:
        return pa.array([row[column] for row in rows], pa.string()).take(origin[item])

    columns = {
        "sequence": sequence + first_sequence,
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
    }
    arrays = [pa.array(columns[field.name]).cast(field.type) for field in PLAN_SCHEMA]
    return pa.Table.from_arrays(arrays, schema=PLAN_SCHEMA)


def sample_words(
    uids: npt.NDArray[np.bytes_], copy: npt.NDArray[np.int64], seed: int, part: npt.NDArray[np.int64] | None = None
) -> Words:
    """64 bits a sample that depend on uid, copy, seed and part; shape (samples,). uids are 32 hex digits."""
    halves = np.frombuffer(bytes.fromhex(uids.tobytes().decode("ascii")), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    start = _mix(np.full(len(uids), seed, dtype=np.uint64))
    words = _mix(_mix(_mix(start ^ halves[:, 0]) ^ halves[:, 1]) ^ copy.astype(np.uint64))
    if part is not None and part.any():
        # Part 0 keeps its sample's hash: most samples are one part, and their order is that of plans without parts.
        words = np.where(part > 0, _mix(words ^ part.astype(np.uint64)), words)
    return words


def _mix(words: Words) -> Words:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), modulo 2**64."""
    mixed = words + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
