"""Points in Molmo's syntax (arXiv 2409.17146, appendix C; allenai/molmo, data_formatter.py and evaluators.py)."""

import bisect
import dataclasses
import itertools
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mmcorpus.training.settings import require

Point = tuple[float, float]
"""x and y, per cent of the image's width and height."""

NO_POINTS: Final = "there are none"
"""The answer where there is nothing to point at, without case and full stop."""
RADIUS: Final = 5.0
"""Per cent: a point counts within this distance of a right one, where there is no mask of what it is to lie in."""
_TAG: Final = re.compile(r"<points?\b([^<>]{0,4096})>")
_NUMBERED: Final = re.compile(r"\b([xy])(\d{0,4})\s*=\s*\"\s*(\d{1,3}(?:\.\d{1,4})?)\s*%?\s*\"")


@dataclasses.dataclass(frozen=True, slots=True)
class Mask:
    """Where a thing is in its image, as run lengths: COCO's uncompressed RLE."""

    height: int
    """Pixels; not those of the image necessarily: points are per cent of either."""
    width: int
    ends: tuple[int, ...]
    """Where runs end, counted down the columns from the left; the first run, which may be empty, lies outside."""

    def holds(self, point: Point) -> bool:
        """Whether the pixel at a point, in per cent, is the thing's; 100 is in the last one."""
        column, row = (
            min(int(part * side / 100), side - 1) for part, side in zip(point, (self.width, self.height), strict=True)
        )
        return bisect.bisect_right(self.ends, column * self.height + row) % 2 == 1


def read_mask(given: Any) -> Mask:
    """A mask of `{"size": [height, width], "counts": [run, run, …]}`. Raises ValueError for anything else."""
    size: Any
    counts: Any
    size, counts = (given.get(name) if isinstance(given, Mapping) else None for name in ("size", "counts"))
    whole = all(isinstance(part, list | tuple) and all(type(one) is int and one >= 0 for one in part)
                for part in (size, counts))  # fmt: skip
    told = f"a mask is {str(given)[:80]!r}; give COCO's run lengths as numbers, {{size: [height, width], counts: […]}}"
    require(whole and len(size) == 2 and min(size) > 0, told)
    require(sum(counts) == size[0] * size[1], f"a mask of {size[0]} x {size[1]} pixels has runs of {sum(counts)}")
    height, width = size
    return Mask(height, width, tuple(itertools.accumulate(counts)))


def read_points(text: str) -> list[Point]:
    """The points of all `<point x="…" y="…">` and `<points x1="…" y1="…" x2=…>` in a text, in their order; what lies
    outside of 0 to 100, or has no other coordinate, is none."""
    found = []
    for tag in _TAG.finditer(text):
        axes: dict[str, dict[str, float]] = {"x": {}, "y": {}}
        for axis, number, value in _NUMBERED.findall(tag[1]):
            axes[axis].setdefault(number, float(value))
        pairs = [(x, axes["y"][number]) for number, x in axes["x"].items() if number in axes["y"]]
        found += [point for point in pairs if max(point) <= 100]
    return found


def matched(said: Sequence[Point], right: Sequence[Point], radius: float = RADIUS) -> int:
    """The most pairs of a said and a right point that lie within `radius`, each in one pair alone."""
    return _most_pairs(
        [
            [place for place, (u, v) in enumerate(right) if (x - u) ** 2 + (y - v) ** 2 <= radius * radius]
            for x, y in said
        ]
    )


def inside(said: Sequence[Point], masks: Sequence[Mask]) -> int:
    """The most pairs of a said point and a mask that holds it, each in one pair alone. (allenai/molmo pairs each point
    with the nearest right one first, and asks then for the mask: where things overlap that finds fewer.)"""
    return _most_pairs([[place for place, mask in enumerate(masks) if mask.holds(point)] for point in said])


def _most_pairs(near: Sequence[Sequence[int]]) -> int:
    """The most pairs of one and a place that is near it; in time of the number of pairs times that of ones."""
    partner: dict[int, int] = {}

    def finds(one: int, tried: set[int]) -> bool:
        """An augmenting path (Kuhn's algorithm)."""
        for place in near[one]:
            if place not in tried:
                tried.add(place)
                if place not in partner or finds(partner[place], tried):
                    partner[place] = one
                    return True
        return False

    return sum(finds(one, set()) for one in range(len(near)))
