"""Settings of packing: the limits of a sequence, what becomes of samples that are too long, mixtures."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal, Self, get_args

from mmcorpus.packing import numbers
from mmcorpus.packing.layout import LayoutConfig, PerImage, read_layout
from mmcorpus.packing.mixture import MixBy, MixGroup, MixOver
from mmcorpus.packing.render import RenderConfig

TooLong = Literal["drop", "truncate", "split"]
TargetWeight = Literal["branches", "lengths"]
ChatTemplateName = Literal["chatml", "tokenizer"]


@dataclass(frozen=True, kw_only=True)
class PlanConfig:
    """Settings by which samples are put into sequences."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    context_length: int = 4096
    """Positions of a sequence."""
    tokens_per_image: int = 144
    """Positions of an image, which must be the number that the model's projector gives (Open-Qwen2VL: 144, 729). Short
    for `layout: {kind: square, tokens: 144}`."""
    layout: LayoutConfig | None = None
    """How images of each size become crops and positions (docs/layouts.md), e.g. `{kind: molmo}`; null for
    `tokens_per_image`."""
    max_images: int | None = None
    """Most images in a sequence (MM1: 16); null for as many as fit."""
    max_crops: int | None = None
    """Most crops in a sequence, which are what an encoder's memory and time go by; null for as many as there are."""
    too_long: TooLong = "drop"
    """A sample longer than a sequence, or a document with more than `max_images` images or `max_crops` crops: `drop`
    it; `truncate` it (it loses its end and end token, and but for documents keeps its images); or `split` a document at
    its nodes' borders into parts that are samples of their own (pairs and conversations are dropped)."""
    chat_template: ChatTemplateName = "chatml"
    """What conversations are written in: `chatml` (Qwen2's, without a default system turn), or the template that the
    tokenizer brings, token for token as `apply_chat_template` writes it. The pack's tokenizer carries it on."""
    render: RenderConfig = field(default_factory=RenderConfig)
    """How annotations of images become questions and answers, anew for each copy (docs/packing.md)."""
    target_weights: tuple[TargetWeight, ...] = ()
    """What targets' losses are multiplied by, so that samples of many or long annotations do not outweigh the others:
    `branches`, 1/√n where an image has n annotations (Molmo); `lengths`, 2/√t where an annotation, or a sample without
    any, has t target tokens (Molmo2). Empty: all count alike."""
    mix: dict[str, float] = field(default_factory=dict)
    """Shares of the sources in the sequences' positions, e.g. `{pages: 0.45, pairs: 0.45, texts: 0.1}` (MM1); they need
    not add up to 1. As many positions in all as there are without it: of a source with too many samples some are left
    out, of one with too few some come several times, drawn by a hash of their uids. Empty: all as the selections say.
    The texts are then read twice."""
    mix_groups: dict[str, MixGroup] = field(default_factory=dict)
    """In place of `mix`: groups of sources with a rate each, √size within, as Molmo's: `{academic: {rate: 0.5, sources:
    [vqa, dv_qa], sizes: {dv_qa: 10000}}}`."""
    mix_by: MixBy = "positions"
    """What shares are of: `positions`; `samples`, as Molmo's; or `sequences`, of which a source counts as many as it
    would fill by itself, as MM1's."""
    mix_most_seen: float | None = None
    """Most uses of a sample, times the count that its selection gives it; null for any number."""
    mix_over: MixOver = "refuse"
    """Where the mixture asks for more: `refuse` the plan, `warn` and make it, or `cap`: such a source has less."""
    epochs: float = 1.0
    """How often the whole is used. Copies of a sample lie apart, each beside other samples."""
    window_shards: int = 8
    """Input shards that are packed together: more fill a little better and mix more, fewer are written faster."""
    seed: int = 0
    """Orders the samples within a sequence and the sequences within a window."""

    def __post_init__(self) -> None:
        for name in ("context_length", "tokens_per_image", "window_shards", "seed"):
            numbers.whole(name, getattr(self, name))
        for name in ("max_images", "max_crops"):
            if getattr(self, name) is not None:
                numbers.whole(name, getattr(self, name))
        name, smallest = "tokens_per_image", self.tokens_per_image
        if self.layout is not None:
            if self.tokens_per_image != PlanConfig.tokens_per_image:
                raise ValueError(
                    f"pack.tokens_per_image is {self.tokens_per_image} and pack.layout is given too; give one of them"
                )
            name, smallest = "layout", int(self.layout.lengths([1], [1])[0])
        if self.context_length <= smallest:
            raise ValueError(
                f"pack.context_length is {self.context_length}, no more than one image's {smallest} positions; raise "
                f"it or lower pack.{name}"
            )
        if self.too_long not in ("drop", "truncate", "split"):
            raise ValueError(f"pack.too_long is {self.too_long!r}; give 'drop', 'truncate' or 'split'")
        if self.chat_template not in ("chatml", "tokenizer"):
            raise ValueError(f"pack.chat_template is {self.chat_template!r}; give 'chatml' or 'tokenizer'")
        unknown = [name for name in self.target_weights if name not in get_args(TargetWeight)]
        if unknown:
            raise ValueError(f"pack.target_weights names {unknown[0]!r}; there are {', '.join(get_args(TargetWeight))}")
        if self.mix and self.mix_groups:
            raise ValueError("pack.mix and pack.mix_groups are both given; give one of them")
        grouped = [source for group in self.mix_groups.values() for source in group.sources]
        if len(set(grouped)) != len(grouped):
            raise ValueError(f"pack.mix_groups names a source twice: {', '.join(grouped)}")
        if self.mix_by not in get_args(MixBy):
            raise ValueError(f"pack.mix_by is {self.mix_by!r}; give one of {', '.join(get_args(MixBy))}")
        if self.mix_over not in get_args(MixOver):
            raise ValueError(f"pack.mix_over is {self.mix_over!r}; give one of {', '.join(get_args(MixOver))}")
        for name, times in (("epochs", self.epochs), ("mix_most_seen", self.mix_most_seen)):
            if times is not None:
                numbers.within(name, times, 1e-6, numbers.MOST_COPIES)
        for source, share in self.mix.items():
            numbers.share(f"mix.{source}", share)

    @property
    def per_image(self) -> PerImage:
        """Positions of every image, or the layout that says them of its size."""
        return self.tokens_per_image if self.layout is None else self.layout.constant or self.layout

    @property
    def mixed(self) -> tuple[str, ...]:
        """The sources that a mixture gives shares to; none without one."""
        return tuple(self.mix) or tuple(source for group in self.mix_groups.values() for source in group.sources)

    @property
    def limits(self) -> dict[str, int | None]:
        """What a sequence may have, by name; None for any number."""
        return {"positions": self.context_length, "images": self.max_images, "crops": self.max_crops}

    @property
    def counts_crops(self) -> bool:
        """Whether crops are another number than that of images, so that a plan has a column for them."""
        return self.layout is not None and self.layout.kind != "square"

    def settings(self) -> dict[str, Any]:
        """Every setting as JSON-able values, for what records what it was made with; what was added later only if set,
        so that the records of plans without it stay as they were. `read` makes the config of them."""
        layout = self.layout.as_dict() if self.layout is not None else None
        fields = {**dataclasses.asdict(self), "layout": layout, "render": self.render.as_dict()}
        later: dict[str, Any] = {
            "layout": None,
            "chat_template": "chatml",
            "max_crops": None,
            "render": RenderConfig().as_dict(),
            "target_weights": (),
            "mix_groups": {},
            "mix_by": "positions",
            "mix_most_seen": None,
            "mix_over": "refuse",
            "epochs": 1.0,
        }
        return {name: value for name, value in fields.items() if name not in later or value != later[name]}

    @classmethod
    def read(cls, settings: Mapping[str, Any]) -> Self:
        """The config of what `settings` gave."""
        layout = settings.get("layout")
        given = {**settings, "layout": read_layout(layout) if layout is not None else None}
        if "render" in given:
            render: dict[str, Any] = {
                name: {style: tuple(one) if isinstance(one, list) else one for style, one in value.items()}
                if isinstance(value, Mapping)
                else value
                for name, value in given["render"].items()
            }
            given["render"] = RenderConfig(**render)
        given["mix_groups"] = {
            name: MixGroup(**{**group, "sources": tuple(group["sources"])})
            for name, group in given.get("mix_groups", {}).items()
        }
        given["target_weights"] = tuple(given.get("target_weights", ()))
        return cls(**given)
