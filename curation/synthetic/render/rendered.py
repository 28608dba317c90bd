"""A rendered picture and everything that is true of it."""

from dataclasses import dataclass
from typing import Any, NamedTuple

from PIL import Image


class Point(NamedTuple):
    """A place in the picture, in Molmo's convention (Molmo, §3 "PixMo-Points")."""

    label: str
    """The thing that is there, in the plural when several points share the label: `red circles`."""
    x: float
    """Per cent of the width from the left edge, 0-100, one decimal."""
    y: float
    """Per cent of the height from the top edge, 0-100, one decimal."""


class Drawing(NamedTuple):
    """A picture as its renderer draws it."""

    image: Image.Image
    captions: list[str]
    qa: list[tuple[str, str]]
    points: list[Point]
    facts: dict[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Rendered:
    """A rendered picture with its captions, questions, points and ground truth."""

    image: Image.Image
    """RGB."""
    caption: str
    """One of `captions`, drawn by the seed."""
    captions: tuple[str, ...]
    """True statements of the same facts: the shortest first, the most detailed last."""
    qa: tuple[tuple[str, str], ...]
    """Questions with short answers; three or more."""
    points: tuple[Point, ...]
    """Top-down, then left to right."""
    kind: str
    """One of `ALL_KINDS`."""
    facts: dict[str, Any]
    """The ground truth, JSON-able; `kind`, `seed` and `size` ([width, height]) are always there."""


def make_point(label: str, x: float, y: float, size: tuple[int, int]) -> Point:
    """The point at pixel (x, y) of a picture of `size` (width, height)."""
    return Point(label, round(100 * x / size[0], 1), round(100 * y / size[1], 1))
