"""The watch over a run's workers: where each says which sample it is at, and what is remembered of those set aside."""

import contextlib
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from mmcorpus.curation.engine.budget import SampleBudget, current_budget
from mmcorpus.curation.store import storage

FOLDER: Final = "_set_aside"
"""Beside an output: by item, a JSON file of the samples that were set aside, with their reasons."""
SAMPLE, BATCH, AGAIN = "sample", "batch", "again"
"""What a worker is at: a sample, a batch, a batch whose rows have been tried."""
_CPU_TRACE: Final = 1 << 12
_WALL_TRACE: Final = 1 << 17
"""Where in a note's file the traceback of a worker lies that a limit ended."""
_NOTE = re.compile(rb"(sample|batch|again) (\d+) ([^\n]+)\n")
_PLAIN_NAME = re.compile(r"[\w.-]{1,100}\Z", re.ASCII)


@dataclass(frozen=True, kw_only=True, slots=True)
class Watch:
    """What the workers of a run are guarded with."""

    folder: str
    """Of the output; what is set aside is kept in it."""
    notes: str
    """A folder of this run, where workers say which sample they are at."""
    budget: SampleBudget
    here: bool = False
    """The work is done in the run's own process, which no limit may end."""

    @classmethod
    @contextlib.contextmanager
    def over(cls, folder: str, *, here: bool = False) -> Iterator["Watch"]:
        """A watch over the work on an output, on the Ray that is initialised, or `here`, in this process.

        Notes lie on this machine's own disk if it is the only one, else beside the output, where all machines see them.
        """
        kept = storage.join(folder, FOLDER)
        for name in storage.list_names(kept):
            if name.startswith("run-"):  # of a run that was killed
                storage.remove(storage.join(kept, name))
        alone = here or _is_one_machine()
        notes = tempfile.mkdtemp(prefix="mmcorpus-") if alone else storage.join(kept, f"run-{uuid.uuid4().hex}")
        try:
            yield cls(folder=folder, notes=notes, budget=current_budget(), here=here)
        finally:
            if alone:
                shutil.rmtree(notes, ignore_errors=True)
            elif storage.exists(notes):
                storage.remove(notes)
            if storage.is_local(kept):
                with contextlib.suppress(OSError):  # it holds what was set aside, or was never made
                    os.rmdir(storage.filesystem(kept)[1])

    def accuses(self, item: str) -> bool:
        """Whether the worker that died at an item was at a sample or a batch. The next one hears of it."""
        at, left = self.paths(item)[:2]
        accused = storage.exists(at) and parse_note(storage.read_bytes(at)) is not None
        if accused:
            storage.move(at, left)
        return accused

    def acquit(self, item: str) -> None:
        """Forget where the worker on an item was: not the sample was at fault."""
        for path in self.paths(item)[:2]:
            if storage.exists(path):
                storage.remove(path)

    def paths(self, item: str) -> tuple[str, str, str]:
        """Of an item: the note, what a worker that died left, and what was learnt of such."""
        at = storage.join(self.notes, file_name(item))
        return f"{at}.at", f"{at}.left", f"{at}.json"

    def learnt(self) -> str:
        """A digest of all notes: another one means that deaths taught something."""
        found = ((name, storage.read_bytes(storage.join(self.notes, name))) for name in storage.list_names(self.notes))
        return hashlib.blake2b(repr(list(found)).encode()).hexdigest()


def _is_one_machine() -> bool:
    import ray

    return len(ray.nodes()) == 1 and not ray.util.client.ray.is_connected()


class Note:
    """The file in which a worker says where it is. Its pages outlive the process, whatever ends it.

    Where machines share an object store alone, an item's first worker says nothing, and those after a death say where
    they are by an object a sample.
    """

    def __init__(self, path: str, again: bool) -> None:
        """`again`: an earlier worker on the same item died."""
        self._path, self._again, self._files = path, again, list[int]()
        if storage.is_local(path):
            inner = storage.filesystem(path)[1]
            os.makedirs(os.path.dirname(inner), exist_ok=True)
            for place in (0, _CPU_TRACE, _WALL_TRACE):
                self._files.append(os.open(inner, os.O_RDWR | os.O_CREAT | (0 if place else os.O_TRUNC), 0o600))
                os.lseek(self._files[-1], place, os.SEEK_SET)

    @property
    def traces(self) -> tuple[int, int] | None:
        """Files for the tracebacks of the two limits."""
        return (self._files[1], self._files[2]) if self._files else None

    def write(self, text: bytes) -> None:
        """Say where this worker is; an empty line: at no sample."""
        if self._files:
            os.pwrite(self._files[0], text, 0)
        elif self._again:
            storage.write_bytes(self._path, text)

    def close(self) -> None:
        for file in self._files:
            os.close(file)


def parse_note(note: bytes) -> tuple[str, int, str] | None:
    """What a worker was at: a sample or batch, how many samples the step had lived through, and the key."""
    match = _NOTE.match(note)
    return (match[1].decode(), int(match[2]), match[3].decode("ascii", "replace")) if match else None


def limit_of(note: bytes) -> Literal["cpu", "wall"] | None:
    """The limit that ended the worker which left a note."""
    if note[_WALL_TRACE:]:
        return "wall"
    return "cpu" if note[_CPU_TRACE:] else None


def read_object(path: str) -> dict[str, Any]:
    """A JSON object, empty where there is none."""
    try:
        return dict(json.loads(storage.read_bytes(path))) if storage.exists(path) else {}
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); remove it, and what it set aside is tried again") from None


def file_name(item: str) -> str:
    """An item's name as a file's."""
    return item if _PLAIN_NAME.match(item) else hashlib.blake2b(item.encode(), digest_size=12).hexdigest()
