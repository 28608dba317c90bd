"""Manifests of what stages committed, also where one stage writes into another's folder or cannot read its files."""

import contextlib
import dataclasses
import logging
from collections.abc import Mapping, Sequence
from typing import Any

from mmcorpus.curation.engine import manifest
from mmcorpus.curation.engine.manifest import Entries, Entry
from mmcorpus.curation.engine.records import Records, StageRecord
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.written import Notes

_log = logging.getLogger(__name__)


def settle(
    name: str, record: StageRecord, records: Records, notes: Notes, *, fresh: bool = False, whole: bool = True
) -> tuple[dict[str, Any], list[str]]:
    """Write the stage's manifest, now that it has run; returns what its record says of it, and which files of other
    stages it could not read.

    What it wrote into other stages' outputs is noted in theirs; of what it could not read, the stages that made it are
    told.

    Args:
        fresh: nothing of what it made before is there.
        whole: read files of which no hash is known; else that is left to the next attempt.
    """
    root = records.root
    before, unproven = Entries(), record.unproven
    if not fresh:
        try:
            before = manifest.read_manifest(root, name, record.manifest)
        except storage.Damaged:  # what it knew is taken from the files again
            unproven = unproven or bool(record.manifest)
    entries = manifest.settle(root, record.outputs, before, notes, record.unsettled, read=whole)
    base = storage.filesystem(root)[1].rstrip("/") + "/"
    elsewhere = {path.removeprefix(base): note for path, note in notes.files.items() if path.startswith(base)}
    changes = {
        path: Entry(size=note.size, sha256=note.sha256) for path, note in elsewhere.items() if path not in entries
    }
    amend(records, changes, but=name)
    unread = [path.removeprefix(base) for path in notes.damaged if path.startswith(base) and path not in notes.files]
    own = [path for path in unread if path in entries]
    entries |= disowned(root, entries, own)
    others = mark_damaged(records, [path for path in unread if path not in own])
    written = manifest.write_manifest(root, name, entries)
    return {"manifest": written, "unsettled": 0.0, "damaged": own, "unproven": unproven}, others


def disowned(root: str, entries: Mapping[str, Entry], paths: Sequence[str]) -> Entries:
    """Entries without a hash for those of some files, known to be damaged, whose bytes are what the entries tell."""
    known = {path: entries[path] for path in paths if path in entries}
    differ = {one.path for one in manifest.compare(root, [*known], known)}
    return {path: Entry(size=entry.size, sha256="") for path, entry in known.items() if path not in differ}


def own_folders(name: str, record: StageRecord, root: str) -> list[str]:
    """The folders of a damaged stage whose records (`made_from.json`) are as it committed them."""
    if record.status != "damaged":
        return []
    with contextlib.suppress(storage.Damaged):
        entries = manifest.read_manifest(root, name, record.manifest)
        records = [path for path, entry in entries.items() if entry.text is not None]
        differ = {one.path for one in manifest.compare(root, records, {path: entries[path] for path in records})}
        return [storage.join(root, path.rpartition("/")[0]) for path in records if path not in differ]
    return []


def not_cleared(name: str, record: StageRecord, root: str) -> str:
    """Why a stage's outputs must not be cleared: nobody can tell its files from those of others; empty if one can."""
    unproven = record.unproven
    if record.manifest and not unproven:
        try:
            manifest.read_manifest(root, name, record.manifest)
        except storage.Damaged:
            unproven = True
    there = [output for output in record.outputs if storage.exists(storage.join(root, output))]
    if not unproven or not there:
        return ""
    return (
        f"what {name} made before is stale, but its manifest ({manifest.manifest_path(root, name)}) is or was damaged, "
        f"and nobody can tell its files from those of others; nothing is removed. Move away what is yours in "
        f"{', '.join(there)}, remove the rest, and run the same command again"
    )


def clear(name: str, record: StageRecord, root: str) -> None:
    """Remove a stage's outputs, but for files that somebody else has put there, which are told in the log.

    Somebody else's is what the manifest does not know, and was there before the stage was at work after it. Of an
    earlier version, which had no manifests, all goes.

    `not_cleared` is asked before: where the manifest is damaged, nothing is there.
    """
    entries: Entries | None = None
    if record.manifest:
        with contextlib.suppress(storage.Damaged):
            entries = manifest.read_manifest(root, name, record.manifest)
    found = {} if entries is None else manifest.list_outputs(root, record.outputs)
    kept = [
        path
        for path, stat in found.items()
        if path not in (entries or {}) and stat.modified is not None and stat.modified < record.unsettled * 1e9
    ]
    if kept:
        _log.warning("%s: not the stage's, and kept: %s", name, ", ".join(kept[:5]) + (" …" if kept[5:] else ""))
    for output in record.outputs:
        inside = [path for path in kept if path == output or path.startswith(f"{output}/")]
        if not inside:
            storage.remove(storage.join(root, output))
            continue
        for path in found:
            if path.startswith(f"{output}/") and path not in inside:
                storage.remove(storage.join(root, path))


def owners(records: Records, path: str) -> list[str]:
    """The stages in whose outputs a path (relative to the run's folder) lies."""
    return [
        name
        for name, record in records.stages.items()
        if any(path == output or path.startswith(f"{output}/") for output in record.outputs)
    ]


def amend(records: Records, changes: Mapping[str, Entry | None], *, but: str = "") -> None:
    """Note in the manifests of the stages whose outputs they lie in (not of `but`) what other stages wrote, or removed
    (None)."""
    by_stage: dict[str, dict[str, Entry | None]] = {}
    for path, entry in changes.items():
        for name in owners(records, path):
            if name != but and records.stages[name].manifest:
                by_stage.setdefault(name, {})[path] = entry
    for name, changed in by_stage.items():
        record = records.stages[name]
        try:
            entries = manifest.read_manifest(records.root, name, record.manifest)
        except storage.Damaged:
            continue  # the next run says so, and takes it anew
        entries |= {path: entry for path, entry in changed.items() if entry is not None}
        kept = {path: entry for path, entry in entries.items() if changed.get(path, entry) is not None}
        written = manifest.write_manifest(records.root, name, kept)
        records.put(name, dataclasses.replace(record, manifest=written))


def mark_damaged(records: Records, paths: Sequence[str]) -> list[str]:
    """Make the stages that made some files look at them, and make them again, when they are asked next.

    Returns those of the files that a stage made. Of a file that cannot be read and has the hash that is known of it,
    the hash is forgotten: it was taken of damaged bytes, which would pass for whole for ever.
    """
    by_stage: dict[str, list[str]] = {}
    for path in paths:
        for name in owners(records, path):
            by_stage.setdefault(name, []).append(path)
    for name, found in by_stage.items():
        record = records.stages[name]
        if record.status in ("done", "partial", "damaged"):
            damaged = list(dict.fromkeys((*record.damaged, *found)))
            known = record.manifest
            with contextlib.suppress(storage.Damaged):
                entries = manifest.read_manifest(records.root, name, known) if known else Entries()
                if forgotten := disowned(records.root, entries, found):
                    known = manifest.write_manifest(records.root, name, entries | forgotten)
            records.put(name, dataclasses.replace(record, status="damaged", damaged=damaged, manifest=known))
    return sorted({path for found in by_stage.values() for path in found})
