"""Checkpoints of sharded models: each process its part, read by any number, and the errors of one raised in all."""

import filecmp
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint import HuggingFaceStorageReader

from mmcorpus.curation.store import storage
from mmcorpus.training import StageConfig
from mmcorpus.training.checkpoint import load_model, open_tensors, read_tensors
from mmcorpus.training.config import ModelConfig
from mmcorpus.training.exchange.checkpoint import read_parts
from mmcorpus.training.folder import part_of_folder, shard_name
from mmcorpus.training.launch import launch
from mmcorpus.training.sharded import _waited, _Writer
from mmcorpus.training.tensors import Planned, write_file

WHOLE = {"rows": torch.arange(15.0).reshape(5, 3), "columns": torch.randn(2, 6).bfloat16(), "step": torch.tensor(7.0)}


def write_parts(folder: Path, kind: str = "model") -> list[Path]:
    """Two processes' files: rows 0-2 and 3-4, columns 0-3 and 4-5, and what is not sharded in the first alone."""
    folder.mkdir(exist_ok=True)
    paths = [folder / shard_name(kind, rank, 2) for rank in (0, 1)]
    cuts = ({"rows": (slice(0, 3),), "columns": (slice(None), slice(0, 4)), "step": ()},
            {"rows": (slice(3, 5),), "columns": (slice(None), slice(4, 6))})  # fmt: skip
    for path, cut in zip(paths, cuts, strict=True):
        parts = []
        for name, slices in cut.items():
            part = WHOLE[name][slices]
            offset = [one.start or 0 for one in slices] + [0] * (part.ndim - len(slices))
            parts.append(Planned(name, tuple(part.shape), lambda part=part: part, part.dtype, tuple(offset)))  # type: ignore[misc]
        write_file(str(path), parts, None)
    return paths


def test_parts_are_read_as_what_they_are_parts_of(tmp_path: Path) -> None:
    write_parts(tmp_path)
    opened = open_tensors(str(tmp_path), "model")
    assert opened.shapes == {name: tuple(tensor.shape) for name, tensor in WHOLE.items()}
    for name, tensor in WHOLE.items():
        assert torch.equal(opened[name](), tensor)
    storage.write_bytes(
        "memory://parts/model-00001-of-00002.safetensors", (tmp_path / shard_name("model", 0, 2)).read_bytes()
    )
    storage.write_bytes(
        "memory://parts/model-00002-of-00002.safetensors", (tmp_path / shard_name("model", 1, 2)).read_bytes()
    )
    remote = read_tensors("memory://parts", "model")
    assert all(torch.equal(remote[name], tensor) for name, tensor in WHOLE.items())


def test_dcp_itself_reads_them(tmp_path: Path) -> None:
    write_parts(tmp_path)
    state = {name: torch.zeros_like(tensor) for name, tensor in WHOLE.items()}
    dcp.load(state, storage_reader=HuggingFaceStorageReader(str(tmp_path)), no_dist=True)
    assert all(torch.equal(state[name], tensor) for name, tensor in WHOLE.items())


def test_a_part_that_is_missing_or_cut_is_named(tmp_path: Path) -> None:
    first, second = write_parts(tmp_path)
    whole = second.read_bytes()
    second.write_bytes(whole[:-1])
    with pytest.raises(storage.Damaged, match=r"model-00002-of-00002\.safetensors is damaged"):
        open_tensors(str(tmp_path), "model")
    second.unlink()
    with pytest.raises(storage.Damaged, match=r"model-00002-of-00002\.safetensors.*the file is missing"):
        open_tensors(str(tmp_path), "model")
    second.write_bytes(first.read_bytes())
    with pytest.raises(storage.Damaged, match=r"the parts of \w+ in 2 files do not fill it"):
        open_tensors(str(tmp_path), "model")
    with pytest.raises(FileNotFoundError, match=r"optimizer\.safetensors"):
        open_tensors(str(tmp_path), "optimizer")


def test_dcp_writes_a_whole_checkpoint_or_none(tmp_path: Path) -> None:
    """One process, which DCP needs no group for: what is there before goes, and nothing is there when a part fails."""
    root, done = str(tmp_path / "step-00000001"), list[str]()
    state = {
        "model": {"w": torch.randn(4, 2)},
        "optimizer": {"exp_avg.w": torch.ones(4, 2), "step.w": torch.tensor(3.0)},
    }

    def rest(folder: str) -> None:
        storage.write_json(f"{folder}/state.json", {"step": 1})

    with part_of_folder(root) as left:
        Path(left, shard_name("model", 0, 3)).write_bytes(b"of a run with three processes that was killed")
    dcp.save(state, storage_writer=_Writer(root, rest, lambda: done.append("then")), no_dist=True)
    names = ["model-00001-of-00001.safetensors", "optimizer-00001-of-00001.safetensors", "state.json"]
    assert (sorted(storage.list_names(root)), done) == (names, ["then"])
    for kind, tensors in state.items():
        assert all(torch.equal(read_tensors(root, kind)[name], tensor) for name, tensor in tensors.items())

    def full(folder: str) -> None:
        raise OSError(28, "No space left on device")

    other = str(tmp_path / "step-00000002")
    with pytest.raises(OSError, match=storage.DISK_FULL):
        _waited(other, lambda: dcp.save(state, storage_writer=_Writer(other, full, lambda: None), no_dist=True))
    assert [path.name for path in tmp_path.iterdir()] == ["step-00000001"]


class OfAStore(Exception):
    """As clients of stores have them: pickled, but not read again."""

    def __init__(self, code: int, words: str) -> None:
        super().__init__(f"{code}: {words}")


def test_an_error_that_cannot_be_sent_is_told_all_the_same(tmp_path: Path) -> None:
    """One process could not read what another sent, failed of that, and left the rest waiting."""

    def refused(folder: str) -> None:
        raise OfAStore(403, "not allowed")

    root = str(tmp_path / "step-00000001")
    with pytest.raises(RuntimeError, match="OfAStore: 403: not allowed") as found:
        _waited(root, lambda: dcp.save({}, storage_writer=_Writer(root, refused, lambda: None), no_dist=True))
    assert str(pickle.loads(pickle.dumps(found.value))) == str(found.value)


def test_a_part_on_another_machines_disk_is_told(tmp_path: Path) -> None:
    writer = _Writer(str(tmp_path / "step-00000001"), lambda folder: None, lambda: None)
    writer.ranks = 2
    with pytest.raises(FileNotFoundError, match=r"model-00001-of-00002\.safetensors.*one that all machines share"):
        writer.finish(None, [])  # type: ignore[arg-type]


@pytest.mark.soak
def test_sharded_checkpoints_are_equal_in_the_background_and_go_on_in_one_process(
    packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"steps": 3, "checkpoint_every": 1, "keep_last": 3, "parallel": "shard", "certify": 0}
    waited, beside = str(tmp_path / "waited"), str(tmp_path / "beside")
    launch(2, stage(**settings), packs, waited, model=tiny, device="cpu")
    launch(2, stage(**settings, asynchronous=True), packs, beside, model=tiny, device="cpu")
    for step in (1, 2, 3):
        one, other = (Path(root, "checkpoints", f"step-{step:08d}") for root in (waited, beside))
        names = sorted(path.name for path in one.glob("*.safetensors"))
        assert names == [shard_name(kind, rank, 2) for kind in ("model", "optimizer") for rank in (0, 1)] + [
            "rng.safetensors"
        ]
        assert filecmp.cmpfiles(one, other, names, shallow=False)[0] == names
    whole = {kind: read_tensors(str(one), kind) for kind in ("model", "optimizer")}
    storage.remove(str(one))
    report = launch(1, stage(**settings), packs, waited, model=tiny, device="cpu")
    assert Path(report.checkpoint, "model.safetensors").exists()
    for kind, tensors in whole.items():
        again = read_tensors(report.checkpoint, kind)
        for name, value in tensors.items():
            torch.testing.assert_close(again[name], value, rtol=2e-3, atol=2e-4)
    model, _, state = load_model(str(other))
    parts = read_parts(str(other))
    assert state["step"] == parts.step == 3
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, whole["model"][name])
        assert torch.equal(parts.weights[name](), whole["model"][name])
