"""MosaicML streaming's shards (MDS): how samples lie in one, as `streaming/base/format/mds/writer.py` writes it.

The number of samples, where each begins, a JSON that names the columns, then the samples: the bytes of each value whose
column does not fix them, and the values. All numbers are uint32.
"""

import json
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mmcorpus.curation.store.compressed import Readable

MAX_HEADER: Final = 64 << 20
"""Bytes: 16 million samples, in a shard that its writer ends at 64 MiB."""
MAX_COLUMNS: Final = 1_000
"""More make no shard; each sample has them all."""
_NUMBER: Final = 4


@dataclass(frozen=True, kw_only=True, slots=True)
class Column:
    """What every sample has."""

    name: str
    encoding: str
    size: int | None
    """Of each value, in bytes; None where it differs."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Header:
    """What a shard says of its samples."""

    columns: tuple[Column, ...]
    begins: npt.NDArray[np.uint32]
    """N+1: where each sample begins, and the last one ends."""

    def __len__(self) -> int:
        return len(self.begins) - 1

    def values(self, sample: bytes) -> Iterator[tuple[Column, int, bytes]]:
        """Each column with where its value begins in a sample's bytes, and the value. Raises ValueError."""
        free = [column for column in self.columns if column.size is None]
        if len(sample) < _NUMBER * len(free):
            raise ValueError("it ends inside its sizes")
        sizes = iter(struct.unpack_from(f"<{len(free)}I", sample))
        at = _NUMBER * len(free)
        for column in self.columns:
            end = at + (next(sizes) if column.size is None else column.size)
            if end > len(sample):
                raise ValueError(f"it ends inside {column.name!r}")
            yield column, at, sample[at:end]
            at = end
        if at != len(sample):
            raise ValueError(f"it has {len(sample) - at:,} bytes that are of no column")


def header_of(file: Readable) -> Header | None:
    """The header of a file that is read from its beginning; None if it is no such shard."""
    first = file.read(_NUMBER)
    count = int.from_bytes(first, "little")
    before = _NUMBER * (count + 2)
    if len(first) < _NUMBER or before > MAX_HEADER:
        return None
    table = file.read(_NUMBER * (count + 1))
    if len(table) < _NUMBER * (count + 1):
        return None
    begins = np.frombuffer(table, "<u4")
    if not before < begins[0] <= MAX_HEADER:
        return None
    columns = _columns(file.read(int(begins[0]) - before))
    return None if columns is None else Header(columns=columns, begins=begins)


def shards_named(index: object) -> list[tuple[str, ...]]:
    """The shards that an `index.json` names: of each the paths, beside the index, at which it may lie, compressed or
    not; none of what is no such index."""
    shards = index.get("shards") if isinstance(index, dict) else None
    told = [one for one in shards if isinstance(one, dict)] if isinstance(shards, list) else []
    files = [[one.get(part) for part in ("raw_data", "zip_data")] for one in told if one.get("format") == "mds"]
    named = [[file["basename"] for file in one if isinstance(file, dict) and "basename" in file] for one in files]
    return [tuple(name for name in names if isinstance(name, str) and name) for names in named if names]


def _columns(text: bytes) -> tuple[Column, ...] | None:
    try:
        said: Any = json.loads(text)
    except (ValueError, RecursionError):
        return None
    given = [said.get(f"column_{part}") for part in ("names", "encodings", "sizes")] if isinstance(said, dict) else []
    lists = [one for one in given if isinstance(one, list)]
    if len(lists) != 3 or len({len(one) for one in lists}) > 1 or len(lists[0]) > MAX_COLUMNS:
        return None
    told = [Column(name=name, encoding=encoding, size=size) for name, encoding, size in zip(*lists, strict=True)]
    sound = (
        isinstance(one.name, str) and isinstance(one.encoding, str)
        and (one.size is None or (type(one.size) is int and one.size >= 0))
        for one in told
    )  # fmt: skip
    return tuple(told) if all(sound) else None
