"""The answers that model servers gave, kept so that a crash never pays for one twice.

`ROOT/<shard>/<random>.jsonl`: every process that scores a shard appends to a file of its own, a line an answer, and
reads all the others of that shard when it begins. So nothing is locked, which network storage would not keep, and a
line that a crash cut off costs one answer. Object storage cannot append; there a file is written after every batch.
What other shards have asked is found in their files (`answered.py`), but for what they ask at the same time.
"""

import json
import uuid
from collections.abc import Mapping
from typing import IO, Any

from mmcorpus.curation.scoring.servers.answered import SUFFIX, Answered
from mmcorpus.curation.store import storage


class AnswerLog:
    """Implements `filters.serving.Answers`. It can be pickled to a worker, where it opens files as they are needed."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._kept: dict[str, dict[str, Any]] = {}
        self._files: dict[str, IO[bytes]] = {}
        self._lines: dict[str, list[bytes]] = {}
        self._elsewhere = Answered(root)

    def __reduce__(self) -> tuple[type["AnswerLog"], tuple[str]]:
        return AnswerLog, (self.root,)

    def read(self, shard: str) -> Mapping[str, Any]:
        """The answers kept for a shard, by key; of a key that is there twice the first by the files' names.

        One shard's are held at a time, or as many as one batch needs: asking for another shard after a `flush` lets go
        of those that the flushed batch did not ask for.
        """
        if shard not in self._kept:
            self._elsewhere.refresh()
            self._kept[shard] = _read_folder(storage.join(self.root, shard))
        return self._kept[shard]

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The answer of a key that any shard has kept by when one was last read; None if none has."""
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
        latest = next(reversed(self._kept), None)
        for shard in [shard for shard in self._kept if shard != latest]:
            del self._kept[shard]
            if shard in self._files:
                self._files.pop(shard).close()

    def _new(self, shard: str) -> str:
        return storage.join(self.root, shard, uuid.uuid4().hex[:12] + SUFFIX)


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
