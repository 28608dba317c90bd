"""Where in the files of an `AnswerLog` each answer stands, whatever shard it was given for: 20 bytes an answer."""

import contextlib
import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any, Final, Literal

import numpy as np

from mmcorpus.curation.store import storage

SUFFIX: Final = ".jsonl"
_KEY: Final = re.compile(rb'\{"key": "([^"\\]+)"')
_SIDES: Final[tuple[Literal["left"], Literal["right"]]] = ("left", "right")
_PLACE: Final = np.dtype([("file", "u4"), ("at", "u8")])


class Answered:
    """An index over the lines `{"key": …}` of all files below a folder, which grow while it is used."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._files: list[str] = []
        """Those that entries name by their place here."""
        self._read: dict[str, int] = {}
        """By file, how many of its bytes are known."""
        self._keys = np.empty(0, np.uint64)
        """The keys' numbers, sorted."""
        self._places = np.empty(0, _PLACE)
        """Of each its file and its place there."""

    def refresh(self) -> None:
        """Take up what was written since the last time, by whatever process; of each file the new bytes are read."""
        keys, found = list[int](), list[tuple[int, int]]()
        numbers = {path: number for number, path in enumerate(self._files)}
        for path, there in storage.list_files(self._root).items():
            known = self._read.get(path, 0)
            if not path.endswith(SUFFIX) or there.size <= known:
                continue
            if path not in numbers:
                numbers[path] = len(self._files)
                self._files.append(path)
            fs, _ = storage.filesystem(self._root)
            content: bytes = fs.cat_file(path, start=known, end=there.size)
            whole = content[: content.rfind(b"\n") + 1]  # the rest is being written, or was cut off
            at = known
            for line in whole.splitlines(keepends=True):
                if (key := _KEY.match(line)) is not None:
                    keys.append(number_of(key[1]))
                    found.append((numbers[path], at))
                at += len(line)
            self._read[path] = at
        if found:
            merged = np.concatenate([self._keys, np.array(keys, np.uint64)])
            order = np.argsort(merged, kind="stable")
            self._keys = merged[order]
            self._places = np.concatenate([self._places, np.array(found, _PLACE)])[order]

    def find(self, key: str) -> Mapping[str, Any] | None:
        """The answer of a key as `AnswerLog.read` gives it; None if there was none at the last `refresh`."""
        number = np.uint64(number_of(key.encode()))
        first, last = (int(np.searchsorted(self._keys, number, side)) for side in _SIDES)
        fs, _ = storage.filesystem(self._root)
        for place in self._places[first:last]:
            with contextlib.suppress(FileNotFoundError, ValueError):  # taken away, or damaged: it is asked for again
                with fs.open(self._files[place["file"]], "rb") as file:
                    file.seek(int(place["at"]))
                    value: dict[str, Any] = json.loads(file.readline())
                if value.pop("key", None) == key:
                    return value
        return None


def number_of(key: bytes) -> int:
    """64 bits that stand for a key."""
    return int.from_bytes(hashlib.blake2b(key, digest_size=8).digest(), "little")
