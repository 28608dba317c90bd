"""Rendered images with true captions, questions and points, in the spirit of PixMo-Clocks and PixMo-Docs.

    from curation.render import render
    rendered = render("clock", seed=7)      # the same bytes on every machine
    rendered.image, rendered.caption, rendered.qa, rendered.points, rendered.facts

A picture is a pure function of its kind, seed and size.
"""

from collections.abc import Callable
from typing import Final

from curation.render.canvas import check_size
from curation.render.charts import draw_chart
from curation.render.clocks import draw_clock
from curation.render.conversations import conversations
from curation.render.rendered import Point, Rendered
from curation.render.scenes import draw_scene
from curation.render.tables import draw_table

__all__ = ["KINDS", "Point", "Rendered", "conversations", "render"]

_KINDS: Final[dict[str, Callable[[int, tuple[int, int] | None], Rendered]]] = {
    "clock": draw_clock,
    "chart": draw_chart,
    "table": draw_table,
    "scene": draw_scene,
}
KINDS: Final = tuple(_KINDS)
"""What can be rendered."""


def render(kind: str, seed: int, *, size: tuple[int, int] | None = None) -> Rendered:
    """Render one picture.

    kind: one of `KINDS`. seed: any integer. size: (width, height) in pixels, 64 to 4096 each; drawn by the seed
    if None (sides of 200 to 512, aspect ratios from 1:2 to 2:1).
    Raises `ValueError` for an unknown kind or an impossible size.
    """
    if kind not in _KINDS:
        raise ValueError(f"unknown kind {kind!r}: must be one of {', '.join(KINDS)}")
    return _KINDS[kind](seed, None if size is None else check_size(size))
