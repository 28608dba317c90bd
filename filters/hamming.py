"""64-bit hashes within a Hamming distance of one another, without comparing all with all.

Pigeonhole: cut the 64 bits into p pieces; of two hashes at most d bits apart, at least p - d pieces are equal.
`NearHashes` takes p = d + 1: one sorted table a piece, and a query is compared with the hashes that have its very piece
(Norouzi, Punjani and Fleet, CVPR 2012). `table_masks` is for all pairs of a set: one table for each choice of p - d
pieces (Manku, Jain and Das Sarma, WWW 2007); more pieces mean more tables with longer keys, better for more hashes.
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


class NearHashes:
    """An index of hashes of shape (n,) for queries by one hash each."""

    def __init__(self, hashes: Hashes, max_distance: int) -> None:
        if not 0 <= max_distance < BITS:
            raise ValueError(f"max_distance: {max_distance} is not in 0-{BITS - 1} (bits)")
        self.max_distance = max_distance
        self._tables: list[tuple[np.uint64, Hashes, Hashes, Indices]] = []
        for mask in map(np.uint64, _pieces(max_distance + 1)):
            keys = hashes & mask
            order = np.argsort(keys, kind="stable")
            self._tables.append((mask, keys[order], hashes[order], order))

    def near(self, value: int) -> tuple[Indices, Indices]:
        """Positions of the hashes within `max_distance` bits of the value, in order, and their distances."""
        wanted = np.uint64(value)
        positions, distances = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
        for mask, keys, hashes, order in self._tables:
            low, high = np.searchsorted(keys, wanted & mask, "left"), np.searchsorted(keys, wanted & mask, "right")
            bits = np.bitwise_count(hashes[low:high] ^ wanted)
            close = np.flatnonzero(bits <= self.max_distance)
            positions.append(order[low + close])
            distances.append(bits[close].astype(np.int64))
        found, first = np.unique(np.concatenate(positions), return_index=True)
        return found, np.concatenate(distances)[first]


def table_masks(count: int, max_distance: int) -> Iterator[np.uint64]:
    """The bits that each table compares, for the number of pieces that costs least for so many hashes.

    Every pair within `max_distance` bits agrees on all the bits of at least one mask.
    """
    if max_distance >= BITS:
        yield np.uint64(0)
        return

    def cost(pieces: int) -> float:
        chosen = pieces - max_distance
        candidates = count * count / 2 ** (BITS * chosen / pieces + 1)
        return math.comb(pieces, chosen) * (_SORT_COST * count + candidates)

    pieces = min(range(max_distance + 1, min(BITS, max_distance + 8) + 1), key=cost)
    for choice in itertools.combinations(_pieces(pieces), pieces - max_distance):
        yield np.uint64(sum(choice))


def _pieces(count: int) -> list[int]:
    """The 64 bits cut into `count` runs of about equal length, each as a mask."""
    edges = [BITS * piece // count for piece in range(count + 1)]
    return [((1 << end) - 1) ^ ((1 << start) - 1) for start, end in itertools.pairwise(edges)]


def check_distances(hashes: int, fingerprints: int, colors: int, aspect: float) -> None:
    """Raise ValueError for limits of near duplicates that are out of range, by the settings' names."""
    for name, value, largest, unit in (
        ("max_distance", hashes, 16, " (bits of 64)"),
        ("fingerprint_distance", fingerprints, 128, " (bits of 256)"),
        ("color_distance", colors, 255, ""),
    ):
        if not 0 <= value <= largest:
            raise ValueError(f"{name}: {value} is not in 0-{largest}{unit}")
    if not 0 <= aspect < 10:
        raise ValueError(f"aspect_tolerance: {aspect} is not in [0, 10)")
