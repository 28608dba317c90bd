"""Kill and resume: a run that is killed and run again has the losses of one that was not."""

import json
import multiprocessing
import time
from pathlib import Path
from typing import Any, Final

from benchmarks.gpu.sizes import Emit, Sizes
from mmcorpus.training.config import CheckpointConfig, PackCompute, PackData, StageConfig
from mmcorpus.training.metrics import read_metrics
from mmcorpus.training.optim import ScheduleConfig

STEPS: Final = 12
EVERY: Final = 3
"""Steps between checkpoints: the run is killed once the first is there and a step after it is lost."""
CLOSE: Final = 1e-3
"""Relative difference of a step's loss that passes: sums by atomics on a GPU have no fixed order."""


def resume(sizes: Sizes, folder: Path, emit: Emit) -> None:
    """Two runs side by side, one killed by SIGKILL after its first checkpoint and run again."""
    whole, killed = folder / "whole", folder / "killed"
    straight, doomed = (_begin(sizes, folder, out) for out in (whole, killed))
    first = killed / "checkpoints" / f"step-{EVERY:08d}" / "state.json"
    while doomed.is_alive() and not (first.exists() and len(_losses(killed)) > EVERY):
        time.sleep(0.002)
    doomed.kill()
    doomed.join()
    last = killed / "checkpoints" / f"step-{STEPS:08d}" / "state.json"
    was_killed = doomed.exitcode == -9 and not last.exists()
    again = _begin(sizes, folder, killed)
    for process in (straight, again):
        process.join()
    expected, found = _losses(whole), _losses(killed)
    complete = sorted(expected) == sorted(found) == list(range(1, STEPS + 1))
    off = max((abs(found[step] / expected[step] - 1) for step in expected if step in found), default=float("inf"))
    certificate = json.loads((whole / "certificate.json").read_text()) if (whole / "certificate.json").exists() else {}
    emit(
        {
            "killed": was_killed,
            "steps": len(found),
            "largest difference": off,
            "to the bit": complete and found == expected,
            "packed against alone, nats": certificate.get("packed_against_alone"),
            "ok": was_killed and complete and off < CLOSE,
        }
    )


def _begin(sizes: Sizes, folder: Path, out: Path) -> Any:
    process = multiprocessing.get_context("spawn").Process(target=train_short, args=(sizes, folder, out), daemon=True)
    process.start()
    return process


def train_short(sizes: Sizes, folder: Path, out: Path) -> None:
    """The trainer itself on the packs, with fewer blocks; in a process of its own."""
    from mmcorpus.training import train

    stage = StageConfig(
        data=PackData(batch_sequences=2, micro_batch_sequences=1, num_workers=sizes.threads),
        schedule=ScheduleConfig(steps=STEPS),
        compute=PackCompute(precision="bf16"),
        checkpoints=CheckpointConfig(every=EVERY, keep_last=4),
        certify=4,
    )
    train(stage, str(folder / "packs"), str(out), model=sizes.short, device=sizes.device)


def _losses(out: Path) -> dict[int, float]:
    """The loss of each step in a run's metrics."""
    return {line["step"]: line["loss"] for line in read_metrics(str(out / "metrics.jsonl")) if "loss" in line}
