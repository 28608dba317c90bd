"""Clusters around survivors, against choosing them one by one."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.curation.dedup.clusters import survivors_of


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_survivors_are_chosen_from_the_best_on(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 12))
    ranks = np.array(data.draw(st.permutations(range(count))), np.int64)
    every = [(i, j) for i in range(count) for j in range(i + 1, count)]
    edges = data.draw(st.lists(st.sampled_from(every), unique=True)) if every else []
    neighbours: dict[int, set[int]] = {node: set() for node in range(count)}
    for i, j in edges:
        neighbours[i].add(j)
        neighbours[j].add(i)
    expected: dict[int, int] = {}
    for node in sorted(range(count), key=lambda node: ranks[node]):
        heads = [other for other in neighbours[node] if expected.get(other) == other]
        expected[node] = min(heads, key=lambda head: ranks[head]) if heads else node
    first = np.array([i for i, _ in edges], np.int64)
    second = np.array([j for _, j in edges], np.int64)
    assert survivors_of(ranks, first, second).tolist() == [expected[node] for node in range(count)]
