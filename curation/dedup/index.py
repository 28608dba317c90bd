"""An index: the keys of earlier corpora, and what verifying needs, so that new samples are compared with old ones.

    INDEX/index.json               the method, and the entries in the order in which they came
    INDEX/learned.npz              what the method learned, if it does
    INDEX/entries/DIGEST.*.arrow   of each shard: keys, rows and values, as `mmcorpus.curation.dedup.plan.Unit` has them

A run sees what was put in before it: from the first entry on that is a shard of its own, the index is as if it were
not there. So a run that has extended the index can be resumed or repeated and finds what it found, and where its shards
have grown since (failed downloads were fetched again) their samples are no copies of themselves. One run at a time may
extend an index.
"""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mmcorpus.curation.dedup.method import Method
from mmcorpus.curation.dedup.plan import Plan, Unit, identity_of
from mmcorpus.curation.dedup.survivors import SETTLED
from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.partitions import numpy_of, read_columns_of, read_parts, write_parts
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids

_FORMAT: Final = 2
_NAME: Final = "index.json"
_LEARNED: Final = "learned.npz"
_ENTRY: Final = ("shard", "place", "rows", "records", "size", "digest")


def read_index(index: str, method: Method) -> tuple[list[Unit], str | None]:
    """What an index holds, in order, and where what its method learned lies; nothing if there is none yet.

    Raises:
        ValueError: it was made by another method or with other parameters, or by a newer program.
    """
    path = storage.join(index, _NAME)
    if not storage.exists(path):
        return [], None
    says = storage.read_json(path)
    if says.get("format") != _FORMAT:
        raise ValueError(f"{path}: format {says.get('format')!r} is not {_FORMAT}; it was made by another version")
    if says["method"] != _plain(identity_of(method)):
        raise ValueError(
            f"{path} was made by {says['method']}, and this run compares by {_plain(identity_of(method))}; "
            "use the same parameters, or another index"
        )
    units = [
        Unit(
            source=None, files=storage.join(index, "entries", entry["digest"]), **{name: entry[name] for name in _ENTRY}
        )
        for entry in says["entries"]
    ]
    return units, storage.join(index, _LEARNED) if says["learned"] else None


def before(indexed: Sequence[Unit], own: Sequence[Unit]) -> list[Unit]:
    """The entries that came before the first shard of a run's own."""
    mine = _are_own(indexed, own)
    return list(indexed[: next((number for number, is_own in enumerate(mine) if is_own), len(indexed))])


def _are_own(entries: Sequence[Unit], own: Sequence[Unit]) -> Iterator[bool]:
    """Of each entry, whether it is a shard of the run's own: as it is now, or before it was given more samples."""
    digests, places = {unit.digest for unit in own}, {unit.place: unit for unit in own}
    for entry in entries:
        there = places.get(entry.place)
        grown = there is not None and not len(np.setdiff1d(_uids(entry), _uids(there)))
        yield entry.digest in digests or grown


def _uids(unit: Unit) -> uids.Pairs:
    rows = read_parts(unit.members)
    pairs = np.empty(unit.rows, uids.PAIR)
    for name in ("f0", "f1"):
        pairs[name] = numpy_of(rows[name])
    return pairs


def extend_index(index: str, plan: Plan, settled: Sequence[str], learned: str | None, *, workers: int | None) -> None:
    """Put the samples of a settled run into the index; a second time changes nothing.

    Raises:
        ValueError: other runs have been put in since this run's samples were, and those have changed.
        RuntimeError: an entry could not be written.
    """
    there, _ = read_index(index, plan.method)
    digests = [unit.digest for unit in there]
    wanted = [unit.digest for unit in plan.units]
    if digests == wanted or set(wanted) <= set(digests):
        return
    own = [number for number, unit in enumerate(plan.units) if unit.source is not None]
    since = there[len(plan.units) - len(own) :]
    if not all(_are_own(since, [plan.units[number] for number in own])):
        raise ValueError(
            f"{index} has been extended by other samples since these were put in, so they cannot be changed there; "
            "give the new shards as a source of their own"
        )
    job = AddEntry(plan=plan, index=index, settled=tuple(settled))
    ran = run_pending(lambda: job, own, name=lambda n: plan.units[n].shard, title="index", workers=workers)
    ran.or_raise("the index is as it was: run again to go on")
    if learned is not None:
        storage.write_bytes(storage.join(index, _LEARNED), storage.read_bytes(learned))
    entries = [{name: value for name, value in asdict(unit).items() if name in _ENTRY} for unit in plan.units]
    identity = _plain(identity_of(plan.method))
    says = {"format": _FORMAT, "method": identity, "learned": learned is not None, "entries": entries}
    storage.write_json(storage.join(index, _NAME), says)


@dataclass(frozen=True, kw_only=True)
class AddEntry:
    """The work on one shard: its three files in the index."""

    plan: Plan
    index: str
    settled: tuple[str, ...]

    def __call__(self, number: int) -> dict[str, int]:
        unit, start = self.plan.units[number], self.plan.starts[number]
        span = int(self.plan.span_of(np.array([start]))[0])
        columns = read_columns_of(self.settled, [span], SETTLED)
        own = (columns["row"] >= start) & (columns["row"] < start + unit.rows)
        at = columns["row"][own].astype(np.int64) - start
        rows = read_parts(unit.members)
        lowest, survives = np.arange(start, start + unit.rows), np.ones(unit.rows, np.bool_)
        lowest[at], survives[at] = columns["lowest"][own], columns["rank"][own] == 0
        members: dict[str, Any] = {name: rows[name] for name in rows.column_names}
        members |= {"lowest": pa.array(lowest), "survives": pa.array(survives)}
        for field, name in (("survivor0", "f0"), ("survivor1", "f1")):
            values = numpy_of(rows[name]).copy()
            values[at] = columns[name][own]
            members[field] = pa.array(values)
        files = storage.join(self.index, "entries", unit.digest)
        if self.plan.method.verifies:
            values = self.plan.compared(unit)
            write_parts(f"{files}.values.arrow", values.schema, [values], {}, compression="zstd")
        table = pa.table(members)
        write_parts(f"{files}.rows.arrow", table.schema, [table], {})
        storage.write_bytes(f"{files}.keys.arrow", storage.read_bytes(unit.keys))
        return {"samples": unit.rows}


def _plain(identity: list[Any]) -> list[Any]:
    """As JSON gives it back."""
    import json

    plain: list[Any] = json.loads(json.dumps(identity))
    return plain
