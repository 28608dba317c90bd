"""The result: a score table a shard, `copies`, `rank` and `cluster`, that selection reads like any other."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mmcorpus.curation.dedup.plan import Plan, Unit
from mmcorpus.curation.dedup.sources import Source
from mmcorpus.curation.dedup.survivors import SETTLED
from mmcorpus.curation.engine.items import run_pending
from mmcorpus.curation.engine.partitions import numpy_of, read_columns_of, read_parts
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.scores import Origin, is_made_by, shards_of, table_path, write_scores

NOTHING: Final = "nothing_to_compare"
"""The reason of a sample that the method had nothing of to compare."""


def _write_span(plan: Plan, settled: Sequence[str], origin: Origin, number: int) -> dict[str, int]:
    """Commit the tables of a span's shards; returns how many samples they have."""
    columns = read_columns_of(settled, [number], SETTLED)
    order = np.argsort(columns["row"])
    columns = {name: values[order] for name, values in columns.items()}
    for index in plan.spans[number]:
        unit, start = plan.units[index], plan.starts[index]
        assert unit.source is not None
        first, last = np.searchsorted(columns["row"], [start, start + unit.rows])
        own = {name: values[first:last] for name, values in columns.items()}
        write_scores(unit.source.scores, unit.shard, _table(unit, start, own), origin)
    return {"samples": sum(plan.units[index].rows for index in plan.spans[number])}


def _table(unit: Unit, start: int, settled: dict[str, Any]) -> pa.Table:
    pairs, unknown = unit.uids(), ~numpy_of(read_parts(unit.members)["known"])
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
            "reason": pa.array([NOTHING] * unit.rows, pa.string(), mask=~unknown),
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
        for shard in set(shards_of(source.scores, origin.scorer)) - own:
            storage.remove(table_path(source.scores, origin.scorer, shard))

    def missing(number: int) -> bool:
        units = [plan.units[index] for index in plan.spans[number]]
        return any(unit.source is not None and not is_made_by(origin, unit.source.scores, unit.shard) for unit in units)

    todo = np.flatnonzero(storage.threaded(missing, range(len(plan.spans)))).tolist()
    job = partial(_write_span, plan, settled, origin)
    run_pending(lambda: job, todo, name=lambda number: f"span {number}", title="tables", workers=workers).or_raise()
