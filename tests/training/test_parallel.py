"""Two processes train as one does (invariant 7); sharding changes nothing."""

import os
import pickle
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmcorpus.curation.store import storage
from mmcorpus.training import StageConfig, TrainingInterrupted, read_metrics
from mmcorpus.training.checkpoint import list_checkpoints, read_tensors
from mmcorpus.training.config import DropoutConfig, ModelConfig
from mmcorpus.training.launch import _error, launch, processes_here
from mmcorpus.training.parallel import World, open_world
from mmcorpus.training.rendezvous import environments
from mmcorpus.training.vision_language import _check_split
from tests.training.test_tiling import model_config, settings, write


def test_alone_nothing_is_communicated() -> None:
    with open_world("cpu") as world:
        assert (world.rank, world.size, world.is_main) == (0, 1, True)
        assert world.sums([1.0, 2.0]) == [1.0, 2.0]
        parameter = nn.Parameter(torch.ones(2))
        world.all_reduce_gradients([parameter])
        assert parameter.grad is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"batch_sequences": 1}, "less than 2 devices")],
)
def test_batches_that_cannot_be_shared_are_refused(
    changes: dict[str, Any], message: str, stage: Callable[..., StageConfig]
) -> None:
    with pytest.raises(ValueError, match=message):
        _check_split(stage(**changes), World(rank=0, size=2, device=torch.device("cpu")))


@pytest.mark.soak
def test_two_processes_are_one(
    packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    """Also where the batch is counted in samples, so that one device may have more micro-batches than the other, where
    some values are dropped, and where a run goes on with another number of processes."""
    settings: dict[str, Any] = {"batch_sequences": None, "batch_samples": 9, "checkpoint_every": 2, "heldout_every": 2}
    settings |= {"dropout": DropoutConfig(residual=0.05, response=0.2)}
    held = {"model": tiny, "heldout_packs": packs, "device": "cpu"}
    alone = launch(1, stage(**settings, steps=4), packs, str(tmp_path / "alone"), **held)
    one = read_metrics(f"{tmp_path}/alone/metrics.jsonl")
    for name, changes in (
        ("replicate", {"parallel": "replicate"}),
        ("shard", {"parallel": "shard", "reshard": False}),
    ):
        out = str(tmp_path / name)
        with_two = stage(**settings, steps=4, certify=4, **changes)
        if name == "shard":
            launch(1, with_two, packs, out, **held)
            storage.remove(f"{out}/checkpoints/step-00000004")
        report = launch(2, with_two, packs, out, **held)
        assert report.totals.step == 4
        two = read_metrics(f"{out}/metrics.jsonl")
        assert len(one) == len(two)
        for line, other in zip(one, two, strict=True):
            for key in ("step", "loss", "gradient_norm", "tokens", "images", "heldout_loss"):
                assert other.get(key, 0) == pytest.approx(line.get(key, 0), rel=1e-4), (name, key, line)
        if name == "replicate":
            certificate = storage.read_json(f"{out}/certificate.json")
            assert certificate["devices"] == 2
            assert certificate["devices_apart"] < 1e-6
        weights = read_tensors(report.checkpoint, "model")
        for parameter, value in read_tensors(alone.checkpoint, "model").items():
            torch.testing.assert_close(weights[parameter], value, rtol=2e-3, atol=2e-4)


@pytest.mark.soak
def test_sharded_weights_that_stay_whole_are_trained_and_saved_as_those_of_one_process(
    tokenizer_folder: str, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    """Though they have been run without a gradient before (the certificate) and between (the held-out loss); the
    images of one process have one size, those of the other several."""
    groups = [[0, 3], [1], [6, 2, 4], [9], [5, 7, 8], [12]]
    packs = write(str(tmp_path / "packs"), settings("native"), tokenizer_folder, groups)
    changes: dict[str, Any] = {
        "steps": 2, "batch_sequences": 3, "certify": 4, "heldout_every": 1, "checkpoint_every": 1
    }  # fmt: skip
    named = {"model": model_config("native"), "heldout_packs": packs, "device": "cpu"}
    one = launch(1, stage(**changes), packs, str(tmp_path / "one"), **named)
    two = launch(2, stage(**changes, parallel="shard", reshard=False), packs, str(tmp_path / "two"), **named)
    assert storage.read_json(f"{tmp_path}/two/certificate.json")["devices"] == 2
    for part in ("model", "optimizer"):
        whole, shared = (read_tensors(report.checkpoint, part) for report in (one, two))
        assert whole.keys() == shared.keys()
        for name, value in whole.items():
            assert shared[name].dtype == torch.float32
            torch.testing.assert_close(shared[name], value, rtol=2e-3, atol=2e-4, msg=name)


@pytest.mark.soak
def test_a_request_to_stop_reaches_every_process_once_and_leaves_a_checkpoint(
    packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    """And what is raised in one is raised here. Meanwhile nobody else can talk to them."""
    metrics, heard = tmp_path / "out" / "metrics.jsonl", list[str]()
    others = children()  # Ray's, of other tests

    def stop() -> None:
        while not metrics.exists() or metrics.read_bytes().count(b"\n") < 2:
            time.sleep(0.02)
        heard.extend(listening(children() - others))
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=stop, daemon=True).start()
    endless = stage(steps=100_000, checkpoint_every=100_000)
    with pytest.raises(TrainingInterrupted, match="run again to go on from"):
        launch(2, endless, packs, str(tmp_path / "out"), model=tiny, device="cpu")
    assert len(list_checkpoints(f"{tmp_path}/out/checkpoints")) == 1
    assert heard, "gloo listens"
    assert set(heard) <= {"0100007F", "0" * 24 + "01000000"}, "beyond loopback"


def children() -> set[str]:
    """The processes that this one has started."""
    return {pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()}


def listening(processes: set[str]) -> list[str]:
    """The addresses, as Linux writes them, at which these listen."""
    links = [os.readlink(link) for pid in processes for link in Path(f"/proc/{pid}/fd").iterdir()]
    tables = [Path(f"/proc/self/net/{name}").read_text().splitlines()[1:] for name in ("tcp", "tcp6")]
    rows = [line.split() for table in tables for line in table]
    return [row[1].partition(":")[0] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in links]


def test_a_request_to_stop_before_the_first_step_is_no_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A process that has not come to its first step ends at once, and the others may fail for want of it."""

    class Interrupted(subprocess.Popen[bytes]):
        started = 0

        def __init__(self, *arguments: Any, **named: Any) -> None:
            super().__init__(*arguments, **named)
            Interrupted.started += 1
            if Interrupted.started == 2:
                signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(TrainingInterrupted, match="no step was under way; run again"):
        launch(2, "a stage", "packs", str(tmp_path), device="cpu")
    (tmp_path / "error-1").write_bytes(pickle.dumps(RuntimeError("connection reset")))
    assert isinstance(_error(str(tmp_path), [-signal.SIGTERM, 1], stopped=True), TrainingInterrupted)
    assert "connection reset" in str(_error(str(tmp_path), [-signal.SIGTERM, 1], stopped=False))


def test_processes_of_one_machine_meet_in_a_private_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NCCL_SOCKET_IFNAME", "eth7")
    monkeypatch.delenv("GLOO_SOCKET_IFNAME", raising=False)
    first, second = environments(2, "/private")
    assert [first[name] for name in ("RANK", "WORLD_SIZE", "NCCL_SOCKET_IFNAME")] == ["0", "2", "eth7"]
    assert first["GLOO_SOCKET_IFNAME"].startswith("lo")
    assert first["MMCORPUS_RENDEZVOUS"] == second["MMCORPUS_RENDEZVOUS"] == "/private/rendezvous"
    assert not {"MASTER_ADDR", "MASTER_PORT"} & (first.keys() - os.environ.keys())


def test_how_many_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [processes_here(device, None) for device in (None, "cuda", "cpu")] == [4, 4, 1]
    assert [processes_here(*asked) for asked in (("cuda", 2), (None, 4), ("cpu", 8))] == [2, 4, 8]
    with pytest.raises(ValueError, match="processes is 5, and each has a GPU of its own, of which there are 4 here"):
        processes_here(None, 5)
    with pytest.raises(ValueError, match="processes is 0"):
        processes_here(None, 0)
    monkeypatch.setenv("RANK", "1")
    assert processes_here(None, 8) == 1, "torchrun has started them"
