"""Settings of every training run, and of one stage over packs."""

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, ClassVar, Final, Literal

from mmcorpus.packing.layout import PerImage
from mmcorpus.training.config.model import require_square
from mmcorpus.training.config.moe import MoEConfig
from mmcorpus.training.optim import GroupConfig, OptimizerConfig, ScheduleConfig
from mmcorpus.training.settings import Settings, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class ComputeConfig(Settings):
    """Precision and memory of the forward and backward pass."""

    precision: Literal["fp32", "bf16"] = "bf16"
    """Compute type of the forward and backward pass; weights, their update and the loss are fp32 either way."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory, about a third more work."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class CheckpointConfig(Settings):
    """When checkpoints are written and how many are kept."""

    every: int = 500
    """Steps between checkpoints; one is always written at the end."""
    keep_last: int = 2
    """Checkpoints kept."""
    asynchronous: bool = False
    """Write them while training goes on, from a copy in the host's memory; the last one is waited for."""

    def __post_init__(self) -> None:
        self._require_positive("every", "keep_last")


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogConfig(Settings):
    """Destinations of metrics beside metrics.jsonl and the report."""

    terminal: int = 0
    """Steps between lines on the terminal; 0 for the progress bar alone."""
    tensorboard: bool = False
    """Write `tensorboard/` in the run's folder (`pip install mmcorpus[tensorboard]`)."""
    wandb: str | None = None
    """The Weights & Biases project to log to (`pip install mmcorpus[wandb]`); null for none."""

    def __post_init__(self) -> None:
        self._require_not_negative("terminal")


@dataclasses.dataclass(frozen=True, kw_only=True)
class HeldoutConfig(Settings):
    """Evaluation on held-out data."""

    every: int = 0
    """Steps between held-out evaluations; 0 for only at the end."""

    def __post_init__(self) -> None:
        self._require_not_negative("every")


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainingConfig(Settings):
    """The settings of every run of training, whatever it learns; `loop.Trainer` reads these fields and no others."""

    RESULT_NEUTRAL: ClassVar[frozenset[str]] = frozenset(
        {
            "data.micro_batch_sequences", "data.num_workers", "data.skip_corrupt", "compute.parallel",
            "compute.reshard", "compute.compile", "compute.attention", "compute.activation_checkpointing",
            "checkpoints", "heldout", "log", "log_every", "certify", "skip_non_finite",
        }
    )  # fmt: skip
    """Settings, and whole groups of them, that alter speed and files but not the training: they may change between a
    run and its resumption."""

    optimizer: OptimizerConfig = dataclasses.field(default_factory=OptimizerConfig)
    """AdamW: learning rate, weight decay, moments, clipping."""
    schedule: ScheduleConfig = dataclasses.field(default_factory=ScheduleConfig)
    """Length of the run, and its learning-rate schedule."""
    compute: ComputeConfig = dataclasses.field(default_factory=ComputeConfig)
    """Precision, memory and devices."""
    checkpoints: CheckpointConfig = dataclasses.field(default_factory=CheckpointConfig)
    """When they are written and how many are kept."""
    heldout: HeldoutConfig = dataclasses.field(default_factory=HeldoutConfig)
    """Evaluation on held-out data."""
    log: LogConfig = dataclasses.field(default_factory=LogConfig)
    """Where metrics go beside metrics.jsonl."""
    seed: int = 0
    """Orders the data and draws random weights."""
    log_every: int = 1
    """Steps between lines in metrics.jsonl."""
    skip_non_finite: int = 0
    """So many steps of a run may be left out because loss or gradient is not finite; the next one stops it."""

    def __post_init__(self) -> None:
        self._require_positive("log_every")
        self._require_not_negative("seed", "skip_non_finite")

    @classmethod
    def groups(cls) -> dict[str, type[Any]]:
        """The fields that are groups of settings, with their types."""
        kinds: dict[str, Any] = {field.name: field.default_factory for field in dataclasses.fields(cls)}
        return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Settings)}

    @classmethod
    def moved(cls) -> dict[str, str]:
        """The dotted name of each setting in a group by the flat one of before (`heldout_every`: `heldout.every`)."""
        found = {"gradient_checkpointing": "compute.activation_checkpointing"}
        for group, kind in cls.groups().items():
            for field in dataclasses.fields(kind):
                for flat in (field.name, f"{group.removesuffix('s')}_{field.name}"):
                    found.setdefault(flat, f"{group}.{field.name}")
        return found

    @property
    def parameter_groups(self) -> tuple[GroupConfig, ...]:
        """Groups of parameters that are trained differently; none where all that is not frozen is trained alike."""
        return ()

    def translate(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """Result settings as an earlier version recorded them, by today's names; those that came later had their
        defaults, and what no longer decides the result is left out."""
        places, known = self.moved(), type(self)().result_settings()
        named = {places.get(name, name): value for name, value in before.items()}
        return {name: named.get(name, default) for name, default in known.items()}

    def result_settings(self) -> dict[str, Any]:
        """The settings that decide what is learned, JSON-able, by dotted name (`optimizer.learning_rate`)."""
        settings = dataclasses.asdict(self)
        for group in self.groups():
            settings |= {f"{group}.{name}": value for name, value in settings.pop(group).items()}
        kept = {
            name: value
            for name, value in settings.items()
            if self.RESULT_NEUTRAL.isdisjoint((name, name.partition(".")[0]))
        }
        normal: dict[str, Any] = json.loads(json.dumps(kept))  # as a checkpoint gives them back: lists, no tuples
        return normal


BatchUnit = Literal["sequences", "samples", "targets"]
_BATCHES: Final = ("batch_sequences", "batch_samples", "batch_targets")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackData(Settings):
    """Batches of packed sequences."""

    DEFAULT_BATCH: ClassVar[tuple[BatchUnit, int]] = ("sequences", 512)
    """What a batch is where the settings do not say."""

    batch_sequences: int | None = None
    """Packed sequences an optimiser step, over all devices: the same training whatever the number of devices. 512 where
    no other unit is given (SFT: 128 samples)."""
    batch_samples: int | None = None
    """Samples an optimiser step instead, in the mean: a step takes the sequences that begin within its share."""
    batch_targets: int | None = None
    """Target tokens an optimiser step instead, in the mean."""
    micro_batch_sequences: int = 16
    """Packed sequences a forward pass on one device; accumulation follows from this and the number of devices."""
    isolated: bool = True
    """Samples in a pack do not see each other and positions restart. False reproduces the reference's code."""
    blank_images: bool = False
    """Replace every image by mid-grey: the text-only baseline."""
    num_workers: int = 2
    """Threads that read packs and decode images ahead of the trainer; 0 decodes in the loop. Not seen in results."""
    jpeg_scaling: bool = False
    """Have libjpeg decode large JPEGs at 1/2, 1/4 or 1/8, where they stay twice as large as what the encoder sees:
    about twice as fast, pixels less than 1 of 255 off in the mean (less than the JPEG itself)."""
    skip_corrupt: int = 0
    """So many times in a run a sequence that cannot be read (a damaged tar, an image that is gone) is left out, named
    in the log and counted in the metrics; the next one stops the run. 0: packs must be whole before it starts."""

    def __post_init__(self) -> None:
        given = [name for name in _BATCHES if getattr(self, name) is not None]
        require(len(given) < 2, f"{' and '.join(given)} are all given; give one of them")
        self._require_positive(*given, "micro_batch_sequences")
        self._require_not_negative("num_workers", "skip_corrupt")

    @property
    def batch(self) -> tuple[BatchUnit, int]:
        """What a step's batch is counted in, and how many."""
        sizes: dict[BatchUnit, int | None] = {
            "sequences": self.batch_sequences, "samples": self.batch_samples, "targets": self.batch_targets
        }  # fmt: skip
        return next(((unit, size) for unit, size in sizes.items() if size is not None), self.DEFAULT_BATCH)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackCompute(ComputeConfig):
    """Precision, memory, kernels and parallelism of the vision-language model."""

    parallel: Literal["replicate", "shard"] = "replicate"
    """With several devices: a whole model on each (DDP), or FSDP2 (`fully_shard`)."""
    reshard: bool = True
    """With `shard`, free a block's whole weights after its forward pass, and reduce gradients after each micro-batch:
    least memory. False keeps both until the step's end (ZeRO-2): less communication."""
    compile: bool = False
    """torch.compile each block; sequences are then padded to the context length, so that shapes stay the same."""
    attention: Literal["sdpa", "flex", "varlen"] = "sdpa"
    """`sdpa` with a block-diagonal mask runs anywhere; `flex` skips the empty blocks (CUDA); `varlen` gives PyTorch's
    flash kernel each sample as a sequence (CUDA with bf16; on a CPU one product a sample)."""

    def __post_init__(self) -> None:
        require(
            self.attention != "varlen" or not self.compile,
            "compute.attention varlen has a number of samples that changes from batch to batch; set compile false, or "
            "flex",
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackHeldout(HeldoutConfig):
    """The loss on held-out packs."""

    blank: bool = False
    """Also evaluate with every image grey: how much the model reads from images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class FreezeConfig(Settings):
    """Parts of the model that stay as they are."""

    vision: bool = True
    """The encoder (the reference's `pretrain`; its `full-pretrain` trains it)."""
    projector: bool = False
    """The projector."""
    language: bool = False
    """The language model."""

    def __post_init__(self) -> None:
        frozen = self.vision and self.projector and self.language
        require(not frozen, "vision, projector and language are all frozen: nothing is left to train")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DropoutConfig(Settings):
    """Residual dropout of the language model: of what attention and feed-forward of each block add (`dropout.py`)."""

    residual: float = 0.0
    """The share that is dropped, at every position (Molmo's instruction tuning: 0.1)."""
    response: float | None = None
    """The share at positions that predict a target; null for that of all others. Molmo's pretraining drops 0.1 there
    and nothing elsewhere, so that the model leans on the image."""

    def __post_init__(self) -> None:
        for name in ("residual", "response"):
            rate = getattr(self, name)
            require(rate is None or 0 <= rate < 1, f"dropout.{name} is {rate}; give a share in [0, 1)")

    @property
    def at_targets(self) -> float:
        """The share at positions that predict a target."""
        return self.residual if self.response is None else self.response


@dataclasses.dataclass(frozen=True, kw_only=True)
class StageConfig(TrainingConfig):
    """One stage of training over packs. The defaults are Open-Qwen2VL's pretraining.

    Sources of the numbers: Open-Qwen2VL's training code (`train.sh`, its model registry), where learning rate 5e-5,
    weight decay 0.01, warm-up 0.03, cosine to 0, clip 1.0 and batch 512 are the defaults of the pretraining stage.
    """

    kind: Literal["pretrain", "sft"] = "pretrain"
    """Content of the packs: captions, or conversations. `generate` prompts the checkpoint accordingly."""
    tokens_per_image: int | None = None
    """Positions of an image in this stage and those after it, if others than before (Open-Qwen2VL §2.1: 144 in
    pretraining, 729 in SFT): the average pool has no weights. At most the encoder's patches; null changes nothing."""
    layout: PerImage | None = None
    """What an image becomes in this stage and those after it, if another than before; a number is as tokens_per_image.
    Vectors for marks that were not there before are drawn anew."""
    image_size: int | None = None
    """Pixels a side of the square that the encoder sees in this stage and those after it, if others than before (MM1:
    336 in pretraining, up to 672 in SFT). Its position embeddings are interpolated once, before the first step."""
    moe: MoEConfig | None = None
    """Make the dense language model that the stage begins with one of experts, which stages after it keep (upcycling).
    Where it has experts already, other weights of their losses; null changes nothing."""
    data: PackData = dataclasses.field(default_factory=PackData)
    """Batches of packed sequences."""
    compute: PackCompute = dataclasses.field(default_factory=PackCompute)
    """Precision, memory, kernels and devices."""
    heldout: PackHeldout = dataclasses.field(default_factory=PackHeldout)
    """The loss on held-out packs."""
    freeze: FreezeConfig = dataclasses.field(default_factory=FreezeConfig)
    """Parts of the model that stay as they are; all others are trained alike. In short for `train`."""
    train: tuple[GroupConfig, ...] = ()
    """Groups of parameters, each with its own learning rate and so on. A parameter is in the first that matches it; one
    that none matches is frozen. Empty: what `freeze` leaves."""
    dropout: DropoutConfig = dataclasses.field(default_factory=DropoutConfig)
    """Residual dropout of the language model, in training alone."""
    certify: int = 32
    """Sequences of its own on which a run shows, before its first step, that packed is alone, that devices agree, and
    that a step can be repeated to the bit (certificate.json); 0 for none."""
    z_loss: float = 0.0
    """Times log²Z is added to each target token's loss, Z being the sum of its exponentiated logits (PaLM: 1e-4)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.tokens_per_image is not None:
            require_square("tokens_per_image", self.tokens_per_image)
            require(self.layout is None, "tokens_per_image and layout are both given; give one of them")
        if self.image_size is not None:
            self._require_positive("image_size")
        require(
            not self.train or self.freeze == FreezeConfig(),
            "train and freeze are both given; leave out freeze: what no group of train matches is frozen",
        )
        self._require_not_negative("z_loss", "certify")

    @property
    def parameter_groups(self) -> tuple[GroupConfig, ...]:
        """`train`."""
        return self.train

    def result_settings(self) -> dict[str, Any]:
        """As of every run; the batch is resolved to one of its units."""
        unit, size = self.data.batch
        batch = {f"data.{name}": size if name == f"batch_{unit}" else None for name in _BATCHES}
        return {**super().result_settings(), **batch}

    def translate(self, before: Mapping[str, Any]) -> dict[str, Any]:
        """As of every run; earlier versions counted batches in sequences alone."""
        found = super().translate(before)
        if "data.batch_samples" not in before:
            sequences = before.get("data.batch_sequences", before.get("batch_sequences"))
            default = 128 if self.kind == "sft" else 512
            found |= dict.fromkeys((f"data.{name}" for name in _BATCHES), None)
            found["data.batch_sequences"] = sequences or default
        return found

    @property
    def image_layout(self) -> PerImage | None:
        """What an image becomes, if another than before."""
        return self.tokens_per_image if self.layout is None else self.layout


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFTOptimizer(OptimizerConfig):
    """AdamW with Open-Qwen2VL's numbers for instruction tuning."""

    learning_rate: float = 2e-5
    weight_decay: float = 0.1


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFTData(PackData):
    """Batches of Open-Qwen2VL's size for instruction tuning: 128 conversations, which are not packed there."""

    DEFAULT_BATCH: ClassVar[tuple[BatchUnit, int]] = ("samples", 128)

    micro_batch_sequences: int = 2


@dataclasses.dataclass(frozen=True, kw_only=True)
class SFTConfig(StageConfig):
    """Instruction tuning: the same loop over packs of conversations, with Open-Qwen2VL's SFT numbers."""

    kind: Literal["pretrain", "sft"] = "sft"
    """As in StageConfig."""
    optimizer: SFTOptimizer = dataclasses.field(default_factory=SFTOptimizer)
    """AdamW: learning rate, weight decay, moments, clipping."""
    data: SFTData = dataclasses.field(default_factory=SFTData)
    """Batches of packed sequences."""
