"""Learning: a vision-language model from packs, in two stages, without Ray.

`train` runs a stage (StageConfig: pretraining; SFTConfig: instruction tuning) over a folder of packs and leaves
metrics and checkpoints; run again, it goes on where it stopped. `Generator` and `generate` answer with a checkpoint.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcorpus.training.config import ModelConfig, RandomLanguage, RandomVision, SFTConfig, StageConfig
    from mmcorpus.training.generation import Generator, generate
    from mmcorpus.training.metrics import read_metrics
    from mmcorpus.training.signals import TrainingInterrupted
    from mmcorpus.training.vision_language import TrainReport, train

_MODULES = {
    "config": ("ModelConfig", "RandomLanguage", "RandomVision", "SFTConfig", "StageConfig"),
    "generation": ("Generator", "generate"),
    "metrics": ("read_metrics",),
    "signals": ("TrainingInterrupted",),
    "vision_language": ("TrainReport", "train"),
}
"""The names of each module; imported when first asked for, so that checking a recipe does not wait for torch."""

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


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
