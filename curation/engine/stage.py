"""The stage: one step of a run, what it is made from, and whether it has to be done.

    stage = Stage(name="pairs/score", config=…, needs=("pairs/download",), outputs=("scores/pairs/image",), run=…)
    decision = decide(stage, records)       # keep, run, or blocked, and why
    record = perform(decision, records)     # clears what is stale, runs, records what came of it

A stage's fingerprint is that of `MadeFrom`: its config, its code's version and the contents of the stages it needs. A
record with the same fingerprint and status `done` is kept; any other is run again, and its output is cleared first only
if the record proves that it was made from something else. A stage without a record clears nothing: what its call finds
it adopts, or refuses (`engine/output.py`). Nothing is cleared before the moment in which it is replaced.
"""

import contextlib
import dataclasses
import os
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from mmcorpus.curation.engine.committed import clear, not_cleared, own_folders, settle
from mmcorpus.curation.engine.made_from import MadeFrom, digest, plain
from mmcorpus.curation.engine.output import vouching
from mmcorpus.curation.engine.records import Records, StageRecord, Status
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.written import noting
from mmcorpus.filters.secrets import masked_text

RESUMED: Final = "resumed"
UNRECORDED: Final = (
    "there is no record of it; what its folders hold is kept if it was made from the same things, and refused if not"
)
UNREAD: Final = "the stage that made it makes it again, and this one goes on from there"


@dataclass(frozen=True, kw_only=True)
class Result:
    """The return value of a stage's work."""

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
    invalidated_by: tuple[str, ...] | None = None
    """The needs whose change makes all of its output stale, so that it is cleared; for the rest its committed items
    know themselves what they are made from (score tables carry a fingerprint). None: any change does."""
    version: str = "1"
    """Raised when the same config would give other output."""
    ray: Literal["no", "yes", "maybe"] = "no"
    """Whether it needs an initialised Ray; `maybe`: it starts Ray itself if there is enough to do."""
    again: bool = False
    """Run it even if it is up to date (a download that tries again what failed)."""
    seals: tuple[str, ...] = ()
    """Patterns of files in its folders that say that all of a folder is there, or that a part of it need not be made
    (`list.json`, `decided-*/*`); they go with whatever goes from it."""
    scratch: tuple[str, ...] = ()
    """Patterns of files among its outputs that may be removed once all is done (`dedup/near_text/*/*`)."""
    goes_on: Callable[[Mapping[str, Any]], bool] | None = None
    """Whether output that was made by another config, which it is given, is a part of what this one makes: then nothing
    is cleared, and the call adds what is missing (a list that has grown). Asked only where the config has changed."""
    translate: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    """A config as an earlier version recorded it in today's words, where settings were regrouped since."""


@dataclass(frozen=True, kw_only=True)
class Decision:
    """A decision about a stage: keep, run or blocked, and why."""

    stage: Stage
    action: Literal["keep", "run", "blocked"]
    reason: str
    clear: bool = False
    made_from: MadeFrom = field(default_factory=MadeFrom)
    stale: bool = False
    """What it made before was made from something else."""


def decide(stage: Stage, records: Records) -> Decision:
    """Whether a stage has to run, given the records of those before it."""
    inputs: dict[str, str] = {}
    for need in stage.needs:
        name, _, part = need.partition("#")
        record = records.stages.get(name)
        if record is None or record.status not in ("done", "partial"):
            why = "has not been run" if record is None else "failed"
            stale = stage.name in records.stages
            return Decision(stage=stage, action="blocked", reason=f"needs {name}, which {why}", stale=stale)
        inputs[need] = record.parts.get(part, record.content) if part else record.content
    made_from = MadeFrom(config=plain(stage.config), version=stage.version, inputs=inputs)
    before = records.stages.get(stage.name)
    decision = Decision(stage=stage, action="run", reason="new", made_from=made_from)
    if before is None:
        return dataclasses.replace(decision, reason=UNRECORDED) if is_unrecorded(stage, records) else decision
    known = before.made_from
    if stage.translate is not None and before.fingerprint != made_from.fingerprint:
        known = dataclasses.replace(known, config=stage.translate(known.config))
    if made_from.fingerprint not in (before.fingerprint, known.fingerprint):
        watched = stage.invalidated_by
        changed = watched is None or any(before.inputs.get(need) != inputs.get(need) for need in watched)
        if changed and stage.goes_on is not None and before.inputs == inputs and before.status != "clearing":
            changed = not stage.goes_on(known.config)
        clear = changed or before.status == "clearing"  # the rest of what an interrupted run was clearing
        reason = made_from.changes_from(known)
        return dataclasses.replace(decision, reason=reason, clear=clear, stale=True)
    if before.status == "clearing":
        return dataclasses.replace(decision, reason="interrupted", clear=True)
    if before.status != "done":
        words = {"partial": "some shards had failed", "failed": "it had failed", "damaged": "some files were damaged"}
        return dataclasses.replace(decision, reason=f"{RESUMED}: {words.get(before.status, 'interrupted')}")
    needed = [output for output in stage.outputs if not any(own.startswith(f"{output}/") for own in stage.scratch)]
    missing = [output for output in needed if not storage.exists(storage.join(records.root, output))]
    if missing:
        return dataclasses.replace(decision, reason=f"{missing[0]} is gone")
    if stage.again:
        return dataclasses.replace(decision, reason="asked for again")
    return dataclasses.replace(decision, action="keep", reason="up to date")


def is_unrecorded(stage: Stage, records: Records) -> bool:
    """Whether a stage has no record, though some of its output is there."""
    return stage.name not in records.stages and any(
        storage.exists(storage.join(records.root, output)) for output in stage.outputs
    )


def perform(decision: Decision, records: Records, *, debug: bool = False) -> StageRecord:
    """Run a stage as decided, and record what came of it.

    Raises:
        OSError: the disk is full.
        Exception: with `debug`, whatever the stage raised.
    """
    stage, before = decision.stage, records.stages.get(decision.stage.name)
    if decision.clear and before is not None and (why := not_cleared(stage.name, before, records.root)):
        if before.status != "clearing":  # that it is stale stays known by what it was made from
            records.put(stage.name, dataclasses.replace(before, status="failed", failures=[why]))
        return dataclasses.replace(before, status="failed", failures=[why])
    record = StageRecord(
        fingerprint=decision.made_from.fingerprint,
        status="clearing" if decision.clear else "running",
        version=stage.version,
        config=dict(decision.made_from.config),
        inputs=dict(decision.made_from.inputs),
        outputs=list(stage.outputs),
        scratch=list(stage.scratch),
        reason=decision.reason,
        started=time.time(),
        seconds=before.seconds if before is not None and not decision.clear else 0.0,
        pid=os.getpid(),
        manifest=before.manifest if before is not None else "",
        unproven=before.unproven if before is not None else False,
        unsettled=(before.unsettled if before is not None else 0.0) or time.time(),
    )
    records.put(stage.name, record)
    if decision.clear:
        clear(stage.name, record, records.root)
        record = dataclasses.replace(record, status="running", manifest="", unproven=False, unsettled=time.time())
        records.put(stage.name, record)
    start = time.monotonic()

    def finished(status: Status, **changes: Any) -> StageRecord:
        whole = status in ("done", "partial")
        settled, unread = settle(stage.name, record, records, notes, fresh=decision.clear, whole=whole)
        if unread:  # what it made of the rest is kept, and tried again once those are whole
            status = "partial" if status == "done" else status
            damaged = [f"{path} is damaged: {UNREAD}" for path in unread]
            changes["failures"] = [*changes.get("failures", ()), *damaged]
        spent = record.seconds + time.monotonic() - start
        final = dataclasses.replace(record, status=status, seconds=spent, **settled, **changes)
        records.put(stage.name, final)
        return final

    vouched = own_folders(stage.name, before, records.root) if before is not None and not decision.stale else []
    with noting() as notes, vouching(vouched):
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
            storage.write_bytes(error_path(records.root, stage.name), masked_text(traceback.format_exc()).encode())
            return finished("failed", failures=[f"{type(error).__name__}: {error}"])
        storage.remove(error_path(records.root, stage.name))
        return finished(
            "partial" if result.failures else "done",
            counts=plain(dict(result.counts)),
            failures=list(result.failures),
            parts=dict(result.parts),
            content=result.content or digest([record.fingerprint, *result.failures]),
        )


def error_path(root: str, stage: str) -> str:
    """The path of a stage's full error."""
    return storage.join(root, "errors", f"{stage.replace('/', '-')}.txt")
