"""Points in Molmo's syntax (arXiv 2409.17146, appendix C; allenai/molmo, data_formatter.py and evaluators.py)."""

import re
from collections.abc import Sequence
from typing import Final

Point = tuple[float, float]
"""x and y, per cent of the image's width and height."""

NO_POINTS: Final = "there are none"
"""The answer where there is nothing to point at, without case and full stop."""
RADIUS: Final = 5.0
"""Per cent: a point counts within this distance of a right one. Molmo asks whether it lies in the object's mask; where
there are no masks, a radius stands for them."""
_TAG: Final = re.compile(r"<points?\b([^<>]{0,4096})>")
_NUMBERED: Final = re.compile(r"\b([xy])(\d{0,4})\s*=\s*\"\s*(\d{1,3}(?:\.\d{1,4})?)\s*%?\s*\"")


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
    """The most pairs of a said and a right point that lie within `radius`, each in one pair alone.

    Time grows with the number of pairs times that of points.
    """
    near = [
        [place for place, (u, v) in enumerate(right) if (x - u) ** 2 + (y - v) ** 2 <= radius * radius] for x, y in said
    ]
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

    return sum(finds(one, set()) for one in range(len(said)))
