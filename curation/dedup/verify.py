"""Third to fifth stage: candidates are compared. Their columns come to where their pairs are; nobody else's are moved.

Pairs from all bands meet in the part of their lower row, each once; every run of shards then hands each part the rows
that it wants, and the part compares. Nothing is read at random: a shard's columns are read once.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mmcorpus.curation.dedup.forest import spanning_forest
from mmcorpus.curation.dedup.method import Bools, Hashes, Indices
from mmcorpus.curation.dedup.plan import Plan
from mmcorpus.curation.engine.items import run_numbered, task_path, total
from mmcorpus.curation.engine.partitions import (
    Columns,
    group_starts,
    numpy_of,
    pack_pairs,
    read_columns_of,
    read_parts,
    runs,
    unpack_pairs,
    write_parts,
    write_split,
    write_whole,
)

BYTES: Final = 256 << 20
"""Of columns that a task of comparisons holds, about."""
CHUNK_BYTES: Final = 16 << 20
"""Of columns that `same` sees at once, about."""
_SHORT, _LONG = pa.string(), pa.large_string()


def verify_pairs(plan: Plan, pairs: list[str], *, workers: int | None) -> tuple[list[str], int]:
    """Compare the candidates.

    Returns:
        forests of duplicates, or pairs of them where the method's clusters do not chain; and how many were compared.
    """
    rows = 1 if plan.method.bucketwise else 2
    row_bytes = sum(unit.size for unit in plan.units) // max(1, plan.starts[-1]) + 1
    held = total(pairs, "candidates") * rows * row_bytes
    parts = tuple(runs(held, BYTES))
    job = Verify(plan=plan, parts=parts, inputs=tuple(pairs))
    candidates, values, alike = (plan.path(folder) for folder in ("candidates", "values", "alike"))
    collected = run_numbered(candidates, job.collect, len(parts), title="candidates", workers=workers)
    run_numbered(values, job.bring, len(plan.spans), title="values", workers=workers)
    files = run_numbered(alike, job.compare, len(parts), title="alike", workers=workers)
    return files, total(collected, "candidates")


@dataclass(frozen=True, kw_only=True)
class Verify:
    """The three stages' work."""

    plan: Plan
    parts: tuple[range, ...]
    """The parts of the candidates that each task takes."""
    inputs: tuple[str, ...]

    def collect(self, number: int) -> dict[str, int]:
        """Each candidate of a task's parts once, and the rows that they need, by span."""
        kinds: dict[str, Any] = {"bucket": np.uint64, "row": np.uint32} if self._bucketwise else {"pair": np.uint64}
        columns = read_columns_of(self.inputs, self.parts[number], kinds)
        if self._bucketwise:
            order = np.lexsort((columns["row"], columns["bucket"]))
            columns = {name: values[order] for name, values in columns.items()}
            wanted = np.unique(columns["row"]).astype(np.int64)
        else:
            columns = {"pair": np.unique(columns["pair"])}
            wanted = np.unique(np.concatenate(unpack_pairs(columns["pair"])))
        spans = self.plan.span_of(wanted)
        write_split(self._path("wanted", number), {"row": wanted}, spans, len(self.plan.spans), {"rows": len(wanted)})
        candidates = len(next(iter(columns.values())))
        write_whole(self._path("candidates", number), columns, {"candidates": candidates})
        return {"candidates": candidates}

    def bring(self, number: int) -> dict[str, int]:
        """The columns of a span's wanted rows, a part for each task that compares."""
        wanted = [numpy_of(read_parts(self._path("wanted", task), [number])["row"]) for task in range(len(self.parts))]
        rows = np.unique(np.concatenate(wanted))
        tables = []
        for unit in self.plan.spans[number]:
            start, end = np.searchsorted(rows, self.plan.starts[unit : unit + 2])
            if start < end:
                table = self.plan.compared(self.plan.units[unit])
                # 64-bit offsets, so that many texts together may have more than 2 GB.
                tables.append(_retyped(table.take(rows[start:end] - self.plan.starts[unit]), _SHORT, _LONG))
        schema = tables[0].schema if tables else pa.schema([])
        everything = pa.concat_tables(tables).combine_chunks() if tables else schema.empty_table()
        parts = (everything.take(np.searchsorted(rows, own)) for own in wanted)
        write_parts(self._path("values", number), schema, parts, {"rows": len(rows)}, compression="zstd")
        return {"rows": len(rows)}

    def compare(self, number: int) -> dict[str, int]:
        """Which candidates are duplicates."""
        wanted = numpy_of(read_parts(self._path("wanted", number))["row"])
        brought = (read_parts(self._path("values", span), [number]) for span in range(len(self.plan.spans)))
        tables = [table for table in brought if table.num_rows]
        values = pa.concat_tables(tables).combine_chunks() if tables else pa.table({})
        candidates = read_parts(self._path("candidates", number))
        if self._bucketwise:
            pairs = self._near(candidates, wanted, values)
        else:
            pairs = self._same(numpy_of(candidates["pair"]), wanted, values)
        links = spanning_forest(*unpack_pairs(pairs)) if self.plan.method.chains else {"pair": pairs}
        write_whole(self._path("alike", number), links, {"alike": len(pairs)})
        return {"alike": len(pairs)}

    def _same(self, pairs: Hashes, wanted: Indices, values: pa.Table) -> Hashes:
        first, second = (np.searchsorted(wanted, rows) for rows in unpack_pairs(pairs))
        kept: list[Bools] = [np.empty(0, np.bool_)]
        size = max(256, CHUNK_BYTES // (2 * (values.nbytes // max(1, values.num_rows) + 1)))
        for start in range(0, len(pairs), size):
            chunk = slice(start, start + size)
            rows, places = np.unique(np.concatenate([first[chunk], second[chunk]]), return_inverse=True)
            half = len(places) // 2
            kept.append(self.plan.method.same(_retyped(values.take(rows), _LONG, _SHORT), places[:half], places[half:]))
        return pairs[np.concatenate(kept)]

    def _near(self, candidates: pa.Table, wanted: Indices, values: pa.Table) -> Hashes:
        columns: Columns = {name: numpy_of(candidates[name]) for name in ("bucket", "row")}
        starts = group_starts(columns["bucket"])
        found = [np.empty(0, np.uint64)]
        for start, end in zip(starts, np.append(starts[1:], len(columns["row"])), strict=True):
            rows = columns["row"][start:end].astype(np.int64)
            own = _retyped(values.take(np.searchsorted(wanted, rows)), _LONG, _SHORT)
            first, second = self.plan.method.near(own)
            packed = pack_pairs(rows[first], rows[second])
            found.append(packed[unpack_pairs(packed)[1] >= self.plan.indexed])
        return np.unique(np.concatenate(found))

    @property
    def _bucketwise(self) -> bool:
        return self.plan.method.bucketwise

    def _path(self, folder: str, number: int) -> str:
        return task_path(self.plan.path(folder), number)


def _retyped(table: pa.Table, old: pa.DataType, new: pa.DataType) -> pa.Table:
    fields = [field.with_type(new) if field.type == old else field for field in table.schema]
    return table.cast(pa.schema(fields))
