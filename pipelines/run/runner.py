"""Runs a list of stages in order: keeps what is up to date, redoes what changed and what depends on it, and says why.

A stage's fingerprint is the hash of its config, its code's version and the contents of the stages it needs. A record
with the same fingerprint and status `done` is kept; any other is run again, its output cleared first if it was made
from something else. Nothing is cleared before the moment in which it is replaced, so an interrupted run continues.
"""

import contextlib
import dataclasses
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.run import fingerprint
from mmcorpus.pipelines.run.state import RunState, StageRecord, Status

_RESUMED: Final = "resumed"
_FIRST: Final = (
    "listed",
    "downloaded",
    "judged",
    "kept",
    "held_out",
    "dropped",
    "sequences",
    "samples",
    "step",
    "loss",
)
"""Counts that are shown before the others."""


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a stage returns."""

    counts: Mapping[str, Any] = field(default_factory=dict)
    """Samples, bytes, steps: what the summary and the report show."""
    failures: Sequence[str] = ()
    """Shards that failed, each with its reason; what they held is missing downstream until they succeed."""
    content: str | None = None
    """What later stages depend on. None: the fingerprint itself, so that redoing this one redoes them."""
    parts: Mapping[str, str] = field(default_factory=dict)
    """Contents of parts that a later stage may need alone, by name."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One step of a run."""

    name: str
    """`pairs/download`: what it works on, then what it does."""
    config: Mapping[str, Any]
    """Whatever decides its output, as JSON-able values; settings that only change speed are left out."""
    run: Callable[[], Result]
    """Does the work, resuming from what is committed."""
    needs: tuple[str, ...] = ()
    """The stages whose outputs it reads, which stand before it in the list; `pairs/score#image` needs one part only."""
    outputs: tuple[str, ...] = ()
    """Files and folders it makes, relative to the run's folder."""
    clears: tuple[str, ...] | None = None
    """What to remove when its fingerprint changed; None for all its outputs."""
    clears_for: tuple[str, ...] | None = None
    """Clear only when one of these inputs changed, because for the rest the stage itself sees what is stale (score
    tables carry a fingerprint); None for whenever the fingerprint changed."""
    version: str = "1"
    """Raised when the same config would give other output."""
    ray: Literal["no", "yes", "maybe"] = "no"
    """Whether it needs an initialised Ray; `maybe`: it starts Ray itself if there is enough to do."""
    again: bool = False
    """Run it even if it is up to date (a download that tries again what failed)."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What is to be done with a stage, and why."""

    stage: Stage
    action: Literal["keep", "run", "blocked"]
    reason: str
    clear: bool = False
    fingerprint: str = ""
    inputs: Mapping[str, str] = field(default_factory=dict)
    stale: bool = False
    """What it made before was made from something else."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run did."""

    ran: tuple[str, ...]
    kept: tuple[str, ...]
    failures: Mapping[str, tuple[str, ...]]
    """By stage: failed shards, or the stage's own error."""
    blocked: tuple[str, ...]
    """Not run, because a stage that they need failed."""


Say = Callable[[str, str, str], None]
"""Told of each event: (`keep`, `start`, `done`, `failed`, `blocked`), the stage's name, a text."""


def decide(stage: Stage, state: RunState, root: str) -> Decision:
    """Whether a stage has to run, given the records of those before it."""
    inputs: dict[str, str] = {}
    for need in stage.needs:
        name, _, part = need.partition("#")
        record = state.stages.get(name)
        if record is None or record.status not in ("done", "partial"):
            return Decision(stage=stage, action="blocked", reason=f"needs {name}, which failed", stale=True)
        inputs[need] = record.parts.get(part, record.content) if part else record.content
    config = fingerprint.plain(stage.config)
    mark = fingerprint.digest({"config": config, "version": stage.version, "inputs": inputs})
    before = state.stages.get(stage.name)
    decision = Decision(stage=stage, action="run", reason="new", clear=True, fingerprint=mark, inputs=inputs)
    if before is None:
        return decision
    if before.fingerprint != mark:
        watched = stage.clears_for
        clear = watched is None or any(before.inputs.get(need) != inputs.get(need) for need in watched)
        reason = _why(stage, before, config, inputs)
        return dataclasses.replace(decision, reason=reason, clear=clear, stale=True)
    if before.status == "clearing":
        return dataclasses.replace(decision, reason="interrupted")
    decision = dataclasses.replace(decision, clear=False)
    if before.status != "done":
        words = {"partial": "some shards had failed", "failed": "it had failed"}
        return dataclasses.replace(decision, reason=f"{_RESUMED}: {words.get(before.status, 'interrupted')}")
    missing = [output for output in stage.outputs if not storage.exists(storage.join(root, output))]
    if missing:
        return dataclasses.replace(decision, reason=f"{missing[0]} is gone")
    if stage.again:
        return dataclasses.replace(decision, reason="asked for again")
    return dataclasses.replace(decision, action="keep", reason="up to date")


def _why(stage: Stage, before: StageRecord, config: Any, inputs: Mapping[str, str]) -> str:
    changes = fingerprint.differences(before.config, config)
    if changes:
        shown = changes[:3] + ([f"{len(changes) - 3} more"] if len(changes) > 3 else [])
        return "; ".join(shown)
    if before.version != stage.version:
        return f"its output's version changed from {before.version} to {stage.version}"
    changed = [need for need in inputs if before.inputs.get(need) != inputs[need]]
    dropped = [need for need in before.inputs if need not in inputs]
    return f"{', '.join(need.replace('#', ' of ') for need in changed or dropped)} changed"


def preview(stages: Sequence[Stage], state: RunState, root: str) -> list[Decision]:
    """What a run would do, without doing it: everything after a stage that runs is taken to run as well."""
    decisions: list[Decision] = []
    stale: list[str] = []
    for stage in stages:
        causes = list(dict.fromkeys(name for need in stage.needs if (name := need.partition("#")[0]) in stale))
        decision = decide(stage, state, root)
        if causes and (decision.action != "run" or decision.reason.startswith(_RESUMED)):
            decision = Decision(stage=stage, action="run", reason=f"needs {', '.join(causes)}")
        if decision.action == "run":
            stale.append(stage.name)
        decisions.append(decision)
    return decisions


def until(stages: Sequence[Stage], target: str) -> list[Stage]:
    """The stages that `target` (a stage, or all whose last word it is, as `select`) needs, itself included.

    Raises `ValueError` naming the stages there are.
    """
    by_name = {stage.name: stage for stage in stages}
    wanted = [name for name in by_name if target in (name, name.rpartition("/")[2], name.partition("/")[0])]
    if not wanted:
        raise ValueError(f"there is no stage {target!r}; this recipe has: {', '.join(by_name)}")
    chosen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in chosen:
            chosen.add(name)
            wanted.extend(need.partition("#")[0] for need in by_name[name].needs)
    return [stage for stage in stages if stage.name in chosen]


def execute(
    stages: Sequence[Stage],
    state: RunState,
    *,
    say: Say,
    start_ray: Callable[[], None] = lambda: None,
    stop_ray: Callable[[], None] = lambda: None,
    debug: bool = False,
) -> Outcome:
    """Run what has to be run. A stage that fails stops those that need it, and no others.

    Raises:
        OSError: the disk is full, which would fail everything after it as well.
        Exception: with `debug`, whatever a stage raised.
    """
    ran: list[str] = []
    kept: list[str] = []
    blocked: list[str] = []
    failures: dict[str, tuple[str, ...]] = {}
    for index, stage in enumerate(stages):
        decision = decide(stage, state, state.root)
        if decision.action == "blocked":
            blocked.append(stage.name)
            say("blocked", stage.name, decision.reason)
        elif decision.action == "keep":
            kept.append(stage.name)
            say("keep", stage.name, decision.reason)
        else:
            say("start", stage.name, decision.reason)
            if stage.ray == "yes":
                start_ray()
            ran.append(stage.name)
            record = _run_one(decision, state, debug)
            if record.failures:
                failures[stage.name] = tuple(record.failures)
            kind = "failed" if record.status == "failed" else "done"
            say(kind, stage.name, record.failures[0] if kind == "failed" else describe_counts(record))
            full = storage.full_disk_in(record.failures)
            if full is not None:
                raise full
        if all(later.ray == "no" for later in stages[index + 1 :]):
            stop_ray()
    return Outcome(ran=tuple(ran), kept=tuple(kept), failures=failures, blocked=tuple(blocked))


def _run_one(decision: Decision, state: RunState, debug: bool) -> StageRecord:
    stage, before = decision.stage, state.stages.get(decision.stage.name)
    resumed = before is not None and not decision.clear
    record = StageRecord(
        fingerprint=decision.fingerprint,
        status="clearing" if decision.clear else "running",
        version=stage.version,
        config=fingerprint.plain(stage.config),
        inputs=dict(decision.inputs),
        outputs=list(stage.outputs),
        reason=decision.reason,
        started=time.time(),
        seconds=before.seconds if before is not None and resumed else 0.0,
        pid=os.getpid(),
    )
    state.put(stage.name, record)
    if decision.clear:
        for output in stage.outputs if stage.clears is None else stage.clears:
            storage.remove(storage.join(state.root, output))
        record = dataclasses.replace(record, status="running")
        state.put(stage.name, record)
    start = time.monotonic()

    def finished(status: Status, **changes: Any) -> StageRecord:
        spent = record.seconds + time.monotonic() - start
        final = dataclasses.replace(record, status=status, seconds=spent, **changes)
        state.put(stage.name, final)
        return final

    try:
        result = stage.run()
    except KeyboardInterrupt:
        finished("interrupted")
        raise
    except Exception as error:
        if debug or storage.disk_is_full(error):
            with contextlib.suppress(OSError):  # of a full disk there may be none left for the record
                finished("failed", failures=[str(error)])
            raise
        storage.write_bytes(error_path(state.root, stage.name), traceback.format_exc().encode())
        return finished("failed", failures=[f"{type(error).__name__}: {error}"])
    storage.remove(error_path(state.root, stage.name))
    return finished(
        "partial" if result.failures else "done",
        counts=fingerprint.plain(dict(result.counts)),
        failures=list(result.failures),
        parts=dict(result.parts),
        content=result.content or fingerprint.digest([decision.fingerprint, *result.failures]),
    )


def error_path(root: str, stage: str) -> str:
    """Where the full account of a stage's error is kept."""
    return storage.join(root, "errors", f"{stage.replace('/', '-')}.txt")


def describe_counts(record: StageRecord) -> str:
    """`1,200 samples, 1,100 kept · 12.3 s`."""
    numbers = [
        f"{value:,} {name.replace('_', ' ')}" if isinstance(value, int) else f"{name.replace('_', ' ')} {value:.4g}"
        for name, value in sorted(record.counts.items(), key=lambda item: _rank(item[0]))
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]
    seconds = f"{record.seconds:.1f} s"
    return f"{', '.join(numbers[:6])} · {seconds}" if numbers else seconds


def _rank(name: str) -> tuple[int, str]:
    return (_FIRST.index(name) if name in _FIRST else len(_FIRST), name)
