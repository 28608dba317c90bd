"""Whether a folder's run is the one that is asked for, so that it may be gone on with."""

import dataclasses
from typing import Any

from mmcorpus.packing.packs import PackReader
from mmcorpus.training.config import StageConfig

RESULT_NEUTRAL = frozenset(
    {
        "micro_batch_sequences", "parallel", "compile", "activation_checkpointing", "checkpoint_every", "keep_last",
        "heldout_every", "heldout_blank", "log_every", "num_workers", "attention",
    }
)  # fmt: skip
"""Settings that may change between a run and its resumption: they alter speed and files, not the training."""


def identity(stage: StageConfig, reader: PackReader) -> dict[str, Any]:
    """What makes a run this run: its settings, those that only alter speed left out, and the packs' bytes."""
    settings = {name: value for name, value in dataclasses.asdict(stage).items() if name not in RESULT_NEUTRAL}
    return {
        "stage": {**settings, "betas": list(stage.betas)},
        "packs": [shard["sha256"] for shard in reader.manifest["shards"]],
    }


def check_same(out: str, before: dict[str, Any], now: dict[str, Any], *, data: str = "packs") -> None:
    """Raise ValueError, naming what differs, unless the run in the folder `out` is the one that is asked for."""
    remedy = "give another folder, or remove it to begin anew"
    if before[data] != now[data]:
        raise ValueError(f"{out} holds a run over other {data}; {remedy}")
    old, new = before["stage"], now["stage"]
    changed = [f"{key} {old.get(key)!r} → {new.get(key)!r}" for key in new if old.get(key) != new[key]]
    if changed:
        raise ValueError(f"{out} holds a run with other settings ({', '.join(changed)}); {remedy}")
