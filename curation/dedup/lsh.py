"""Locality-sensitive hashing of MinHash signatures: bands of rows, and the S-curve that they promise.

Two sets of Jaccard similarity s agree in a row of the signature with probability s, in all r rows of a band with s^r,
and in at least one of b bands with 1 - (1 - s^r)^b (Leskovec, Rajaraman and Ullman, Mining of Massive Datasets, 3.4).
"""

import functools
from typing import Final

import numpy as np
import numpy.typing as npt

Curve = npt.NDArray[np.float64]

_NODES: Final = 256  # of Gauss-Legendre: exact to rounding for all curves of up to 512 permutations


def match_probability(similarity: npt.ArrayLike, bands: int, rows: int) -> Curve:
    """The probability that sets of that Jaccard similarity (0-1, any shape) become candidates."""
    return 1.0 - (1.0 - np.asarray(similarity, np.float64) ** rows) ** bands


@functools.lru_cache(maxsize=64)
def optimal_bands(
    threshold: float, permutations: int, false_positive_weight: float = 0.5, false_negative_weight: float = 0.5
) -> tuple[int, int]:
    """The bands and rows that separate similarities below and above the threshold best, as datasketch chooses them.

    Least is the weighted sum of two areas: under the curve left of the threshold, over it right of the threshold.
    Bands times rows may be fewer than the permutations.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    left, right = (nodes + 1) / 2 * threshold, threshold + (nodes + 1) / 2 * (1 - threshold)
    best, least = (1, 1), np.inf
    for bands in range(1, permutations + 1):
        for rows in range(1, permutations // bands + 1):
            positives = float(weights @ match_probability(left, bands, rows)) / 2 * threshold
            negatives = float(weights @ (1 - match_probability(right, bands, rows))) / 2 * (1 - threshold)
            error = false_positive_weight * positives + false_negative_weight * negatives
            if error < least - 1e-12:  # equal but for rounding: the first, as datasketch keeps it
                best, least = (bands, rows), error
    return best
