"""The kinds of pictures, one of them rendered, and the configuration of a set of them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from mmcorpus.curation.synthetic.common import stream
from mmcorpus.curation.synthetic.render.canvas import check_size, draw_size
from mmcorpus.curation.synthetic.render.charts import draw_chart
from mmcorpus.curation.synthetic.render.clocks import draw_clock, draw_dial
from mmcorpus.curation.synthetic.render.rendered import Drawing, Rendered
from mmcorpus.curation.synthetic.render.scenes import draw_scene
from mmcorpus.curation.synthetic.render.tables import draw_table

RENDER_VERSION: Final = 1
"""Rises whenever a renderer changes what it draws or says: what older versions rendered is then rendered again."""

_DRAW: Final[dict[str, Callable[[random.Random, tuple[int, int]], Drawing]]] = {
    "clock": draw_clock,
    "chart": draw_chart,
    "table": draw_table,
    "scene": draw_scene,
    "dial": draw_dial,
}
ALL_KINDS: Final = tuple(_DRAW)
"""The kinds that can be rendered."""
KINDS: Final = ALL_KINDS[:4]
"""Those that are rendered where nobody says which: not `dial`, the plainest of clocks, a beginner's."""


def render(kind: str, seed: int, *, size: tuple[int, int] | None = None) -> Rendered:
    """Render one picture.

    Args:
        kind: one of `ALL_KINDS`.
        seed: any integer.
        size: (width, height) in pixels, 64 to 4096 each; if None, drawn by the seed: sides of 200 to 512, aspect
            ratios from 1:2 to 2:1. It may change what is shown (a narrow chart has fewer bars).

    Raises:
        ValueError: the kind is unknown or the size cannot be drawn.
    """
    if kind not in _DRAW:
        raise ValueError(f"unknown kind {kind!r}: must be one of {', '.join(ALL_KINDS)}")
    size = draw_size(stream(kind, seed, "size")) if size is None else check_size(size)
    rng = stream(kind, seed, "")
    drawing = _DRAW[kind](rng, size)
    captions = tuple(dict.fromkeys(drawing.captions))
    return Rendered(
        image=drawing.image,
        caption=rng.choice(captions),
        captions=captions,
        qa=tuple(drawing.qa),
        points=tuple(sorted(drawing.points, key=lambda point: (point.y, point.x))),
        kind=kind,
        facts={"kind": kind, "seed": seed, "size": list(size), **drawing.facts},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderConfig:
    """A set of rendered pictures: a pure function of these fields."""

    kinds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(KINDS, 1.0))
    """The kinds and their weights: `{clock: 3, scene: 1}` makes three clocks for each scene, on average."""
    count: int = 1000
    """Pictures in all. Raising it later adds pictures and keeps those that are there."""
    seed: int = 0
    """Another seed gives other pictures."""
    size: tuple[int, int] | None = None
    """(width, height) of every picture in pixels; None for web-like variety, 200-512 a side."""
    image_format: Literal["jpg", "png", "webp"] = "jpg"
    """The encoding of the pictures."""
    quality: int = 92
    """Of jpg and webp, 1-100; png has none."""
    samples_per_shard: int = 1000
    """Pictures a shard; the last may have fewer."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(ALL_KINDS))
        if unknown:
            raise ValueError(f"kinds: unknown {', '.join(unknown)}; must be of {', '.join(ALL_KINDS)}")
        if any(weight < 0 for weight in self.kinds.values()) or sum(self.kinds.values()) <= 0:
            raise ValueError(f"kinds: weights must be 0 or more and not all 0, got {self.kinds}")
        if self.count < 1:
            raise ValueError(f"count: must be at least 1, got {self.count}")
        if self.size is not None:
            check_size(self.size)
        if self.image_format not in ("jpg", "png", "webp"):
            raise ValueError(f"image_format: must be jpg, png or webp, got {self.image_format!r}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: must be 1 to 100, got {self.quality}")
        if self.samples_per_shard < 1:
            raise ValueError(f"samples_per_shard: must be at least 1, got {self.samples_per_shard}")

    @property
    def shard_count(self) -> int:
        return -(-self.count // self.samples_per_shard)

    def sample(self, index: int) -> tuple[str, int]:
        """The kind and seed of the picture number `index`."""
        rng = stream("sample", self.seed, str(index))
        weights = [self.kinds.get(kind, 0.0) for kind in ALL_KINDS]
        return rng.choices(ALL_KINDS, weights)[0], rng.getrandbits(48)
