"""Checkpoints: whole or absent, local and remote."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from mmcorpus.curation.store import storage
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.training.checkpoint import (
    Saving,
    begin_checkpoint,
    list_checkpoints,
    load_model,
    load_optimizer,
    load_weights,
    optimizer_tensors,
    read_tensors,
    resolve_checkpoint,
    save_model,
)
from mmcorpus.training.config import ModelConfig, StageConfig
from mmcorpus.training.model import VisionLanguageModel
from mmcorpus.training.optim import OptimizerConfig
from mmcorpus.training.vision_language import train


def save(root: str, model: VisionLanguageModel, tokenizer: Any, step: int) -> str:
    state = {"step": step, "kind": "pretrain", "model": dataclasses.asdict(model.config)}
    optimizer = OptimizerConfig().build(model)
    return begin_checkpoint(
        root, state, model, optimizer, dict(model.named_parameters()),
        lambda folder, weights: save_model(folder, model, tokenizer, weights),
        keep_last=2, write=True, device=torch.device("cpu"), background=False,
    ).wait()  # fmt: skip


def test_what_is_saved_is_loaded(model: VisionLanguageModel, tokenizer_folder: str, tmp_path: Path) -> None:
    path = save(str(tmp_path), model, load_tokenizer(tokenizer_folder), 7)
    for name in (path, str(tmp_path)):
        loaded, tokenizer, state = load_model(name)
        assert state["step"] == 7
        assert tokenizer.get_vocab() == load_tokenizer(tokenizer_folder).get_vocab()
        for before, after in zip(model.parameters(), loaded.parameters(), strict=True):
            assert torch.equal(before, after)
    assert loaded.language.lm_head.weight is loaded.language.model.embed_tokens.weight, "tied weights came apart"


def test_a_failed_save_leaves_nothing(
    model: VisionLanguageModel, tokenizer_folder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    save(str(tmp_path), model, tokenizer, 1)

    def full(path: str, value: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(storage, "write_json", full)
    with pytest.raises(OSError, match=storage.DISK_FULL):
        save(str(tmp_path), model, tokenizer, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


def test_a_half_written_checkpoint_is_not_found(
    model: VisionLanguageModel, tokenizer_folder: str, tmp_path: Path
) -> None:
    """As a remote upload, or a copy by hand, leaves it when it is cut off."""
    tokenizer = load_tokenizer(tokenizer_folder)
    first = save(str(tmp_path), model, tokenizer, 1)
    second = Path(save(str(tmp_path), model, tokenizer, 2))
    (second / "state.json").unlink()
    assert list_checkpoints(str(tmp_path)) == [first]
    assert resolve_checkpoint(str(tmp_path)) == first


def test_the_optimiser_comes_back(model: VisionLanguageModel) -> None:
    optimizer = OptimizerConfig().build(model)
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    optimizer.step()
    saved = optimizer_tensors(model, optimizer)
    assert len(saved) == 3 * len(list(model.parameters()))
    other = OptimizerConfig().build(model)
    load_optimizer(model, other, saved)
    for parameter in model.parameters():
        for key, value in optimizer.state[parameter].items():
            assert torch.equal(other.state[parameter][key], value)


def test_weights_of_another_model_are_refused(model: VisionLanguageModel) -> None:
    tensors = {name: parameter.detach() for name, parameter in model.named_parameters()}
    tensors["projector.fc1.weight"] = torch.zeros(1, 1)
    with pytest.raises(ValueError, match=r"projector\.fc1\.weight"):
        load_weights(model, tensors)


def test_what_is_written_in_the_background_is_what_was_there_at_its_beginning(
    model: VisionLanguageModel, tokenizer_folder: str, tmp_path: Path
) -> None:
    """And the same bytes as when it is waited for, which are those of safetensors' own writer."""
    tokenizer, optimizer = load_tokenizer(tokenizer_folder), OptimizerConfig().build(model)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()

    def begin(root: str, background: bool) -> Saving:
        state = {"step": 1, "kind": "pretrain", "model": dataclasses.asdict(model.config)}
        return begin_checkpoint(
            f"{tmp_path}/{root}", state, model, optimizer, dict(model.named_parameters()),
            lambda folder, weights: save_model(folder, model, tokenizer, weights),
            keep_last=1, write=True, device=torch.device("cpu"), background=background,
        )  # fmt: skip

    torch.manual_seed(0)
    waited = begin("waited", False).wait()
    save_file({name: value.detach() for name, value in model.named_parameters()}, tmp_path / "model")
    save_file(optimizer_tensors(model, optimizer), tmp_path / "optimizer")
    beside = begin("beside", True)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
            optimizer.state[parameter]["exp_avg"].zero_()
    torch.rand(3)
    beside.wait()
    files = [path.relative_to(waited) for path in Path(waited).rglob("*") if path.is_file()]
    assert len(files) > 6
    for file in files:
        assert Path(waited, file).read_bytes() == Path(beside.path, file).read_bytes(), file
    for name in ("model", "optimizer"):
        assert Path(waited, f"{name}.safetensors").read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.slow
def test_a_run_on_an_object_store(
    packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], s3_root: str, tmp_path: Path
) -> None:
    """Packs, metrics and checkpoints over S3: interrupted between checkpoints, it ends as a local run does."""
    local = train(stage(), packs, str(tmp_path), model=tiny)
    for path in Path(packs).rglob("*"):
        if path.is_file():
            storage.write_bytes(f"{s3_root}/packs/{path.relative_to(packs).as_posix()}", path.read_bytes())
    out = f"{s3_root}/out"
    train(stage(), f"{s3_root}/packs", out, model=tiny)
    storage.remove(f"{out}/checkpoints/step-00000006/state.json")
    remote = train(stage(), f"{s3_root}/packs", out, model=tiny)
    here, there = (read_tensors(report.checkpoint, "model") for report in (local, remote))
    assert all(torch.equal(value, there[name]) for name, value in here.items())
    assert storage.read_bytes(f"{out}/metrics.jsonl").count(b"\n") == 6


@pytest.mark.parametrize("name", ["model", "optimizer", "rng"])
def test_tensors_that_cannot_be_read_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / f"{name}.safetensors"
    for data in (b"", b"\xff" * 100, b"\x08\0\0\0\0\0\0\0{cut"):
        path.write_bytes(data)
        with pytest.raises(storage.Damaged, match=rf"{name}\.safetensors is damaged, or no part of a checkpoint"):
            read_tensors(str(tmp_path), name)
