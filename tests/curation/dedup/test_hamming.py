"""The index finds exactly what comparing all with all finds."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from curation.dedup.clusters import survivors_of
from curation.dedup.hamming import near_pairs, table_masks


def brute_force(hashes: np.ndarray, distance: int) -> set[tuple[int, int]]:
    near = np.bitwise_count(hashes[:, None] ^ hashes[None, :]) <= distance
    return {(int(i), int(j)) for i, j in zip(*np.nonzero(np.triu(near, 1)), strict=True)}


@pytest.mark.parametrize("distance", [0, 1, 4, 8, 12])
def test_against_brute_force_on_two_thousand_hashes(distance: int) -> None:
    rng = np.random.default_rng(distance)
    base = rng.integers(0, 2**64, 500, np.uint64)
    flips = np.zeros(1500, np.uint64)
    for _ in range(distance + 2):
        flips ^= np.uint64(1) << rng.integers(0, 64, 1500).astype(np.uint64)
    hashes = np.concatenate([base, base[rng.integers(0, 500, 1500)] ^ flips])
    first, second = near_pairs(hashes, distance)
    found = list(zip(first.tolist(), second.tolist(), strict=True))
    assert set(found) == brute_force(hashes, distance)
    assert len(found) == len(set(found))
    assert found == sorted(found)


def test_more_hashes_get_longer_keys_and_still_cover_every_pair() -> None:
    small, large = list(table_masks(1_000, 8)), list(table_masks(10_000_000, 8))
    assert min(int(mask).bit_count() for mask in large) > min(int(mask).bit_count() for mask in small)
    rng = np.random.default_rng(0)
    for masks in (small, large):
        for _ in range(50):
            flip = sum(1 << int(bit) for bit in rng.choice(64, 8, replace=False))
            assert any(int(mask) & flip == 0 for mask in masks)


def test_no_hashes_and_equal_hashes() -> None:
    assert [len(part) for part in near_pairs(np.empty(0, np.uint64), 4)] == [0, 0]
    first, second = near_pairs(np.array([5, 5, 5], np.uint64), 0)
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 2)]


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
