"""Learning: a vision-language model from packs, in two stages, without Ray.

`train` runs a stage (StageConfig: pretraining; SFTConfig: instruction tuning) over a folder of packs and leaves
metrics and checkpoints; run again, it goes on where it stopped. `Generator` and `generate` answer with a checkpoint.
"""

from training.config import ModelConfig, RandomLanguage, RandomVision, SFTConfig, StageConfig
from training.generate import Generator, generate
from training.loop import TrainReport, train
from training.metrics import read_metrics
from training.signals import TrainingInterrupted

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
