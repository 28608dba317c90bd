"""Exact packing from pools: bins filled to the last position, of samples as mixed as what is left to pack.

First-fit-decreasing leaves what does not come out even: of 729 positions an image and some text five fit into 4096,
the rest stays empty, and neighbours are equally long. Here a bin is filled by that subset of a pool whose sizes add up
to exactly its capacity (`subset.py`). The pool is drawn at random from all that is left; larger samples are preferred,
and what a bin does not take stays in it, as in Molmo2's packer, so that what seldom fits is not left for the end. Of
several limits the scarcest is filled up, and of the others each bin takes about its share of what is left; the two
scarcest are aimed at, more are kept, and each bin has a new pool.

Samples of equal sizes are one kind. A filled bin is a recipe of kinds, and is repeated while there is plenty of all of
them. The work is that of finding recipes, which grows with the number of kinds and slowly with that of samples.

Example, capacity 10, lengths 6 6 5 5 4 4: the pool's first subset of sum 10 is 6 + 4 or 5 + 5, and so is the rest.
"""

import itertools
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from math import ceil, floor

import numpy as np
import numpy.typing as npt

from mmcorpus.packing.binpack import Bins, IntArray, Limit, check_items
from mmcorpus.packing.draws import Draws
from mmcorpus.packing.subset import choose

POOL = 48
"""Samples among which a subset is sought."""
SPARE = 8
"""A recipe is repeated for at most this part of the kind that is scarcest for it, as the rest must keep its mixture."""
LARGE = 1 << 18
"""From so many items on speed matters more than the last thousandth of the mixing."""
LARGE_SPARE = 3
"""SPARE for so many."""
MOST_ROWS = 256
"""So many values of the less fine of two limits are told apart, so that the integers stay short."""
TRIES = 6
"""More pools for a bin of more than two limits, two of which are aimed at."""
_BUFFER = 1024
_EPSILON = 1e-9
_GOLDEN = (5**0.5 - 1) / 2


def fill_exactly(
    lengths: npt.NDArray[np.integer],
    capacity: int,
    *,
    limits: Sequence[Limit] = (),
    seed: int = 0,
) -> Bins:
    """Bins of items with integer lengths, shape (items,), within `capacity` and other `limits`.

    Equal inputs give equal bins, on every machine. Of items with equal sizes those that come first in the input are
    placed first: shuffle them if bins shall mix them. Raises ValueError naming the first item that fits no bin, or has
    no length.
    """
    check_items(np.asarray(lengths), capacity, limits)
    sizes = [np.asarray(lengths, dtype=np.int64), *(np.asarray(limit.sizes, dtype=np.int64) for limit in limits)]
    most = [capacity, *(limit.most for limit in limits)]
    large = len(lengths) > LARGE
    kinds, kind_of, left = kinds_of(_rounded(sizes, most) if large else sizes, most)
    recipes = _Pools(kinds, left, most, seed, LARGE_SPARE if large else SPARE).pack()
    return place(*recipes, kind_of, sizes[0], capacity)


def place(
    recipes: IntArray,
    lengths: IntArray,
    times: IntArray,
    kind_of: npt.NDArray[np.integer],
    sizes: IntArray,
    capacity: int,
) -> Bins:
    """Bins of items of the kinds `kind_of` and of `sizes`, both of shape (items,).

    `recipes` are the kinds of each recipe's bins, one recipe after the other, `lengths` how many those are, `times` how
    many bins it fills. Of items of one kind those that come first are placed first.
    """
    held = np.repeat(lengths, times)
    bins = np.repeat(np.arange(len(held)), held)
    at = np.arange(len(bins)) - np.repeat(np.cumsum(held) - held, held)
    placed = recipes[np.repeat(np.repeat(np.cumsum(lengths) - lengths, times), held) + at]
    items, places = np.argsort(kind_of, kind="stable"), np.argsort(placed, kind="stable")
    bin_of, position = np.empty_like(sizes), np.empty_like(sizes)
    bin_of[items], position[items] = bins[places], at[places]
    used = np.bincount(bin_of, weights=sizes).astype(np.int64)
    return Bins(bin=bin_of, position=position, used=used, capacity=capacity)


def _rounded(sizes: Sequence[IntArray], most: Sequence[int]) -> list[IntArray]:
    """The sizes, in limits that are not the scarcest rounded up to a unit, so that there are fewer kinds of items.

    On average that takes a fourth of what each bin leaves empty of such a limit.
    """
    asked = [int(own.sum()) / limit for own, limit in zip(sizes, most, strict=True)]
    rounded = []
    for own, limit, need in zip(sizes, most, asked, strict=True):
        unit = max(1, int((max(asked) - need) * limit / len(own) / 2))
        rounded.append(np.minimum(-(-own // unit) * unit, limit) if unit > 1 else own)
    return rounded


def kinds_of(
    sizes: Sequence[IntArray], most: Sequence[int]
) -> tuple[list[IntArray], npt.NDArray[np.integer], IntArray]:
    """The distinct sizes, an array of shape (kinds,) a limit; which kind each item is; how many items each kind has."""
    keys, radix = np.zeros_like(sizes[0]), 1
    for own, limit in zip(sizes, most, strict=True):
        keys, radix = keys * (limit + 1) + own, radix * (limit + 1)
    if radix < 2**22:
        counts = np.bincount(keys)
        found = np.flatnonzero(counts)
        number: npt.NDArray[np.integer] = np.zeros(len(counts), np.uint16 if len(found) < 2**16 else np.int64)
        number[found] = np.arange(len(found))
        kind_of: npt.NDArray[np.integer] = number[keys]
        left = counts[found]
    else:
        found, kind_of, left = np.unique(keys, return_inverse=True, return_counts=True)
    kinds: list[IntArray] = []
    for limit in reversed(most):
        found, own = np.divmod(found, limit + 1)
        kinds.insert(0, own)
    return kinds, kind_of, left.astype(np.int64, copy=False)


class _Pools:
    """What is left to pack, and the recipes found so far."""

    def __init__(self, kinds: Sequence[IntArray], left: IntArray, most: Sequence[int], seed: int, spare: int) -> None:
        self._spare = spare
        self._most = most
        # Arrays of machine integers: numpy's are slow one by one, and lists take five times the memory.
        self._sizes = [array("q", own.tobytes()) for own in kinds]
        self._left = array("q", left.tobytes())
        self._total = int(left.sum())
        self._asked = [int(own @ left) for own in kinds]
        """Of each limit, what all that is left adds up to."""
        self._draws = Draws(seed)
        self._buffer: list[int] = []
        self._stale = 0
        """The buffer is drawn anew once fewer are left."""
        self._kept: list[int] = []
        """What was drawn into the pool and not taken yet."""
        self._recipes, self._lengths, self._times = array("q"), array("q"), array("q")

    def pack(self) -> tuple[IntArray, IntArray, IntArray]:
        """Recipes, their lengths and their times, as `place` takes them."""
        while self._total:
            recipe = self._recipe()
            need = Counter(recipe)
            times = max(1, min(self._left[kind] // count for kind, count in need.items()) // self._spare)
            for kind, count in need.items():
                self._left[kind] -= count * times
            for number, sizes in enumerate(self._sizes):
                self._asked[number] -= times * sum(sizes[kind] for kind in recipe)
            self._total -= times * len(recipe)
            self._recipes.extend(recipe)
            self._lengths.append(len(recipe))
            self._times.append(times)
        kinds, lengths, repeats = (np.array(own, dtype=np.int64) for own in (self._recipes, self._lengths, self._times))
        return kinds, lengths, repeats

    def _recipe(self) -> list[int]:
        """The kinds that fill one bin; of several pools' where one of more than two limits is missed."""
        asked = [own / limit for own, limit in zip(self._asked, self._most, strict=True)]
        bins = max(asked)
        shares = [own / bins for own in asked]
        targets = [self._target(limit, share) for limit, share in enumerate(shares)]
        best, least = self._from_pool(shares, targets, bins)
        if len(asked) > 2:
            for _ in range(TRIES):
                if not least:
                    break
                recipe, miss = self._from_pool(shares, targets, bins)
                best, least = (recipe, miss) if miss < least else (best, least)
        # Of several limits the pool would fill up with what is large in the one that is not scarce.
        for kind in best if self._kept else ():
            self._kept.remove(kind)
        return best

    def _from_pool(
        self, shares: Sequence[float], targets: Sequence[tuple[int, int]], bins: float
    ) -> tuple[list[int], float]:
        """Kinds of one pool that fill a bin, and by how much they miss the targets, in bins."""
        fine, coarse = self._aims(shares)
        units = self._unit(fine, shares[fine], bins), self._unit(coarse, shares[coarse], bins)
        units = units[0], max(units[1], -(-self._most[coarse] // MOST_ROWS))
        columns, rows = self._most[fine] // units[0], self._most[coarse] // units[1] if coarse != fine else 0
        drawn = self._pool()

        # What takes more than all units fits alone, and is let in as such.
        wide = [min(columns, -(-self._sizes[fine][kind] // units[0])) for kind in drawn]
        tall = [min(rows, -(-self._sizes[coarse][kind] // units[1])) for kind in drawn] if rows else [0] * len(drawn)
        low, high = (own // units[0] for own in targets[fine])
        lowest, highest = (own // units[1] for own in targets[coarse])
        chosen, _ = choose(
            zip(wide, tall, strict=True), (columns, rows), (low, min(lowest, rows)), (high, min(highest, rows))
        )
        taken: list[int] = []
        room = list(self._most)
        for kind in [drawn[place] for place in chosen] or drawn[:1]:
            left = [free - own[kind] for own, free in zip(self._sizes, room, strict=True)]
            if min(left) >= 0:
                taken.append(kind)
                room = left
        self._kept = drawn if len(room) == 1 else []
        missed = 0.0
        for most, free, (low, high) in zip(self._most, room, targets, strict=True):
            missed += max(0, low - (most - free), most - free - high) / most
        return taken, missed

    def _aims(self, shares: Sequence[float]) -> tuple[int, int]:
        """The two scarcest limits, that of more units first; twice the same where there is one."""
        scarce = sorted(range(len(shares)), key=lambda number: -shares[number])[:2]
        fine, coarse = sorted((*scarce, scarce[0])[:2], key=lambda number: -self._most[number])
        return fine, coarse

    def _unit(self, limit: int, share: float, bins: float) -> int:
        """What a limit is measured in: rounding up takes a fourth of what each bin leaves empty, on average."""
        return max(1, int((1 - share) * self._most[limit] * bins / self._total / 2))

    def _target(self, limit: int, share: float) -> tuple[int, int]:
        """From where to where a bin is to be filled in a limit, where `share` of all bins' is needed.

        The scarcest limit is filled up. Another may stray by half of what it leaves empty; where no whole number lies
        between, it is rounded up in as many bins as its fraction says.
        """
        most, slack = self._most[limit], (1 - share) / 2
        low, high = ceil((share - slack) * most - _EPSILON), floor(min(1.0, share + slack) * most + _EPSILON)
        if low > high:
            low = high = floor(share * most + len(self._times) * _GOLDEN % 1)
        return max(0, low), min(most, high)

    def _pool(self) -> list[int]:
        """What was kept, filled up at random from what is left, of each kind at most as many as there are."""
        scarce: Counter[int] = Counter()
        pool: list[int] = []
        fresh = self._stock() if self._total > 4 * POOL else self._all()
        for kind in itertools.chain(self._kept, fresh):
            if len(pool) == POOL:
                break
            if (left := self._left[kind]) < POOL:
                if scarce[kind] == left:
                    continue
                scarce[kind] += 1
            pool.append(kind)
        # Kinds of a single limit are numbered by their sizes.
        return sorted(pool, reverse=True) if len(self._most) == 1 else pool

    def _stock(self) -> Iterator[int]:
        """Kinds drawn at random from what is left."""
        while True:
            if not self._buffer or self._total < self._stale:
                stock = np.cumsum(np.frombuffer(self._left, dtype=np.int64))
                drawn = self._draws.below(self._total, _BUFFER)
                self._buffer = np.searchsorted(stock, drawn, side="right").tolist()
                self._stale = self._total - self._total // 16
            yield self._buffer.pop()

    def _all(self) -> list[int]:
        """All that is left, shuffled."""
        there = np.repeat(np.arange(len(self._left)), np.frombuffer(self._left, dtype=np.int64))
        shuffled: list[int] = there[np.argsort(self._draws.words(len(there)), kind="stable")].tolist()
        return shuffled
