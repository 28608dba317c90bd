"""Contrastive training: a CLIP learned from image-caption pairs in shards, without Ray (docs/dfn.md).

`train_contrastive` runs over the pairs that selections name and leaves metrics and checkpoints that open_clip loads;
run again, it goes on where it stopped. `last_model` is the folder that scorers name as theirs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmcorpus.training.clip.checkpoint import last_model
    from mmcorpus.training.clip.config import ContrastiveConfig, SmallClip
    from mmcorpus.training.clip.contrastive import ContrastiveReport, train_contrastive
    from mmcorpus.training.clip.pairs import PairSource

_MODULES = {
    "checkpoint": ("last_model",),
    "config": ("ContrastiveConfig", "SmallClip"),
    "contrastive": ("ContrastiveReport", "train_contrastive"),
    "pairs": ("PairSource",),
}
"""The names of each module; imported when first asked for, so that checking a recipe does not wait for torch."""

__all__ = [
    "ContrastiveConfig",
    "ContrastiveReport",
    "PairSource",
    "SmallClip",
    "last_model",
    "train_contrastive",
]


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(importlib.import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
