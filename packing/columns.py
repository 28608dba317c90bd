"""Column generation: as few bins as a linear program needs, for windows whose items are of few kinds.

Gilmore and Gomory 1961 ("A linear programming approach to the cutting-stock problem"): a pattern is what one bin may
hold, so many items of each kind. How often each pattern is used, not in whole numbers, so that all items are held by
the fewest bins, is a linear program. Its dual gives the kinds prices; the pattern that is worth most, a knapsack, is
taken in next, and where none is worth more than 1 the program is solved. Whatever the prices, the worth of all items
over that of the best pattern is below what any packing needs (Farley 1990); it is told in whole numbers.

From the program to bins one dives: whole parts of the solution are kept, else the patterns that are nearest to a whole,
and what is left to pack is solved again.

Patterns at first are each kind by itself and those of a packing by other means. The program is solved by the revised
simplex method. Knapsacks are asked at prices halfway to the best ones so far (Wentges 1997), which takes fewer of them.
Numbers are added and multiplied one by one, in a fixed order and never by BLAS, and work is counted, not timed: bins
are the same on every machine.

Example, 10 positions and 2 images a bin, four texts of 4 positions, six captions of 3 with an image. {4 3 3} three
times and a text left over are 4 bins; six captions need 3 by their images, 34 positions 4, so it is the best.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from mmcorpus.packing.binpack import Bins, IntArray, Limit, first_fit_decreasing
from mmcorpus.packing.bounds import Bound
from mmcorpus.packing.exact import kinds_of, place

MISSED: Final = 0.01
"""From where on, of the bins that a simpler bound asks for, the linear program is worth its time."""
MOST_SEEN: Final = 4096
"""Of so many bins of another packing, about, patterns are taken."""
MOST_TOLD: Final = 1 << 17
"""Kinds of items that a bound is asked of."""
COARSEST: Final = 64
"""A limit of fewer units is not rounded."""
WORK: Final = 1_000_000_000
"""Cells of knapsacks and of the simplex method that a plan's only window may take: some 3 s of one core."""
AN_ITEM: Final = 40_000
"""Cells for each item of a window among many, up to WORK: about the 0.12 ms that it takes to tokenise a sample."""
_CALL: Final = 4_000
"""Cells that numpy could have gone through while it is being called."""
_PRICE: Final = 1 << 20
"""A bin's price in whole numbers."""
_ROUNDING: Final = 1 << 8
"""What a pattern is worth more than a bin only by rounding."""
_GAP: Final = 1 / 5000
"""How near to the bound is near enough, of all bins."""
_STEP: Final = 1 / 16
"""Of the bins that are left, as many are decided together where no pattern is used a whole time."""
_EPSILON: Final = 1e-7

Floats = npt.NDArray[np.float64]
Solution = list[tuple[float, IntArray]]


def work_for(items: int, windows: int) -> int:
    """What one of so many windows may take: all windows together no more than WORK and what their items are worth."""
    return min(WORK, WORK // max(1, windows) + AN_ITEM * items)


def is_small(kinds: int, most: Sequence[int], work: int) -> bool:
    """Whether so many kinds of items, in bins of these limits, are few enough: about as many knapsacks are solved as
    there are kinds, each of which goes through half of the cells for twice as many items."""
    return kinds * kinds * (int(np.prod([own + 1.0 for own in most])) + 2 * _CALL) <= work


def fill_by_columns(sizes: Sequence[IntArray], most: Sequence[int], start: Bins, work: int) -> Bins:
    """Bins of items of `sizes`, an array of shape (items,) a limit, positions first; within `most`, a number a limit.

    `start` is a packing of the same items, which is given back if none of fewer bins is found, or if kinds are many.
    What is undecided when the work is spent is packed by first-fit-decreasing. Equal inputs give equal bins. Of items
    of one kind those that come first are placed first.
    """
    kinds, kind_of, counts = kinds_of(sizes, most)
    if not is_small(len(counts), most, work):
        return start
    seen = start.bin % -(-len(start) // MOST_SEEN) == 0
    bins, number = np.unique(start.bin[seen], return_inverse=True)
    patterns = np.zeros((len(bins), len(counts)), dtype=np.int64)
    np.add.at(patterns, (number, kind_of[seen]), 1)
    program = _Program(np.stack(kinds), most, np.unique(patterns, axis=0), work)
    filled, left = program.fill(counts)
    rest = np.repeat(np.arange(len(counts)), left)
    limits = [Limit(name=str(n), sizes=kinds[n][rest], most=most[n]) for n in range(1, len(most))]
    others = first_fit_decreasing(kinds[0][rest], most[0], limits=limits)
    if sum(times for times, _ in filled) + len(others) >= len(start):
        return start
    recipes = [np.repeat(np.arange(len(counts)), pattern) for _, pattern in filled]
    recipes += np.split(rest[np.argsort(others.bin, kind="stable")], np.cumsum(np.bincount(others.bin)))[: len(others)]
    lengths, times = (
        np.array([len(own) for own in recipes]),
        np.array([times for times, _ in filled] + [1] * len(others)),
    )
    return place(np.concatenate(recipes), lengths, times, kind_of, sizes[0], most[0])


def tighter(bound: Bound, bins: int, limits: Mapping[str, int], sizes: IntArray, counts: IntArray) -> Bound:
    """The bound of the linear program, if a packing of `bins` bins misses the one at hand and the program says more.

    `limits` are by name; `sizes`, shape (limits, kinds), is what the items take, `counts` how many there are. Of many
    kinds the sizes in the limit of most units are rounded down, so that they are fewer.
    """
    if bins <= (1 + MISSED) * bound.bins:
        return bound
    most = list(limits.values())
    finest = int(np.argmax(most))
    sizes = sizes.copy()
    while not is_small(len(counts), most, WORK):
        if most[finest] < COARSEST:
            return bound
        sizes[finest] //= 2
        most[finest] //= 2
        takes = sizes.any(axis=0)
        sizes, same = np.unique(sizes[:, takes], axis=1, return_inverse=True)
        counts = np.bincount(same.ravel(), weights=counts[takes], minlength=sizes.shape[1]).astype(np.int64)
    program = _Program(sizes, most, np.zeros((0, len(counts)), dtype=np.int64), WORK)
    program.solve(counts)
    return max(bound, Bound(bins=program.least, name=f"{' and '.join(limits)} (LP)"), key=lambda one: one.bins)


class _Program:
    """The patterns found so far, and what they may still cost."""

    def __init__(self, sizes: IntArray, most: Sequence[int], patterns: IntArray, work: int) -> None:
        # The limit of most units last: numpy goes through the cells of the last axis fastest.
        order = np.argsort(most, kind="stable")
        self._sizes = np.asarray(sizes, dtype=np.int64)[order]
        self._most = [int(most[number]) for number in order]
        self._fit = np.array([self._fits(own) for own in self._sizes.T.tolist()], dtype=np.int64)
        """Of each kind, how many a bin holds."""
        self._items = sum(
            most // int(own[own > 0].min()) for own, most in zip(self._sizes, self._most, strict=True) if own.any()
        )
        """No pattern has more items, as each takes something of some limit."""
        self._patterns = patterns
        self._left = work
        self.least = 0
        """The fewest bins of what was solved first."""

    def _fits(self, sizes: Sequence[int]) -> int:
        return min(most // own for own, most in zip(sizes, self._most, strict=True) if own)

    def fill(self, counts: IntArray) -> tuple[list[tuple[int, IntArray]], IntArray]:
        """How many bins are filled by which pattern, and of each kind how many items are left as the work is spent."""
        left, filled = counts.copy(), list[tuple[int, IntArray]]()
        while left.any() and self._left >= 0:
            solution = sorted(self.solve(left), key=lambda one: -one[0])
            wanted = max(1, int(math.fsum(times for times, _ in solution) * _STEP)) if self._left >= 0 else 0
            decided = 0
            for times, pattern in solution:
                whole = int(times + _EPSILON)
                if not whole and decided >= wanted:
                    break
                own = np.minimum(pattern, left)
                holds = own > 0
                # Of those that are used in part, the first is cut to what is left, the others must fit.
                if holds.any() and (whole or not decided or (own == pattern).all()):
                    number = min(max(1, whole), int((left[holds] // own[holds]).min()))
                    filled.append((number, own))
                    left -= own * number
                    decided += number
        return filled, left

    def solve(self, counts: IntArray) -> Solution:
        """How often which pattern is used, so that `counts` of each kind are held by the fewest bins.

        If the work is spent before, or a bound says that whole bins cannot be fewer, it is not the least solution.
        """
        kinds = np.flatnonzero(counts)
        asked = counts[kinds]
        known = np.unique(np.minimum(self._patterns, counts)[:, kinds], axis=0)
        simplex = _Simplex(np.minimum(self._fit[kinds], asked), asked)
        best = np.zeros_like(asked)
        share = (0, 1)
        """The best bound so far, as a fraction, and its prices."""
        halfway = False
        while True:
            self._left -= simplex.improve(known, self._left)
            prices = simplex.prices
            own = (prices + best) // 2 if halfway else prices
            pattern, worth = self._knapsack(kinds, own, asked)
            if int(asked @ own) * share[1] > share[0] * worth:
                share, best = (int(asked @ own), worth), own
            bound = -(-share[0] // share[1])
            if self._left < 0 or bound >= np.ceil(simplex.bins * (1 - _GAP) - _EPSILON):
                break
            if int(pattern @ prices) > _PRICE + _ROUNDING:
                known = np.vstack([known, pattern])
                found = np.zeros_like(counts)
                found[kinds] = pattern
                self._patterns = np.vstack([self._patterns, found])
                halfway = True
            elif halfway:
                halfway = False
            else:
                break
        self.least = self.least or bound
        solution: Solution = []
        for times, pattern in simplex.solution:
            found = np.zeros_like(counts)
            found[kinds] = pattern
            solution.append((times, found))
        return solution

    def _knapsack(self, kinds: IntArray, prices: IntArray, counts: IntArray) -> tuple[IntArray, int]:
        """The pattern of `kinds` that is worth most, of each at most `counts`, and its worth."""
        short = int(prices.max()) * self._items < 2**31
        words = np.int32 if short else np.int64
        best: npt.NDArray[np.integer] = np.zeros([most + 1 for most in self._most], dtype=words)
        taken: list[tuple[int, int, list[int], npt.NDArray[np.bool_]]] = []
        for number in np.flatnonzero(prices > 0).tolist():
            sizes = self._sizes[:, kinds[number]].tolist()
            fit, times = min(int(self._fit[kinds[number]]), int(counts[number])), 1
            while fit:
                # 1, 2, 4, … and the rest together are any number up to all.
                times = min(times, fit)
                shift = [times * size for size in sizes]
                here = best[tuple(slice(by, None) for by in shift)]
                with_it = best[tuple(slice(most + 1 - by) for by, most in zip(shift, self._most, strict=True))]
                with_it = with_it + times * int(prices[number])
                taken.append((number, times, shift, with_it > here))
                np.maximum(here, with_it, out=here)
                self._left -= with_it.size + _CALL
                fit, times = fit - times, 2 * times
        pattern = np.zeros_like(counts)
        at = list(self._most)
        for number, times, shift, better in reversed(taken):
            before = [own - by for own, by in zip(at, shift, strict=True)]
            if min(before) >= 0 and better[tuple(before)]:
                pattern[number] += times
                at = before
        return pattern, int(best.flat[-1])


class _Simplex:
    """Patterns in the basis, one a kind, and how often each is used; at first each kind by itself."""

    def __init__(self, fit: IntArray, asked: IntArray) -> None:
        self._inverse = np.diag(1.0 / fit)
        self._times = asked / fit
        self._patterns = np.diag(fit)
        self._costs = np.ones(len(asked), dtype=bool)
        """Whether a row is a pattern; else it is items of a kind beyond those that are asked for."""

    @property
    def bins(self) -> float:
        return math.fsum(self._times[self._costs].tolist())

    @property
    def solution(self) -> Solution:
        found = zip(self._times.tolist(), self._patterns, self._costs.tolist(), strict=True)
        return [(times, pattern) for times, pattern, costs in found if costs and times > _EPSILON]

    @property
    def prices(self) -> IntArray:
        """Of each kind, in `_PRICE`s of a bin."""
        return (np.maximum(self._values(), 0) * _PRICE).astype(np.int64)

    def _values(self) -> Floats:
        # Along the first axis numpy adds row by row.
        values: Floats = self._inverse[self._costs].sum(axis=0)
        return values

    def improve(self, known: IntArray, most: int) -> int:
        """Solve the program of the patterns known, shape (patterns, kinds); returns the cells that it took.

        Beyond `most` it ends unsolved: where many bases are as good as each other, nothing keeps it from going round.
        """
        work = 0
        while work <= most:
            work += self._inverse.size + known.size + 4 * _CALL
            values = self._values()
            if values.min() < -_EPSILON:
                surplus = np.zeros(len(values), dtype=np.int64)
                surplus[int(values.argmin())] = -1
                self._enter(surplus, costs=False)
                continue
            worth = known @ self.prices
            if worth.max(initial=0) <= _PRICE + _ROUNDING:
                break
            self._enter(known[int(worth.argmax())], costs=True)
        return work

    def _enter(self, pattern: IntArray, *, costs: bool) -> None:
        by = np.zeros(len(pattern))
        for kind in np.flatnonzero(pattern).tolist():
            by += self._inverse[:, kind] * pattern[kind]
        grows = by > _EPSILON
        limits = np.where(grows, np.maximum(self._times, 0) / np.where(grows, by, 1), np.inf)
        least = limits.min()
        leaves = int(np.where(limits <= least + _EPSILON / 100, by, 0).argmax())
        row = self._inverse[leaves] / by[leaves]
        self._inverse -= np.multiply.outer(by, row)
        self._inverse[leaves] = row
        self._times -= by * least
        self._times[leaves] = least
        self._patterns[leaves] = pattern
        self._costs[leaves] = costs
