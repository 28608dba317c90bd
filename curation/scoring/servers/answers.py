"""The answers that model servers gave, kept so that a crash never pays for one twice.

`ROOT/<shard>/<random>.jsonl`: every process that scores a shard appends to a file of its own, a line an answer, and
reads all the others of that shard when it begins. So nothing is locked, which network storage would not keep, and a
line that a crash cut off costs one answer. Object storage cannot append; there a file is written after every batch.
What other shards have asked is found in their files (`answered.py`), and what several processes would ask at the same
moment one asks (`asking.py`), on storage that has locks.
"""

import json
import time
import uuid
from collections.abc import Mapping
from typing import IO, Any, Final

from mmcorpus.curation.scoring.servers.answered import SUFFIX, Answered, number_of
from mmcorpus.curation.scoring.servers.asking import Asking, asking
from mmcorpus.curation.store import storage

_LOOKS: Final = 0.25
"""Seconds between two looks for what another process is asking."""


class AnswerLog:
    """Implements `filters.serving.Answers`. It can be pickled to a worker, where it opens files as they are needed."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._kept: dict[str, dict[str, Any]] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._lines: dict[str, list[bytes]] = {}
        self._elsewhere = Answered(root)
        self._looked = 0.0
        self._finished = -1

    def __reduce__(self) -> tuple[type["AnswerLog"], tuple[str]]:
        return AnswerLog, (self.root,)

    def read(self, shard: str) -> Mapping[str, Any]:
        """The answers kept for a shard, by key; of a key that is there twice the first by the files' names.

        One shard's are held at a time, or as many as one batch needs: asking for another shard after a `flush` lets go
        of those that the flushed batch did not ask for.
        """
        if shard not in self._kept:
            self._look()
            self._kept[shard] = _read_folder(storage.join(self.root, shard))
        return self._kept[shard]

    def reserve(self, key: str) -> bool:
        """Whether a question is to be asked by this process; if so, `find` knows of every answer to it by now. False
        while another process asks it: try again in a moment, with `find` before.

        Held until `flush` or `give_up`. Of object storage, which has no locks, it is always True.
        """
        if (others := self._asking()) is None:
            return True
        reserved = others.reserve(_number(key))
        if (others.finished() != self._finished) if reserved else (time.monotonic() - self._looked > _LOOKS):
            self._look()
        return reserved

    def give_up(self, key: str) -> None:
        """A question that this process asked got no answer: another may ask it."""
        if (others := self._asking()) is not None:
            others.release(_number(key))

    def _asking(self) -> Asking | None:
        return asking(self.root) if storage.is_local(self.root) else None

    def _look(self) -> None:
        """Take up what was kept since the last look."""
        if (others := self._asking()) is not None:
            self._finished = others.finished()
        self._elsewhere.refresh()
        self._looked = time.monotonic()

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The answer of a key that any shard had kept when one was last read or reserved; None if none had."""
        return self._elsewhere.find(key)

    def keep(self, shard: str, key: str, value: Mapping[str, Any]) -> None:
        """Append an answer. On a local or network filesystem it outlives this process at once."""
        self._kept.setdefault(shard, {})[key] = value
        line = (json.dumps({"key": key, **value}, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        if not storage.is_local(self.root):
            self._lines.setdefault(shard, []).append(line)
            return
        if shard not in self._files:
            storage.make_folder(storage.join(self.root, shard))
            _, path = storage.filesystem(self._new(shard))
            self._files[shard] = open(path, "ab")  # noqa: SIM115 – closed by flush, once its shard is done
        self._files[shard].write(line)
        self._files[shard].flush()

    def flush(self) -> None:
        """The batch is over: what cannot be appended to is written, and only the latest shard stays open."""
        for shard, lines in self._lines.items():
            storage.write_bytes(self._new(shard), b"".join(lines))
        self._lines.clear()
        if (others := self._asking()) is not None:
            others.release()
        latest = next(reversed(self._kept), None)
        for shard in [shard for shard in self._kept if shard != latest]:
            del self._kept[shard]
            if shard in self._files:
                self._files.pop(shard).close()

    def _new(self, shard: str) -> str:
        return storage.join(self.root, shard, uuid.uuid4().hex[:12] + SUFFIX)


def _number(key: str) -> int:
    return number_of(key.encode()) >> 2  # as far as a file's places go


def _read_folder(folder: str) -> dict[str, Any]:
    names = [name for name in storage.list_names(folder) if name.endswith(SUFFIX)]
    found: dict[str, Any] = {}
    for content in storage.threaded(lambda name: storage.read_bytes(storage.join(folder, name)), names):
        for line in content.splitlines():
            try:
                value = json.loads(line)
                found.setdefault(value.pop("key"), value)
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # cut off by a crash, or no line of ours
    return found
