"""Measures of a packing: the fewest bins that any packing needs, and how well sequences mix lengths.

The volume bound is the sum of all sizes over the capacity. L2 (Martello and Toth 1990, "Lower bounds and reduction
procedures for the bin packing problem") sees large items too: with a in 0 .. capacity / 2, items larger than half a
bin take a bin each; beside those larger than capacity - a nothing of size a or more fits; what of the sizes from a to
half a bin finds no room beside the others takes bins of its own. L2 is the largest of these counts over all a; a = 0
gives the volume bound.

Example, capacity 10, sizes 7 7 7 4 4: 29 need 3 bins by volume; with a = 4 no 4 fits beside a 7, so 3 + 1.

Where no four fit together, neither sees it: then each takes at least a third of a bin. That is the dual feasible
function u of k = 3 (Fekete and Schepers 2001, "New classes of fast lower bounds for bin packing problems"): with x the
share of a bin, u(x) = x where (k + 1) x is whole, else floor((k + 1) x) / k. Of what fits together the u add up to no
more than 1, so that the sum of all is a bound, for each k.

Limits together ask for more than each does by itself. An item larger than half a bin has one to itself, and what fits
beside it takes, of another limit, no more than its room allows: beside a text of 3,800 of 4,096 positions there are two
images of 145 at most, so that of a limit of 16 images it wastes 14. Sizes of such items are raised by what they waste.

First-fit-decreasing puts equal lengths together, so that neighbours in a sequence are alike. Mixing is the share of
the lengths' variance that lies within sequences: 0 where each holds equal lengths alone, and (k - 1) / k where k
samples a sequence are put together at random.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
MOST_WHOLE: Final = 32
"""Beyond so many samples a bin, whole ones leave hardly anything empty."""


def l2_bound(histogram: npt.NDArray[np.integer]) -> int:
    """Martello and Toth's L2 for `histogram[size]` items of each size, shape (capacity + 1,)."""
    counts = np.asarray(histogram, dtype=np.int64)
    capacity = len(counts) - 1
    volumes = counts * np.arange(capacity + 1)
    half = capacity // 2
    # Of items larger than a size, how many there are and what they measure.
    count_above = counts.sum() - np.cumsum(counts)
    volume_above = volumes.sum() - np.cumsum(volumes)
    from_size = np.arange(half + 1)
    beside = count_above[half] - count_above[capacity - from_size]
    room = beside * capacity - (volume_above[half] - volume_above[capacity - from_size])
    small = volume_above[from_size] + volumes[from_size] - volume_above[half]
    more = np.maximum(0, -((room - small) // capacity))
    return int(count_above[half] + more.max(initial=0))


def dual_bound(histogram: npt.NDArray[np.integer]) -> int:
    """The largest bound by u of k = 1 .. `MOST_WHOLE` for `histogram[size]` items of each size, (capacity + 1,)."""
    counts = np.asarray(histogram, dtype=np.int64)
    capacity = len(counts) - 1
    found = np.flatnonzero(counts)
    best = 0
    for k in range(1, MOST_WHOLE + 1):
        times, over = np.divmod((k + 1) * found, capacity)
        # In units of a bin's k * capacity-th part.
        shares = np.where(over == 0, k * found, capacity * times)
        best = max(best, -(-int(shares @ counts[found]) // (k * capacity)))
    return best


@dataclass(frozen=True, kw_only=True)
class Bound:
    """The fewest bins that any packing of some items has, and why."""

    bins: int
    name: str
    """Which limit asks for them, e.g. `positions`, followed by ` (L2)` where the volume alone would ask for fewer, by
    ` (DFF)` where L2 would, too."""


def lower_bound(histograms: Mapping[str, npt.NDArray[np.integer]]) -> Bound:
    """The largest bound over several limits, by name: of each, `histogram[size]` items, shape (limit + 1,)."""
    bounds = []
    for name, histogram in histograms.items():
        limit = len(histogram) - 1
        volume = -(-int(histogram @ np.arange(limit + 1)) // limit)
        exact, dual = l2_bound(histogram), dual_bound(histogram)
        told = " (DFF)" if dual > exact else " (L2)" if exact > volume else ""
        bounds.append(Bound(bins=max(exact, dual), name=name + told))
    return max(bounds, key=lambda bound: bound.bins)


def beside_bound(limits: Mapping[str, int], sizes: Sequence[IntArray], counts: IntArray) -> Bound:
    """The largest bound over pairs of limits, one of which lacks room beside items larger than half a bin in the other.

    `limits` are by name; `sizes` is what items of each kind take, shape (kinds,) a limit, `counts` how many there are.
    """
    best = Bound(bins=0, name="")
    for (name, most), own in zip(limits.items(), sizes, strict=True):
        takes = own > 0
        for (other, room), beside in zip(limits.items(), sizes, strict=True):
            if other == name or not takes.any() or not beside[takes].all():
                continue
            # As a fraction: what a unit of the one limit takes of the other, at least.
            least = int(np.argmin(np.where(takes, beside / np.maximum(own, 1), np.inf)))
            fits = (room - beside) * own[least] // beside[least]
            wasted = np.where(2 * beside > room, np.maximum(0, most - own - fits), 0)
            bins = -(-int((own + wasted) @ counts) // most)
            best = max(best, Bound(bins=bins, name=f"{name} beside {other}"), key=lambda bound: bound.bins)
    return best


@dataclass
class Mixing:
    """How much of the lengths' variance lies within sequences; added up over windows."""

    samples: int = 0
    positions: int = 0
    squares: int = 0
    """Sum of squared lengths."""
    between: float = 0.0
    """Sum over sequences of (sum of lengths)² / samples."""

    def add(self, lengths: npt.NDArray[np.integer], sequence: npt.NDArray[np.integer]) -> None:
        """Take in samples' lengths and the numbers of their sequences, from 0; both of shape (samples,)."""
        sizes = np.asarray(lengths, dtype=np.int64)
        used, held = np.bincount(sequence, weights=sizes), np.bincount(sequence)
        self.samples += len(sizes)
        self.positions += int(sizes.sum())
        self.squares += int((sizes * sizes).sum())
        self.between += float((used * used / np.maximum(held, 1)).sum())

    @property
    def share(self) -> float:
        """0 to 1; 1 where all lengths are equal, since there is nothing to mix."""
        whole = self.squares - self.positions**2 / max(1, self.samples)
        # Lengths are whole numbers: a variance this small is rounding.
        return min(1.0, max(0.0, (self.squares - self.between) / whole)) if whole > 1e-9 * self.squares else 1.0
