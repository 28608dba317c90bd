"""Runs a list of stages in order: asks each whether it is up to date (`curation/engine/stage.py`), and says why not."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from mmcorpus.curation.engine.stage import (
    RESUMED,
    UNRECORDED,
    Decision,
    Records,
    Stage,
    StageRecord,
    decide,
    is_unrecorded,
    perform,
)

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
class Outcome:
    """The outcome of a run."""

    ran: tuple[str, ...]
    kept: tuple[str, ...]
    failures: Mapping[str, tuple[str, ...]]
    """By stage: failed shards, or the stage's own error."""
    blocked: tuple[str, ...]
    """Not run, because a stage that they need failed."""


Say = Callable[[str, str, str], None]
"""Told of each event: (`keep`, `start`, `done`, `failed`, `blocked`), the stage's name, a text."""


def preview(stages: Sequence[Stage], records: Records) -> list[Decision]:
    """What a run would do, without doing it: everything after a stage that runs is taken to run as well."""
    decisions: list[Decision] = []
    stale: list[str] = []
    for stage in stages:
        causes = list(dict.fromkeys(name for need in stage.needs if (name := need.partition("#")[0]) in stale))
        decision = decide(stage, records)
        if causes and (decision.action != "run" or decision.reason.startswith(RESUMED)):
            why = f"; {UNRECORDED}" if is_unrecorded(stage, records) else ""
            decision = Decision(stage=stage, action="run", reason=f"needs {', '.join(causes)}{why}")
        if decision.action == "run":
            stale.append(stage.name)
        decisions.append(decision)
    return decisions


def named(stages: Sequence[Stage], target: str) -> list[Stage]:
    """A stage by its name, all of a source by the source's, or all whose last word it is, as `select`.

    Raises `ValueError` naming the stages there are.
    """
    found = [
        stage for stage in stages if target in (stage.name, stage.name.rpartition("/")[2], stage.name.partition("/")[0])
    ]
    if not found:
        raise ValueError(f"there is no stage {target!r}; this recipe has: {', '.join(stage.name for stage in stages)}")
    return found


def until(stages: Sequence[Stage], target: str) -> list[Stage]:
    """The stages that those which `target` names (see `named`) need, themselves included.

    Raises `ValueError` naming the stages there are.
    """
    by_name = {stage.name: stage for stage in stages}
    wanted = [stage.name for stage in named(stages, target)]
    chosen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name not in chosen:
            chosen.add(name)
            wanted.extend(need.partition("#")[0] for need in by_name[name].needs)
    return [stage for stage in stages if stage.name in chosen]


def execute(
    stages: Sequence[Stage],
    records: Records,
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
        decision = decide(stage, records)
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
            record = perform(decision, records, debug=debug)
            if record.failures:
                failures[stage.name] = tuple(record.failures)
            kind = "failed" if record.status == "failed" else "done"
            say(kind, stage.name, record.failures[0] if kind == "failed" else describe_counts(record))
        if all(later.ray == "no" for later in stages[index + 1 :]):
            stop_ray()
    return Outcome(ran=tuple(ran), kept=tuple(kept), failures=failures, blocked=tuple(blocked))


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
