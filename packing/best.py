"""The best of the packers for the samples at hand: the fewest sequences, and of about equally few the better mixed."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from mmcorpus.packing import exact
from mmcorpus.packing.balanced import fill_balanced
from mmcorpus.packing.binpack import Bins, Limit, first_fit_decreasing
from mmcorpus.packing.bounds import Mixing, lower_bound
from mmcorpus.packing.columns import MISSED, fill_by_columns, work_for
from mmcorpus.packing.exact import fill_exactly

TIE: Final = 0.001
"""Sequences, of all, that are not worth mixing less."""
NEAR: Final = 0.02
"""From where on the slow filling in balance (23 µs a sample) is worth its time."""
TRIED: Final = 1 << 16
"""Of very many items, on so many at most the other packers are tried first."""


def pack_items(
    lengths: npt.NDArray[np.integer],
    capacity: int,
    *,
    limits: Sequence[Limit] = (),
    seed: int = 0,
    windows: int = 1,
) -> Bins:
    """Bins of items with integer lengths, shape (items,), within `capacity` and other `limits`.

    From pools; by first-fit-decreasing too, unless these are within `TIE` of the bound; and in balance too, where there
    is one limit besides the length, unless they are within `NEAR`. Of more than `exact.LARGE` items these two are tried
    on some first, and pack all only if on those they come as near to the bound as the pools do on all. Where the best
    of these is still beyond `columns.MISSED` and kinds of items are few, by column generation, within the work of one
    of so many `windows`.
    Equal inputs give equal bins. Raises ValueError as `first_fit_decreasing` does.
    """
    packed = [fill_exactly(lengths, capacity, limits=limits, seed=seed)]
    bound = max(1, _least(lengths, capacity, limits))
    over = len(packed[0]) / bound
    others: list[Callable[[npt.NDArray[np.integer], Sequence[Limit]], Bins]] = []
    if over > 1 + TIE:
        others.append(lambda sizes, limits: first_fit_decreasing(sizes, capacity, limits=limits))
    if over > 1 + NEAR and len(limits) == 1:
        others.append(lambda sizes, limits: fill_balanced(sizes, capacity, limits[0]))
    if others and len(lengths) > exact.LARGE:
        # Items come in an order that has nothing to do with their sizes.
        step = -(-len(lengths) // TRIED)
        some = [dataclasses.replace(limit, sizes=limit.sizes[::step]) for limit in limits]
        least = _least(lengths[::step], capacity, some)
        others = [other for other in others if len(other(lengths[::step], some)) <= (1 + TIE) * over * least]
    packed += [other(lengths, limits) for other in others]
    fewest = min(packed, key=len)
    if len(fewest) > (1 + MISSED) * bound:
        sizes = [np.asarray(lengths, dtype=np.int64), *(np.asarray(limit.sizes, dtype=np.int64) for limit in limits)]
        most_of = [capacity, *(limit.most for limit in limits)]
        packed.append(fill_by_columns(sizes, most_of, fewest, work_for(len(lengths), windows)))
    most = int((1 + TIE) * min(map(len, packed)))
    return max((bins for bins in packed if len(bins) <= most), key=lambda bins: mixing(lengths, bins))


def _least(lengths: npt.NDArray[np.integer], capacity: int, limits: Sequence[Limit]) -> int:
    counted = {"positions": np.bincount(lengths, minlength=capacity + 1)}
    counted |= {limit.name: np.bincount(limit.sizes, minlength=limit.most + 1) for limit in limits}
    return lower_bound(counted).bins


def mixing(lengths: npt.NDArray[np.integer], bins: Bins) -> float:
    """The share of the lengths' variance that lies within bins (`bounds.Mixing`)."""
    found = Mixing()
    found.add(lengths, bins.bin)
    return found.share
