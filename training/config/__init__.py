"""The trainer's configs: the model's parts (`model.py`) and what a stage is told (`stage.py`)."""

from mmcorpus.training.config.model import (
    ConnectorConfig,
    EncoderConfig,
    ModelConfig,
    RandomLanguage,
    RandomVision,
    model_config_from_dict,
)
from mmcorpus.training.config.moe import MoEConfig
from mmcorpus.training.config.stage import (
    BatchUnit,
    CheckpointConfig,
    ComputeConfig,
    DropoutConfig,
    FreezeConfig,
    HeldoutConfig,
    LogConfig,
    PackCompute,
    PackData,
    PackHeldout,
    SFTConfig,
    SFTData,
    SFTOptimizer,
    StageConfig,
    TrainingConfig,
)

__all__ = [
    "BatchUnit",
    "CheckpointConfig",
    "ComputeConfig",
    "ConnectorConfig",
    "DropoutConfig",
    "EncoderConfig",
    "FreezeConfig",
    "HeldoutConfig",
    "LogConfig",
    "MoEConfig",
    "ModelConfig",
    "PackCompute",
    "PackData",
    "PackHeldout",
    "RandomLanguage",
    "RandomVision",
    "SFTConfig",
    "SFTData",
    "SFTOptimizer",
    "StageConfig",
    "TrainingConfig",
    "model_config_from_dict",
]
