"""Recall of MinHash's bands, measured by comparing every pair, beside what the S-curve promises."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.dedup.lsh import match_probability
from mmcorpus.curation.dedup.minhash import MinHash
from mmcorpus.curation.dedup.text import Texts, hash_shingles, jaccard

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

BINS: Final = 20
_BLOCK: Final = 1 << 18


@dataclass(frozen=True, kw_only=True, slots=True)
class RecallPoint:
    """The pairs of one range of similarities."""

    similarity: float
    """Their mean Jaccard similarity, 0-1."""
    pairs: int
    found: int
    """Of these, pairs that agree in a band."""
    expected: float
    """The share that the S-curve promises for their similarities, 0-1."""

    @property
    def recall(self) -> float:
        """The share that was found, 0-1."""
        return self.found / self.pairs


def measure_recall(method: MinHash, texts: Texts, *, limit: int = 2000) -> list[RecallPoint]:
    """Compare all pairs of the first `limit` distinct texts by their shingles; one point a range that has pairs.

    The work grows with the square of the limit: 2,000 texts are two million pairs, a second or two.
    """
    array = texts if isinstance(texts, pa.Array | pa.ChunkedArray) else pa.array(list(texts), pa.string())
    array = pc.unique(array.cast(pa.string())).drop_null().slice(0, limit)
    keys = method.keys(pa.table({method.column: array}), {})
    offsets, hashes = hash_shingles(array, method.shingles_used)
    used = method.bands_used
    sums = np.zeros((4, BINS))
    first, second = np.triu_indices(len(array), 1)
    for start in range(0, len(first), _BLOCK):
        one, other = first[start : start + _BLOCK], second[start : start + _BLOCK]
        similar = jaccard(offsets, hashes, one, other)
        known = (similar > 0) & keys.known[one] & keys.known[other]
        one, other, similar = one[known], other[known], similar[known]
        found = (keys.keys[one] == keys.keys[other]).any(axis=1)
        expected = match_probability(similar, used.bands, used.rows)
        place = np.minimum((similar * BINS).astype(np.int64), BINS - 1)
        for row, weights in enumerate((np.ones(len(one)), similar, found, expected)):
            sums[row] += np.bincount(place, weights, BINS)
    return [
        RecallPoint(
            similarity=float(total / pairs), pairs=int(pairs), found=int(found), expected=float(expected / pairs)
        )
        for pairs, total, found, expected in sums.T
        if pairs
    ]
