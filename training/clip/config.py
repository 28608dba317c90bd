"""What contrastive training can be told: the two encoders, and how they learn. Imports no torch."""

import dataclasses
from typing import Any, ClassVar, Literal

from mmcorpus.training.config import PYDANTIC_FORBID


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallClip:
    """A small CLIP with random weights, for CPUs and tests: open_clip's `CLIP` class with these sizes.

    Its tokenizer is the byte-pair encoding that ships with open_clip, CLIP's own.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = PYDANTIC_FORBID

    embed_dim: int = 128
    """Length of the vectors in which images and texts meet."""
    image_size: int = 64
    """Pixels a side of what the image encoder sees."""
    patch_size: int = 8
    """Pixels a side of a patch; must divide image_size."""
    vision_width: int = 128
    """Width of the image encoder; must be a multiple of 32, the width of a head."""
    vision_layers: int = 4
    """Its transformer blocks."""
    text_width: int = 128
    """Width of the text encoder; must be a multiple of 32."""
    text_layers: int = 2
    """Its transformer blocks."""
    context_length: int = 32
    """Tokens of a caption that are read, its start and end included; the rest is cut off."""
    resize_mode: Literal["shortest", "longest", "squash"] = "squash"
    """How an image becomes a square, in open_clip's words: `squash` loses no part of it, `shortest` crops its ends."""

    def __post_init__(self) -> None:
        sizes = ("embed_dim", "image_size", "patch_size", "vision_width", "vision_layers", "text_width", "text_layers")
        for name in sizes:
            _require(getattr(self, name) >= 1, f"{name} is {getattr(self, name)}; give 1 or more")
        for name in ("vision_width", "text_width"):
            _require(getattr(self, name) % 32 == 0, f"{name} is {getattr(self, name)}; give a multiple of 32")
        _require(self.context_length >= 3, f"context_length is {self.context_length}; give 3 or more")
        _require(
            self.image_size % self.patch_size == 0,
            f"image_size {self.image_size} is not a multiple of patch_size {self.patch_size}",
        )

    def model_cfg(self) -> dict[str, Any]:
        """The `model_cfg` of open_clip's configuration files."""
        return {
            "embed_dim": self.embed_dim,
            "vision_cfg": {
                "image_size": self.image_size,
                "patch_size": self.patch_size,
                "width": self.vision_width,
                "layers": self.vision_layers,
                "head_width": 32,
            },
            "text_cfg": {
                "context_length": self.context_length,
                "vocab_size": 49408,
                "width": self.text_width,
                "heads": self.text_width // 32,
                "layers": self.text_layers,
            },
        }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveConfig:
    """Contrastive training of a CLIP. The defaults are DataComp's for its medium scale.

    Sources: CLIP (Radford et al. 2021), §2.5, for the clamped temperature and AdamW's settings; DataComp (Gadre et al.
    2023; medium scale: ViT-B/32, 128 M samples, batch 4096, rate 5e-4, 500 steps of warm-up); open_clip's training code
    for what neither says. See docs/dfn.md.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = PYDANTIC_FORBID

    model: str | SmallClip = "ViT-B-32"
    """An open_clip name (`ViT-B-32`, `hf-hub:apple/DFN-public`, `local-dir:PATH`), or a small random one's sizes."""
    pretrained: str | None = None
    """Weights to begin with, for an open_clip name: one of open_clip's tags (`openai`, `laion2b_s34b_b79k`) or a
    checkpoint file; null for random ones. `hf-hub:` and `local-dir:` models bring theirs."""
    steps: int | None = None
    """Optimiser steps; overrides `epochs`."""
    epochs: float = 10.0
    """Passes over the training pairs. Not used when `steps` is given."""
    batch_size: int = 4096
    """Pairs that are told apart in a step, over all devices."""
    learning_rate: float = 5e-4
    """Peak learning rate."""
    warmup: float = 0.02
    """Share of the steps over which the rate rises linearly from 0; after it follows a cosine to 0."""
    weight_decay: float = 0.2
    """AdamW's decay of matrices; vectors (norms, biases, the temperature) have none."""
    betas: tuple[float, float] = (0.9, 0.98)
    """AdamW's moment decays."""
    epsilon: float = 1e-6
    """AdamW's epsilon."""
    gradient_clip: float = 1.0
    """Largest norm of the whole gradient."""
    largest_scale: float = 100.0
    """The learned factor of the cosines is kept below this."""
    crop: float = 0.9
    """Training images are random crops of at least this share of their area; 1 shows them whole."""
    precision: Literal["fp32", "bf16"] = "bf16"
    """Compute type of the encoders; weights, their update and the loss are fp32 either way."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more work."""
    seed: int = 0
    """Orders the pairs, crops them, and draws random weights."""
    checkpoint_every: int = 500
    """Steps between checkpoints; one is always written at the end."""
    keep_last: int = 2
    """Checkpoints kept."""
    heldout_every: int = 0
    """Steps between retrieval tests on held-out pairs; 0 for only at the end."""
    heldout_pairs: int = 2000
    """Held-out pairs in the test, the first by a hash of the uid: recall falls with their number, so keep it fixed."""
    log_every: int = 1
    """Steps between lines in metrics.jsonl."""
    num_workers: int = 2
    """Threads that read and decode images ahead of the trainer; 0 decodes in the loop. Not seen in results."""

    def __post_init__(self) -> None:
        positive = ("epochs", "learning_rate", "epsilon", "gradient_clip", "checkpoint_every", "keep_last", "log_every")
        for name in positive:
            _require(getattr(self, name) > 0, f"{name} is {getattr(self, name)}; give more than 0")
        for name in ("weight_decay", "heldout_every", "num_workers", "seed"):
            _require(getattr(self, name) >= 0, f"{name} is {getattr(self, name)}; give 0 or more")
        _require(self.steps is None or self.steps > 0, f"steps is {self.steps}; give 1 or more, or null")
        _require(self.batch_size >= 2, f"batch_size is {self.batch_size}; a pair is told from others: give 2 or more")
        _require(self.heldout_pairs >= 2, f"heldout_pairs is {self.heldout_pairs}; give 2 or more")
        _require(0 <= self.warmup < 1, f"warmup is {self.warmup}; give a share in [0, 1)")
        _require(0 < self.crop <= 1, f"crop is {self.crop}; give a share in (0, 1]")
        _require(self.largest_scale > 1, f"largest_scale is {self.largest_scale}; give more than 1")
        _require(all(0 <= beta < 1 for beta in self.betas), f"betas are {self.betas}; give two numbers in [0, 1)")
        _require(bool(self.model), "model is empty; name an open_clip model, e.g. ViT-B-32")
        own = isinstance(self.model, SmallClip) or self.model.startswith(("hf-hub:", "local-dir:"))
        _require(
            self.pretrained is None or not own,
            f"pretrained is {self.pretrained!r}, but this model has its own weights or random ones; leave it out",
        )


RESULT_NEUTRAL = frozenset(
    {
        "checkpoint_every", "keep_last", "heldout_every", "heldout_pairs", "log_every", "num_workers",
        "gradient_checkpointing",
    }
)  # fmt: skip
"""Settings that may change between a run and its resumption: they alter speed and files, not the training."""
