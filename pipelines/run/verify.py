"""Reads all that a run committed and tells what is damaged, missing or foreign, and which command mends it."""

import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mmcorpus.curation.engine import manifest
from mmcorpus.curation.engine.committed import mark_damaged
from mmcorpus.curation.engine.manifest import Entries, Problem
from mmcorpus.curation.engine.mend import choose
from mmcorpus.curation.engine.readable import unreadable
from mmcorpus.curation.engine.records import StageRecord
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.lock import RunLocked, lock
from mmcorpus.curation.store.places import is_table
from mmcorpus.curation.store.storage import Damaged
from mmcorpus.pipelines.run.state import DIGEST, FILE, OWN, OWN_FILES, RunState

_KINDS: Final = (
    (r"lists/[^/]+/\d+\.parquet", "a part of the list"),
    (r"lists/.+", "the record of the list"),
    (r"shards/[^/]+/\d+\.tar", "the files of a shard"),
    (r"shards/[^/]+/\d+\.images\.parquet", "the places of a shard's images"),
    (r"(shards|documents)/[^/]+/\d+\.parquet", "the rows of a shard"),
    (r"(shards|documents)/[^/]+/\d+_stats\.json", "the commit of a shard"),
    (r"(shards|documents)/[^/]+/(made_from|view|references)\.json", "the record of what a folder is made from"),
    (r"documents/.+", "a table of documents"),
    (r"scores/.+", "a score table"),
    (r"embeddings/.+", "embeddings of a shard"),
    (r"dedup/.+", "a work file of deduplication"),
    (r"selections/.+", "a selection"),
    (r"(ledger|plans/[^/]+\.ledger)/.+", "a ledger"),
    (r"plans/.+", "a plan"),
    (r"packs/[^/]+/\d+\.tar", "the sequences of a pack shard"),
    (r"packs/[^/]+/\d+\.index\.parquet", "the index of a pack shard"),
    (r"packs/[^/]+/manifest\.json", "the manifest of a pack"),
    (r"packs/.+\.pkl", "a pickled sequence"),
    (r"packs/.+_stats\.json", "the commit of a pack shard's pickles"),
    (r"(.+/)?tokenizer/.+", "a tokenizer"),
    (r"training/.+/metrics\.jsonl|training/[^/]+/metrics\.jsonl", "the metrics of training"),
    (r"(training|dfn)/.+", "a part of a checkpoint"),
    (r"web/.+", "a file of the generated site"),
    (r"manifests/.+", "the manifest of a stage"),
    (r"run\.json", "the record of the run"),
    (r"recipe\.yaml", "the recipe as it was run"),
    (r"summary\.json|report\.html|truth\.json", "what the run says of itself"),
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Fault:
    """A file that is not as it was committed."""

    path: str
    """Relative to the run's folder."""
    kind: str
    """What the file is."""
    problem: Problem
    detail: str
    stage: str
    """The stage that made it; `run` for the run's own files."""
    mend: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.path} ({self.kind}, of {self.stage}) {self.detail}; {self.mend}"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The findings of a verification."""

    files: int
    """Read and compared with their hashes."""
    bytes: int
    unknown: int
    """Files of stages without a manifest: read for what tells of damage in themselves."""
    unfinished: tuple[str, ...]
    """Stages that are not done, of which only what their manifests know was compared."""
    faults: tuple[Fault, ...]
    noted: bool
    """Whether the next run knows of the faults; not while another process has the run's folder."""


def verify_run(root: str, stages: Sequence[str] = (), *, sample: bool = False) -> Verdict:
    """Read what the stages of the run in a folder committed; all stages, and the run's own files, if none is named.

    Files are compared with the hashes in the stages' manifests. What is damaged is noted in the run's record, so that
    the next run sets it aside and makes it again.

    Args:
        sample: read a few files of each stage, as a run does before it goes on; of the others compare the sizes.

    Raises:
        FileNotFoundError: there is no run.
        ValueError: it has no such stage.
    """
    there = storage.exists(storage.join(root, FILE))
    if not there and not storage.exists(storage.join(root, manifest.FOLDER)):
        raise FileNotFoundError(f"{root} holds no run (no {FILE}); give the --out folder of a `mmcorpus run`")
    again = f"`mmcorpus run RECIPE --out {root}` (the same command as before)"
    try:
        if not there:
            raise Damaged(storage.join(root, FILE), "record of a run", "is gone")
        state = RunState.load(root)
    except Damaged as error:
        aside = "sets it aside and goes" if there else "goes"
        advice = f"{again} {aside} on from what the folders hold; then verify again"
        fault = _fault(FILE, "changed" if there else "missing", error.why, OWN, advice)
        return Verdict(files=0, bytes=0, unknown=0, unfinished=(), faults=(fault,), noted=True)
    known = state.stages | state.retired
    wanted = [name for name in known if not stages or _named(name, stages)]
    if stages and not wanted:
        raise ValueError(f"{root} has no stage {', '.join(stages)}; it has: {', '.join(known)}")
    looked = [*_record(root, again)] if not stages else []
    looked += [_look(root, name, known[name], name in state.stages, again, sample) for name in wanted]
    if not stages and state.manifest:
        own = StageRecord(fingerprint="", status="done", outputs=list(OWN_FILES), manifest=state.manifest)
        looked.append(_look(root, OWN, own, True, again, sample))
    faults = [fault for one in looked for fault in one.faults]
    mended = [fault.path for fault in faults if fault.stage in state.stages and fault.problem != "foreign"]
    return Verdict(
        files=sum(one.files for one in looked),
        bytes=sum(one.bytes for one in looked),
        unknown=sum(one.unknown for one in looked),
        unfinished=tuple(name for one in looked for name in one.unfinished),
        faults=tuple(faults),
        noted=_note(root, mended),
    )


def _record(root: str, again: str) -> Iterator[Verdict]:
    """The record itself, where its values are those of its digest and its bytes are not what was written: the last
    digit of a number can change without its value."""
    data = storage.read_bytes(storage.join(root, FILE))
    stored = json.loads(data)
    if DIGEST in stored and storage.json_bytes(stored) != data:
        detail = "has other bytes than were written, though its values are the same"
        fault = _fault(FILE, "changed", detail, OWN, f"{again} writes it again")
        yield Verdict(files=0, bytes=0, unknown=0, unfinished=(), faults=(fault,), noted=True)


def _named(stage: str, wanted: Collection[str]) -> bool:
    return any(name in (stage, stage.rpartition("/")[2], stage.partition("/")[0]) for name in wanted)


def _note(root: str, paths: Sequence[str]) -> bool:
    if not paths:
        return True
    try:
        with lock(root) as confirm:
            state = RunState.load(root)
            state.confirm = confirm
            mark_damaged(state, paths)
    except (RunLocked, OSError):
        return False
    return True


def _look(root: str, name: str, record: StageRecord, wanted: bool, again: str, sample: bool) -> Verdict:
    """What became of one stage's files."""
    finished = record.status in ("done", "partial", "damaged")
    mend = f"{again} makes it again" if wanted else "the recipe no longer has this stage: remove the file"
    faults: list[Fault] = []
    entries: Entries | None = None
    if record.manifest:
        try:
            entries = manifest.read_manifest(root, name, record.manifest)
        except Damaged as error:
            path = error.path.rpartition("/manifests/")[2]
            advice = f"{again} takes the hashes of the stage's files as they are now"
            faults.append(_fault(f"{manifest.FOLDER}/{path}", "changed", error.why, name, advice))
    if entries is None:
        read = list(_read_alone(root, record.outputs))
        faults += [_fault(path, "changed", why, name, mend) for path, why in read if why]
        unfinished = () if finished else (name,)
        return Verdict(files=0, bytes=0, unknown=len(read), unfinished=unfinished, faults=tuple(faults), noted=False)
    hashed = choose(entries) if sample else None
    found = list(manifest.compare(root, record.outputs, entries, hashed=hashed, scratch=record.scratch))
    for one in found:
        if one.problem == "foreign":
            if finished and not record.unsettled:
                advice = (
                    "stages that read the folder may take it for their input: move it away if it is not meant to be"
                )
                faults.append(_fault(one.path, one.problem, one.detail, name, advice))
        elif finished or one.problem == "changed":
            faults.append(_fault(one.path, one.problem, one.detail, name, mend))
    if not sample:
        named = {fault.path for fault in faults}
        tables = [path for path in entries if path not in named and is_table(storage.join(root, path))]
        said = storage.threaded(lambda path: unreadable(storage.join(root, path)), tables)
        faults += [_fault(path, "changed", why, name, mend) for path, why in zip(tables, said, strict=True) if why]
    return Verdict(
        files=len(entries), bytes=sum(entry.size for entry in entries.values()), unknown=0,
        unfinished=() if finished else (name,), faults=tuple(faults), noted=False,
    )  # fmt: skip


def _fault(path: str, problem: Problem, detail: str, stage: str, mend: str) -> Fault:
    kind = next((words for pattern, words in _KINDS if re.fullmatch(pattern, path)), "a file")
    return Fault(path=path, kind=kind, problem=problem, detail=detail, stage=stage, mend=mend)


def _read_alone(root: str, outputs: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Each file of some outputs with what is wrong with it, empty if nothing can be seen, by what it has in itself."""
    paths = list(manifest.list_outputs(root, outputs))
    yield from zip(paths, storage.threaded(lambda path: unreadable(storage.join(root, path)), paths), strict=True)
