"""The status of a run: each stage's state, progress, failures and size, read from its folder alone."""

import contextlib
import os
import shutil
from dataclasses import dataclass
from typing import Any

from mmcorpus.curation.engine.stage import StageRecord
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import list_shards
from mmcorpus.pipelines.recipe.populations import TRIMMED
from mmcorpus.pipelines.run.runner import describe_counts
from mmcorpus.pipelines.run.state import FILE, RunState


@dataclass(frozen=True, kw_only=True)
class StageStatus:
    """One stage, for a person."""

    name: str
    state: str
    """`done`, `partial`, `failed`, `running`, `interrupted` (also when its process is gone)."""
    progress: str
    """` (3 of 8 shards)` while it runs, where that can be told."""
    seconds: float
    bytes: int | None
    """Of its outputs; None where they are remote, or shared with another stage."""
    counts: str
    failures: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """A run as it stands."""

    name: str
    stages: tuple[StageStatus, ...]
    free_bytes: int | None
    """On the run's disk; None for a remote run."""


def read_status(run: str) -> RunStatus:
    """Read the status of the run in a folder. Raises `FileNotFoundError` if there is none."""
    if not storage.exists(storage.join(run, FILE)):
        raise FileNotFoundError(f"{run} holds no run (no {FILE}); give the --out folder of a `mmcorpus run`")
    state = RunState.load(run)
    local = storage.is_local(run)
    stages = tuple(_stage(run, name, record, local) for name, record in state.stages.items())
    return RunStatus(name=state.name, stages=stages, free_bytes=shutil.disk_usage(run).free if local else None)


def _stage(run: str, name: str, record: StageRecord, local: bool) -> StageStatus:
    status: str = record.status
    if status in ("running", "clearing") and local and not _alive(record.pid):
        status = "interrupted"
    counts = describe_counts(record).rpartition(" · ")[0] if record.status in ("done", "partial") else record.reason
    return StageStatus(
        name=name,
        state=status,
        progress=_progress(run, name, record) if status in ("running", "interrupted") else "",
        seconds=record.seconds,
        bytes=sum(_size(os.path.join(run, output)) for output in record.outputs) if local else None,
        counts=counts,
        failures=tuple(record.failures),
    )


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return pid > 0


def _progress(run: str, name: str, record: StageRecord) -> str:
    """How many shards are committed, of how many; empty where the stage has none."""
    source, _, step = name.partition("/")
    done: int | None = None
    total: Any = None
    with contextlib.suppress(OSError, ValueError, KeyError):
        if step == "download":
            total = storage.read_json(storage.join(run, "lists", source, "list.json"))["shards"]
            done = len(list_shards(storage.join(run, "shards", source)))
        elif step == "score":
            # A source's documents are judged as they were trimmed.
            judged = f"{source}.{TRIMMED}" if f"{source}/trim" in record.inputs else source
            total = len(list_shards(storage.join(run, "shards", judged)))
            done = min(len(storage.list_names(storage.join(run, output))) for output in record.outputs)
        elif step == "extract":
            done = len(list_shards(storage.join(run, "documents", source)))
        elif step in ("place", "trim"):
            total = len(list_shards(storage.join(run, "documents" if step == "place" else "shards", source)))
            done = len(list_shards(storage.join(run, record.outputs[0])))
        elif step == "packs":
            done = sum(
                entry.endswith(".index.parquet") for entry in storage.list_names(storage.join(run, record.outputs[0]))
            )
    if done is None:
        return ""
    return f" ({done:,} of {total:,} shards)" if total is not None else f" ({done:,} shards)"


def _size(path: str) -> int:
    if os.path.isfile(path):
        return os.path.getsize(path)
    total = 0
    for folder, _, files in os.walk(path):
        for file in files:
            with contextlib.suppress(FileNotFoundError):  # a stage under way renames and removes
                total += os.path.getsize(os.path.join(folder, file))
    return total
