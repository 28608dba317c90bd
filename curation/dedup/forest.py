"""Connected components of duplicates as forests that are merged in a tree, each merge a file.

A forest is columns `row` and `root`: every row that is not the lowest of its component, and that lowest one. Whatever
order links come in, and however they are cut, the same components have the same forest, so that a merge done twice or
elsewhere writes the same bytes.
"""

from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from mmcorpus.curation.dedup.method import Indices
from mmcorpus.curation.dedup.plan import Plan
from mmcorpus.curation.engine.items import run_numbered, task_path
from mmcorpus.curation.engine.partitions import (
    Columns,
    numpy_of,
    read_columns_of,
    read_parts,
    unpack_pairs,
    write_split,
    write_whole,
)

FAN_IN: Final = 16
"""Forests that one task merges."""


def spanning_forest(first: Indices, second: Indices) -> Columns:
    """The forest of the components that links of row numbers make, sorted by row.

    Each round hangs the root of every link's greater side under the lesser one's and then shortens all paths to their
    root; links within a component drop out. The rounds grow with the logarithm of the longest chain.
    """
    nodes, places = np.unique(np.concatenate([first, second]), return_inverse=True)
    left, right = places[: len(first)], places[len(first) :]
    root = np.arange(len(nodes))
    while True:
        low, high = np.minimum(root[left], root[right]), np.maximum(root[left], root[right])
        open_ = low != high
        if not open_.any():
            break
        left, right, low, high = left[open_], right[open_], low[open_], high[open_]
        np.minimum.at(root, high, low)
        while True:
            shorter = root[root]
            if np.array_equal(shorter, root):
                break
            root = shorter
    below = np.flatnonzero(root != np.arange(len(nodes)))
    return {"row": nodes[below].astype(np.uint32), "root": nodes[root[below]].astype(np.uint32)}


def merge_forests(plan: Plan, paths: Sequence[str], *, workers: int | None) -> str:
    """One file of all who are in a component of two or more, themselves the roots included, cut by span.

    Args:
        paths: files of links: columns `row` and `root`, or `pair` as `pack_pairs` makes them.
    """
    level = 0
    while len(paths) > FAN_IN:
        groups = [tuple(paths[start : start + FAN_IN]) for start in range(0, len(paths), FAN_IN)]
        folder = plan.path(f"forests-{level}")
        step = partial(_merge, folder, groups)
        paths = run_numbered(folder, step, len(groups), title="merge", workers=workers)
        level += 1
    folder = plan.path("clusters")
    return run_numbered(folder, partial(_merge_last, plan, folder, paths), 1, title="merge", workers=workers)[0]


def _merge(folder: str, groups: Sequence[Sequence[str]], number: int) -> dict[str, int]:
    """Merge a group of files of links into one forest."""
    forest = spanning_forest(*_joined([read_links(path) for path in groups[number]]))
    write_whole(task_path(folder, number), forest, {"links": len(forest["row"])})
    return {}


def _merge_last(plan: Plan, folder: str, paths: Sequence[str], number: int) -> dict[str, int]:
    """Merge all links, what the index has linked before among them, and add the roots: nothing comes after."""
    forest = spanning_forest(*_joined([*(read_links(path) for path in paths), index_links(plan)]))
    roots = np.unique(forest["root"])
    row, root = np.concatenate([forest["row"], roots]), np.concatenate([forest["root"], roots])
    order = np.argsort(row, kind="stable")
    row, root = row[order], root[order]
    span = plan.span_of(row.astype(np.int64))
    write_split(task_path(folder, number), {"row": row, "root": root}, span, len(plan.spans), {"rows": len(row)})
    return {}


def _joined(links: Sequence[tuple[Indices, Indices]]) -> tuple[Indices, Indices]:
    first, second = zip(*links, strict=True)
    return np.concatenate(first), np.concatenate(second)


def read_links(path: str) -> tuple[Indices, Indices]:
    """The links of a file: a forest's, or pairs."""
    table = read_parts(path)
    if "pair" in table.column_names:
        return unpack_pairs(numpy_of(table["pair"]))
    return numpy_of(table["row"]).astype(np.int64), numpy_of(table["root"]).astype(np.int64)


def index_links(plan: Plan) -> tuple[Indices, Indices]:
    """What was found to be one cluster when it was put into the index."""
    units = [unit for unit in plan.units if unit.source is None]
    lowest = read_columns_of([unit.members for unit in units], None, {"lowest": np.int64})["lowest"]
    row = np.flatnonzero(lowest != np.arange(len(lowest)))
    return row, lowest[row]
