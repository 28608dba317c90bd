"""The result: a score table a shard, `copies`, `rank` and `cluster`, that selection reads like any other."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mmcorpus.curation.dedup.plan import Plan, Unit
from mmcorpus.curation.dedup.sources import Source
from mmcorpus.curation.dedup.survivors import SETTLED
from mmcorpus.curation.engine.items import THREADS, run_pending
from mmcorpus.curation.engine.partitions import numpy_of, read_columns_of, read_parts
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.scores import Origin, list_tables, read_origin, table_path, write_scores

NOTHING: Final = "nothing_to_compare"
"""The reason of a sample that the method had nothing of to compare."""


@dataclass(frozen=True, kw_only=True)
class WriteTables:
    """The work on a span: the tables of its shards."""

    plan: Plan
    settled: tuple[str, ...]
    origin: Origin

    def __call__(self, number: int) -> dict[str, int]:
        """Commit them; returns how many samples they have."""
        columns = read_columns_of(self.settled, [number], SETTLED)
        order = np.argsort(columns["row"])
        columns = {name: values[order] for name, values in columns.items()}
        samples = 0
        for index in self.plan.spans[number]:
            unit, start = self.plan.units[index], self.plan.starts[index]
            assert unit.source is not None
            first, last = np.searchsorted(columns["row"], [start, start + unit.rows])
            own = {name: values[first:last] for name, values in columns.items()}
            write_scores(unit.source.scores, unit.shard, _table(unit, start, own), self.origin)
            samples += unit.rows
        return {"samples": samples}


def _table(unit: Unit, start: int, settled: dict[str, Any]) -> pa.Table:
    rows = read_parts(unit.members)
    pairs = np.empty(unit.rows, uids.PAIR)
    for name in ("f0", "f1"):
        pairs[name] = numpy_of(rows[name])
    unknown = ~np.asarray(rows["known"].to_numpy(), np.bool_)
    copies, rank, cluster = np.ones(unit.rows, np.int32), np.zeros(unit.rows, np.int32), pairs.copy()
    at = settled["row"].astype(np.int64) - start
    copies[at], rank[at] = settled["copies"], settled["rank"]
    cluster["f0"][at], cluster["f1"][at] = settled["f0"], settled["f1"]
    return pa.table(
        {
            "uid": uids.decode(pairs),
            "copies": pa.array(copies, mask=unknown),
            "rank": pa.array(rank, mask=unknown),
            "cluster": uids.decode(cluster).take(pa.array(np.arange(unit.rows), mask=unknown)),
            "reason": pa.array([NOTHING if nothing else None for nothing in unknown], pa.string()),
        }
    )


def write_tables(
    plan: Plan, sources: Sequence[Source], settled: Sequence[str], origin: Origin, *, workers: int | None
) -> None:
    """Write the tables that are not there or were made otherwise, and remove those of shards that are gone.

    Raises:
        RuntimeError: a table could not be written.
    """
    for source in sources:
        own = {unit.shard for unit in plan.units if unit.source is not None and unit.source.name == source.name}
        for shard in set(list_tables(source.scores).get(origin.scorer, ())) - own:
            storage.remove(table_path(source.scores, origin.scorer, shard))

    def missing(number: int) -> bool:
        units = [plan.units[index] for index in plan.spans[number]]
        return any(unit.source is not None and not _made(unit.source, unit.shard, origin) for unit in units)

    with ThreadPoolExecutor(THREADS) as pool:
        lacking = pool.map(missing, range(len(plan.spans)))
    todo = [number for number, lacks in enumerate(lacking) if lacks]
    job = WriteTables(plan=plan, settled=tuple(settled), origin=origin)
    run_pending(lambda: job, todo, name=lambda number: f"span {number}", title="tables", workers=workers).or_raise()


def _made(source: Source, shard: str, origin: Origin) -> bool:
    """Whether a shard's table is there and is of this origin."""
    try:
        schema = storage.read_schema(table_path(source.scores, origin.scorer, shard))
    except (FileNotFoundError, pa.ArrowInvalid):
        return False
    return read_origin(schema).get("fingerprint") == origin.fingerprint
