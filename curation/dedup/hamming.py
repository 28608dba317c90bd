"""Keys under which 64-bit hashes within a Hamming distance meet, so that not all are compared with all.

Pigeonhole: cut the 64 bits into p pieces; if at most d bits differ, at least p - d pieces are equal. So every pair
within d agrees on the bits of some choice of p - d pieces: one sorted table per choice (Manku, Jain and Das Sarma,
WWW 2007). More pieces mean more tables with longer keys: better for more hashes.
"""

import itertools
import math
from collections.abc import Iterator
from typing import Final

import numpy as np

BITS: Final = 64
_SORT_COST: Final = 20.0  # of a hash, in comparisons of two


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
