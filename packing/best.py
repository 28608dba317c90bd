"""The best of the packers for the samples at hand: the fewest sequences, and of about equally few the better mixed."""

from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from mmcorpus.packing.balanced import fill_balanced
from mmcorpus.packing.binpack import Bins, Limit, first_fit_decreasing
from mmcorpus.packing.bounds import Mixing, lower_bound
from mmcorpus.packing.exact import fill_exactly

TIE: Final = 0.001
"""Sequences, of all, that are not worth mixing less."""
NEAR: Final = 0.02
"""From where on the slow filling in balance (23 µs a sample) is worth its time."""


def pack_items(lengths: npt.NDArray[np.integer], capacity: int, *, limits: Sequence[Limit] = (), seed: int = 0) -> Bins:
    """Bins of items with integer lengths, shape (items,), within `capacity` and other `limits`.

    From pools; by first-fit-decreasing too, unless these are within `TIE` of the bound; and in balance too, where there
    is one limit besides the length, unless they are within `NEAR`.
    Equal inputs give equal bins. Raises ValueError as `first_fit_decreasing` does.
    """
    packed = [fill_exactly(lengths, capacity, limits=limits, seed=seed)]
    counted = {"positions": np.bincount(lengths, minlength=capacity + 1)}
    counted |= {limit.name: np.bincount(limit.sizes, minlength=limit.most + 1) for limit in limits}
    least = lower_bound(counted).bins
    if len(packed[0]) > (1 + TIE) * least:
        packed.append(first_fit_decreasing(lengths, capacity, limits=limits))
    if len(packed[0]) > (1 + NEAR) * least and len(limits) == 1:
        packed.append(fill_balanced(lengths, capacity, limits[0]))
    most = int((1 + TIE) * min(map(len, packed)))
    return max((bins for bins in packed if len(bins) <= most), key=lambda bins: mixing(lengths, bins))


def mixing(lengths: npt.NDArray[np.integer], bins: Bins) -> float:
    """The share of the lengths' variance that lies within bins (`bounds.Mixing`)."""
    found = Mixing()
    found.add(lengths, bins.bin)
    return found.share
