"""All pairs of 64-bit hashes within a Hamming distance, found by an index instead of comparing all with all.

Pigeonhole: cut the 64 bits into p pieces; if at most d bits differ, at least p - d pieces are equal. So every pair
within d agrees on the bits of some choice of p - d pieces: one sorted table per choice (Manku, Jain and Das Sarma,
WWW 2007). More pieces mean more tables with longer keys: better for more hashes.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Final

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

BITS: Final = 64
_SORT_COST: Final = 20.0  # of a hash, in comparisons of two


def near_pairs(hashes: Hashes, max_distance: int) -> tuple[Indices, Indices]:
    """All pairs i < j of hashes, shape (n,), that differ in at most `max_distance` bits; each once, sorted.

    Equal hashes are pairs too, so merge what is the same in everything before.
    """
    found = [_in_table(hashes, mask, max_distance) for mask in table_masks(len(hashes), max_distance)]
    codes = np.unique(np.concatenate(found)) if found else np.empty(0, np.int64)
    return codes // max(len(hashes), 1), codes % max(len(hashes), 1)


def table_masks(count: int, max_distance: int) -> Iterator[np.uint64]:
    """The bits that each table compares, for the number of pieces that costs least for so many hashes."""
    if max_distance >= BITS:
        yield np.uint64(0)
        return

    def cost(pieces: int) -> float:
        chosen = pieces - max_distance
        candidates = count * count / 2 ** (BITS * chosen / pieces + 1)
        return math.comb(pieces, chosen) * (_SORT_COST * count + candidates)

    pieces = min(range(max_distance + 1, min(BITS, max_distance + 8) + 1), key=cost)
    edges = [BITS * piece // pieces for piece in range(pieces + 1)]
    masks = [((1 << end) - 1) ^ ((1 << start) - 1) for start, end in itertools.pairwise(edges)]
    for choice in itertools.combinations(masks, pieces - max_distance):
        yield np.uint64(sum(choice))


def _in_table(hashes: Hashes, mask: np.uint64, max_distance: int) -> Indices:
    """Codes i * n + j of the pairs that agree under the mask and are near."""
    keys = hashes & mask
    order = np.argsort(keys, kind="stable")
    keys, ordered = keys[order], hashes[order]
    found = [np.empty(0, np.int64)]
    alive = np.arange(len(keys))
    for step in itertools.count(1):
        # Neighbours `step` apart in the sorted table that still share the key: all pairs of a run, with O(n) memory.
        alive = alive[alive + step < len(keys)]
        alive = alive[keys[alive] == keys[alive + step]]
        if not len(alive):
            return np.concatenate(found)
        near = np.bitwise_count(ordered[alive] ^ ordered[alive + step]) <= max_distance
        first, second = order[alive[near]], order[alive[near] + step]
        found.append(np.minimum(first, second) * len(hashes) + np.maximum(first, second))
    raise AssertionError("unreachable")
