"""The best of the packers: the fewest bins, and of equally few the better mixed."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from mmcorpus.packing.binpack import Bins, Limit, first_fit_decreasing
from mmcorpus.packing.bounds import Mixing, lower_bound
from mmcorpus.packing.exact import fill_exactly


def pack_items(
    lengths: npt.NDArray[np.integer], capacity: int, *, limits: Sequence[Limit] = (), seed: int = 0
) -> Bins:
    """Bins of items with integer lengths, shape (items,), within `capacity` and other `limits`.

    Equal inputs give equal bins. Raises ValueError as `first_fit_decreasing` does.
    """
    counted = {"positions": np.bincount(lengths, minlength=capacity + 1)}
    counted |= {limit.name: np.bincount(limit.sizes, minlength=limit.most + 1) for limit in limits}
    return fill_exactly(lengths, capacity, limits=limits, seed=seed)


def mixing(lengths: npt.NDArray[np.integer], bins: Bins) -> float:
    """The share of the lengths' variance that lies within bins (`bounds.Mixing`)."""
    found = Mixing()
    found.add(lengths, bins.bin)
    return found.share
