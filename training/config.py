"""What the trainer can be told: the model's parts, and one stage of training."""

import dataclasses
from typing import Any, ClassVar, Final, Literal

PYDANTIC_FORBID: Final[dict[str, Any]] = {"extra": "forbid"}
"""A misspelt key in a recipe is an error, not a setting that nobody reads."""


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomVision:
    """A small SigLIP encoder with random weights: for CPUs and tests. Train it (`freeze_vision: false`)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = PYDANTIC_FORBID

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
        for name in ("image_size", "patch_size", "hidden_size", "layers", "heads", "intermediate_size"):
            _require(getattr(self, name) >= 1, f"model.vision.{name} is {getattr(self, name)}; give 1 or more")
        _require(
            self.image_size % self.patch_size == 0,
            f"model.vision.image_size {self.image_size} is not a multiple of patch_size {self.patch_size}",
        )
        _require(
            self.hidden_size % self.heads == 0,
            f"model.vision.hidden_size {self.hidden_size} is not a multiple of heads {self.heads}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class RandomLanguage:
    """A small Qwen2 decoder with random weights. Its vocabulary is that of the packs' tokenizer."""

    __pydantic_config__: ClassVar[dict[str, Any]] = PYDANTIC_FORBID

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
        for name in ("hidden_size", "layers", "heads", "key_value_heads", "intermediate_size"):
            _require(getattr(self, name) >= 1, f"model.language.{name} is {getattr(self, name)}; give 1 or more")
        _require(self.rope_theta > 0, f"model.language.rope_theta is {self.rope_theta}; give a positive number")
        _require(
            self.hidden_size % (2 * self.heads) == 0,
            f"model.language.hidden_size {self.hidden_size} is not an even multiple of heads {self.heads}",
        )
        _require(
            self.heads % self.key_value_heads == 0,
            f"model.language.heads {self.heads} is not a multiple of key_value_heads {self.key_value_heads}",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Open-Qwen2VL's architecture: encoder, pooling projector, causal language model.

    Source: Open-Qwen2VL (Wang et al. 2025), §2.1; its published model is SigLIP-SO400M/14-384 and
    Qwen2.5-1.5B-Instruct with 144 tokens an image in pretraining.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = PYDANTIC_FORBID

    vision: str | RandomVision = dataclasses.field(default_factory=RandomVision)
    """A Hugging Face id or local folder of a SigLIP model, or a random one's sizes."""
    language: str | RandomLanguage = dataclasses.field(default_factory=RandomLanguage)
    """A Hugging Face id or local folder of a causal language model, or a random one's sizes."""
    tokens_per_image: int = 144
    """Positions an image takes in the sequence; a square (144 = a 12×12 grid). Must equal the packs'."""
    vision_layer: int = -2
    """Which encoder block's output is read, counted from the end: -1 the last, -2 the one before (the reference)."""
    projector_hidden: int | None = None
    """Width between the projector's two linear layers; null for the language model's width (the reference)."""

    def __post_init__(self) -> None:
        side = round(self.tokens_per_image**0.5)
        _require(
            self.tokens_per_image >= 1 and side * side == self.tokens_per_image,
            f"model.tokens_per_image is {self.tokens_per_image}; give a square such as 16, 36, 144 or 729",
        )
        _require(self.vision_layer <= -1, f"model.vision_layer is {self.vision_layer}; count from the end: -1, -2, …")
        if isinstance(self.vision, RandomVision):
            _require(
                -self.vision_layer <= self.vision.layers,
                f"model.vision_layer {self.vision_layer} asks for more blocks than model.vision.layers "
                f"{self.vision.layers}",
            )
        _require(
            self.projector_hidden is None or self.projector_hidden >= 1,
            f"model.projector_hidden is {self.projector_hidden}; give 1 or more, or null",
        )

    @property
    def grid(self) -> int:
        """Tokens along one side of the pooled image."""
        return round(self.tokens_per_image**0.5)


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of training over packs. The defaults are Open-Qwen2VL's pretraining.

    Sources of the numbers: Open-Qwen2VL's training code (`train.sh`, its model registry), where learning rate 5e-5,
    weight decay 0.01, warm-up 0.03, cosine to 0, clip 1.0 and batch 512 are the defaults of the pretraining stage.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = PYDANTIC_FORBID

    kind: Literal["pretrain", "sft"] = "pretrain"
    """What the packs hold: captions, or conversations. `generate` prompts the checkpoint accordingly."""
    learning_rate: float = 5e-5
    """Peak learning rate of every trained part."""
    weight_decay: float = 0.01
    """AdamW's decay of matrices; vectors (norms, biases) have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """AdamW's moment decays."""
    warmup: float = 0.03
    """Share of the steps over which the rate rises linearly from 0; after it follows a cosine to 0."""
    gradient_clip: float = 1.0
    """Largest norm of the whole gradient."""
    epochs: float = 1.0
    """Passes over the packs. Not used when `steps` is given."""
    steps: int | None = None
    """Optimiser steps; overrides `epochs`."""
    batch_sequences: int = 512
    """Packed sequences an optimiser step, over all devices: the same training whatever the number of devices."""
    micro_batch_sequences: int = 16
    """Packed sequences a forward pass on one device; accumulation follows from this and the number of devices."""
    freeze_vision: bool = True
    """Leave the encoder as it is (the reference's `pretrain`; its `full-pretrain` trains it)."""
    freeze_projector: bool = False
    """Leave the projector as it is."""
    freeze_language: bool = False
    """Leave the language model as it is."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Compute type of the forward and backward pass; weights, their update and the loss are fp32 either way."""
    seed: int = 0
    """Orders the data and draws random weights."""
    isolated: bool = True
    """Samples in a pack do not see each other and positions restart. False reproduces the reference's code."""
    attention: Literal["sdpa", "flex"] = "sdpa"
    """`sdpa` with a block-diagonal mask runs anywhere; `flex` skips the empty blocks (CUDA)."""
    blank_images: bool = False
    """Replace every image by mid-grey: the text-only baseline."""
    parallel: Literal["replicate", "shard"] = "replicate"
    """With several devices: a whole model on each, or FSDP2 (`fully_shard`)."""
    compile: bool = False
    """torch.compile each block; sequences are then padded to the context length, so that shapes stay the same."""
    activation_checkpointing: bool = False
    """Compute the decoder's activations again in the backward pass: less memory, about a third more work."""
    checkpoint_every: int = 500
    """Steps between checkpoints; one is always written at the end."""
    keep_last: int = 2
    """Checkpoints kept."""
    heldout_every: int = 0
    """Steps between held-out evaluations; 0 for only at the end."""
    heldout_blank: bool = False
    """Also evaluate with every image grey: how much the model reads from images."""
    log_every: int = 1
    """Steps between lines in metrics.jsonl."""
    num_workers: int = 2
    """Threads that read packs and decode images ahead of the trainer; 0 decodes in the loop. Not seen in results."""

    def __post_init__(self) -> None:
        positive = ("learning_rate", "gradient_clip", "epochs", "batch_sequences", "micro_batch_sequences")
        for name in (*positive, "checkpoint_every", "keep_last", "log_every"):
            _require(getattr(self, name) > 0, f"{self.kind}.{name} is {getattr(self, name)}; give more than 0")
        for name in ("weight_decay", "heldout_every", "num_workers", "seed"):
            _require(getattr(self, name) >= 0, f"{self.kind}.{name} is {getattr(self, name)}; give 0 or more")
        _require(0 <= self.warmup < 1, f"{self.kind}.warmup is {self.warmup}; give a share in [0, 1)")
        _require(
            all(0 <= beta < 1 for beta in self.betas), f"{self.kind}.betas are {self.betas}; give two numbers in [0, 1)"
        )
        _require(self.steps is None or self.steps > 0, f"{self.kind}.steps is {self.steps}; give 1 or more, or null")
        _require(
            not (self.freeze_vision and self.freeze_projector and self.freeze_language),
            f"{self.kind} freezes vision, projector and language: nothing is left to train",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFTConfig(StageConfig):
    """Instruction tuning: the same loop over packs of conversations, with Open-Qwen2VL's SFT numbers."""

    kind: Literal["pretrain", "sft"] = "sft"
    """As in StageConfig."""
    learning_rate: float = 2e-5
    """Open-Qwen2VL, SFT."""
    weight_decay: float = 0.1
    """Open-Qwen2VL, SFT."""
    batch_sequences: int = 128
    """Open-Qwen2VL, SFT."""
    micro_batch_sequences: int = 2
    """Open-Qwen2VL, SFT."""


def model_config_from_dict(data: dict[str, Any]) -> ModelConfig:
    """The ModelConfig that `dataclasses.asdict` wrote, as a checkpoint keeps it."""
    vision, language = data["vision"], data["language"]
    return ModelConfig(
        **{
            **data,
            "vision": RandomVision(**vision) if isinstance(vision, dict) else vision,
            "language": RandomLanguage(**language) if isinstance(language, dict) else language,
        }
    )
