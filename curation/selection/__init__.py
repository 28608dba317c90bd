"""Deciding late: score columns in, a selection (uids with counts) out, and why.

    from mmcorpus.curation.selection import SelectConfig, select, read_selection
    report = select(
        SelectConfig(keep="image.min_side >= 200 and caption.words > 2"), "run/scores/web", "run/selections/web.parquet"
    )
    print(report.text())

Selections combine with `union`, `intersection`, `difference` and `add`, and are read from and written to DataComp's
sorted `.npy` by the name's ending.
"""

from mmcorpus.curation.selection.config import SelectConfig
from mmcorpus.curation.selection.evaluate import check, evaluate
from mmcorpus.curation.selection.explain import ClauseEffect, SelectReport
from mmcorpus.curation.selection.expression import ExpressionError, Threshold, columns_of, split_clauses
from mmcorpus.curation.selection.select import select, select_table
from mmcorpus.curation.selection.sets import add, difference, intersection, union
from mmcorpus.curation.selection.tables import read_selection, write_selection

__all__ = [
    "ClauseEffect",
    "ExpressionError",
    "SelectConfig",
    "SelectReport",
    "Threshold",
    "add",
    "check",
    "columns_of",
    "difference",
    "evaluate",
    "intersection",
    "read_selection",
    "select",
    "select_table",
    "split_clauses",
    "union",
    "write_selection",
]
