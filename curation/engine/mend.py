"""Looks over what finished stages committed, before a run goes on from it; damage is set aside, to be made again.

Every file's size is compared with the manifest's, and the hashes of a sample (`mmcorpus verify` reads everything and
leaves what it finds in the records). Nothing is removed: damaged files move to `damaged/` in the run's folder.
"""

import dataclasses
import fnmatch
import glob
import posixpath
import random
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Final

from mmcorpus.curation.engine import manifest
from mmcorpus.curation.engine.committed import disowned, settle
from mmcorpus.curation.engine.manifest import Entries, Finding
from mmcorpus.curation.engine.output import RECORD
from mmcorpus.curation.engine.records import Records, StageRecord
from mmcorpus.curation.engine.stage import Stage
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.written import Notes

ASIDE: Final = "damaged"
"""The folder, in the run's, to which damaged files are moved, under the paths that they had."""
SAMPLE_FILES: Final = 16
"""Files of a stage whose hash is compared before a run goes on."""
SAMPLE_BYTES: Final = 2**26
"""Of a stage, the bytes that are read for it at most."""
_ITEM = re.compile(r"((?:step-)?\d{5,})(?=[._]|\Z)")
"""How the names of an item's files, or of its folder, begin."""


def mend(
    stages: Sequence[Stage],
    records: Records,
    *,
    say: Callable[[str, str, str], None],
    sample: Callable[[Entries], Collection[str]] | None = None,
) -> None:
    """Set aside what is damaged of the stages' finished output, and mark these to be run again.

    A stage of a version without manifests gets one of what its folders hold now; each file is read once for that, and
    what shows damage by itself is set aside.

    Args:
        say: told (`adopted` or `damaged`, the stage's name, a text).
        sample: chooses the files that are read and hashed; by default a few, others each time.
    """
    for stage in stages:
        record = records.stages.get(stage.name)
        if record is None or record.status in ("running", "clearing") or not (record.damaged or _finished(record)):
            continue
        try:
            entries = manifest.read_manifest(records.root, stage.name, record.manifest) if record.manifest else None
        except storage.Damaged as error:
            say("damaged", stage.name, f"{error.path}: {error.why}; its files are not known by their hashes any more")
            storage.remove(manifest.manifest_path(records.root, stage.name))
            record, entries = dataclasses.replace(record, manifest="", unproven=True), None
        if entries is None:
            settled, _ = settle(stage.name, record, records, Notes())
            files = len(manifest.read_manifest(records.root, stage.name, settled["manifest"]))
            say("adopted", stage.name, f"the hashes of its {files:,} files are taken now")
            damaged = list(dict.fromkeys((*record.damaged, *settled["damaged"])))
            record = dataclasses.replace(record, **{**settled, "damaged": damaged})
            records.put(stage.name, record)
            if not record.damaged:
                continue
            entries = manifest.read_manifest(records.root, stage.name, record.manifest)
            entries |= disowned(records.root, entries, record.damaged)
        chosen = (*record.damaged, *(sample or choose)(entries))
        found = list(manifest.compare(records.root, record.outputs, entries, hashed=chosen, scratch=stage.scratch))
        found = [one for one in found if one.problem != "foreign" and (_finished(record) or one.path in record.damaged)]
        for text in set_aside(records.root, entries, found, stage):
            say("damaged", stage.name, text)
        status = "damaged" if found else "done" if record.status == "damaged" else record.status
        damaged = [one.path for one in found]
        if (status, damaged) != (record.status, record.damaged):
            records.put(stage.name, dataclasses.replace(record, status=status, damaged=damaged))


def _finished(record: StageRecord) -> bool:
    return record.status in ("done", "partial", "damaged")


def choose(entries: Entries) -> list[str]:
    """Files to hash: as many as the bounds allow, others each time."""
    chosen: list[str] = []
    left = SAMPLE_BYTES
    for path in random.Random().sample(sorted(entries), min(SAMPLE_FILES, len(entries))):
        left -= entries[path].size
        if left < 0 and chosen:
            break
        chosen.append(path)
    return chosen


def set_aside(root: str, entries: Entries, found: Sequence[Finding], stage: Stage) -> Iterator[str]:
    """Move what is damaged to the folder for it, with the files that commit it; says of each what was done.

    A record whose content the manifest has is written again instead.
    """
    problems = {one.path: one for one in found}
    for path, one in problems.items():
        entry = entries[path]
        if entry.text is not None and posixpath.basename(path) == RECORD:
            storage.write_bytes(storage.join(root, path), entry.text.encode())
            yield f"{one}; written again"
        else:
            yield f"{one}; set aside, and its stage is run again"
    gone = {path for path in problems if entries[path].text is None}
    for path in sorted(gone | _with_them(entries, gone, stage)):
        if storage.exists(storage.join(root, path)):
            move_aside(root, path)


def _with_them(entries: Entries, gone: Collection[str], stage: Stage) -> set[str]:
    """The other files of the damaged items, and what says that the folders that they lie in are complete.

    An item's files share a folder and the number that their names begin with; or they are all that lies in a folder of
    such a name, and what lies beside it under its number. Of work files that may be removed, those of one folder are
    made one from the other, and go together.
    """
    items = {item for path in gone if (item := _item(path)) is not None}
    # What lies in a folder of its own beside the shards (`sites/00001.parquet`) is committed with the shard.
    items |= {posixpath.join(posixpath.dirname(posixpath.dirname(item)), posixpath.basename(item)) for item in items}
    for pattern in stage.scratch:
        folder = pattern.count("/")
        items |= {"/".join(path.split("/")[:folder]) for path in gone if fnmatch.fnmatchcase(path, pattern)}
    seals = [f"{glob.escape(parent)}/{seal}" for path in gone for parent in _parents(path) for seal in stage.seals]
    return {
        path
        for path in entries
        if _item(path) in items
        or not items.isdisjoint(_parents(path))
        or any(fnmatch.fnmatchcase(path, seal) for seal in seals)
    }


def _item(path: str) -> str | None:
    """The item that a file is of: the folder that holds it and its number, as a path; None for a file by itself."""
    parts = path.split("/")
    for index, part in enumerate(parts):
        if number := _ITEM.match(part):
            return "/".join((*parts[:index], number[1]))
    return None


def _parents(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def move_aside(root: str, path: str) -> None:
    """Move a file (its path relative to the run's folder) to the folder of damaged ones, beside what is there."""
    target, number = storage.join(root, ASIDE, path), 0
    while storage.exists(target if not number else f"{target}.{number}"):
        number += 1
    target = target if not number else f"{target}.{number}"
    storage.make_folder(posixpath.dirname(target))
    storage.move(storage.join(root, path), target)
