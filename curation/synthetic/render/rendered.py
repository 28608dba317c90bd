"""A rendered picture and everything that is true of it."""

from collections.abc import Sequence
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
    transcripts: Sequence[str] = ()
    explained: Sequence[tuple[str, str]] = ()


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
    transcripts: tuple[str, ...]
    """What several speakers say of it, each true in the end; none of some kinds."""
    explained: tuple[tuple[str, str], ...]
    """Questions with answers that point at what they speak of, in Molmo's syntax; none of some kinds."""
    kind: str
    """One of `KINDS`."""
    facts: dict[str, Any]
    """The ground truth, JSON-able; `kind`, `seed` and `size` ([width, height]) are always there. What an engine drew
    has `language` and `code`, who made it (`persona`, `topic`) and `text`, what is written in it in reading order."""

    @property
    def text(self) -> str:
        """All that is written in the picture, a line each, in reading order; empty where that is nothing."""
        if self.kind == "table":
            title = [self.facts["title"]] if self.facts["title"] else []
            return "\n".join([*title, *(" ".join(row) for row in (self.facts["columns"], *self.facts["rows"]))])
        return str(self.facts.get("text", ""))


def make_point(label: str, x: float, y: float, size: tuple[int, int]) -> Point:
    """The point at pixel (x, y) of a picture of `size` (width, height)."""
    return Point(label, round(100 * x / size[0], 1), round(100 * y / size[1], 1))
