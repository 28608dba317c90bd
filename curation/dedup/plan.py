"""The inputs of a deduplication: shards in a fixed order, so that every sample has a number, and where files lie."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mmcorpus.curation.dedup.method import Indices, Learned, Method
from mmcorpus.curation.dedup.sources import Source, images_of, read_columns
from mmcorpus.curation.engine.made_from import digest_of
from mmcorpus.curation.engine.partitions import numpy_of, read_parts
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids

ROWS: Final = 2**32
"""Samples, those of the index included, that a deduplication can number."""
SPANS: Final = 256
"""Into how many runs of shards the samples are cut at least, if there are as many shards."""
SPAN_ROWS: Final = 200_000
_VERSION: Final = "2"


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One shard of the run, or one that an index holds."""

    source: Source | None
    """None: of the index."""
    shard: str
    rows: int
    records: int
    """Known rows times tables."""
    size: int
    """Bytes of the columns that are compared."""
    digest: str
    """16 hex digits of its uids and keys."""
    place: str
    """Where the shard lies, or lay when it was put into the index."""
    files: str
    """Its files without their ends `.keys.arrow`, `.rows.arrow`, and in an index `.values.arrow`."""

    @property
    def keys(self) -> str:
        """Columns key, table, position (and identity), cut into parts by key."""
        return f"{self.files}.keys.arrow"

    @property
    def members(self) -> str:
        """A row a sample: uid (as f0, f1) and known; in an index also the uid of its survivor (survivor0, survivor1),
        `survives`, and `lowest`, the least number in its cluster, which no later unit changes."""
        return f"{self.files}.rows.arrow"

    @property
    def values(self) -> str:
        """In an index: the columns that are compared, of every row."""
        return f"{self.files}.values.arrow"

    def uids(self) -> uids.Pairs:
        """Of its rows, in order."""
        rows = read_parts(self.members)
        pairs = np.empty(self.rows, uids.PAIR)
        pairs["f0"], pairs["f1"] = numpy_of(rows["f0"]), numpy_of(rows["f1"])
        return pairs


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Units in order; the number of a sample is its position in its unit after all units before it."""

    method: Method
    units: tuple[Unit, ...]
    """Those of the index first, then by source in the given order and shard name."""
    work: str
    """Where the files of this plan lie: a folder named by what decides them."""
    starts: tuple[int, ...] = field(init=False)
    """The number of each unit's first row, and at the end the number of all rows."""
    spans: tuple[range, ...] = field(init=False)
    """Runs of units that a task takes together."""

    def __post_init__(self) -> None:
        starts = list(itertools.accumulate((unit.rows for unit in self.units), initial=0))
        if starts[-1] >= ROWS:
            raise ValueError(f"{starts[-1]:,} samples are more than the {ROWS - 1:,} that can be numbered; take fewer")
        object.__setattr__(self, "starts", tuple(starts))
        object.__setattr__(self, "spans", _spans(self.units, starts))

    @property
    def indexed(self) -> int:
        """Rows below this number are of the index."""
        return self.starts[sum(unit.source is None for unit in self.units)]

    @property
    def fingerprint(self) -> str:
        return fingerprint_of(self.method, self.units)

    def path(self, *parts: str) -> str:
        return storage.join(self.work, *parts)

    def span_of(self, rows: Indices) -> Indices:
        """The span of each row number."""
        edges = [self.starts[span.start] for span in self.spans]
        return np.searchsorted(np.array(edges, np.int64), rows, side="right") - 1

    def compared(self, unit: Unit) -> pa.Table:
        """The method's columns of a unit's rows, from its shard or from the index."""
        if unit.source is None:
            return read_parts(unit.values)
        return read_columns(unit.source, unit.shard, self.method.columns()).select(list(self.method.columns()))

    def with_images(self, unit: Unit, positions: Indices) -> pa.Table:
        """The method's columns of some of a unit's rows, and `image`: their files, null where they are gone."""
        table = self.compared(unit).take(positions)
        root, _, name = unit.place.rpartition("/")
        wanted = uids.decode(unit.uids()[positions]).to_pylist()
        files = images_of(root, name, wanted)
        return table.append_column("image", pa.array([files.get(uid) for uid in wanted], pa.large_binary()))


def fingerprint_of(method: Method, units: Sequence[Unit]) -> str:
    """16 hex digits of all that decides the clusters: the method, and the samples and keys of every unit."""
    return digest_of(_VERSION, identity_of(method), [unit.digest for unit in units])


def sweep(work: str, prefix: str, kept: str) -> None:
    """Remove the folders that other samples, methods or scores have left."""
    for name in storage.list_names(work):
        if name.startswith(prefix) and storage.join(work, name) != kept:
            storage.remove(storage.join(work, name))


def identity_of(method: Method) -> list[Any]:
    """Everything that decides a method's answers."""
    return [type(method).__name__, method.version, method.parameters()]


def read_learned(path: str | None) -> Learned:
    """What a method learned, from its `.npz`; nothing for None."""
    if path is None:
        return {}
    fs, inner = storage.filesystem(path)
    with fs.open(inner, "rb") as file, np.load(file, allow_pickle=False) as arrays:
        return {name: arrays[name] for name in arrays.files}


def _spans(units: Sequence[Unit], starts: Sequence[int]) -> tuple[range, ...]:
    """Consecutive units of about as many rows; never of the index and of the run together."""
    size = min(SPAN_ROWS, -(-starts[-1] // SPANS))
    spans: list[range] = []
    first = 0
    for number, unit in enumerate(units):
        rows = starts[number + 1] - starts[first]
        last = number + 1 == len(units)
        if rows >= size or last or (unit.source is None) != (units[number + 1].source is None):
            spans.append(range(first, number + 1))
            first = number + 1
    return tuple(spans)
