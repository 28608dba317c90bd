"""Where in the files of an `AnswerLog` each answer stands, whatever shard it was given for: 20 bytes an answer."""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from mmcorpus.curation.store import storage

SUFFIX: Final = ".jsonl"
_KEY: Final = re.compile(rb'\{"key": "([^"\\]+)"')
_ENTRY: Final = np.dtype([("key", "u8"), ("file", "u4"), ("at", "u8")], align=False)


class Answered:
    """An index over the lines `{"key": …}` of all files below a folder, which grow while it is used."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._files: list[str] = []
        """Those that entries name by their place here."""
        self._read: dict[str, int] = {}
        """By file, how many of its bytes are known."""
        self._entries = np.empty(0, _ENTRY)
        """Sorted by key."""

    def refresh(self) -> None:
        """Take up what was written since the last time, by whatever process; of each file the new bytes are read."""
        found: list[tuple[int, int, int]] = []
        places = {path: place for place, path in enumerate(self._files)}
        for path, there in storage.list_files(self._root).items():
            known = self._read.get(path, 0)
            if not path.endswith(SUFFIX) or there.size <= known:
                continue
            if path not in places:
                places[path] = len(self._files)
                self._files.append(path)
            fs, _ = storage.filesystem(self._root)
            content: bytes = fs.cat_file(path, start=known, end=there.size)
            whole = content[: content.rfind(b"\n") + 1]  # the rest is being written, or was cut off
            at = known
            for line in whole.splitlines(keepends=True):
                if (key := _KEY.match(line)) is not None:
                    found.append((_number(key[1]), places[path], at))
                at += len(line)
            self._read[path] = at
        if found:
            entries = np.concatenate([self._entries, np.array(found, _ENTRY)])
            self._entries = np.sort(entries, order=["key", "file", "at"])

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The answer of a key as `AnswerLog.read` gives it; None if there was none at the last `refresh`."""
        number = np.uint64(_number(key.encode()))
        first = int(np.searchsorted(self._entries["key"], number))
        for entry in self._entries[first:]:
            if entry["key"] != number:
                return None
            fs, _ = storage.filesystem(self._root)
            with contextlib.suppress(FileNotFoundError, ValueError):  # taken away, or damaged: it is asked for again
                with fs.open(self._files[entry["file"]], "rb") as file:
                    file.seek(int(entry["at"]))
                    value: dict[str, Any] = json.loads(file.readline())
                if value.pop("key", None) == key:
                    return value
        return None


def _number(key: bytes) -> int:
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
