from typing import Any

import pytest

from mmcorpus.training.clip.config import ContrastiveConfig, SmallClip
from tests.training.conftest import configured


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"batch_size": 1}, "batch_size"),
        ({"steps": 0}, "steps"),
        ({"epochs": 0.0}, "epochs"),
        ({"warmup": 1.0}, "warmup"),
        ({"crop": 0.0}, "crop"),
        ({"crop": 1.5}, "crop"),
        ({"betas": (0.9, 1.0)}, "betas"),
        ({"learning_rate": 0.0}, "learning_rate"),
        ({"largest_scale": 1.0}, "largest_scale"),
        ({"heldout_pairs": 1}, "pairs"),
        ({"model": ""}, "model"),
        ({"model": SmallClip(), "pretrained": "openai"}, "pretrained"),
        ({"model": "hf-hub:apple/DFN-public", "pretrained": "openai"}, "pretrained"),
    ],
)
def test_what_cannot_be_is_refused_by_name(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=f"^{word}"):
        configured(ContrastiveConfig, **changes)


@pytest.mark.parametrize(
    ("changes", "word"),
    [({"patch_size": 7}, "patch_size"), ({"vision_width": 100}, "vision_width"), ({"text_layers": 0}, "text_layers")],
)
def test_sizes_that_do_not_fit_are_refused(changes: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        SmallClip(**changes)
