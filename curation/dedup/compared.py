"""What the comparisons of a task say together: pairs that agree by a third picture, copies that fit two pictures."""

import math
from collections import defaultdict
from typing import Final

from mmcorpus.curation.dedup.same_picture import Difference

_BY_A_THIRD: Final = 1.5
"""What two pictures that were compared may differ from a third together, to be one picture because of it."""
_AS_LARGE: Final = 0.75
"""Of the smaller one of two, the side of a third that says something of them."""
_MUCH_LARGER: Final = 1.5
"""Times a copy's side, from which on a picture shows what the copy may not."""


class Compared:
    """The pictures of a task that were compared, and which of them are one."""

    def __init__(self) -> None:
        self._sides: dict[int, int] = {}
        self._same: defaultdict[int, dict[int, Difference]] = defaultdict(dict)
        self._apart: set[tuple[int, int]] = set()
        self._by_a_third: set[tuple[int, int]] = set()

    def add(self, pair: tuple[int, int], sides: tuple[int, int], differs: Difference) -> None:
        """Two pictures, their longer sides in pixels, and how they differ."""
        one, other = pair
        self._sides[one], self._sides[other] = sides
        if differs.worst <= 1:
            self._same[one][other] = self._same[other][one] = differs
        else:
            self._apart.add(_pair(one, other))

    def tells(self, third: int, one: int, other: int) -> bool:
        """Whether a third picture shows enough to say that two are one: a smaller one fits several."""
        return self._sides[third] >= _AS_LARGE * min(self._sides[one], self._sides[other])

    def settle(self) -> None:
        """Once all pairs are added: what they say together."""
        # Two crops of which neither lies within the other, or two that were compressed hard, are copies of a third.
        for one, other in self._apart:
            both = self._same[one].keys() & self._same[other].keys()
            thirds = [third for third in both if self.tells(third, one, other)]
            if any(self._same[one][third].worst + self._same[other][third].worst <= _BY_A_THIRD for third in thirds):
                self._by_a_third.add((one, other))
        self._apart -= self._by_a_third
        # A copy so small that it fits two pictures which differ at their own size is of the one that it fits better.
        lost = []
        for small, same in self._same.items():
            larger = [each for each in same if self._sides[each] >= _MUCH_LARGER * self._sides[small]]
            rivals = {each: [other for other in larger if _pair(each, other) in self._apart] for each in larger}
            behind = {
                each: max((_behind(same[each], same[other]) for other in others), default=-math.inf)
                for each, others in rivals.items()
            }
            best = min(larger, key=lambda each: behind[each], default=small)
            lost += [(small, each) for each in rivals.get(best, ())]
        for small, each in lost:
            self._same[small].pop(each, None)
            self._same[each].pop(small, None)

    def same(self, one: int, other: int) -> bool:
        """Whether two are one picture, by a look at both."""
        return one == other or other in self._same[one] or _pair(one, other) in self._by_a_third


def _pair(one: int, other: int) -> tuple[int, int]:
    return min(one, other), max(one, other)


def _behind(one: Difference, other: Difference) -> float:
    """By how much one leaves more in its worst place than another there, beyond the reverse. Where two pictures differ
    stands out; what encoding leaves of the one and not of the other lies everywhere."""
    more = one.rest - other.rest
    return float(more.max() + more.min())
