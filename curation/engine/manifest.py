"""The manifest of a stage: size and SHA-256 of each file that it committed, so that damage is seen and named.

`manifests/<stage>.jsonl` in the run's folder has a line a file, by path; its own hash is in the stage's record. Hashes
are taken as the bytes are written (`store/written.py`); a file is read for its hash only if somebody wrote it who took
no notes: a checkpoint, a run that was killed, a run of a version without manifests.
"""

import fnmatch
import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mmcorpus.curation.engine.output import RECORD
from mmcorpus.curation.engine.readable import unreadable
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.storage import Damaged, Stat
from mmcorpus.curation.store.written import Notes

FOLDER: Final = "manifests"
_KIND: Final = "manifest of a stage"
Problem = Literal["missing", "changed", "foreign"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Entry:
    """A committed file."""

    size: int
    """Bytes."""
    sha256: str
    """64 hex digits."""
    text: str | None = None
    """Its content, of a record that nothing else could give back (`made_from.json`)."""


Entries = dict[str, Entry]
"""By path, relative to the run's folder."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Finding:
    """A file that is not as it was committed."""

    path: str
    """Relative to the run's folder."""
    problem: Problem
    detail: str
    """In words."""

    def __str__(self) -> str:
        return f"{self.path} {self.detail}"


def manifest_path(root: str, stage: str) -> str:
    """The path of a stage's manifest."""
    return storage.join(root, FOLDER, f"{stage.replace('/', '-')}.jsonl")


def write_manifest(root: str, stage: str, entries: Mapping[str, Entry]) -> str:
    """Write a stage's manifest, lines in order of paths; returns its SHA-256."""
    lines = []
    for path, entry in sorted(entries.items()):
        line: dict[str, Any] = {"path": path, "size": entry.size, "sha256": entry.sha256}
        lines.append(json.dumps(line | ({} if entry.text is None else {"text": entry.text})))
    data = "".join(f"{line}\n" for line in lines).encode()
    storage.write_bytes(manifest_path(root, stage), data)
    return hashlib.sha256(data).hexdigest()


def read_manifest(root: str, stage: str, sha256: str) -> Entries:
    """A stage's manifest; `sha256` is its hash, empty if nobody knows it.

    Raises Damaged if it is gone, cannot be read, or is not the one of this hash.
    """
    path = manifest_path(root, stage)
    if not storage.exists(path):
        raise Damaged(path, _KIND, "it is gone")
    data = storage.read_bytes(path)
    if sha256 and hashlib.sha256(data).hexdigest() != sha256:
        raise Damaged(path, _KIND, "its bytes are not those that the stage's record tells")
    with storage.reading(path, _KIND):
        lines = [json.loads(line) for line in data.decode().splitlines()]
        return {
            line["path"]: Entry(**{name: value for name, value in line.items() if name != "path"}) for line in lines
        }


def list_outputs(root: str, outputs: Sequence[str]) -> dict[str, Stat]:
    """The files that are in a stage's outputs now, by path relative to the run's folder."""
    base = storage.filesystem(root)[1].rstrip("/") + "/"
    listed = storage.threaded(lambda output: storage.list_files(storage.join(root, output)), outputs)
    return {path.removeprefix(base): stat for files in listed for path, stat in files.items()}


def settle(
    root: str,
    outputs: Sequence[str],
    before: Mapping[str, Entry],
    notes: Notes,
    since: float,
    *,
    read: bool = True,
) -> Entries:
    """The entries of what a stage's outputs hold, now that it has run.

    Args:
        before: the entries of the last time. They hold for what was not written since: damage that befell such a file
            is told from it, and not taken for its content.
        notes: what was committed meanwhile. Files that are taken for the first time are read, and those that show
            damage by themselves are noted as damaged.
        since: the Unix time from when on files may have been written without a note.
        read: whether to read files for a hash; without, they are left out, for the next time.
    """
    found = list_outputs(root, outputs)
    base = storage.filesystem(root)[1].rstrip("/") + "/"
    entries, unread = Entries(), []
    for path, stat in found.items():
        noted, old = notes.files.get(base + path), before.get(path)
        if noted is not None and (noted.size, noted.modified) == (stat.size, stat.modified):
            entries[path] = Entry(size=noted.size, sha256=noted.sha256)
        elif old is not None and (old.size == stat.size if stat.modified is None else stat.modified < since * 1e9):
            entries[path] = old
        elif read:
            unread.append(path)
    hashes = storage.threaded(lambda path: storage.sha256(storage.join(root, path)), unread)
    # The last line of a log may be cut short by a kill, which damages nothing.
    alone = [path for path in unread if not path.endswith(".jsonl")]
    for path, why in zip(
        alone, storage.threaded(lambda path: unreadable(storage.join(root, path)), alone), strict=True
    ):
        if why:
            notes.damaged[base + path] = why
    entries |= {path: Entry(size=found[path].size, sha256=own) for path, own in zip(unread, hashes, strict=True)}
    return {path: _with_text(root, path, entry) for path, entry in sorted(entries.items())}


def _with_text(root: str, path: str, entry: Entry) -> Entry:
    if path.rpartition("/")[2] != RECORD or entry.text is not None:
        return entry
    data = storage.read_bytes(storage.join(root, path))
    if hashlib.sha256(data).hexdigest() != entry.sha256:
        return entry
    return Entry(size=entry.size, sha256=entry.sha256, text=data.decode())


def compare(
    root: str,
    outputs: Sequence[str],
    entries: Mapping[str, Entry],
    *,
    hashed: Sequence[str] | None = None,
    scratch: Sequence[str] = (),
) -> Iterator[Finding]:
    """Compare a stage's outputs with its manifest: what is missing, has another size or other bytes, or is foreign.

    Args:
        hashed: the paths that are read and hashed; None for all. Of the others the size alone is seen.
        scratch: patterns of files that may be gone.
    """
    found = list_outputs(root, outputs)
    whole = []
    for path, entry in entries.items():
        stat = found.get(path)
        if stat is None and any(fnmatch.fnmatchcase(path, pattern) for pattern in scratch):
            continue
        if stat is None:
            yield Finding(path=path, problem="missing", detail="is gone")
        elif stat.size != entry.size:
            detail = f"has {stat.size:,} bytes, of {entry.size:,} that were committed"
            yield Finding(path=path, problem="changed", detail=detail)
        elif hashed is None or path in hashed:
            whole.append(path)
    for path, why in zip(whole, storage.threaded(lambda path: _differs(root, path, entries[path]), whole), strict=True):
        if why:
            yield Finding(path=path, problem="changed", detail=why)
    for path in found.keys() - entries.keys():
        yield Finding(path=path, problem="foreign", detail="was not committed by the stage")


def _differs(root: str, path: str, entry: Entry) -> str:
    try:
        same = storage.sha256(storage.join(root, path)) == entry.sha256
    except OSError as error:
        return f"cannot be read ({error.strerror or error})"
    return "" if same else "has other bytes than were committed"
