"""Last stages: the order of each cluster's samples, its survivor, and the score tables that say so.

The order: samples of the index first, then those that meet `among`, then by the largest value of `survivor`, then by
the lowest uid. It is made anew when those expressions or the scores that they read change; the clusters stay.
"""

import dataclasses
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
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
    part_of,
    read_columns_of,
    read_parts,
    runs,
    write_split,
)
from mmcorpus.curation.selection.evaluate import evaluate, evaluate_number
from mmcorpus.curation.selection.expression import columns_of
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids

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
    """Which of each cluster survives."""

    plan: Plan
    folder: str
    """Of this choice of survivors."""
    clusters: str
    """Everybody in a component of two or more (`forest.merge_forests`)."""
    equal: tuple[str, ...]
    pairs: tuple[str, ...]
    """What `pairs.find_pairs` and `verify.verify_pairs` found; read where clusters do not chain."""
    survivor: str | None
    among: str | None
    parts: tuple[range, ...] = ()

    def order(self, number: int) -> dict[str, int]:
        """A span's samples that have duplicates, with what decides their place, by component."""
        members = read_parts(self.clusters, [number])
        row, root = (numpy_of(members[name]).astype(np.int64) for name in ("row", "root"))
        place, value = np.full(len(row), _OTHER, np.uint8), np.zeros(len(row), np.float64)
        pairs = np.empty(len(row), uids.PAIR)
        for number_of_unit in self.plan.spans[number]:
            unit, base = self.plan.units[number_of_unit], self.plan.starts[number_of_unit]
            start, end = np.searchsorted(row, [base, base + unit.rows])
            if start == end:
                continue
            chosen = row[start:end] - base
            known = read_parts(unit.members)
            names = ("f0", "f1") if unit.source is not None else ("survivor0", "survivor1")
            for name, field in zip(("f0", "f1"), names, strict=True):
                pairs[name][start:end] = numpy_of(known[field])[chosen]
            if unit.source is None:
                survives = np.asarray(known["survives"].to_numpy(), np.bool_)[chosen]
                place[start:end] = np.where(survives, _INDEX_SURVIVOR, _INDEX)
            else:
                place[start:end], value[start:end] = self._judge(unit, chosen)
        columns: Columns = {
            "root": root,
            "row": row,
            "place": place,
            "value": value,
            "f0": pairs["f0"],
            "f1": pairs["f1"],
        }
        columns = {name: columns[name].astype(kind, copy=False) for name, kind in _MEMBER.items()}
        write_split(task_path(self._at("ordered"), number), columns, part_of(root), PARTS, {"rows": len(row)})
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

    def settle(self, number: int) -> dict[str, int]:
        """The clusters of some components."""
        spans = range(len(self.plan.spans))
        ordered = [task_path(self._at("ordered"), span) for span in spans]
        member = read_columns_of(ordered, self.parts[number], _MEMBER)
        best_first = np.lexsort((member["row"], member["f1"], member["f0"], -member["value"], member["place"]))
        member = {name: values[best_first] for name, values in member.items()}
        cluster = member["root"].astype(np.int64) if self.plan.method.chains else self._stars(member)
        settled, says = _ranked(member, cluster)
        content = hashlib.blake2b(digest_size=8)
        for values in settled.values():
            content.update(np.ascontiguousarray(values).tobytes())
        span = self.plan.span_of(settled["row"].astype(np.int64))
        says_all = {**says, "digest": content.hexdigest()}
        write_split(task_path(self._at("settled"), number), settled, span, len(self.plan.spans), says_all)
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
        packed = np.unique(
            np.stack([np.minimum(node[first], node[second]), np.maximum(node[first], node[second])]), axis=1
        )
        return best[survivors_of(best, packed[0], packed[1])][node]

    def _at(self, folder: str) -> str:
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
    plan = job.plan
    ordered = run_numbered(
        storage.join(job.folder, "ordered"), job.order, len(plan.spans), title="order", workers=workers
    )
    parts = tuple(runs(total(ordered, "rows"), MEMBERS))
    job = dataclasses.replace(job, parts=parts)
    folder = storage.join(job.folder, "settled")
    return run_numbered(folder, job.settle, len(parts), title="survivors", workers=workers)
