"""The kinds of pictures, one of them rendered, and the configuration of a set of them."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final, Literal

from mmcorpus.curation.synthetic.common import stream
from mmcorpus.curation.synthetic.render.canvas import check_size, draw_size
from mmcorpus.curation.synthetic.render.charts import draw_chart
from mmcorpus.curation.synthetic.render.clocks import draw_clock, draw_dated_clock, draw_dial
from mmcorpus.curation.synthetic.render.diagrams import draw_diagram
from mmcorpus.curation.synthetic.render.documents import draw_document
from mmcorpus.curation.synthetic.render.engines import check
from mmcorpus.curation.synthetic.render.matplotlib_charts import draw_matplotlib_chart
from mmcorpus.curation.synthetic.render.objects import draw_objects
from mmcorpus.curation.synthetic.render.pages import draw_page
from mmcorpus.curation.synthetic.render.photo import photographed
from mmcorpus.curation.synthetic.render.placing import fitted
from mmcorpus.curation.synthetic.render.rendered import Drawing, Rendered
from mmcorpus.curation.synthetic.render.scenes import draw_scene, scene_transcripts
from mmcorpus.curation.synthetic.render.tables import draw_table
from mmcorpus.curation.synthetic.render.vega_charts import draw_vega_chart

RENDER_VERSION: Final = 2
"""Rises whenever a renderer changes what it draws or says: what older versions rendered is then rendered again."""

_DRAW: Final[dict[str, Callable[[random.Random, tuple[int, int]], Drawing]]] = {
    "clock": draw_clock,
    "chart": draw_chart,
    "table": draw_table,
    "scene": draw_scene,
    "dated_clock": draw_dated_clock,
    "objects": draw_objects,
    "dial": draw_dial,
}
_ENGINE_DRAW: Final[dict[str, tuple[str, Callable[[random.Random], Drawing]]]] = {
    "document": ("typst", draw_document),
    "diagram": ("graphviz", draw_diagram),
    "vega_chart": ("vega-lite", draw_vega_chart),
    "matplotlib_chart": ("matplotlib", draw_matplotlib_chart),
    "page": ("html", draw_page),
}
_CAPTIONS: Final = ("drawn", "shortest", "detailed", "text")
BASIC_KINDS: Final = ("clock", "chart", "table", "scene")
"""The kinds of a mini-web, and of a set of pictures whose kinds are not given."""
KINDS: Final = (*_DRAW, *_ENGINE_DRAW)
"""The kinds that can be rendered, some of them where their engine is installed."""


def engine_of(kind: str) -> str | None:
    """The engine (of `engines.ENGINES`) that draws a kind; None for what needs none."""
    return _ENGINE_DRAW[kind][0] if kind in _ENGINE_DRAW else None


def render(kind: str, seed: int, *, size: tuple[int, int] | None = None, photo: bool = False) -> Rendered:
    """Render one picture.

    Args:
        kind: one of `KINDS`.
        seed: any integer.
        size: (width, height) in pixels, 64 to 4096 each. If None, drawn by the seed: sides of 200 to 512, aspect
            ratios from 1:2 to 2:1; what an engine draws is as large as its content asks for. It may change what is
            shown (a narrow chart has fewer bars); what an engine has drawn is scaled into it.
        photo: whether it looks photographed: askew, unevenly lit, unsharp, noisy. Captions, questions and points are
            true of it; places among the facts are those of the drawing.

    Raises:
        ValueError: the kind is unknown or the size cannot be drawn.
        RuntimeError: the kind's engine is not installed; the message says how to.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind {kind!r}: must be one of {', '.join(KINDS)}")
    if size is not None:
        check_size(size)
    rng = stream(kind, seed, "")
    if kind in _DRAW:
        drawing = _DRAW[kind](rng, size or draw_size(stream(kind, seed, "size")))
    else:
        engine, draw = _ENGINE_DRAW[kind]
        check(engine)
        drawing = draw(rng)
        if size is not None:
            drawing = fitted(drawing, size)
    captions = tuple(dict.fromkeys(drawing.captions))
    caption = rng.choice(captions)
    spoken = drawing.transcripts
    if kind == "scene":
        spoken = scene_transcripts(stream(kind, seed, "transcripts"), drawing.facts)
    facts = drawing.facts
    if photo:
        drawing = photographed(stream(kind, seed, "photo"), drawing)
        facts = {**facts, "photo": True}
    return Rendered(
        image=drawing.image,
        caption=caption,
        captions=captions,
        qa=tuple(drawing.qa),
        points=tuple(sorted(drawing.points, key=lambda point: (point.y, point.x))),
        transcripts=tuple(spoken),
        explained=tuple(drawing.explained),
        kind=kind,
        facts={"kind": kind, "seed": seed, "size": list(drawing.image.size), **facts},
    )


@dataclass(frozen=True, kw_only=True, slots=True)
class RenderConfig:
    """A set of rendered pictures: a pure function of these fields."""

    kinds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BASIC_KINDS, 1.0))
    """The kinds and their weights: `{clock: 3, scene: 1}` makes three clocks for each scene, on average. Those that an
    engine draws need it: `pip install 'mmcorpus[render]'`, and a headless browser for `page`."""
    count: int = 1000
    """Pictures in all. Raising it later adds pictures and keeps those that are there."""
    seed: int = 0
    """Another seed gives other pictures."""
    size: tuple[int, int] | None = None
    """(width, height) of every picture in pixels; None for web-like variety, 200-512 a side."""
    photos: float = 0.0
    """The share of pictures, 0-1, that look photographed: askew, unevenly lit, unsharp, noisy."""
    conversations: Literal["turns", "annotations"] = "turns"
    """What the column of that name holds: a conversation, or Molmo's annotations, which packs train on as branches."""
    caption: Literal["drawn", "shortest", "detailed", "text"] = "drawn"
    """Which of the captions is the sample's: one drawn by the seed, the shortest, the most detailed; or all that is
    written in the picture, in reading order (of what holds no text, the most detailed)."""
    image_format: Literal["jpg", "png", "webp"] = "jpg"
    """The encoding of the pictures."""
    quality: int = 92
    """Of jpg and webp, 1-100; png has none."""
    samples_per_shard: int = 1000
    """Pictures a shard; the last may have fewer."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    def __post_init__(self) -> None:
        unknown = sorted(set(self.kinds) - set(KINDS))
        if unknown:
            raise ValueError(f"kinds: unknown {', '.join(unknown)}; must be of {', '.join(KINDS)}")
        if any(weight < 0 for weight in self.kinds.values()) or sum(self.kinds.values()) <= 0:
            raise ValueError(f"kinds: weights must be 0 or more and not all 0, got {self.kinds}")
        if self.count < 1:
            raise ValueError(f"count: must be at least 1, got {self.count}")
        if self.size is not None:
            check_size(self.size)
        if not 0 <= self.photos <= 1:
            raise ValueError(f"photos: must be 0 to 1, got {self.photos}")
        for name, choices in (("conversations", ("turns", "annotations")), ("caption", _CAPTIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}: must be {', '.join(choices)}, got {getattr(self, name)!r}")
        if self.image_format not in ("jpg", "png", "webp"):
            raise ValueError(f"image_format: must be jpg, png or webp, got {self.image_format!r}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality: must be 1 to 100, got {self.quality}")
        if self.samples_per_shard < 1:
            raise ValueError(f"samples_per_shard: must be at least 1, got {self.samples_per_shard}")

    def engines(self) -> set[str]:
        """The engines that draw these kinds."""
        return {engine for kind, weight in self.kinds.items() if weight and (engine := engine_of(kind))}

    @property
    def shard_count(self) -> int:
        return -(-self.count // self.samples_per_shard)

    def sample(self, index: int) -> tuple[str, int]:
        """The kind and seed of the picture number `index`."""
        rng = stream("sample", self.seed, str(index))
        weights = [self.kinds.get(kind, 0.0) for kind in KINDS]
        return rng.choices(KINDS, weights)[0], rng.getrandbits(48)

    def is_photo(self, index: int) -> bool:
        """Whether the picture number `index` looks photographed."""
        return stream("photo", self.seed, str(index)).random() < self.photos
