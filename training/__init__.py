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
    "Generator": "mmcorpus.training.generation",
    "ModelConfig": "mmcorpus.training.config",
    "RandomLanguage": "mmcorpus.training.config",
    "RandomVision": "mmcorpus.training.config",
    "SFTConfig": "mmcorpus.training.config",
    "StageConfig": "mmcorpus.training.config",
    "TrainReport": "mmcorpus.training.vision_language",
    "TrainingInterrupted": "mmcorpus.training.signals",
    "generate": "mmcorpus.training.generation",
    "read_metrics": "mmcorpus.training.metrics",
    "train": "mmcorpus.training.vision_language",
}
"""The module of each name; imported when first asked for, so that checking a recipe does not wait for torch."""

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
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
