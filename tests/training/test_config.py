"""Settings that make no sense are refused with the key and what it should be."""

import dataclasses
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from mmcorpus.training.config import (
    ModelConfig,
    RandomLanguage,
    RandomVision,
    SFTConfig,
    StageConfig,
    model_config_from_dict,
)


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (StageConfig, {"learning_rate": 0.0}, "pretrain.learning_rate"),
        (SFTConfig, {"keep_last": 0}, "sft.keep_last"),
        (StageConfig, {"warmup": 1.0}, "share in"),
        (StageConfig, {"steps": 0}, "pretrain.steps"),
        (StageConfig, {"betas": (0.9, 1.0)}, "betas"),
        (StageConfig, {"freeze_projector": True, "freeze_language": True}, "nothing is left to train"),
        (ModelConfig, {"tokens_per_image": 10}, "give a square"),
        (ModelConfig, {"vision_layer": 0}, "count from the end"),
        (ModelConfig, {"vision_layer": -5}, "more blocks"),
        (RandomVision, {"image_size": 65}, "multiple of patch_size"),
        (RandomVision, {"hidden_size": 130}, "multiple of heads"),
        (RandomLanguage, {"key_value_heads": 4}, "multiple of key_value_heads"),
        (RandomLanguage, {"hidden_size": 6}, "even multiple of heads"),
    ],
)
def test_refused(kind: type, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**changes)


def test_the_references_numbers() -> None:
    pretrain, sft = StageConfig(), SFTConfig()
    assert (pretrain.learning_rate, pretrain.weight_decay, pretrain.warmup, pretrain.gradient_clip) == (
        5e-5,
        0.01,
        0.03,
        1,
    )
    assert (sft.kind, sft.learning_rate, sft.weight_decay) == ("sft", 2e-5, 0.1)
    assert (pretrain.batch_sequences, sft.batch_sequences, ModelConfig().tokens_per_image) == (512, 128, 144)
    assert pretrain.freeze_vision
    assert not pretrain.freeze_language


def test_a_recipe_can_hold_them() -> None:
    recipe = {"vision": {"image_size": 32}, "language": "Qwen/Qwen2.5-1.5B-Instruct", "tokens_per_image": 16}
    model = TypeAdapter(ModelConfig).validate_python(recipe)
    assert model.vision == RandomVision(image_size=32)
    assert model.language == "Qwen/Qwen2.5-1.5B-Instruct"
    stage = TypeAdapter(SFTConfig).validate_python({"betas": [0.9, 0.95], "steps": None})
    assert stage == SFTConfig(betas=(0.9, 0.95))
    for kind in (ModelConfig, SFTConfig):
        with pytest.raises(ValidationError, match="lerning_rate"):
            TypeAdapter(kind).validate_python({"lerning_rate": 1.0})


def test_a_checkpoint_gives_the_model_back() -> None:
    for model in (ModelConfig(), ModelConfig(vision="a/b", language="c/d", projector_hidden=7)):
        assert model_config_from_dict(dataclasses.asdict(model)) == model
