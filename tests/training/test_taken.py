"""An encoder that one stage has taught is the next model's, beside a general one that it is averaged with."""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from mmcorpus.training import Generator, StageConfig, train
from mmcorpus.training.checkpoint import list_checkpoints, load_model, read_state, read_tensors
from mmcorpus.training.config import EncoderConfig, ModelConfig
from mmcorpus.training.launch import launch
from mmcorpus.training.model import build_model
from mmcorpus.training.optim import GroupConfig
from mmcorpus.training.taken import begin_model

GROUPS = (GroupConfig(match="vision.siglip", last_blocks=1), GroupConfig(match="projector"))
"""POINTS' pretraining: the last blocks of the general encoder and the connector."""


@pytest.fixture(scope="module")
def ocr(
    packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], tmp_path_factory: pytest.TempPathFactory
) -> str:
    out = str(tmp_path_factory.mktemp("ocr"))
    train(stage(steps=2), packs, out, model=tiny)
    return out


def dual(tiny: ModelConfig, ocr: str) -> ModelConfig:
    general, read = tiny.encoders[0], EncoderConfig(source=ocr, layers=(-2,))
    return ModelConfig(
        encoders=(dataclasses.replace(general, weight=0.75), dataclasses.replace(read, weight=0.25)),
        language=tiny.language,
        layout=tiny.layout,
    )


def test_dual_encoders_train_resume_and_answer(
    packs: str, tiny: ModelConfig, ocr: str, stage: Callable[..., StageConfig], tmp_path: Path, png_file: str
) -> None:
    """Packed = alone is certified before the first step; the taken encoder, which no group names, stays as it was."""
    config, out = dual(tiny, ocr), str(tmp_path / "run")
    settings = stage(steps=4, checkpoint_every=2, freeze_vision=True, train=GROUPS, certify=8)
    report = train(settings, packs, out, model=config)
    first, last = list_checkpoints(f"{out}/checkpoints")
    found, taught = read_tensors(report.checkpoint, "model"), read_tensors(f"{ocr}/checkpoints/step-00000002", "model")
    taken = {name: value for name, value in found.items() if name.startswith("vision.siglip_1.")}
    assert len(taken) > 10
    for name, value in taken.items():
        assert torch.equal(value, taught[name.replace("siglip_1", "siglip")]), name
    before = dict(begin_model(config, 300).named_parameters())
    moved = {name for name, value in found.items() if not torch.equal(value, before[name])}
    assert {name.split(".encoder.layers.")[0] for name in moved if name.startswith("vision.")} == {"vision.siglip"}
    assert any(name.startswith("projector.") for name in moved)
    assert not any(name.startswith("language.") for name in moved)

    shutil.rmtree(last)
    moved_ocr = shutil.copytree(ocr, tmp_path / "elsewhere")  # as a run's folder that was moved
    train(settings, packs, out, model=dual(tiny, str(moved_ocr)))
    again = read_tensors(last, "model")
    assert all(torch.equal(again[name], value) for name, value in found.items())

    shutil.rmtree(moved_ocr)
    net, _, state = load_model(last)
    assert state["begun"] == read_state(first)["begun"]
    assert net.vision.weights == (0.75, 0.25)
    assert isinstance(Generator.load(last, "cpu").generate(Image.open(png_file), "", max_new_tokens=3), str)


def test_another_encoder_is_another_beginning(
    packs: str, tiny: ModelConfig, ocr: str, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    out, other = str(tmp_path / "run"), str(tmp_path / "other")
    train(stage(steps=1), packs, out, model=dual(tiny, ocr))
    train(stage(steps=1), packs, other, model=tiny)
    with pytest.raises(ValueError, match=r"begun from something else \(model\.encoders .*checkpoint .* → .*checkpoint"):
        train(stage(steps=1), packs, out, model=dual(tiny, other))


def test_what_cannot_be_taken_is_refused(
    packs: str, tiny: ModelConfig, ocr: str, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    deeper = dual(tiny, ocr)
    deeper = dataclasses.replace(
        deeper, encoders=(deeper.encoders[0], dataclasses.replace(deeper.encoders[1], layers=(-1,)))
    )
    with pytest.raises(ValueError, match=r"has no encoder\.layers\.1\..*up to the last that was read"):
        begin_model(deeper, 300)
    train(stage(steps=1), packs, str(tmp_path), model=dual(tiny, ocr))
    with pytest.raises(ValueError, match="has 2 encoders; name a checkpoint with one"):
        begin_model(dual(tiny, str(tmp_path)), 300)


@pytest.mark.slow
def test_a_sharded_model_with_dual_encoders_is_the_same(
    packs: str, tiny: ModelConfig, ocr: str, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    """FSDP2 over two processes, whose checkpoint one process reads."""
    settings = stage(steps=2, freeze_vision=True, train=GROUPS)
    sharded = dataclasses.replace(settings, compute=dataclasses.replace(settings.compute, parallel="shard"))
    one = train(settings, packs, str(tmp_path / "one"), model=dual(tiny, ocr))
    two = launch(2, sharded, packs, str(tmp_path / "two"), model=dual(tiny, ocr), device="cpu")
    expected, found = read_tensors(one.checkpoint, "model"), read_tensors(two.checkpoint, "model")
    assert expected.keys() == found.keys() == build_model(dual_of_random(tiny), 300).kept().keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-5)


def dual_of_random(tiny: ModelConfig) -> ModelConfig:
    return dataclasses.replace(tiny, encoders=(dataclasses.replace(tiny.encoders[0], weight=0.5),) * 2)
