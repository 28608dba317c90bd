"""The model's parts: encoders, connector, language model, and what an image becomes (its layout)."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from mmcorpus.packing.layout import PerImage, SquareLayout, read_layout
from mmcorpus.packing.layout.base import LayoutBase
from mmcorpus.training.config.moe import MoEConfig
from mmcorpus.training.settings import Settings, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomVision(Settings):
    """A small encoder with random weights: for CPUs and tests. Train it (`freeze: {vision: false}`)."""

    family: Literal["siglip", "siglip2", "clip", "dinov2"] = "siglip"
    """Whose architecture it has; siglip2 is NaFlex, made for images of any shape (other SigLIP 2 models are siglip)."""

    image_size: int = 64
    """Pixels a side; every image is squashed to this square."""
    patch_size: int = 8
    """Pixels a side of a patch; must divide image_size."""
    hidden_size: int = 128
    """Width of the encoder; must be a multiple of `heads`."""
    layers: int = 4
    """Transformer blocks built. With `vision_layer: -2` the last is never run."""
    heads: int = 4
    """Attention heads."""
    intermediate_size: int = 512
    """Width of the MLP inside a block."""

    def __post_init__(self) -> None:
        self._require_positive("image_size", "patch_size", "hidden_size", "layers", "heads", "intermediate_size")
        require(
            self.image_size % self.patch_size == 0,
            f"model.vision.image_size {self.image_size} is not a multiple of patch_size {self.patch_size}",
        )
        require(
            self.hidden_size % self.heads == 0,
            f"model.vision.hidden_size {self.hidden_size} is not a multiple of heads {self.heads}",
        )
        require(
            self.family != "dinov2" or self.intermediate_size % self.hidden_size == 0,
            f"model.vision.intermediate_size {self.intermediate_size} is not a multiple of hidden_size "
            f"{self.hidden_size}, as DINOv2's is",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomLanguage(Settings):
    """A small Qwen2 decoder with random weights. Its vocabulary is that of the packs' tokenizer."""

    hidden_size: int = 192
    """Width of the decoder; must be a multiple of `heads`."""
    layers: int = 4
    """Transformer blocks."""
    heads: int = 6
    """Query heads."""
    key_value_heads: int = 2
    """Key and value heads (grouped-query attention); must divide `heads`."""
    intermediate_size: int = 512
    """Width of the gated MLP inside a block."""
    rope_theta: float = 10_000.0
    """The base of the rotary position embedding."""

    def __post_init__(self) -> None:
        sizes = ("hidden_size", "layers", "heads", "key_value_heads", "intermediate_size")
        self._require_positive(*sizes, "rope_theta")
        require(
            self.hidden_size % (2 * self.heads) == 0,
            f"model.language.hidden_size {self.hidden_size} is not an even multiple of heads {self.heads}",
        )
        require(
            self.heads % self.key_value_heads == 0,
            f"model.language.heads {self.heads} is not a multiple of key_value_heads {self.key_value_heads}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class EncoderConfig(Settings):
    """An image encoder, and the blocks of it whose outputs are read."""

    source: str | RandomVision = dataclasses.field(default_factory=RandomVision)
    """A Hugging Face id or local folder of a SigLIP, SigLIP 2, CLIP or DINOv2 model (also a whole CLIP or SigLIP, of
    which the image side is taken), a checkpoint or training folder of a model trained here, of which the encoder is
    taken, or a random one's sizes."""
    layers: tuple[int, ...] = (-2,)
    """Blocks, counted from the end: -1 the last, -2 the one before (Open-Qwen2VL). Of several the outputs are
    concatenated in this order (Molmo: [-3, -10] of CLIP's 24, which its code, built without the last, calls -2 and
    -9)."""
    weight: float | None = None
    """Its share in the average of the encoders' features, in [0, 1]; all have one, and they sum to 1 (POINTS: α of a
    general encoder, 1-α of one that has learned to read). Null, for all: features are concatenated."""

    def __post_init__(self) -> None:
        require(len(self.layers) > 0, "an encoder's layers are empty; give one or more, such as [-2]")
        weight = self.weight
        require(weight is None or 0 <= weight <= 1, f"an encoder's weight is {weight}; give a share in [0, 1], or null")
        for layer in self.layers:
            require(layer <= -1, f"model.vision_layer is {layer}; count from the end: -1, -2, …")
            if isinstance(self.source, RandomVision):
                require(
                    -layer <= self.source.layers,
                    f"model.vision_layer {layer} asks for more blocks than model.vision.layers {self.source.layers}",
                )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConnectorConfig(Settings):
    """The connector: makes tokens of the language model from the encoders' patches."""

    kind: Literal["average_mlp", "linear", "shuffle_mlp", "attention_mlp", "attention_pool", "c_abstractor"] = (
        "average_mlp"
    )
    """`average_mlp`: the mean of a token's patches, Linear, GELU, Linear (Open-Qwen2VL §2.1); `linear`: the mean,
    Linear (LLaVA, MM1's average pooling); `shuffle_mlp`: a token's patches side by side (pixel shuffle), LayerNorm,
    Linear, GELU, Linear (InternVL); `attention_mlp`: the mean of a token's patches attends to them, then SwiGLU
    (Molmo); `attention_pool`: a learned query a token attends to all patches of its crop, then Linear (MM1 §3.1);
    `c_abstractor`: RegNet blocks over a crop's grid, average pooling, RegNet blocks, an MLP (Honeybee, MM1)."""
    hidden: int | None = None
    """Width between the two linear layers; null for the language model's width (the reference). Molmo has its
    feed-forward width. Of `c_abstractor` the width of its blocks (Honeybee: 1024)."""
    heads: int = 16
    """Attention heads of `attention_mlp` and `attention_pool`."""
    width: int | None = None
    """Width of the attention of `attention_mlp`, a multiple of `heads`; null for that of the features. Molmo has the
    encoder's, of which two layers are read side by side."""
    depth: int = 3
    """RegNet blocks of `c_abstractor` before its pooling, and after it."""

    def __post_init__(self) -> None:
        require(
            self.hidden is None or self.hidden >= 1, f"model.projector_hidden is {self.hidden}; give 1 or more, or null"
        )
        self._require_positive("heads", "depth")
        for name, kinds in _OF_KINDS.items():
            at_default = getattr(self, name) == ConnectorConfig.__dataclass_fields__[name].default
            require(
                at_default or self.kind in kinds,
                f"a connector {self.kind} has no {name}; leave it out, or take {', '.join(kinds)}",
            )
        require(
            self.width is None or self.width % self.heads == 0,
            f"the connector's width {self.width} is not a multiple of its heads {self.heads}",
        )


_OF_KINDS: Final = {
    "hidden": ("average_mlp", "shuffle_mlp", "attention_mlp", "c_abstractor"),
    "heads": ("attention_mlp", "attention_pool"),
    "width": ("attention_mlp",),
    "depth": ("c_abstractor",),
}
"""The connectors that have a setting."""


def require_square(name: str, tokens: int) -> None:
    """Raise ValueError unless so many tokens are a square grid."""
    square = tokens >= 1 and math.isqrt(tokens) ** 2 == tokens
    require(square, f"{name} is {tokens}; give a square such as 16, 36, 144 or 729")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Written(Settings):
    """A model's settings as recipes write them: the parts, or in short an encoder on squares."""

    encoders: tuple[EncoderConfig, ...] | None = None
    connector: ConnectorConfig | None = None
    language: str | RandomLanguage | None = None
    layout: PerImage | None = None
    moe: MoEConfig | None = None
    vision: str | RandomVision | None = None
    vision_layer: int | None = None
    tokens_per_image: int | None = None
    projector_hidden: int | None = None


@dataclasses.dataclass(frozen=True, kw_only=True, init=False)
class ModelConfig(Settings):
    """Encoders, connector, causal language model, and what an image becomes. The defaults are Open-Qwen2VL's.

    In short, for one encoder: `vision` and `vision_layer` for `encoders`, `projector_hidden` for the connector's
    `hidden`, `tokens_per_image` for a `layout` of squares. What is given in short changes that part alone, in
    `dataclasses.replace` as well.

    Source: Open-Qwen2VL (Wang et al. 2025), §2.1; its published model is SigLIP-SO400M/14-384 and
    Qwen2.5-1.5B-Instruct with 144 tokens an image in pretraining.
    """

    encoders: tuple[EncoderConfig, ...] = (EncoderConfig(),)
    """Image encoders; of several, a patch's features are concatenated, or averaged by `weight`, so that their grids
    must be equal."""
    connector: ConnectorConfig = ConnectorConfig()
    """From patches to the language model's tokens."""
    language: str | RandomLanguage = RandomLanguage()
    """A Hugging Face id or local folder of a causal language model, or a random one's sizes."""
    layout: PerImage = 144
    """What an image becomes (docs/layouts.md); a number n is a square of the encoder's size with n tokens. Must be the
    packs'. Where no weights depend on it, a stage may take another."""
    moe: MoEConfig | None = None
    """Make a dense language model one of experts before the first step (upcycling); a stage may do it later."""

    def __init__(
        self,
        *,
        encoders: tuple[EncoderConfig, ...] | None = None,
        connector: ConnectorConfig | None = None,
        language: str | RandomLanguage | None = None,
        layout: PerImage | None = None,
        moe: MoEConfig | None = None,
        vision: str | RandomVision | None = None,
        vision_layer: int | None = None,
        tokens_per_image: int | None = None,
        projector_hidden: int | None = None,
    ) -> None:
        """Raises ValueError, by the setting's name, for what does not fit together."""
        encoders = (EncoderConfig(),) if encoders is None else tuple(encoders)
        if vision is not None or vision_layer is not None:
            require(
                len(encoders) == 1, f"vision is short for one encoder, there are {len(encoders)}; name it in encoders"
            )
            layers = encoders[0].layers if vision_layer is None else (vision_layer,)
            source = encoders[0].source if vision is None else vision
            encoders = (dataclasses.replace(encoders[0], source=source, layers=layers),)
        connector = connector or ConnectorConfig()
        if projector_hidden is not None:
            connector = dataclasses.replace(connector, hidden=projector_hidden)
        if isinstance(layout, SquareLayout):
            layout = layout.tokens
        layout = ModelConfig.layout if layout is None else layout
        if tokens_per_image is not None:
            layout = tokens_per_image
        parts = {
            "encoders": encoders,
            "connector": connector,
            "language": language or RandomLanguage(),
            "layout": layout,
            "moe": moe,
        }
        for name, part in parts.items():
            object.__setattr__(self, name, part)
        require(len(encoders) > 0, "model.encoders is empty; give one or more")
        _check_weights(encoders)
        if isinstance(layout, int):
            require_square("model.tokens_per_image", layout)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        from pydantic_core import core_schema

        def build(given: _Written) -> "ModelConfig":
            return cls(**{field.name: getattr(given, field.name) for field in dataclasses.fields(given)})

        return core_schema.no_info_after_validator_function(build, handler(_Written))

    @property
    def vision(self) -> str | RandomVision:
        """The first encoder's source."""
        return self.encoders[0].source

    @property
    def vision_layer(self) -> int:
        """The first encoder's first layer."""
        return self.encoders[0].layers[0]

    @property
    def projector_hidden(self) -> int | None:
        """The connector's hidden width; None for the language model's."""
        return self.connector.hidden

    @property
    def tokens_per_image(self) -> int:
        """Positions of every image. Raises ValueError where its size decides."""
        constant = self.layout if isinstance(self.layout, int) else self.layout.constant
        require(constant is not None, f"the positions of an image depend on its size in the layout {self.layout!r}")
        return int(constant or 0)


def model_config_from_dict(data: Mapping[str, Any]) -> ModelConfig:
    """The ModelConfig that `dataclasses.asdict` wrote, as a checkpoint keeps it; those of before as well."""
    given = dict(data)
    parts = {"vision": RandomVision, "language": RandomLanguage, "connector": ConnectorConfig, "moe": MoEConfig}
    for name, kind in parts.items():
        if isinstance(given.get(name), Mapping):
            given[name] = kind(**given[name])
    if "encoders" in given:
        given["encoders"] = tuple(
            EncoderConfig(
                source=RandomVision(**one["source"]) if isinstance(one["source"], Mapping) else one["source"],
                layers=tuple(one["layers"]),
                weight=one.get("weight"),
            )
            for one in given["encoders"]
        )
    if isinstance(given.get("layout"), Mapping):
        given["layout"] = read_layout(given["layout"])
    return ModelConfig(**given)


def average_weights(encoders: Sequence[EncoderConfig]) -> tuple[float, ...] | None:
    """The encoders' shares in the average of their features; None where these are concatenated."""
    weights = tuple(one.weight for one in encoders if one.weight is not None)
    return weights if len(weights) == len(encoders) else None


def _check_weights(encoders: Sequence[EncoderConfig]) -> None:
    """Raise ValueError unless all encoders have weights that sum to 1, and features of one width as far as that is
    known here, or none has one."""
    given = [one.weight for one in encoders if one.weight is not None]
    require(
        len(given) in (0, len(encoders)),
        f"{len(given)} of {len(encoders)} encoders have a weight; give each one (their features are averaged), or none "
        "(they are concatenated)",
    )
    require(not given or math.isclose(sum(given), 1.0, abs_tol=1e-6), f"the encoders' weights {given} do not sum to 1")
    widths = [one.source.hidden_size * len(one.layers) for one in encoders if isinstance(one.source, RandomVision)]
    require(
        not given or len(set(widths)) < 2,
        f"encoders whose features are {' and '.join(map(str, widths))} wide cannot be averaged; give them one "
        "hidden_size and as many layers, or leave out their weights",
    )


def same_layout(one: PerImage, other: PerImage) -> bool:
    """Whether two say the same of every image; squares are compared by their number of tokens alone."""
    tokens = [layout.constant if isinstance(layout, SquareLayout) else layout for layout in (one, other)]
    return tokens[0] == tokens[1]


def layout_name(layout: PerImage) -> str:
    """For messages: `144 tokens an image`, or the layout's settings."""
    return f"the layout {layout.as_dict()}" if isinstance(layout, LayoutBase) else f"{layout} tokens an image"
