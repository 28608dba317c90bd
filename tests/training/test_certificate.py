"""What a run shows of itself before its first step."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.tokens import encode_captions
from mmcorpus.training import certificate, train
from mmcorpus.training.batch import PackedBatch, collate
from mmcorpus.training.certificate import CertificateError, alone, certify
from mmcorpus.training.config import ModelConfig, StageConfig
from mmcorpus.training.data import PackLoader
from mmcorpus.training.model import VisionLanguageModel, build_model
from mmcorpus.training.parallel import World
from tests.training.conftest import open_mask

ONE = World(rank=0, size=1, device=torch.device("cpu"))
Stages = Callable[..., StageConfig]


def test_a_run_certifies_itself_once(
    mixed: list[Any],
    make_packs: Callable[..., str],
    tiny: ModelConfig,
    stage: Stages,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    packs = make_packs([mixed[:3], mixed[3:]], context=256)
    settings = dataclasses.replace(stage(steps=1, batch_sequences=2), certify=32)
    train(settings, packs, str(tmp_path), model=tiny)
    found = json.loads((tmp_path / "certificate.json").read_text())
    assert (found["sequences"], found["samples"], found["devices"]) == (2, len(mixed), 1)
    assert 0 <= found["packed_against_alone"] < 1e-5
    assert found["repeated_to_the_bit"]
    assert f"certified on {len(mixed)} samples" in capsys.readouterr().err
    train(settings, packs, str(tmp_path), model=tiny)
    assert "certified" not in capsys.readouterr().err, "a resumed run has been"


def test_a_mask_that_lets_samples_see_each_other_is_found_before_a_step(
    model: VisionLanguageModel,
    packs: str,
    tiny: ModelConfig,
    stage: Stages,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a kernel that is not told where samples end would."""
    loader = PackLoader(PackReader(packs), image_size=16)
    assert certify(model, loader, [0, 1], ONE, precision="fp32", micro=2)["packed_against_alone"] < 1e-5
    monkeypatch.setattr("mmcorpus.training.certificate.TOLERANCE", {"fp32": 1e-5})
    monkeypatch.setattr("mmcorpus.training.model.attention_mask", open_mask)
    with pytest.raises(CertificateError, match="between packed and alone"):
        certify(model, loader, [0, 1], ONE, precision="fp32", micro=2)
    monkeypatch.setattr("mmcorpus.training.vision_language.check_decoder", lambda *_: None)  # as on another device
    with pytest.raises(CertificateError):
        train(dataclasses.replace(stage(), certify=4), packs, str(tmp_path), model=tiny)
    assert not (tmp_path / "metrics.jsonl").exists()
    model.set_attention(isolated=False, implementation="sdpa")
    assert certify(model, loader, [0], ONE, precision="fp32", micro=2)["packed_against_alone"] is None


def test_in_bf16_a_wrong_mask_is_found_and_a_short_answer_far_off_is_told(
    tokenizer: Any, packs: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a model of the default size, as the demo has it, untrained."""
    model = build_model(ModelConfig(tokens_per_image=4), len(tokenizer)).eval()
    loader = PackLoader(PackReader(packs), image_size=64)
    sound = certify(model, loader, [0, 1], ONE, precision="bf16", micro=2)
    assert sound["packed_against_alone"] <= sound["packed_against_alone_worst"] < 0.01
    odd = loader.reader[0].uids[1]

    def noisy(model: VisionLanguageModel, batch: PackedBatch, *more: Any) -> torch.Tensor:
        off = odd in batch.uids and len(batch.uids) <= 2  # it is alone
        return losses(model, batch, *more) + (0.4 * (batch.samples_M == batch.uids.index(odd)) if off else 0.0)

    losses = certificate._losses
    monkeypatch.setattr(certificate, "_losses", noisy)
    told = certify(model, loader, [0, 1, 2, 3], ONE, precision="bf16", micro=2)
    assert told["packed_against_alone"] < 0.05 < 0.39 < told["packed_against_alone_worst"]
    monkeypatch.undo()
    monkeypatch.setattr("mmcorpus.training.model.attention_mask", open_mask)
    with pytest.raises(CertificateError, match=r"in the mean between packed and alone, more than 0\.05"):
        certify(model, loader, [0, 1], ONE, precision="bf16", micro=2)


def test_targets_keep_their_weights_and_tags_in_a_sample_taken_out(
    mixed: list[Any],
    tokenizer: Any,
    make_packs: Callable[..., str],
    tiny: ModelConfig,
    stage: Stages,
    tmp_path: Path,
) -> None:
    """Of captions on one image, of a dialogue, and beside a sample that has none; also in a run."""
    (several,) = encode_captions(tokenizer, [["a red square", "red", "seen from the left"]])
    several = dataclasses.replace(several, weights=(0.5, 0.25, 1.0), tags=("long", "short", "long"))
    talk, image = mixed[3]
    talk = dataclasses.replace(talk, weights=(2.0,) * len(talk.loss_spans))
    packs = make_packs([[mixed[0], (several, image), (talk, image), mixed[1]], [(talk, image)]], context=256)
    reader = PackReader(packs)
    singles = alone(reader[0])
    assert [one.weights for one in singles] == [((),), ((0.5, 0.25, 1.0),), (talk.weights,), ((),)]
    assert [one.tags for one in singles] == [((),), (several.tags,), ((),), ((),)]
    loader = PackLoader(reader, image_size=16)
    weights_M = collate([loader.piece(one) for one in singles]).weights_M
    assert weights_M is not None
    assert torch.equal(weights_M, loader.batch([0]).weights_M)
    train(dataclasses.replace(stage(steps=1, batch_sequences=2), certify=2), packs, str(tmp_path), model=tiny)
    assert json.loads((tmp_path / "certificate.json").read_text())["samples"] == 5


def test_a_sample_taken_out_is_whole(packs: str) -> None:
    reader = PackReader(packs)
    singles = alone(reader[0])
    assert [one.uids for one in singles] == [(uid,) for uid in reader[0].uids]
    for one in singles:
        one.check(reader.per_image)
    loader = PackLoader(reader, image_size=16)
    together, apart = loader.batch([0]), collate([loader.piece(one) for one in singles])
    assert together.targets_M.tolist() == apart.targets_M.tolist()
    assert torch.equal(together.images_NCHW, apart.images_NCHW)
