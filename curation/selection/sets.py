"""Set algebra over selections, counts included: a selection is a multiset of uids.

For a sample's counts a and b (0 where it is absent):

    union         max(a, b)   in either; agreeing twice does not upsample
    intersection  min(a, b)   in both
    difference    a if b == 0 else 0   in the first and not at all in the others
    add           a + b       both lists one after the other: the one that upsamples
"""

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np
import pyarrow as pa

from mmcorpus.curation.selection.tables import Counts, make_selection, selection_pairs
from mmcorpus.curation.store import uid_arrays as uids


def union(*selections: pa.Table) -> pa.Table:
    """The samples of any selection, each with its largest count."""
    return _combine(selections, np.maximum)


def add(*selections: pa.Table) -> pa.Table:
    """The samples of any selection, with the sum of their counts. Raises ValueError beyond 32 bits."""
    return _combine(selections, np.add)


def intersection(*selections: pa.Table) -> pa.Table:
    """The samples of every selection, each with its smallest count."""
    return _combine(selections, np.minimum)


def difference(first: pa.Table, *others: pa.Table) -> pa.Table:
    """The samples of the first selection that none of the others has, with their counts."""
    return _combine((first, *others), lambda mine, other: np.where(other == 0, mine, 0))


def _combine(selections: Sequence[pa.Table], rule: Callable[[Counts, Counts], Counts]) -> pa.Table:
    if not selections:
        raise ValueError("set algebra needs at least one selection")
    parts = [selection_pairs(selection) for selection in selections]
    everything, _ = uids.count(np.concatenate([pairs for pairs, _ in parts]))
    counts = [np.zeros(len(everything), np.int64) for _ in parts]
    for into, (pairs, own) in zip(counts, parts, strict=True):
        into[uids.find(pairs, everything)] = own
    return make_selection(everything, reduce(rule, counts))
