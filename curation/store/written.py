"""Notes of what is committed: the size and SHA-256 of each file, taken as its bytes go by, and what was damaged.

Writers tell (`storage.atomic_write` does); whoever wants to know opens `noting`. A worker's notes travel with its
outcome (`engine/tasks.py`), so that a stage knows the hashes of its files without reading one again.
"""

import contextlib
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import IO, Any


@dataclass(frozen=True, kw_only=True, slots=True)
class Note:
    """One committed file."""

    size: int
    """Bytes."""
    sha256: str
    """64 hex digits."""
    modified: int | None
    """Nanoseconds since 1970, as the filesystem has it; None for remote files. A file of another time was written by
    somebody who took no notes."""


@dataclass(kw_only=True, slots=True)
class Notes:
    """What was committed, and what could not be read, while they were taken."""

    files: dict[str, Note] = field(default_factory=dict)
    """By path on the filesystem."""
    damaged: dict[str, str] = field(default_factory=dict)
    """By path, what is wrong with a file that could not be read."""


_OPEN: list[Notes] = []


@contextlib.contextmanager
def noting() -> Iterator[Notes]:
    """Notes of all that this process commits during the block, and of what outcomes of workers bring (`add`)."""
    notes = Notes()
    _OPEN.append(notes)
    try:
        yield notes
    finally:
        _OPEN[:] = [other for other in _OPEN if other is not notes]


def add(notes: Notes) -> None:
    """Take another's notes over, e.g. those of a worker."""
    for own in _OPEN:
        own.files |= notes.files
        own.damaged |= notes.damaged


def note(path: str, what: Note) -> None:
    """A file was committed."""
    for own in _OPEN:
        own.files[path] = what


def note_moved(path: str, target: str) -> None:
    """A committed file has taken another place."""
    for own in _OPEN:
        if path in own.files:
            own.files[target] = own.files.pop(path)


def note_damaged(path: str, why: str) -> None:
    """A file could not be read."""
    for own in _OPEN:
        own.damaged[path] = why


class HashedFile:
    """A binary file to write to that counts and hashes what goes through; the rest is the file's own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file, self._state, self.size = file, hashlib.sha256(), 0
        self.in_order = True
        """Whether every byte came after those before it, so that `sha256` is the file's."""

    def write(self, data: Any) -> int:
        """Write bytes, or anything that holds them."""
        self._state.update(data)
        self.size += memoryview(data).nbytes
        return self._file.write(data)

    def seek(self, offset: int, whence: int = 0) -> int:
        """Go elsewhere: the bytes may no longer come in order."""
        self.in_order = False
        return self._file.seek(offset, whence)

    @property
    def sha256(self) -> str:
        """Of what was written so far."""
        return self._state.hexdigest()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)
