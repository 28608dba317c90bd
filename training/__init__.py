"""Learning: a vision-language model from packs, in two stages, without Ray.

`train` runs a stage (StageConfig: pretraining; SFTConfig: instruction tuning) over a folder of packs and leaves
metrics and checkpoints; run again, it goes on where it stopped. `Generator` and `generate` answer with a checkpoint.
"""

from typing import TYPE_CHECKING

from mmcorpus.training.lazy import exports

if TYPE_CHECKING:
    from mmcorpus.training.config import ModelConfig, RandomLanguage, RandomVision, SFTConfig, StageConfig
    from mmcorpus.training.generation import Generator, generate
    from mmcorpus.training.metrics import read_metrics
    from mmcorpus.training.signals import TrainingInterrupted
    from mmcorpus.training.vision_language import TrainReport, train

__getattr__ = exports(
    __name__,
    {
        "config": ("ModelConfig", "RandomLanguage", "RandomVision", "SFTConfig", "StageConfig"),
        "generation": ("Generator", "generate"),
        "metrics": ("read_metrics",),
        "signals": ("TrainingInterrupted",),
        "vision_language": ("TrainReport", "train"),
    },
)

__all__ = [
    "Generator",
    "ModelConfig",
    "RandomLanguage",
    "RandomVision",
    "SFTConfig",
    "StageConfig",
    "TrainReport",
    "TrainingInterrupted",
    "generate",
    "read_metrics",
    "train",
]
