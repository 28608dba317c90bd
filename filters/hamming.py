"""Which of many 64-bit hashes lie within a Hamming distance of one, without comparing it with all of them.

Pigeonhole: cut the 64 bits into d + 1 pieces; a hash at most d bits away has at least one piece in common. So there is
one sorted table a piece, and only the hashes with that very piece are compared (Norouzi, Punjani and Fleet, CVPR 2012).
"""

import itertools
from typing import Final

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

BITS: Final = 64


class NearHashes:
    """Hashes of shape (n,), to be asked which of them are near another."""

    def __init__(self, hashes: Hashes, max_distance: int) -> None:
        if not 0 <= max_distance < BITS:
            raise ValueError(f"max_distance: {max_distance} is not in 0-{BITS - 1} (bits)")
        self.max_distance = max_distance
        pieces = max_distance + 1
        edges = [BITS * piece // pieces for piece in range(pieces + 1)]
        self._tables: list[tuple[np.uint64, Hashes, Hashes, Indices]] = []
        for start, end in itertools.pairwise(edges):
            mask = np.uint64(((1 << end) - 1) ^ ((1 << start) - 1))
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
