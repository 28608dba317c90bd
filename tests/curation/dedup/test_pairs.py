"""Buckets: all pairs of small ones, a bounded number in large ones, one step for equals."""

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.curation.dedup.pairs import bucket_pairs, star
from mmcorpus.curation.engine.partitions import PARTS, group_starts, pack_pairs, part_of, runs, unpack_pairs


def records(buckets: list[list[int]]) -> dict[str, Any]:
    """Sorted records of those rows under one key each."""
    return {
        "key": np.repeat(np.arange(len(buckets), dtype=np.uint64), [len(rows) for rows in buckets]),
        "table": np.zeros(sum(map(len, buckets)), np.uint16),
        "row": np.array([row for rows in buckets for row in sorted(rows)], np.int64),
    }


@settings(max_examples=100, deadline=None)
@given(buckets=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=9, unique=True), max_size=8))
def test_small_buckets_are_compared_all_with_all(buckets: list[list[int]]) -> None:
    first, second = unpack_pairs(bucket_pairs(records(buckets), limit=9))
    expected = {pair for rows in buckets for pair in itertools.combinations(sorted(rows), 2)}
    assert list(zip(first.tolist(), second.tolist(), strict=True)) == sorted(expected)


def test_pairs_of_a_large_bucket_grow_with_its_rows() -> None:
    limit = 8
    counts = [len(bucket_pairs(records([list(range(size))]), limit)) for size in (100, 200, 400)]
    assert counts[1] <= 200 * limit
    assert counts[2] - counts[1] == 2 * (counts[1] - counts[0])
    first, second = unpack_pairs(bucket_pairs(records([list(range(100))]), limit))
    found = set(zip(first.tolist(), second.tolist(), strict=True))
    assert {(row, row + step) for row in range(90) for step in range(1, 5)} <= found, "neighbours"
    assert {(head, row) for head in range(4) for row in range(head + 1, 100)} <= found, "the first ones"
    assert (50, 60) not in found


def test_tables_are_not_mixed() -> None:
    same = records([[1, 2]])
    same["table"] = np.array([0, 1], np.uint16)
    assert not len(bucket_pairs(same, 8))


def test_equals_are_linked_to_their_first() -> None:
    rows = np.array([3, 7, 9, 2, 5, 7, 8])
    forest = star(rows, np.array([0, 3, 5]))
    assert dict(zip(forest["row"].tolist(), forest["root"].tolist(), strict=True)) == {5: 2, 7: 3, 8: 3, 9: 3}


def test_pairs_are_packed_in_order_and_once() -> None:
    first, second = np.array([2**32 - 2, 5, 1, 5]), np.array([3, 1, 5, 2**31])
    packed = pack_pairs(first, second)
    low, high = unpack_pairs(packed)
    assert list(zip(low.tolist(), high.tolist(), strict=True)) == [(1, 5), (3, 2**32 - 2), (5, 2**31)]


def test_parts_are_even_whatever_the_numbers() -> None:
    random = np.random.default_rng(0).integers(0, 2**64, 100_000, dtype=np.uint64)
    for numbers in (np.arange(100_000), np.arange(100_000) << 16, random):
        sizes = np.bincount(part_of(numbers), minlength=PARTS)
        assert sizes.min() > 150
        assert sizes.max() < 700


@pytest.mark.parametrize(("total", "tasks"), [(0, 1), (99, 1), (100, 1), (101, 2), (10**9, 256)])
def test_tasks_take_all_parts_between_them(total: int, tasks: int) -> None:
    shares = runs(total, 100)
    assert len(shares) == tasks
    assert [part for share in shares for part in share] == list(range(PARTS))


def test_groups_begin_where_any_column_changes() -> None:
    assert group_starts(np.array([1, 1, 1, 2, 2]), np.array([5, 5, 6, 6, 6])).tolist() == [0, 2, 3]
    assert not len(group_starts(np.empty(0)))
