"""Clusters of copies around survivors.

Not connected components: those chain (a ~ b ~ c ~ …) until pictures that have nothing in common are one cluster. Here
every copy is near its own survivor.
"""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]


def survivors_of(ranks: Indices, first: Indices, second: Indices) -> Indices:
    """For each node its survivor, shape (n,).

    Nodes are taken from the best rank on: a node without a survivor among its neighbours becomes one itself, any
    other belongs to its best neighbour that is one. The result does not depend on the order of nodes or edges.

    Args:
        ranks: of each node, distinct; the lowest is best.
        first, second: the edges, each once.
    """
    count = len(ranks)
    better = np.where(ranks[first] < ranks[second], first, second)
    worse = np.where(ranks[first] < ranks[second], second, first)
    is_survivor = np.zeros(count, bool)
    undecided = np.ones(count, bool)
    open_better, open_worse = better, worse
    while undecided.any():
        blocked = np.zeros(count, bool)
        blocked[open_worse] = True
        # Nobody better is still undecided, and none of the better ones became a survivor.
        new = undecided & ~blocked
        is_survivor |= new
        undecided &= ~new
        undecided[open_worse[new[open_better]]] = False
        open_ = undecided[open_better] & undecided[open_worse]
        open_better, open_worse = open_better[open_], open_worse[open_]
    result = np.arange(count)
    kept = is_survivor[better] & ~is_survivor[worse]
    best = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(best, worse[kept], ranks[better[kept]])
    by_rank = np.argsort(ranks)
    copies = ~is_survivor
    result[copies] = by_rank[np.searchsorted(ranks[by_rank], best[copies])]
    return result
