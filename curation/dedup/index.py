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
from functools import partial
from itertools import takewhile
from typing import Any, Final

import numpy as np

from mmcorpus.curation.dedup.method import Method
from mmcorpus.curation.dedup.plan import Plan, Unit, identity_of
from mmcorpus.curation.dedup.survivors import SETTLED
from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.made_from import plain
from mmcorpus.curation.engine.partitions import numpy_of, read_columns_of, read_parts, write_whole
from mmcorpus.curation.store import storage

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
    if says["method"] != plain(identity_of(method)):
        raise ValueError(
            f"{path} was made by {says['method']}, and this run compares by {plain(identity_of(method))}; "
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
    mine = zip(indexed, _are_own(indexed, own), strict=True)
    return [entry for entry, _ in takewhile(lambda pair: not pair[1], mine)]


def _are_own(entries: Sequence[Unit], own: Sequence[Unit]) -> Iterator[bool]:
    """Of each entry, whether it is a shard of the run's own: as it is now, or before it was given more samples."""
    digests, places = {unit.digest for unit in own}, {unit.place: unit for unit in own}
    for entry in entries:
        there = places.get(entry.place)
        grown = there is not None and not len(np.setdiff1d(entry.uids(), there.uids()))
        yield entry.digest in digests or grown


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
    job = partial(_add_entry, plan, index, settled)
    ran = run_pending(lambda: job, own, name=lambda n: plan.units[n].shard, title="index", workers=workers)
    ran.or_raise("the index is as it was: run again to go on")
    if learned is not None:
        storage.write_bytes(storage.join(index, _LEARNED), storage.read_bytes(learned))
    entries = [{name: getattr(unit, name) for name in _ENTRY} for unit in plan.units]
    identity = plain(identity_of(plan.method))
    says = {"format": _FORMAT, "method": identity, "learned": learned is not None, "entries": entries}
    storage.write_json(storage.join(index, _NAME), says)


def _add_entry(plan: Plan, index: str, settled: Sequence[str], number: int) -> dict[str, int]:
    """Write a unit's three files in the index."""
    unit, start = plan.units[number], plan.starts[number]
    span = int(plan.span_of(np.array([start]))[0])
    columns = read_columns_of(settled, [span], SETTLED)
    own = (columns["row"] >= start) & (columns["row"] < start + unit.rows)
    at = columns["row"][own].astype(np.int64) - start
    rows = read_parts(unit.members)
    lowest, survives = np.arange(start, start + unit.rows), np.ones(unit.rows, np.bool_)
    lowest[at], survives[at] = columns["lowest"][own], columns["rank"][own] == 0
    members: dict[str, Any] = {name: rows[name] for name in rows.column_names}
    members |= {"lowest": lowest, "survives": survives}
    for field, name in (("survivor0", "f0"), ("survivor1", "f1")):
        members[field] = numpy_of(rows[name]).copy()
        members[field][at] = columns[name][own]
    files = storage.join(index, "entries", unit.digest)
    if plan.method.verifies:
        write_whole(f"{files}.values.arrow", plan.compared(unit), {}, compression="zstd")
    write_whole(f"{files}.rows.arrow", members, {})
    storage.write_bytes(f"{files}.keys.arrow", storage.read_bytes(unit.keys))
    return {"samples": unit.rows}
