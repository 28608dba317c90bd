"""Things that can be drawn small: simple shapes and pictures made of a few of them."""

import math
from collections.abc import Sequence
from typing import Final, TypeAlias

from mmcorpus.curation.synthetic.render.canvas import COLORS, XY, Canvas, Color, blend

_Part: TypeAlias = tuple[str | float, Sequence[XY] | tuple[float, float, float]]
"""What it is filled with – a colour's name, or how far from the sprite's colour to black (below 0: to white) – and the
corners, or the centre and radius of a circle. All in radii about the sprite's centre, y downwards."""


def _round(count: int, radius: float = 1.0, start: float = 0.0, second: float | None = None) -> list[XY]:
    """Corners around the centre, every other one at the `second` radius."""
    return [
        (reach * math.sin(angle), -reach * math.cos(angle))
        for n in range(count)
        for angle, reach in [(start + 2 * math.pi * n / count, radius if second is None or n % 2 == 0 else second)]
    ]


def _heart() -> list[XY]:
    steps = [2 * math.pi * n / 36 for n in range(36)]
    return [
        (math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16)
        for t in steps
    ]


def _crescent() -> list[XY]:
    outer = [(math.cos(t), math.sin(t)) for t in (math.pi * (0.3 + 1.4 * n / 20) for n in range(21))]
    inner = [
        (0.42 + 0.83 * math.cos(t), 0.83 * math.sin(t)) for t in (math.pi * (1.57 - 1.14 * n / 20) for n in range(21))
    ]
    return [*outer, *inner]


SPRITES: Final[dict[str, tuple[_Part, ...]]] = {
    "circle": ((0.0, (0, 0, 0.9)),),
    "square": ((0.0, ((-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8))),),
    "triangle": ((0.0, ((0, -0.9), (0.95, 0.78), (-0.95, 0.78))),),
    "star": ((0.0, _round(10, 1.0, 0.0, 0.42)),),
    "heart": ((0.0, _heart()),),
    "hexagon": ((0.0, _round(6, 0.95)),),
    "crescent": ((0.0, _crescent()),),
    "arrow": ((0.0, ((-0.95, -0.3), (0.15, -0.3), (0.15, -0.75), (0.95, 0), (0.15, 0.75), (0.15, 0.3), (-0.95, 0.3))),),
    "ring": ((0.0, (0, 0, 0.92)), ("ground", (0, 0, 0.5))),
    "house": (
        (0.0, ((-0.7, -0.1), (0.7, -0.1), (0.7, 0.85), (-0.7, 0.85))),
        (0.45, ((0, -0.95), (0.95, -0.1), (-0.95, -0.1))),
        (-0.8, ((-0.18, 0.3), (0.18, 0.3), (0.18, 0.85), (-0.18, 0.85))),
    ),
    "tree": (
        ("brown", ((-0.14, 0.3), (0.14, 0.3), (0.14, 0.95), (-0.14, 0.95))),
        (0.0, ((0, -0.95), (0.75, 0.45), (-0.75, 0.45))),
        (0.2, ((0, -0.95), (0.5, -0.1), (-0.5, -0.1))),
    ),
    "fish": (
        (0.0, ((-0.95, -0.5), (-0.45, 0), (-0.95, 0.5))),
        (0.0, [(0.2 + 0.75 * x, 0.48 * y) for x, y in _round(24)]),
        ("white", (0.6, -0.12, 0.1)),
        ("black", (0.62, -0.12, 0.05)),
    ),
    "flower": (
        *((0.0, (0.55 * x, 0.55 * y, 0.4)) for x, y in _round(6)),
        (-0.8, (0, 0, 0.32)),
    ),
    "mushroom": (
        (-0.75, ((-0.25, 0.0), (0.25, 0.0), (0.32, 0.9), (-0.32, 0.9))),
        (0.0, [(0.95 * x, 0.1 + 0.95 * min(0.0, y)) for x, y in _round(30, 1.0, math.pi / 30)]),
        ("white", (-0.35, -0.3, 0.13)),
        ("white", (0.3, -0.42, 0.15)),
    ),
    "car": (
        (0.0, ((-0.95, -0.05), (0.95, -0.05), (0.95, 0.4), (-0.95, 0.4))),
        (0.25, ((-0.5, -0.5), (0.4, -0.5), (0.7, -0.05), (-0.7, -0.05))),
        ("black", (-0.5, 0.42, 0.24)),
        ("black", (0.5, 0.42, 0.24)),
        ("gray", (-0.5, 0.42, 0.1)),
        ("gray", (0.5, 0.42, 0.1)),
    ),
    "balloon": (
        ("gray", ((-0.03, 0.3), (0.03, 0.3), (0.03, 1.0), (-0.03, 1.0))),
        (0.0, [(0.62 * x, -0.28 + 0.7 * y) for x, y in _round(28)]),
        (0.0, ((0, 0.35), (0.14, 0.55), (-0.14, 0.55))),
        (-0.5, (-0.2, -0.5, 0.12)),
    ),
    "flag": (
        ("gray", ((-0.75, -0.95), (-0.63, -0.95), (-0.63, 0.95), (-0.75, 0.95))),
        (0.0, ((-0.63, -0.9), (0.85, -0.75), (0.5, -0.35), (0.85, 0.1), (-0.63, 0.05))),
    ),
    "cup": (
        (0.15, (0.62, 0.05, 0.36)),
        ("ground", (0.62, 0.05, 0.18)),
        (0.0, ((-0.75, -0.6), (0.65, -0.6), (0.5, 0.7), (-0.6, 0.7))),
        (-0.45, ((-0.75, -0.6), (0.65, -0.6), (0.63, -0.45), (-0.73, -0.45))),
    ),
}
"""By name, in the singular."""
ANCHORS: Final[dict[str, XY]] = {
    "crescent": (-0.72, 0.0),
    "flag": (-0.05, -0.4),
    "cup": (-0.1, 0.0),
    "balloon": (0.0, -0.28),
}
"""Where one points at a sprite, where that is not its centre: on its body, in radii. A ring's is in its hole."""


def draw_sprite(canvas: Canvas, name: str, center: XY, radius: float, color: Color, ground: Color) -> None:
    """A sprite within `radius` pixels about its centre; `ground` shows through its holes."""
    x, y = center
    for fill, where in SPRITES[name]:
        if isinstance(fill, str):
            ink = ground if fill == "ground" else COLORS[fill]
        else:
            ink = blend(color, (0, 0, 0) if fill > 0 else (255, 255, 255), abs(fill))
        if isinstance(where, tuple) and len(where) == 3 and not isinstance(where[0], tuple):
            across, down, reach = where
            canvas.ellipse((x + across * radius, y + down * radius), max(0.5, reach * radius), ink)
        else:
            canvas.polygon([(x + dx * radius, y + dy * radius) for dx, dy in where], ink)
