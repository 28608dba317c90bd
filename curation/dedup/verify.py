"""Third to fifth stage: candidates are compared. Their columns come to where their pairs are; nobody else's are moved.

Pairs from all bands meet in the part of their lower row, each once; every run of shards then hands each part the rows
that it wants, and the part compares. Nothing is read at random: a shard's columns are read once.

Where the method compares images, the pairs that pass go through the same three stages again, this time with the files
of their images: each shard that holds some of them is read once more, the others are not.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mmcorpus.curation.dedup.forest import spanning_forest
from mmcorpus.curation.dedup.method import Bools, Hashes, Indices
from mmcorpus.curation.dedup.plan import Plan
from mmcorpus.curation.engine.items import run_numbered, task_path, total
from mmcorpus.curation.engine.partitions import (
    PARTS,
    Columns,
    group_starts,
    numpy_of,
    pack_pairs,
    part_of,
    read_columns_of,
    read_parts,
    runs,
    says,
    unpack_pairs,
    write_parts,
    write_split,
    write_whole,
)

BYTES: Final = 256 << 20
"""Of columns that a task of comparisons holds, about."""
IMAGE_BYTES: Final = 64 << 10
"""Of an image's file, about."""
IMAGES: Final = 4096
"""Images that a task which brings them holds, about, or those of one shard."""
CHUNK_BYTES: Final = 16 << 20
"""Of columns that `same` sees at once, about."""
_SHORT, _LONG = pa.string(), pa.large_string()


def verify_pairs(plan: Plan, pairs: list[str], *, workers: int | None) -> tuple[list[str], int, int]:
    """Compare the candidates.

    Returns:
        forests of duplicates, or pairs of them where the method's clusters do not chain; how many were compared; and
        of those whose images were to be compared, how many were decided without because an image is gone.
    """
    method = plan.method
    row_bytes = sum(unit.size for unit in plan.units) // max(1, plan.starts[-1]) + 1
    held = total(pairs, "candidates") * (1 if method.bucketwise else 2) * row_bytes
    files, compared = Verify(plan=plan, inputs=tuple(pairs), parts=tuple(runs(held, BYTES))).run(workers)
    if not method.compares_images:
        return files, compared, 0
    parts = tuple(runs(total(files, "alike") * 2 * IMAGE_BYTES, BYTES))
    files, _ = Verify(plan=plan, inputs=tuple(files), parts=parts, images=True).run(workers)
    return files, compared, total(files, "unseen")


@dataclass(frozen=True, kw_only=True)
class Verify:
    """The three stages' work."""

    plan: Plan
    inputs: tuple[str, ...]
    parts: tuple[range, ...]
    """The parts of the candidates that each task takes."""
    images: bool = False
    """Whether pairs that were compared by columns are compared by their images."""

    def run(self, workers: int | None) -> tuple[list[str], int]:
        """Returns the files of those that are alike, and how many pairs (or rows of buckets) were compared."""
        candidates, values, alike = (self._folder(name) for name in ("candidates", "values", "alike"))
        collected = run_numbered(candidates, self.collect, len(self.parts), title="candidates", workers=workers)
        run_numbered(values, self.bring, len(self.plan.spans), title="values", workers=workers)
        files = run_numbered(alike, self.compare, len(self.parts), title="alike", workers=workers)
        return files, total(collected, "candidates")

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
        held = ([unit, *np.searchsorted(rows, self.plan.starts[unit : unit + 2])] for unit in self.plan.spans[number])
        groups: list[list[tuple[int, Indices]]] = []
        for unit, start, end in held:
            if start < end:
                if not groups or (self.images and sum(len(own) for _, own in groups[-1]) + end - start > IMAGES):
                    groups.append([])
                groups[-1].append((unit, rows[start:end]))
        brought = self._brought(groups, wanted)
        first = next(brought, pa.table({}))
        said = {"rows": len(rows), **({"groups": len(groups)} if self.images else {})}
        parts = itertools.chain([first], brought)
        write_parts(self._path("values", number), first.schema, parts, said, compression="zstd")
        return {"rows": len(rows)}

    def _brought(
        self, groups: Sequence[Sequence[tuple[int, Indices]]], wanted: Sequence[Indices]
    ) -> Iterator[pa.Table]:
        """For each group of units, with the rows wanted of each, the values for each task."""
        for group in groups:
            # 64-bit offsets, so that many texts together may have more than 2 GB.
            tables = [_retyped(self._values(unit, own), _SHORT, _LONG) for unit, own in group]
            everything = pa.concat_tables(tables).combine_chunks()
            rows = np.concatenate([own for _, own in group])
            for task in wanted:
                own = task[(task >= rows[0]) & (task <= rows[-1])]
                yield everything.take(np.searchsorted(rows, own))
        if not groups:
            yield from (pa.table({}) for _ in wanted)

    def _values(self, number: int, rows: Indices) -> pa.Table:
        unit, positions = self.plan.units[number], rows - self.plan.starts[number]
        if self.images:
            return self.plan.with_images(unit, positions)
        return self.plan.compared(unit).take(positions)

    def compare(self, number: int) -> dict[str, int]:
        """Compare candidates, and keep those that are duplicates; returns counts."""
        wanted = numpy_of(read_parts(self._path("wanted", number))["row"])
        brought = (self._part(self._path("values", span), number) for span in range(len(self.plan.spans)))
        tables = [table for table in brought if table.num_rows]
        values = pa.concat_tables(tables).combine_chunks() if tables else pa.table({})
        candidates = read_parts(self._path("candidates", number))
        said = {}
        if self._bucketwise:
            pairs = self._near(candidates, wanted, values)
        else:
            pairs = numpy_of(candidates["pair"])
            if self.images and len(pairs):
                gone = wanted[np.asarray(values["image"].is_null().to_numpy(zero_copy_only=False), np.bool_)]
                said["unseen"] = int(np.isin(np.stack(unpack_pairs(pairs)), gone).any(axis=0).sum())
            pairs = self._same(pairs, wanted, values)
        if self.images:
            said.setdefault("unseen", 0)
        said["alike"] = len(pairs)
        if self.plan.method.compares_images and not self.images:
            # All pairs go on: those that a forest leaves out may be the ones that are alike.
            write_split(self._path("alike", number), {"pair": pairs}, part_of(unpack_pairs(pairs)[0]), PARTS, said)
        else:
            links = spanning_forest(*unpack_pairs(pairs)) if self.plan.method.chains else {"pair": pairs}
            write_whole(self._path("alike", number), links, said)
        return said

    def _part(self, path: str, number: int) -> pa.Table:
        """A task's part of each group in a file."""
        groups = says(path)["groups"] if self.images else 1
        return read_parts(path, range(number, max(1, groups) * len(self.parts), len(self.parts)))

    def _same(self, pairs: Hashes, wanted: Indices, values: pa.Table) -> Hashes:
        first, second = (np.searchsorted(wanted, rows) for rows in unpack_pairs(pairs))
        if self.images and len(pairs):  # at once: what is known of some copies of a picture spares comparing others
            return pairs[self.plan.method.same_images(_retyped(values, _LONG, _SHORT), first, second)]
        kept: list[Bools] = [np.empty(0, np.bool_)]
        size = max(256, CHUNK_BYTES // (2 * (values.nbytes // max(1, values.num_rows) + 1)))
        for start in range(0, len(pairs), size):
            chunk = slice(start, start + size)
            rows, places = np.unique(np.concatenate([first[chunk], second[chunk]]), return_inverse=True)
            half = len(places) // 2
            same = self.plan.method.same(_retyped(values.take(rows), _LONG, _SHORT), places[:half], places[half:])
            kept.append(same)
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

    def _folder(self, name: str) -> str:
        return self.plan.path(f"image-{name}" if self.images else name)

    def _path(self, folder: str, number: int) -> str:
        return task_path(self._folder(folder), number)


def _retyped(table: pa.Table, old: pa.DataType, new: pa.DataType) -> pa.Table:
    fields = [field.with_type(new) if field.type == old else field for field in table.schema]
    return table.cast(pa.schema(fields))
