"""Connectors: from the encoders' patches to the language model's tokens (docs/training.md)."""

from mmcorpus.packing.layout import PerImage
from mmcorpus.training.config import ConnectorConfig
from mmcorpus.training.connector.base import Connector
from mmcorpus.training.connector.crops import AttentionPool, CAbstractor
from mmcorpus.training.connector.pooled import (
    AttentionProjector,
    LinearProjector,
    PoolingProjector,
    ShuffleProjector,
)


def build_connector(
    config: ConnectorConfig, vision_width: int, language_width: int, layout: PerImage, patches: int
) -> Connector:
    """The connector that `config` names, with random weights; `patches` are those of a square image."""
    hidden = config.hidden or language_width
    if config.kind == "linear":
        return LinearProjector(vision_width, language_width, layout)
    if config.kind == "shuffle_mlp":
        return ShuffleProjector(vision_width, hidden, language_width, layout, patches)
    if config.kind == "attention_mlp":
        return AttentionProjector(vision_width, language_width, layout, config)
    if config.kind == "attention_pool":
        return AttentionPool(vision_width, language_width, layout, patches, config)
    if config.kind == "c_abstractor":
        return CAbstractor(vision_width, language_width, layout, patches, config)
    return PoolingProjector(vision_width, hidden, language_width, layout)
