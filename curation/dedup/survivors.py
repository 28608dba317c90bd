"""Last stages: the order of each cluster's samples, its survivor, and the score tables that say so.

The order: samples of the index first, then those that meet `among`, then by the largest value of `survivor`, then by
the lowest uid. It is made anew when those expressions or the scores that they read change; the clusters stay.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
import pyarrow.compute

from mmcorpus.curation.dedup.clusters import survivors_of
from mmcorpus.curation.dedup.forest import read_links
from mmcorpus.curation.dedup.method import Indices
from mmcorpus.curation.dedup.plan import Plan, Unit
from mmcorpus.curation.dedup.sources import read_columns
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
    unpack_pairs,
    write_split,
)
from mmcorpus.curation.selection.evaluate import evaluate, evaluate_number
from mmcorpus.curation.selection.expression import columns_of
from mmcorpus.curation.store import storage

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

MEMBERS: Final = 1_000_000
"""Samples that have duplicates, about, whose clusters a task settles."""
_MEMBER: Final[dict[str, Any]] = {
    "root": np.uint32, "row": np.uint32, "place": np.uint8, "value": np.float64, "f0": np.uint64, "f1": np.uint64,
}  # fmt: skip
SETTLED: Final[dict[str, Any]] = {
    "row": np.uint32, "copies": np.int32, "rank": np.int32, "f0": np.uint64, "f1": np.uint64, "lowest": np.uint32,
}  # fmt: skip
"""Of every sample that has duplicates: the cluster's size, its place in it, the survivor's uid, the least row."""
_INDEX_SURVIVOR, _INDEX, _AMONG, _OTHER = range(4)


def columns_read(*expressions: str | None) -> tuple[str, ...]:
    """The columns that the expressions read, each once."""
    return tuple(dict.fromkeys(name for text in expressions if text is not None for name in columns_of(text)))


@dataclass(frozen=True, kw_only=True)
class Settle:
    """Chooses the survivor of each cluster."""

    plan: Plan
    folder: str
    """Of this choice of survivors."""
    clusters: str
    """Everybody in a component of two or more (`forest.merge_forests`)."""
    equal: Sequence[str]
    pairs: Sequence[str]
    """What `pairs.find_pairs` and `verify.verify_pairs` found; read where clusters do not chain."""
    survivor: str | None
    among: str | None

    def order(self, number: int) -> dict[str, int]:
        """A span's samples that have duplicates, with what decides their place, by component."""
        members = read_parts(self.clusters, [number])
        columns: Columns = {name: np.zeros(len(members), kind) for name, kind in _MEMBER.items()}
        columns |= {name: numpy_of(members[name]) for name in ("root", "row")}
        row = columns["row"].astype(np.int64)
        for number_of_unit in self.plan.spans[number]:
            unit, base = self.plan.units[number_of_unit], self.plan.starts[number_of_unit]
            own = slice(*np.searchsorted(row, [base, base + unit.rows]))
            chosen = row[own] - base
            if not len(chosen):
                continue
            known = read_parts(unit.members)
            names = ("f0", "f1") if unit.source is not None else ("survivor0", "survivor1")
            for name, field in zip(("f0", "f1"), names, strict=True):
                columns[name][own] = numpy_of(known[field])[chosen]
            if unit.source is None:
                columns["place"][own] = np.where(numpy_of(known["survives"])[chosen], _INDEX_SURVIVOR, _INDEX)
            else:
                columns["place"][own], columns["value"][own] = self._judge(unit, chosen)
        part = part_of(columns["root"])
        write_split(task_path(self.at("ordered"), number), columns, part, PARTS, {"rows": len(row)})
        return {"rows": len(row)}

    def _judge(self, unit: Unit, chosen: Indices) -> tuple[Any, Any]:
        """The place and the value of some of a shard's samples."""
        assert unit.source is not None
        place, value = np.full(len(chosen), _AMONG, np.uint8), np.zeros(len(chosen), np.float64)
        if self.survivor is None and self.among is None:
            return place, value
        table = read_columns(unit.source, unit.shard, columns_read(self.survivor, self.among)).take(chosen)
        if self.survivor is not None:
            numbers: Any = evaluate_number(self.survivor, table)
            value[:] = pc.fill_null(numbers, -np.inf).to_numpy()
        if self.among is not None:
            meets: Any = evaluate(self.among, table)
            place[~np.asarray(pc.fill_null(meets, False).to_numpy(), np.bool_)] = _OTHER
        return place, value

    def settle(self, parts: Sequence[range], number: int) -> dict[str, int]:
        """The clusters of some components."""
        ordered = [task_path(self.at("ordered"), span) for span in range(len(self.plan.spans))]
        member = read_columns_of(ordered, parts[number], _MEMBER)
        best_first = np.lexsort((member["row"], member["f1"], member["f0"], -member["value"], member["place"]))
        member = {name: values[best_first] for name, values in member.items()}
        cluster = member["root"].astype(np.int64) if self.plan.method.chains else self._stars(member)
        settled, says = _ranked(member, cluster)
        content = hashlib.blake2b(digest_size=8)
        for values in settled.values():
            content.update(np.ascontiguousarray(values).tobytes())
        span, spans = self.plan.span_of(settled["row"].astype(np.int64)), len(self.plan.spans)
        said = {**says, "digest": content.hexdigest()}
        write_split(task_path(self.at("settled"), number), settled, span, spans, said)
        return says

    def _stars(self, member: Columns) -> Indices:
        """For each sample, best first, the place of its survivor: one that is a duplicate of it, not of its like.

        Equals are one node, or a thousand copies of a picture would be half a million pairs.
        """
        by_row = np.argsort(member["row"])
        rows = member["row"][by_row].astype(np.int64)

        def places(links: Sequence[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
            both = [np.concatenate([np.empty(0, np.int64), *side]) for side in zip(*links, strict=True)]
            at = np.searchsorted(rows, both[0]) if links else np.empty(0, np.int64)
            own = (at < len(rows)) & (rows[np.minimum(at, len(rows) - 1)] == both[0]) if len(rows) else at == -1
            return by_row[at[own]], by_row[np.searchsorted(rows, both[1][own])]

        copy, original = places([read_links(path) for path in self.equal])
        node = np.arange(len(rows))
        node[copy] = original
        first, second = places([read_links(path) for path in self.pairs])
        # Samples stand best first, so the first of a node is its best and its position the node's rank.
        _, best, node = np.unique(node, return_index=True, return_inverse=True)
        return best[survivors_of(best, *unpack_pairs(pack_pairs(node[first], node[second])))][node]

    def at(self, folder: str) -> str:
        return storage.join(self.folder, folder)


def _ranked(member: Columns, cluster: Indices) -> tuple[Columns, dict[str, int]]:
    """The columns SETTLED of samples that stand best first, and the counts."""
    order = np.argsort(cluster, kind="stable")
    starts = group_starts(cluster[order])
    sizes = np.diff(np.append(starts, len(order)))
    head = order[np.repeat(starts, sizes)] if len(order) else order
    settled = {
        "row": member["row"][order],
        "copies": np.repeat(sizes, sizes).astype(np.int32),
        "rank": (np.arange(len(order)) - np.repeat(starts, sizes)).astype(np.int32),
        "f0": member["f0"][head],
        "f1": member["f1"][head],
        "lowest": np.repeat(np.minimum.reduceat(member["row"][order], starts), sizes) if len(order) else order,
    }
    fresh = member["place"][order] >= _AMONG
    says = {
        "clusters": int((sizes > 1).sum()),
        "duplicates": int((fresh & (settled["rank"] > 0)).sum()),
        "of_index": int((fresh & (member["place"][head] < _AMONG)).sum()),
        "largest": int(sizes.max(initial=0)),
    }
    return settled, says


def settle_clusters(job: Settle, *, workers: int | None) -> list[str]:
    """Run the two stages; returns the files with the columns SETTLED, cut by span."""
    ordered = run_numbered(job.at("ordered"), job.order, len(job.plan.spans), title="order", workers=workers)
    parts = runs(total(ordered, "rows"), MEMBERS)
    settle = partial(job.settle, parts)
    return run_numbered(job.at("settled"), settle, len(parts), title="survivors", workers=workers)
