"""Training: learns, accumulates, freezes, stops, resumes, refuses."""

import dataclasses
import json
import math
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mmcorpus.packing.chat import CHATML
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.tokens import encode_captions
from mmcorpus.training import TrainingInterrupted, read_metrics, train
from mmcorpus.training.batch import PackedBatch
from mmcorpus.training.checkpoint import list_checkpoints, load_model, read_tensors
from mmcorpus.training.config import FreezeConfig, ModelConfig, SFTConfig, StageConfig
from mmcorpus.training.data import PackLoader
from mmcorpus.training.loss import LossByTag, tag_means
from mmcorpus.training.model import VisionLanguageModel, build_model
from mmcorpus.training.optim import GroupConfig
from mmcorpus.training.parallel import World
from mmcorpus.training.vision_language import PackTask, TrainReport
from tests.training.conftest import configured, first_fit, write_packs

COMPARED = ("step", "loss", "learning_rate", "gradient_norm", "tokens", "positions", "images", "heldout_loss")
Stages = Callable[..., StageConfig]


def curve(out: Path | str) -> list[dict[str, Any]]:
    lines = read_metrics(f"{out}/metrics.jsonl")
    return [{key: line[key] for key in COMPARED if key in line} for line in lines]


def weights(report: TrainReport) -> dict[str, torch.Tensor]:
    return read_tensors(report.checkpoint, "model")


def test_it_learns_what_only_the_images_tell(packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path) -> None:
    settings = {"steps": 60, "learning_rate": 1e-2, "heldout_blank": True, "checkpoint_every": 100, "certify": 4}
    seen = train(stage(**settings), packs, str(tmp_path / "seen"), model=tiny, heldout_packs=packs).totals
    blank = train(
        stage(**settings, blank_images=True), packs, str(tmp_path / "blank"), model=tiny, heldout_packs=packs
    ).totals
    assert (tmp_path / "seen" / "certificate.json").exists()
    assert seen.heldout_loss is not None
    assert blank.heldout_loss is not None
    assert seen.heldout_loss < blank.heldout_loss - 0.05
    assert seen.heldout_loss_blank is not None
    assert seen.heldout_loss_blank > seen.heldout_loss + 0.05
    assert blank.heldout_loss_blank == blank.heldout_loss


def test_a_stage_takes_more_tokens_an_image(
    packs: str, pairs: list[Any], tokenizer_folder: str, tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    """Open-Qwen2VL's 144, then 729: here 4, then 16, with the weights learnt at 4."""
    fine = write_packs(
        str(tmp_path / "fine"), first_fit(pairs, 16, 64), tokenizer_folder, tokens_per_image=16, context=64
    )
    first = train(stage(steps=30, learning_rate=1e-2), packs, str(tmp_path / "first"), model=tiny)
    with pytest.raises(ValueError, match="set the stage's tokens_per_image to 16"):
        train(stage(steps=2), fine, str(tmp_path / "refused"), init=first.checkpoint)
    with pytest.raises(ValueError, match="tokens_per_image is 25, but the encoder gives 16 patches"):
        train(stage(steps=2, tokens_per_image=25), fine, str(tmp_path / "refused"), init=first.checkpoint)
    second = train(stage(steps=2, tokens_per_image=16), fine, str(tmp_path / "second"), init=first.checkpoint)
    fresh = train(stage(steps=2, tokens_per_image=16), fine, str(tmp_path / "fresh"), model=tiny)
    learnt, untaught = curve(tmp_path / "second")[0]["loss"], curve(tmp_path / "fresh")[0]["loss"]
    assert learnt < untaught / 2
    assert abs(learnt - curve(tmp_path / "first")[-1]["loss"]) < 0.5
    model, _, state = load_model(second.checkpoint)
    assert model.config.tokens_per_image == state["model"]["layout"] == 16
    assert model.encode_images(torch.zeros(1, 3, 16, 16, dtype=torch.uint8)).shape[1] == 16
    third = train(stage(steps=2), fine, str(tmp_path / "third"), init=second.checkpoint)
    assert third.totals.step == 2
    assert weights(fresh).keys() == weights(second).keys()


def test_the_loss_is_told_by_source(
    mixed: list[Any], make_packs: Callable[..., str], tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    """Of training and of held-out data, whatever the micro-batches; the mean over all target tokens is the loss."""
    packs = make_packs([[item] for item in mixed])
    lines = {size: read_metrics(f"{train_here(stage, size, packs, tiny, tmp_path)}/metrics.jsonl") for size in (7, 2)}
    by_source = [line["loss_by_source"] for line in lines[7] if "loss" in line]
    assert [set(each) for each in by_source] == [{"pairs", "others"}] * 2
    for one, other in zip(lines[7], lines[2], strict=True):
        for name in ("loss_by_source", "heldout_loss_by_source"):
            assert one.get(name) == pytest.approx(other.get(name), abs=1e-5)
    loader = PackLoader(PackReader(packs), image_size=16)
    (first, heldout) = by_source[0], lines[7][-1]
    counts = {True: 0, False: 0}
    for number, (sample, _) in enumerate(mixed):
        counts[sample.image_count == 1] += loader.batch([number]).target_tokens
    assert lines[7][0]["loss"] == pytest.approx(
        (first["pairs"] * counts[True] + first["others"] * counts[False]) / sum(counts.values()), abs=1e-6
    )
    assert first["pairs"] != pytest.approx(first["others"], abs=1e-3)
    assert heldout["heldout_loss"] == pytest.approx(
        (heldout["heldout_loss_by_source"]["pairs"] * counts[True]
         + heldout["heldout_loss_by_source"]["others"] * counts[False]) / sum(counts.values()), abs=1e-6
    )  # fmt: skip


def test_the_loss_is_told_by_tag(
    mixed: list[Any], make_packs: Callable[..., str], tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    """Of training and of held-out data, whatever shares a micro-batch; targets without a tag are left out."""
    spans = {number: len(sample.loss_spans) for number, (sample, _) in enumerate(mixed)}
    tags = {0: ("caption",) * spans[0], 3: ("", "qa", *("qa",) * (spans[3] - 2)), 4: ("qa",) * spans[4]}
    items = [(dataclasses.replace(s, tags=tags.get(n, ())), images) for n, (s, images) in enumerate(mixed)]
    packs = make_packs([items[:2], *([item] for item in items[2:]), items[:1]])
    sizes = {size: read_metrics(f"{train_here(stage, size, packs, tiny, tmp_path)}/metrics.jsonl") for size in (7, 2)}
    for one, other in zip(sizes[7], sizes[2], strict=True):
        for name in ("loss_by_tag", "heldout_loss_by_tag"):
            assert one.get(name) == pytest.approx(other.get(name), abs=1e-5)
    report = [line for line in sizes[7] if "heldout_loss_by_tag" in line][-1]
    assert list(report["heldout_loss_by_tag"]) == ["caption", "qa"]
    alone = make_packs([[(dataclasses.replace(mixed[0][0], tags=()), mixed[0][1])]])
    model, _, _ = load_model(str(tmp_path / "7"))
    batch = PackLoader(PackReader(alone), image_size=16).batch([0])
    with torch.no_grad():
        assert report["heldout_loss_by_tag"]["caption"] == pytest.approx(float(model(batch).mean()), abs=1e-5)


def test_tags_of_several_devices_are_added_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each may have met others."""
    losses, names = torch.tensor([1.0, 3.0, 5.0, 2.0]), ("", "qa", "caption")
    here, there = LossByTag(), LossByTag()
    here.add(losses, torch.tensor([1, 1, 0, 2]), names)
    there.add(losses[:1], torch.tensor([0]), ("", "qa"))
    there.add(losses[1:3], torch.tensor([1, 2]), ("", "point", "caption"))

    def gather(found: list[Any], own: Any) -> None:
        found[:] = [own, there.values()]

    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    world = World(rank=0, size=2, device=torch.device("cpu"))
    assert tag_means(world.sums_by_name(here.values())) == {"caption": 3.5, "point": 3.0, "qa": 2.0}
    assert not here
    assert here.values() == {}


def train_here(stage: Stages, micro_batch: int, packs: str, tiny: ModelConfig, folder: Path) -> Path:
    """Two steps over all of seven sequences."""
    settings = {"steps": 2, "batch_sequences": 7, "micro_batch_sequences": micro_batch}
    train(stage(**settings), packs, str(folder / str(micro_batch)), model=tiny, heldout_packs=packs)
    return folder / str(micro_batch)


def test_accumulation_is_exact(packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path) -> None:
    """4 sequences at once, 1×4, and 3+1: the same losses, norms and weights up to rounding."""
    reports = {
        size: train(stage(micro_batch_sequences=size), packs, str(tmp_path / str(size)), model=tiny)
        for size in (4, 1, 3)
    }
    for size in (1, 3):
        for one, other in zip(curve(tmp_path / "4"), curve(tmp_path / str(size)), strict=True):
            assert other == pytest.approx(one, rel=1e-4)
        for name, value in weights(reports[4]).items():
            torch.testing.assert_close(weights(reports[size])[name], value, rtol=2e-3, atol=2e-4)


def test_packing_is_exact(
    pairs: list[Any], make_packs: Callable[..., str], tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    """The same 12 samples as 2 packs and as 12 single ones: the same first step, whatever their lengths."""
    packed = make_packs([pairs[:5], pairs[5:12]], context=256)
    single = make_packs([[item] for item in pairs[:12]], context=256)
    train(stage(steps=1, batch_sequences=2), packed, str(tmp_path / "p"), model=tiny)
    train(stage(steps=1, batch_sequences=12), single, str(tmp_path / "s"), model=tiny)
    one, other = curve(tmp_path / "p")[0], curve(tmp_path / "s")[0]
    assert one == pytest.approx(other, rel=1e-5)


def test_annotations_train_as_each_caption_with_its_image(
    pairs: list[Any], tokenizer: Any, make_packs: Callable[..., str], tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    """One image under three captions, the image read once, or three times with a caption each: the same steps."""
    texts = ["a red square", "seen from the left, number 12", "red"]
    several, *alone = encode_captions(tokenizer, [texts, *texts])
    image = pairs[0][1]
    together = make_packs([[pairs[1], (several, image), pairs[2]]], context=256)
    apart = make_packs([[pairs[1], *((one, image) for one in alone), pairs[2]]], context=256)
    for name, packs in (("together", together), ("apart", apart)):
        train(stage(steps=3, batch_sequences=1), packs, str(tmp_path / name), model=tiny, heldout_packs=packs)
    for one, other in zip(curve(tmp_path / "together"), curve(tmp_path / "apart"), strict=True):
        if "images" in one:
            assert (one.pop("images") + 2 * one["step"], one.pop("positions") + 10 * one["step"]) == (
                other.pop("images"),
                other.pop("positions"),
            )
        assert one == pytest.approx(other, rel=1e-4)
    with pytest.raises(ValueError, match=r"1 images with several captions.*leave data\.isolated true"):
        train(stage(isolated=False), together, str(tmp_path / "joined"), model=tiny)
    with pytest.raises(ValueError, match=r"several captions.*varlen has no mask for that, set sdpa or flex"):
        train(stage(attention="varlen"), together, str(tmp_path / "joined"), model=tiny)
    with pytest.raises(ValueError, match="several captions"):
        train(stage(isolated=False), apart, str(tmp_path / "joined"), model=tiny, heldout_packs=together)


def test_frozen_parts_do_not_move(packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path) -> None:
    report = train(stage(freeze_vision=True, freeze_language=True), packs, str(tmp_path), model=tiny)
    vocabulary = PackReader(packs).manifest["tokenizer"]["vocabulary_size"]
    for name, before in build_model(tiny, vocabulary).named_parameters():
        same = torch.equal(before, weights(report)[name])
        assert same == (not name.startswith("projector.")), name


def test_a_run_cut_short_goes_on_to_the_bit(packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path) -> None:
    settings = stage(heldout_every=2, steps=7)
    whole = train(settings, packs, str(tmp_path / "whole"), model=tiny, heldout_packs=packs)

    class Stopped(BaseException):
        """As a kill: no error that is answered."""

    out = str(tmp_path / "cut")
    steps = iter(range(5))
    batch = PackLoader.batch

    def failing(self: PackLoader, indices: Any) -> Any:
        if next(steps, None) is None:
            raise Stopped
        return batch(self, indices)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PackLoader, "batch", failing)
        for _ in range(2):  # 2 micro-batches a step and a held-out pass of 5: nothing, then still nothing, is saved
            with pytest.raises(Stopped):
                train(settings, packs, out, model=tiny, heldout_packs=packs)
        steps = iter(range(16))
        with pytest.raises(Stopped):
            train(settings, packs, out, model=tiny, heldout_packs=packs)
    assert [path[-8:] for path in list_checkpoints(f"{out}/checkpoints")] == ["00000003"]
    resumed = train(settings, packs, out, model=tiny, heldout_packs=packs)
    assert curve(out) == curve(tmp_path / "whole")
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())
    assert resumed.totals.target_tokens == whole.totals.target_tokens
    again = train(settings, packs, out, model=tiny, heldout_packs=packs)
    assert again == resumed, "a finished stage was run again"


def test_other_settings_or_packs_do_not_continue_a_run(
    packs: str, pairs: list[Any], make_packs: Callable[..., str], tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    out = str(tmp_path / "out")
    train(stage(), packs, out, model=tiny)
    with pytest.raises(ValueError, match=r"learning_rate 0.003 → 0.1"):
        train(stage(learning_rate=0.1), packs, out, model=tiny)
    with pytest.raises(ValueError, match="over other packs"):
        train(stage(), make_packs([pairs[:3]]), out, model=tiny)
    train(stage(num_workers=1, keep_last=5, micro_batch_sequences=1), packs, out, model=tiny)


def test_a_run_made_before_settings_were_grouped_goes_on(
    packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    """Its checkpoints name the settings side by side, and know no epsilon."""
    settings = {
        "kind": "pretrain", "learning_rate": 3e-3, "weight_decay": 0.01, "betas": [0.9, 0.999], "warmup": 0.1,
        "gradient_clip": 1.0, "epochs": 1.0, "steps": 6, "batch_sequences": 4, "freeze_vision": False,
        "freeze_projector": False, "freeze_language": False, "precision": "fp32", "seed": 0, "isolated": True,
        "blank_images": False,
    }  # fmt: skip
    for name in ("whole", "cut"):
        train(stage(), packs, str(tmp_path / name), model=tiny)
    for step in ("step-00000003", "step-00000006"):
        path = tmp_path / "cut" / "checkpoints" / step / "state.json"
        state = json.loads(path.read_text())
        state["identity"]["stage"] = settings
        path.write_text(json.dumps(state))
    with pytest.raises(ValueError, match=r"optimizer\.learning_rate 0.003 → 0.1"):
        train(stage(learning_rate=0.1), packs, str(tmp_path / "cut"), model=tiny)
    (tmp_path / "cut" / "checkpoints" / "step-00000006" / "state.json").unlink()
    resumed = train(stage(), packs, str(tmp_path / "cut"), model=tiny)
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    final = read_tensors(str(tmp_path / "whole" / "checkpoints" / "step-00000006"), "model")
    assert all(torch.equal(value, final[name]) for name, value in weights(resumed).items())


def test_an_evaluation_that_fails_costs_no_step(
    packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a checkpoint is due (at the end) and where none is; it is made again, and the curve is as if nothing had
    been."""
    settings, measured = stage(steps=3, heldout_every=2, checkpoint_every=100), PackTask._heldout_loss
    whole = train(settings, packs, str(tmp_path / "whole"), model=tiny, heldout_packs=packs)
    calls = iter(range(9))

    def failing(self: PackTask, *arguments: Any) -> Any:
        if next(calls) in (0, 2):
            raise PackError("held-out packs are damaged")
        return measured(self, *arguments)

    monkeypatch.setattr(PackTask, "_heldout_loss", failing)
    out = tmp_path / "failed"
    for number, step in enumerate((2, 3)):
        with pytest.raises(PackError, match="held-out packs"):
            train(settings, packs, str(out), model=tiny, heldout_packs=packs)
        assert list_checkpoints(f"{out}/checkpoints")[number:] == [f"{out}/checkpoints/step-0000000{step}"]
    with (out / "metrics.jsonl").open("a") as file:  # as a kill after this line and before the checkpoint's note of it
        file.write('{"step": 3, "heldout_loss": 0.0}\n')
    report = train(settings, packs, str(out), model=tiny, heldout_packs=packs)
    assert curve(out) == curve(tmp_path / "whole")
    assert report.totals.heldout_loss == whole.totals.heldout_loss
    assert train(settings, packs, str(out), model=tiny, heldout_packs=packs) == report
    assert next(calls) == 4, "what is evaluated is not evaluated again"


def test_a_stop_request_leaves_a_checkpoint(
    packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(stage(checkpoint_every=100), packs, str(tmp_path / "whole"), model=tiny)
    batch = PackLoader.batch
    calls = []

    def stopping(self: PackLoader, indices: Any) -> Any:
        calls.append(indices)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGTERM)
        return batch(self, indices)

    monkeypatch.setattr(PackLoader, "batch", stopping)
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(TrainingInterrupted, match="stopped after step 2 of 6"):
        train(stage(checkpoint_every=100), packs, str(tmp_path / "cut"), model=tiny)
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = train(stage(checkpoint_every=100), packs, str(tmp_path / "cut"), model=tiny)
    assert curve(tmp_path / "cut") == curve(tmp_path / "whole")
    assert all(torch.equal(value, weights(resumed)[name]) for name, value in weights(whole).items())


def test_metrics_are_cut_back_to_the_checkpoint(packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path) -> None:
    train(stage(), packs, str(tmp_path), model=tiny)
    metrics = tmp_path / "metrics.jsonl"
    whole = curve(tmp_path)
    last = tmp_path / "checkpoints" / "step-00000006"
    for file in sorted(last.rglob("*"), reverse=True):
        file.unlink() if file.is_file() else file.rmdir()
    last.rmdir()
    metrics.write_text(metrics.read_text() + '{"step": 7, "loss"')  # killed in mid-line
    train(stage(), packs, str(tmp_path), model=tiny)
    assert curve(tmp_path) == whole


def test_only_the_last_checkpoints_are_kept(packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path) -> None:
    train(stage(checkpoint_every=1, keep_last=2), packs, str(tmp_path), model=tiny)
    assert [path[-2:] for path in list_checkpoints(str(tmp_path / "checkpoints"))] == ["05", "06"]
    half_removed = tmp_path / "checkpoints" / "step-00000004" / "vision"  # a kill left it
    half_removed.mkdir(parents=True)
    (tmp_path / "checkpoints" / "step-00000003.partial").mkdir()  # so of writing one, of a step that is over
    train(stage(checkpoint_every=1, keep_last=2), packs, str(tmp_path), model=tiny)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["step-00000005", "step-00000006"]


def test_sft_goes_on_from_pretraining(
    packs: str, chats: list[Any], make_packs: Callable[..., str], tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    pretrained = train(stage(), packs, str(tmp_path / "pretrain"), model=tiny)
    own = Path(pretrained.checkpoint) / "tokenizer" / "chat_template.jinja"
    assert own.exists()
    own.write_text("{{ 'You are a language model.' }}" + own.read_text())  # as Qwen2.5's opens; the packs do not
    conversations = make_packs([chats], context=256)
    changes = {"learning_rate": 1e-9, "steps": 1, "batch_sequences": 1, "precision": "fp32", "num_workers": 0}
    sft = configured(SFTConfig, **changes)
    report = train(sft, conversations, str(tmp_path / "sft"), init=str(tmp_path / "pretrain"))
    for name, value in weights(pretrained).items():
        torch.testing.assert_close(weights(report)[name], value, rtol=1e-5, atol=1e-6)
    assert load_model(report.checkpoint)[2]["chat_template"] == CHATML
    answers = sum(end - start for sample, _ in chats for start, end in sample.loss_spans)
    assert report.totals.target_tokens == answers
    assert load_model(report.checkpoint)[2]["kind"] == "sft"


def test_a_gradient_that_is_not_finite_stops_the_run(
    packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    train(stage(steps=1), packs, str(tmp_path / "a"), model=tiny)
    folder = list_checkpoints(str(tmp_path / "a" / "checkpoints"))[0]
    tensors = read_tensors(folder, "model")
    tensors["projector.fc1.weight"][0, 0] = float("nan")
    save_file(tensors, f"{folder}/model.safetensors")
    with pytest.raises(FloatingPointError, match=r"Lower optimizer\.learning_rate"):
        train(stage(), packs, str(tmp_path / "b"), init=folder)
    assert not list_checkpoints(str(tmp_path / "b" / "checkpoints"))


def test_steps_that_are_not_finite_are_skipped_by_policy_and_their_samples_named(
    packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sample spoils the steps that it is in; without them the run is as if it had not been."""
    spoilt = PackReader(packs)[1].uids[0]
    token_losses = VisionLanguageModel.token_losses

    def spoiling(self: VisionLanguageModel, batch: PackedBatch, *, z: bool = False) -> torch.Tensor:
        here = torch.tensor([batch.uids[sample] == spoilt for sample in batch.samples_M.tolist()])
        return token_losses(self, batch, z=z) * torch.where(here, torch.nan, 1.0)

    monkeypatch.setattr(VisionLanguageModel, "token_losses", spoiling)
    settings = {"steps": 8, "batch_sequences": 2, "micro_batch_sequences": 2, "checkpoint_every": 3}
    with pytest.raises(FloatingPointError, match=f"not finite: the loss of {spoilt}.*skip_non_finite"):
        train(stage(**settings), packs, str(tmp_path / "stopped"), model=tiny)
    groups = (GroupConfig(match="projector"), GroupConfig(match="language"), GroupConfig(match="vision"))
    passing = dataclasses.replace(
        stage(**settings, skip_non_finite=8), freeze=FreezeConfig(), train=groups, z_loss=1e-3
    )
    report = train(passing, packs, str(tmp_path / "skipped"), model=tiny)
    lines = read_metrics(str(tmp_path / "skipped" / "metrics.jsonl"))
    skipped = [line for line in lines if "skipped" in line]
    assert 0 < len(skipped) == report.totals.skipped < 8
    assert all(line["skipped"] == [spoilt] for line in skipped)
    assert not any({"loss", "z_loss", "gradient_norm", "gradient_norm_by_group"} & line.keys() for line in skipped)
    assert "NaN" not in (tmp_path / "skipped" / "metrics.jsonl").read_text()
    assert all(torch.isfinite(value).all() for value in weights(report).values())
    with pytest.raises(FloatingPointError):
        train(stage(**settings, skip_non_finite=len(skipped) - 1), packs, str(tmp_path / "bound"), model=tiny)


def test_a_batch_of_samples_is_the_batch_of_those_samples_unpacked(
    packs: str, pairs: list[Any], make_packs: Callable[..., str], tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    """As many samples a step in the mean, over packed sequences and over samples alone."""
    single = make_packs([[item] for item in pairs])
    counted = {"batch_sequences": None, "steps": None, "epochs": 2.0, "checkpoint_every": 100}
    runs = {"packed": (packs, {"batch_samples": 10}), "single": (single, {"batch_samples": 10})}
    runs["targets"] = (packs, {"batch_targets": 100})
    for name, (root, batch) in runs.items():
        train(stage(**counted, **batch), root, str(tmp_path / name), model=tiny)
    lines = {name: curve(tmp_path / name) for name in ("packed", "single", "targets")}
    assert len(lines["packed"]) == len(lines["single"]) == 8
    assert lines["packed"][-1]["images"] == lines["single"][-1]["images"] == 80
    assert [line["images"] for line in lines["single"]] == [10 * step for step in range(1, 9)]
    targets = sum(end - start for sample, _ in pairs for start, end in sample.loss_spans)
    assert len(lines["targets"]) == -(-2 * targets // 100)


def test_groups_train_what_they_name_at_their_own_rates(
    packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    groups = (
        GroupConfig(match="projector", gradient_clip=1e-3),
        GroupConfig(match="vision", last_blocks=1, learning_rate=1e-4),
        GroupConfig(match="language.model.embed_tokens", warmup=0.0),
    )
    settings = dataclasses.replace(stage(steps=3), freeze=FreezeConfig(), train=groups, z_loss=1e-2)
    report = train(settings, packs, str(tmp_path), model=tiny)
    before = dict(build_model(tiny, 300).named_parameters())
    moved = {name for name, value in weights(report).items() if not torch.equal(value, before[name])}
    assert {name.partition(".layers.")[0] for name in moved} >= {
        "vision.siglip.encoder",
        "language.model.embed_tokens.weight",
    }
    assert not any(name.startswith("language.model.layers") for name in moved)
    assert not any("embeddings" in name for name in moved if name.startswith("vision"))
    lines = read_metrics(f"{tmp_path}/metrics.jsonl")
    assert lines[0]["learning_rate_by_group"]["vision (last 1)"] == pytest.approx(lines[0]["learning_rate"] / 30)
    norms = lines[0]["gradient_norm_by_group"]
    assert sum(norm**2 for norm in norms.values()) == pytest.approx(lines[0]["gradient_norm"] ** 2, rel=1e-4)
    assert lines[0]["z_loss"] == pytest.approx(1e-2 * math.log(300) ** 2, rel=0.3)
    train(dataclasses.replace(settings, z_loss=0.0), packs, str(tmp_path / "plain"), model=tiny)
    plain = read_metrics(f"{tmp_path}/plain/metrics.jsonl")[0]
    assert plain["loss"] == pytest.approx(lines[0]["loss"], rel=1e-6), "the loss is without it"
    assert "z_loss" not in plain


def test_the_loss_is_the_weighted_mean_and_z_loss_the_weighted_penalty(
    packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over target tokens of unequal weight; the loss is the same with the penalty, in the totals too."""
    load = PackLoader.batch

    def weighted(self: PackLoader, indices: Any) -> PackedBatch:
        batch = load(self, indices)
        return dataclasses.replace(batch, weights_M=batch.targets_M % 3 + 0.25)

    monkeypatch.setattr(PackLoader, "batch", weighted)
    reader = PackReader(packs)
    batch = PackLoader(reader, image_size=16).batch(range(len(reader)))
    assert batch.weights_M is not None
    losses_M, squares_M = build_model(tiny, 300).token_losses(batch, z=True).detach() * batch.weights_M
    mean, penalty = (float(values.sum() / batch.weights_M.sum()) for values in (losses_M, squares_M))
    assert mean != pytest.approx(float(losses_M.sum()) / batch.target_tokens, rel=0.05)
    for z in (0.0, 1e-2):
        settings = stage(steps=1, batch_sequences=len(reader), micro_batch_sequences=len(reader), z_loss=z)
        report = train(settings, packs, str(tmp_path / str(z)), model=tiny)
        (line,) = read_metrics(f"{tmp_path}/{z}/metrics.jsonl")
        assert line["loss"] == report.totals.loss == pytest.approx(mean, rel=1e-3)
        assert line.get("z_loss", 0.0) == pytest.approx(z * penalty, rel=1e-3)


def test_what_cannot_start_says_why(packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="either model"):
        train(stage(), packs, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        train(stage(), packs, str(tmp_path), init=str(tmp_path / "nowhere"))
    with pytest.raises(ValueError, match=r"manifest\.json is missing"):
        train(stage(), str(tmp_path / "nothing"), str(tmp_path), model=tiny)


SCRIPT = """
import pickle, sys
import torch
torch.set_num_threads(1)
from mmcorpus.training import train
spec = pickle.load(open(sys.argv[1], "rb"))
report = train(spec["stage"], spec["packs"], spec["out"], model=spec["model"], device="cpu")
print(report.checkpoint)
"""


@pytest.mark.soak
def test_killed_at_any_moment_it_goes_on_to_the_bit(
    packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    settings = stage(steps=40, checkpoint_every=4, num_workers=1)
    whole = train(settings, packs, str(tmp_path / "whole"), model=tiny)
    spec = tmp_path / "spec.pickle"
    out = tmp_path / "killed"
    spec.write_bytes(pickle.dumps({"stage": settings, "packs": packs, "out": str(out), "model": tiny}))
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(SCRIPT))
    kills = 0
    for wanted in (6, 25, 1000):
        process = subprocess.Popen([sys.executable, str(script), str(spec)], stdout=subprocess.PIPE, text=True)
        while process.poll() is None and _lines(out) < wanted:
            time.sleep(0.005)
        if process.poll() is None:
            process.kill()
            kills += 1
        process.communicate()
    assert kills == 2
    assert process.returncode == 0
    assert curve(out) == curve(tmp_path / "whole")
    final = read_tensors(list_checkpoints(str(out / "checkpoints"))[-1], "model")
    assert all(torch.equal(value, final[name]) for name, value in weights(whole).items())


def _lines(out: Path) -> int:
    metrics = out / "metrics.jsonl"
    return metrics.read_bytes().count(b"\n") if metrics.exists() else 0


def test_sequences_that_cannot_be_read_cost_themselves_up_to_a_bound(
    pairs: list[Any], tokenizer_folder: str, tiny: ModelConfig, stage: Stages, tmp_path: Path, caplog: Any
) -> None:
    packs = write_packs(
        str(tmp_path / "packs"), first_fit(pairs[:12], 4, 64), tokenizer_folder, tokens_per_image=4, context=64
    )
    reader, tar = PackReader(packs), tmp_path / "packs/00000.tar"
    assert len(reader) >= 3
    data = bytearray(tar.read_bytes())
    data[reader.index["offset"][1].as_py() + 700] ^= 0xFF
    tar.write_bytes(data)
    settings = {"steps": len(reader), "batch_sequences": 1, "micro_batch_sequences": 1}
    with pytest.raises(PackError, match=r"00000\.tar: sequence 1 .*damaged"):
        train(stage(**settings), packs, str(tmp_path / "refused"), model=tiny)
    totals = train(stage(**settings, skip_corrupt=1), packs, str(tmp_path / "skipped"), model=tiny).totals
    assert (totals.step, totals.corrupt_sequences) == (len(reader), 1)
    assert "sequence 1" in caplog.text
    assert read_metrics(f"{tmp_path}/skipped/metrics.jsonl")[-1]["corrupt_sequences"] == 1
    twice = settings | {"steps": 2 * len(reader)}
    with pytest.raises(PackError, match=r"2 sequences could not be read, more than data\.skip_corrupt 1"):
        train(stage(**twice, skip_corrupt=1), packs, str(tmp_path / "stopped"), model=tiny)


def test_damage_is_counted_over_all_devices_and_named_wherever_it_was_read(
    packs: str, tiny: ModelConfig, stage: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = PackTask(
        stage(skip_corrupt=3), PackReader(packs), None, {}, build_model(tiny, 300), None,  # type: ignore[arg-type]
        World(rank=0, size=1, device=torch.device("cpu")),
    )  # fmt: skip
    task.totals.corrupt_sequences = 2
    monkeypatch.setattr(World, "gathered", lambda self, names: [*names, "00001.tar: sequence 7 is damaged"])
    task.check({"corrupt_sequences": 1})
    with pytest.raises(PackError, match=r"4 sequences .*skip_corrupt 3 .*step 1: 00001\.tar: sequence 7"):
        task.check({"corrupt_sequences": 2})
    task.totals.corrupt_sequences = 9
    task.check({"corrupt_sequences": 0})


def test_a_certificate_of_more_sequences_than_there_are_looks_no_further(
    packs: str, tiny: ModelConfig, stage: Stages, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = PackReader(packs)
    task = PackTask(
        stage(certify=99, steps=1000, batch_sequences=2), reader, None, {}, build_model(tiny, 300), None,  # type: ignore[arg-type]
        World(rank=0, size=1, device=torch.device("cpu")),
    )  # fmt: skip
    asked, of_step = list[int](), task.order.step
    monkeypatch.setattr(task.order, "step", lambda step: asked.append(step) or of_step(step))
    monkeypatch.setattr("mmcorpus.training.vision_language.certify", lambda _, __, sequences, *___, **____: sequences)
    assert sorted(task.certified()) == list(range(len(reader)))
    assert asked == list(range(-(-len(reader) // 2)))
