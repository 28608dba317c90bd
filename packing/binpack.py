"""First-fit-decreasing bin packing: the textbook's bins in O(n log n).

Textbook: take the items longest first, equal ones in their given order; each goes into the first bin, in the order in
which bins were opened, that has room; if none has, it opens a bin. The quadratic cost lies in probing bins one by one.

Here equal items are placed together. A tree over the bins holds each subtree's largest free space, 256 children a node.
For a group of m equal items, one descent, level by level and vectorised, keeps the first m nodes whose space suffices:
each leads to at least one bin with room, so more can never be needed. Each bin found takes as many of the group as
fit, in bin order, which is what the textbook's probing ends in. What is left opens new bins, all full alike.

Example, capacity 10, lengths 6 5 4 4 2: 6 opens bin 0, 5 opens bin 1, the two 4s go together: bins 0 and 1 have 4 and 5
free and take one each; 2 finds 0 and 1 free and opens bin 2.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

_FAN_BITS = 8
_FAN = 1 << _FAN_BITS

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Bins:
    """The bin of each item, and its place in the bin."""

    bin: IntArray
    """Per item, its bin's number in opening order; shape (items,)."""
    position: IntArray
    """Per item, how many items were placed into its bin before it; shape (items,)."""
    used: IntArray
    """Per bin, the sum of its items' lengths; shape (bins,)."""
    capacity: int

    def __len__(self) -> int:
        return len(self.used)

    @property
    def fill(self) -> float:
        """Share of all bins' space that items take, 0 to 1."""
        return float(self.used.sum() / (len(self) * self.capacity)) if len(self) else 0.0

    @property
    def padding(self) -> int:
        """Space that no item takes, in the items' unit."""
        return len(self) * self.capacity - int(self.used.sum())

    @property
    def lower_bound(self) -> int:
        """No packing has fewer bins than the sum of lengths needs."""
        return -(-int(self.used.sum()) // self.capacity)

    @property
    def packing_factor(self) -> float:
        """Items a bin, on average."""
        return len(self.bin) / len(self) if len(self) else 0.0


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A limit of bins besides length."""

    name: str
    """Of what is counted, e.g. `images`."""
    sizes: npt.NDArray[np.integer]
    """How much each item has of it; shape (items,)."""
    most: int
    """How much a bin may have."""


class _Spaces:
    """The tree of largest free spaces: level 0 is the bins, each level above shorter by _FAN."""

    def __init__(self, most_bins: int) -> None:
        sizes = [max(1, most_bins)]
        while sizes[-1] > _FAN:
            sizes.append(-(-sizes[-1] // _FAN))
        self._levels = [np.zeros(-(-size // _FAN) * _FAN, dtype=np.int64) for size in sizes]

    def __getitem__(self, bins: IntArray) -> IntArray:
        return self._levels[0][bins]

    def set(self, bins: IntArray, free: IntArray) -> None:
        """Change bins' free space; `bins` ascending."""
        self._levels[0][bins] = free
        nodes = bins
        for below, above in zip(self._levels, self._levels[1:], strict=False):
            parents = nodes >> _FAN_BITS
            nodes = parents[np.r_[True, parents[1:] != parents[:-1]]] if len(parents) > 1 else parents
            above[nodes] = below.reshape(-1, _FAN)[nodes].max(axis=1)

    def first(self, length: int, most: int, start: int) -> IntArray:
        """The first at most `most` bins, in order and from `start` on, with `length` free."""
        nodes = np.flatnonzero(self._levels[-1] >= length)
        shift = _FAN_BITS * (len(self._levels) - 1)
        nodes = nodes[nodes >= start >> shift]
        for level in self._levels[-2::-1]:
            shift -= _FAN_BITS
            # The first node may hold its fitting bins before `start` only, hence one more than asked for.
            children = (nodes[: most + 1, None] << _FAN_BITS) + np.arange(_FAN)
            nodes = children[level[children] >= length]
            nodes = nodes[nodes >= start >> shift]
        return nodes[:most]


class _OpenBins:
    """The bins opened so far, of equal capacity and of equal `slots` for what else is limited."""

    def __init__(self, most_bins: int, capacity: int, slots: Sequence[int]) -> None:
        self.count = 0
        self._capacity = capacity
        self._slots = np.array(slots, dtype=np.int64)
        self._spaces = _Spaces(most_bins)
        # For items that need slots, a tree in which a bin without any has no space either.
        self._slotted = _Spaces(most_bins) if slots else self._spaces
        self._slots_left = np.zeros((len(slots), most_bins), dtype=np.int64)

    def place(self, items: int, length: int, needs: Sequence[int]) -> IntArray:
        """Place equal items first-fit; returns each one's bin, in order."""
        tree = self._slotted if any(needs) else self._spaces
        placed: list[IntArray] = []
        search = 0
        while items:
            bins = tree.first(length, items, search)
            if not len(bins):
                break
            search = int(bins[-1]) + 1
            fit = self._spaces[bins] // length
            for left, need in zip(self._slots_left, needs, strict=True):
                if need:
                    fit = np.minimum(fit, left[bins] // need)
            before = np.cumsum(fit) - fit
            fit = np.minimum(fit, np.maximum(items - before, 0))
            self._take(bins, fit, length, needs)
            placed.append(np.repeat(bins, fit))
            items -= int(fit.sum())
        if items:
            each = self._capacity // length
            for slots, need in zip(self._slots.tolist(), needs, strict=True):
                if need:
                    each = min(each, slots // need)
            bins = np.arange(self.count, self.count + -(-items // each))
            self.count += len(bins)
            self._spaces.set(bins, np.full(len(bins), self._capacity))
            self._slots_left[:, bins] = self._slots[:, None]
            fit = np.full(len(bins), each)
            fit[-1] = items - each * (len(bins) - 1)
            self._take(bins, fit, length, needs)
            placed.append(np.repeat(bins, fit))
        return np.concatenate(placed)

    def _take(self, bins: IntArray, fit: IntArray, length: int, needs: Sequence[int]) -> None:
        free = self._spaces[bins] - fit * length
        self._spaces.set(bins, free)
        if len(self._slots):
            self._slots_left[:, bins] -= fit * np.array(needs)[:, None]
            self._slotted.set(bins, np.where(self._slots_left[:, bins].any(axis=0), free, 0))


def first_fit_decreasing(
    lengths: npt.NDArray[np.integer],
    capacity: int,
    *,
    images: npt.NDArray[np.integer] | None = None,
    max_images: int | None = None,
    limits: Sequence[Limit] = (),
) -> Bins:
    """Textbook first-fit-decreasing of items of integer lengths, shape (items,), into bins of `capacity`.

    With `images` (per item) and `max_images`, or other `limits`, a bin has room only if they fit too; items still go
    longest first, equal ones with the most images first.
    Raises ValueError naming the first item that is longer than a bin, has too many images, or no length.
    """
    sizes: IntArray = np.asarray(lengths, dtype=np.int64)
    if images is not None and max_images is not None:
        limits = [Limit(name="images", sizes=images, most=max_images), *limits]
    check_items(sizes, capacity, limits)
    limits = [limit for limit in limits if limit.sizes.any()]
    counts = [np.asarray(limit.sizes, dtype=np.int64) for limit in limits]
    order = np.lexsort((*(-own for own in reversed(counts)), -sizes))
    bin_of = np.empty(len(sizes), dtype=np.int64)
    bins = _OpenBins(len(sizes), capacity, [limit.most for limit in limits])
    for start, end, length, *needs in _groups(sizes[order], *(own[order] for own in counts)):
        bin_of[order[start:end]] = bins.place(end - start, length, needs)
    return Bins(
        bin=bin_of,
        position=_positions(bin_of, order),
        used=np.bincount(bin_of, weights=sizes, minlength=bins.count).astype(np.int64),
        capacity=capacity,
    )


def _groups(*sizes: IntArray) -> Iterator[tuple[int, ...]]:
    """Runs of equal sizes among sorted items: start, end, and the sizes."""
    different = np.any([own[1:] != own[:-1] for own in sizes], axis=0)
    edges = np.r_[0, np.flatnonzero(different) + 1, len(sizes[0])].tolist() if len(sizes[0]) else []
    for start, end in itertools.pairwise(edges):
        yield start, end, *(int(own[start]) for own in sizes)


def _positions(bin_of: IntArray, order: IntArray) -> IntArray:
    """Each item's rank among its bin's items, in the order in which they were placed."""
    by_bin = order[np.argsort(bin_of[order], kind="stable")]
    bins = bin_of[by_bin]
    starts = np.searchsorted(bins, bins, side="left")
    position = np.empty(len(order), dtype=np.int64)
    position[by_bin] = np.arange(len(order)) - starts
    return position


def check_items(lengths: npt.NDArray[np.integer], capacity: int, limits: Sequence[Limit] = ()) -> None:
    """Raise ValueError naming the first item that fits no bin of `capacity` and `limits`, or has no length."""
    wrongs = [
        (lengths > capacity, f"is longer than the capacity of {capacity}"),
        (lengths < 1, "is shorter than 1"),
    ]
    for limit in limits:
        wrongs += [
            (limit.sizes < 0, f"has a negative number of {limit.name}"),
            (limit.sizes > limit.most, f"has more than max_{limit.name} = {limit.most} {limit.name}"),
        ]
    for wrong, problem in wrongs:
        if wrong.any():
            first = int(np.argmax(wrong))
            sizes = "".join(f", {limit.sizes[first]} {limit.name}" for limit in limits)
            raise ValueError(f"item {first} (length {lengths[first]}{sizes}) {problem}; drop or truncate it first")
