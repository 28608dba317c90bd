"""Contrastive training: a CLIP learned from image-caption pairs in shards, without Ray (docs/dfn.md).

`train_contrastive` runs over the pairs that selections name and leaves metrics and checkpoints that open_clip loads;
run again, it goes on where it stopped. `last_model` is the folder that scorers name as theirs.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.contrastive.checkpoint import last_model
    from training.contrastive.config import ContrastiveConfig, SmallClip
    from training.contrastive.loop import ContrastiveReport, train_contrastive
    from training.contrastive.pairs import PairSource

_MODULES = {
    "ContrastiveConfig": "training.contrastive.config",
    "ContrastiveReport": "training.contrastive.loop",
    "PairSource": "training.contrastive.pairs",
    "SmallClip": "training.contrastive.config",
    "last_model": "training.contrastive.checkpoint",
    "train_contrastive": "training.contrastive.loop",
}
"""Where each name lives; imported when first asked for, so that checking a recipe does not wait for torch."""

__all__ = [
    "ContrastiveConfig",
    "ContrastiveReport",
    "PairSource",
    "SmallClip",
    "last_model",
    "train_contrastive",
]


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)
