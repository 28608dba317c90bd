"""Learning: a vision-language model from packs, in two stages, without Ray.

`train` runs a stage (StageConfig: pretraining; SFTConfig: instruction tuning) over a folder of packs and leaves
metrics and checkpoints; run again, it goes on where it stopped. `Generator` and `generate` answer with a checkpoint.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.config import ModelConfig, RandomLanguage, RandomVision, SFTConfig, StageConfig
    from training.generation import Generator, generate
    from training.loop import TrainReport, train
    from training.metrics import read_metrics
    from training.signals import TrainingInterrupted

_MODULES = {
    "Generator": "training.generation",
    "ModelConfig": "training.config",
    "RandomLanguage": "training.config",
    "RandomVision": "training.config",
    "SFTConfig": "training.config",
    "StageConfig": "training.config",
    "TrainReport": "training.loop",
    "TrainingInterrupted": "training.signals",
    "generate": "training.generation",
    "read_metrics": "training.metrics",
    "train": "training.loop",
}
"""Where each name lives; imported when first asked for, so that checking a recipe does not wait for torch."""

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
