"""Settings that make no sense are refused with the key and what it should be."""

import dataclasses
import json
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from mmcorpus.packing.layout import LAYOUTS, MolmoLayout
from mmcorpus.pipelines.recipe.check_types import check
from mmcorpus.pipelines.recipe.yaml_source import YamlSource
from mmcorpus.training.clip.config import ContrastiveConfig
from mmcorpus.training.config import (
    CheckpointConfig,
    ConnectorConfig,
    EncoderConfig,
    FreezeConfig,
    ModelConfig,
    PackData,
    RandomLanguage,
    RandomVision,
    SFTConfig,
    StageConfig,
    TrainingConfig,
    model_config_from_dict,
)
from mmcorpus.training.optim import GroupConfig, OptimizerConfig, ScheduleConfig


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (OptimizerConfig, {"learning_rate": 0.0}, "learning_rate is 0.0"),
        (OptimizerConfig, {"betas": (0.9, 1.0)}, "betas"),
        (CheckpointConfig, {"keep_last": 0}, "keep_last"),
        (ScheduleConfig, {"warmup": 1.0}, "share in"),
        (GroupConfig, {"match": "vision", "warmup": 20.5}, "whole number of them from 2 on"),
        (ScheduleConfig, {"steps": 0}, "steps is 0"),
        (PackData, {"micro_batch_sequences": 0}, "micro_batch_sequences"),
        (FreezeConfig, {"projector": True, "language": True}, "nothing is left to train"),
        (StageConfig, {"log_every": 0}, "log_every"),
        (StageConfig, {"train": (GroupConfig(match="*"),), "freeze": FreezeConfig(vision=False)}, "leave out freeze"),
        (StageConfig, {"tokens_per_image": 16, "layout": 16}, "give one of them"),
        (StageConfig, {"z_loss": -1.0}, "z_loss"),
        (GroupConfig, {"match": ""}, "match is empty"),
        (GroupConfig, {"match": "vision", "last_blocks": 0}, "last_blocks"),
        (ScheduleConfig, {"floor": 2.0}, "share of the peak"),
        (PackData, {"batch_samples": 4, "batch_targets": 9}, "give one of them"),
        (ConnectorConfig, {"kind": "linear", "hidden": 4}, "linear has no hidden; leave it out"),
        (ModelConfig, {"encoders": ()}, "encoders is empty"),
        (EncoderConfig, {"layers": ()}, "layers are empty"),
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
    assert pretrain.optimizer == OptimizerConfig(
        learning_rate=5e-5, weight_decay=0.01, betas=(0.9, 0.999), epsilon=1e-8, gradient_clip=1.0
    )
    assert (pretrain.schedule.warmup, pretrain.schedule.epochs) == (0.03, 1.0)
    assert (sft.kind, sft.optimizer.learning_rate, sft.optimizer.weight_decay) == ("sft", 2e-5, 0.1)
    assert (pretrain.data.batch, sft.data.batch) == (("sequences", 512), ("samples", 128)), (
        "the SFT is not packed there"
    )
    assert ModelConfig().tokens_per_image == 144
    assert pretrain.freeze.vision
    assert not pretrain.freeze.language


def test_a_recipe_can_hold_them() -> None:
    recipe = {"vision": {"image_size": 32}, "language": "Qwen/Qwen2.5-1.5B-Instruct", "tokens_per_image": 16}
    model = TypeAdapter(ModelConfig).validate_python(recipe)
    assert model.vision == RandomVision(image_size=32)
    assert model.language == "Qwen/Qwen2.5-1.5B-Instruct"
    stage = TypeAdapter(SFTConfig).validate_python({"optimizer": {"betas": [0.9, 0.95]}, "schedule": {"steps": None}})
    assert (stage.optimizer.betas, stage.optimizer.learning_rate) == ((0.9, 0.95), 2e-5), "a group keeps its defaults"
    for kind in (ModelConfig, SFTConfig):
        with pytest.raises(ValidationError, match="lerning_rate"):
            TypeAdapter(kind).validate_python({"lerning_rate": 1.0})


def names(kind: type[TrainingConfig]) -> set[str]:
    """The settings of a config, those in groups by dotted name."""
    fields = {field.name for field in dataclasses.fields(kind)} - kind.groups().keys()
    grouped = {f"{group}.{field.name}" for group, of in kind.groups().items() for field in dataclasses.fields(of)}
    return fields | grouped


@pytest.mark.parametrize("kind", [StageConfig, SFTConfig, ContrastiveConfig])
def test_every_moved_setting_and_every_neutral_one_exists(kind: type[TrainingConfig]) -> None:
    settings = names(kind)
    assert set(kind.moved().values()) == {name for name in settings if "." in name}
    assert not kind.moved().keys() & {field.name for field in dataclasses.fields(kind)}
    every = names(StageConfig) | names(ContrastiveConfig)
    assert every | kind.groups().keys() >= kind.RESULT_NEUTRAL
    assert "optimizer.learning_rate" in kind().result_settings()
    assert not {"checkpoints.every", "data.num_workers", "log_every"} & kind().result_settings().keys()


@pytest.mark.parametrize(
    ("kind", "old", "new"),
    [
        (StageConfig, {"learning_rate": 1e-3}, "optimizer.learning_rate"),
        (SFTConfig, {"freeze_vision": False}, "freeze.vision"),
        (StageConfig, {"parallel": "shard"}, "compute.parallel"),
        (ContrastiveConfig, {"batch_size": 8}, "data.batch_size"),
        (ContrastiveConfig, {"gradient_checkpointing": True}, "compute.activation_checkpointing"),
    ],
)
def test_a_key_of_before_is_told_its_place(kind: type[TrainingConfig], old: dict[str, Any], new: str) -> None:
    for given in (old, {"schedule": {"steps": 3}, **old}):
        _, problems = check(kind, given, YamlSource(name="recipe", data=given), ())
        assert [(problem.path, problem.message) for problem in problems] == [((next(iter(old)),), f"it is now {new}")]


def test_a_checkpoint_gives_the_model_back() -> None:
    for model in (ModelConfig(), ModelConfig(vision="a/b", language="c/d", projector_hidden=7)):
        assert model_config_from_dict(dataclasses.asdict(model)) == model


def test_what_is_given_in_short_is_the_same_model() -> None:
    """Recipes and checkpoints from when there was one encoder, on squares."""
    old = {"vision": {"image_size": 32}, "language": "c/d", "tokens_per_image": 16, "vision_layer": -1}
    source = RandomVision(image_size=32)
    whole = ModelConfig(
        encoders=(EncoderConfig(source=source, layers=(-1,)),), language="c/d", layout=16, connector=ConnectorConfig()
    )
    assert TypeAdapter(ModelConfig).validate_python(old) == whole
    recorded = {**old, "vision": dataclasses.asdict(source), "projector_hidden": None}
    del recorded["vision"]["family"]
    assert model_config_from_dict(recorded) == whole
    written = {
        "encoders": [{"source": {"image_size": 32}, "layers": [-1]}],
        "language": "c/d",
        "layout": {"tokens": 16},
    }
    assert TypeAdapter(ModelConfig).validate_python(written) == whole
    tiled = dataclasses.replace(whole, layout=MolmoLayout(patch=8, crop=32, margins=(1, 1)))
    assert model_config_from_dict(json.loads(json.dumps(dataclasses.asdict(tiled)))) == tiled
    for given, where in (
        ({"vision": {"image_sise": 32}}, ("vision", "image_sise")),
        ({"layout": {"kind": "mollmo"}}, ("layout",)),
        ({"connector": {"kind": "linea"}}, ("connector", "kind")),
        ({"tokens_per_image": "many"}, ("tokens_per_image",)),
        ({"encoders": [{"sorce": "a/b"}]}, ("encoders", 0, "sorce")),
    ):
        _, problems = check(ModelConfig, given, YamlSource(name="recipe", data=given), ())
        assert [problem.path for problem in problems] == [where]


def test_settings_of_earlier_versions_are_known_by_todays_names() -> None:
    """A run of days is not begun anew because settings were regrouped."""
    config = StageConfig(optimizer=OptimizerConfig(learning_rate=3e-3), schedule=ScheduleConfig(steps=400), seed=7)
    flat = {"learning_rate": 3e-3, "steps": 400, "seed": 7, "micro_batch_sequences": 1, "heldout_every": 9}
    assert config.translate(flat) == config.result_settings()
    assert config.translate(config.result_settings()) == config.result_settings()
    assert config.translate({**flat, "learning_rate": 1e-3}) != config.result_settings()


def test_batches_of_before_were_counted_in_sequences() -> None:
    for kind, size in ((StageConfig, 512), (SFTConfig, 128)):
        config = kind(data=dataclasses.replace(kind().data, batch_sequences=size))
        assert kind().translate({}) == config.result_settings()
        assert kind().translate({"data.batch_sequences": 8})["data.batch_sequences"] == 8
        assert config.translate(config.result_settings()) == config.result_settings()
    assert SFTConfig().translate({}) != SFTConfig().result_settings(), "128 conversations are not 128 sequences"


@pytest.mark.parametrize("kind", LAYOUTS)
def test_settings_are_those_that_a_checkpoint_gives_back(kind: str) -> None:
    """Or a run with a layout of its own, whose settings hold tuples, could not be gone on with."""
    config = StageConfig(layout=LAYOUTS[kind](), train=(GroupConfig(match="projector"), GroupConfig(match="language")))
    assert config.translate(json.loads(json.dumps(config.result_settings()))) == config.result_settings()
    assert config.result_settings()["layout"]["kind"] == kind


def test_a_recipe_names_groups_in_order() -> None:
    given = {"train": [{"match": "projector", "learning_rate": 1e-3}, {"match": "language", "last_blocks": 2}]}
    stage = TypeAdapter(StageConfig).validate_python(given)
    assert stage.train == (
        GroupConfig(match="projector", learning_rate=1e-3),
        GroupConfig(match="language", last_blocks=2),
    )
    settings = json.loads(json.dumps(stage.result_settings()))
    assert settings["train"][1]["last_blocks"] == 2
    assert settings["data.batch_sequences"] == 512


def test_encoders_are_averaged_all_or_none() -> None:
    dual = ModelConfig(encoders=(EncoderConfig(weight=0.25), EncoderConfig(weight=0.75)))
    assert model_config_from_dict(json.loads(json.dumps(dataclasses.asdict(dual)))) == dual
    assert dataclasses.replace(dual, layout=9).encoders == dual.encoders
    with pytest.raises(ValueError, match="1 of 2 encoders have a weight"):
        ModelConfig(encoders=(EncoderConfig(weight=1.0), EncoderConfig()))
    with pytest.raises(ValueError, match="do not sum to 1"):
        ModelConfig(encoders=(EncoderConfig(weight=0.5), EncoderConfig(weight=0.6)))
    with pytest.raises(ValueError, match="features are 128 and 256 wide cannot be averaged"):
        ModelConfig(encoders=(EncoderConfig(weight=0.5), EncoderConfig(weight=0.5, layers=(-1, -2))))
    with pytest.raises(ValueError, match=r"weight is 1\.5"):
        EncoderConfig(weight=1.5)
    before = dataclasses.asdict(ModelConfig())
    del before["encoders"][0]["weight"]
    assert model_config_from_dict(before) == ModelConfig(), "a checkpoint from before there were weights"
