"""Two processes train as one does (invariant 7); sharding changes nothing."""

import os
import pickle
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from mmcorpus.training import StageConfig, read_metrics, train
from mmcorpus.training.checkpoint import read_tensors
from mmcorpus.training.config import ModelConfig
from mmcorpus.training.parallel import World, open_world
from mmcorpus.training.vision_language import _check_split

ROOT = Path(__file__).parents[2]
SCRIPT = """
import pickle, sys
import torch
torch.set_num_threads(1)
from mmcorpus.training import train
spec = pickle.load(open(sys.argv[1], "rb"))
for run in spec["runs"]:
    train(run["stage"], spec["packs"], run["out"], model=spec["model"], heldout_packs=spec["packs"], device="cpu")
"""


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


@pytest.mark.slow
def test_two_processes_are_one(
    packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    settings = {"steps": 4, "checkpoint_every": 2, "heldout_every": 2}
    alone = train(stage(**settings), packs, str(tmp_path / "alone"), model=tiny, heldout_packs=packs, device="cpu")
    runs = [{"out": str(tmp_path / kind), "stage": stage(**settings, parallel=kind)} for kind in ("replicate", "shard")]
    spec = tmp_path / "spec.pickle"
    spec.write_bytes(pickle.dumps({"packs": packs, "model": tiny, "runs": runs}))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [
        subprocess.Popen(
            [sys.executable, str(script), str(spec)],
            env={
                **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2",
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1",
            },
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in range(2)
    ]  # fmt: skip
    try:
        errors = [process.communicate(timeout=400)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)
    one = read_metrics(f"{tmp_path}/alone/metrics.jsonl")
    for kind in ("replicate", "shard"):
        two = read_metrics(f"{tmp_path}/{kind}/metrics.jsonl")
        assert len(one) == len(two)
        for line, other in zip(one, two, strict=True):
            for key in ("step", "loss", "gradient_norm", "tokens", "positions", "images", "heldout_loss"):
                assert other.get(key, 0) == pytest.approx(line.get(key, 0), rel=1e-4), (kind, key, line)
        weights = read_tensors(f"{tmp_path}/{kind}/checkpoints/step-00000004", "model")
        for name, value in read_tensors(alone.checkpoint, "model").items():
            torch.testing.assert_close(weights[name], value, rtol=2e-3, atol=2e-4)
