"""The configs of contrastive training: the two encoders, and how they learn. Imports no torch."""

import dataclasses
from typing import Any, Literal

from mmcorpus.training.config import HeldoutConfig, TrainingConfig
from mmcorpus.training.optim import OptimizerConfig, ScheduleConfig
from mmcorpus.training.settings import Settings, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class SmallClip(Settings):
    """A small CLIP with random weights, for CPUs and tests: open_clip's `CLIP` class with these sizes.

    Its tokenizer is the byte-pair encoding that ships with open_clip, CLIP's own.
    """

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
    """Resizing to the square, in open_clip's words: `squash` loses no part of it, `shortest` crops its ends."""

    def __post_init__(self) -> None:
        sizes = ("embed_dim", "image_size", "patch_size", "vision_width", "vision_layers", "text_width", "text_layers")
        self._require_positive(*sizes)
        for name in ("vision_width", "text_width"):
            require(getattr(self, name) % 32 == 0, f"{name} is {getattr(self, name)}; give a multiple of 32")
        require(self.context_length >= 3, f"context_length is {self.context_length}; give 3 or more")
        require(
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
class ContrastiveOptimizer(OptimizerConfig):
    """AdamW with CLIP's settings and DataComp's learning rate."""

    learning_rate: float = 5e-4
    weight_decay: float = 0.2
    betas: tuple[float, float] = (0.9, 0.98)
    epsilon: float = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveSchedule(ScheduleConfig):
    """The length and warm-up of DataComp's medium scale."""

    epochs: float = 10.0
    warmup: float = 0.02


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairData(Settings):
    """Batches of pairs."""

    batch_size: int = 4096
    """Pairs that are told apart in a step, over all devices."""
    crop: float = 0.9
    """Training images are random crops of at least this share of their area; 1 shows them whole."""
    num_workers: int = 2
    """Threads that read and decode images ahead of the trainer; 0 decodes in the loop. Not seen in results."""

    def __post_init__(self) -> None:
        self._require_not_negative("num_workers")
        require(self.batch_size >= 2, f"batch_size is {self.batch_size}; a pair is told from others: give 2 or more")
        require(0 < self.crop <= 1, f"crop is {self.crop}; give a share in (0, 1]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class RetrievalConfig(HeldoutConfig):
    """Retrieval among held-out pairs."""

    pairs: int = 2000
    """Held-out pairs in the test, the first by a hash of the uid: recall falls with their number, so keep it fixed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.pairs >= 2, f"pairs is {self.pairs}; give 2 or more")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ContrastiveConfig(TrainingConfig):
    """Contrastive training of a CLIP. The defaults are DataComp's for its medium scale.

    Sources: CLIP (Radford et al. 2021), §2.5, for the clamped temperature and AdamW's settings; DataComp (Gadre et al.
    2023; medium scale: ViT-B/32, 128 M samples, batch 4096, rate 5e-4, 500 steps of warm-up); open_clip's training code
    for what neither says. See docs/dfn.md.
    """

    model: str | SmallClip = "ViT-B-32"
    """An open_clip name (`ViT-B-32`, `hf-hub:apple/DFN-public`, `local-dir:PATH`), or a small random one's sizes."""
    pretrained: str | None = None
    """Weights to begin with, for an open_clip name: one of open_clip's tags (`openai`, `laion2b_s34b_b79k`) or a
    checkpoint file; null for random ones. `hf-hub:` and `local-dir:` models bring theirs."""
    largest_scale: float = 100.0
    """The learned factor of the cosines is kept below this."""
    optimizer: ContrastiveOptimizer = dataclasses.field(default_factory=ContrastiveOptimizer)
    """AdamW: learning rate, weight decay, moments, clipping."""
    schedule: ContrastiveSchedule = dataclasses.field(default_factory=ContrastiveSchedule)
    """Length of the run, and its learning-rate schedule."""
    data: PairData = dataclasses.field(default_factory=PairData)
    """Batches of pairs."""
    heldout: RetrievalConfig = dataclasses.field(default_factory=RetrievalConfig)
    """Retrieval among held-out pairs."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.largest_scale > 1, f"largest_scale is {self.largest_scale}; give more than 1")
        require(bool(self.model), "model is empty; name an open_clip model, e.g. ViT-B-32")
        own = isinstance(self.model, SmallClip) or self.model.startswith(("hf-hub:", "local-dir:"))
        require(
            self.pretrained is None or not own,
            f"pretrained is {self.pretrained!r}, but this model has its own weights or random ones; leave it out",
        )
