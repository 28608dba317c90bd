"""Contrastive training: a CLIP learned from image-caption pairs in shards, without Ray (docs/dfn.md).

`train_contrastive` runs over the pairs that selections name and leaves metrics and checkpoints that open_clip loads;
run again, it goes on where it stopped. `last_model` is the folder that scorers name as theirs.
"""

from typing import TYPE_CHECKING

from mmcorpus.training.lazy import exports

if TYPE_CHECKING:
    from mmcorpus.training.clip.checkpoint import last_model
    from mmcorpus.training.clip.config import ContrastiveConfig, SmallClip
    from mmcorpus.training.clip.contrastive import ContrastiveReport, train_contrastive
    from mmcorpus.training.clip.pairs import PairSource

__getattr__ = exports(
    __name__,
    {
        "checkpoint": ("last_model",),
        "config": ("ContrastiveConfig", "SmallClip"),
        "contrastive": ("ContrastiveReport", "train_contrastive"),
        "pairs": ("PairSource",),
    },
)

__all__ = [
    "ContrastiveConfig",
    "ContrastiveReport",
    "PairSource",
    "SmallClip",
    "last_model",
    "train_contrastive",
]
