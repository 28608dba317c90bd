"""Packing under two limits: both always kept, no item lost, fewer sequences than by length alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.packing import best
from mmcorpus.packing.balanced import fill_balanced
from mmcorpus.packing.best import pack_items
from mmcorpus.packing.binpack import Bins, Limit, first_fit_decreasing
from mmcorpus.packing.exact import fill_exactly


def check(bins: Bins, lengths: list[int], images: list[int], capacity: int, most: int) -> None:
    """Every item is somewhere, once, and no bin holds too much."""
    assert len(bins.bin) == len(lengths)
    assert sorted(set(bins.bin.tolist())) == list(range(len(bins)))
    used = np.bincount(bins.bin, weights=lengths, minlength=len(bins))
    assert bins.used.tolist() == used.tolist()
    assert used.max(initial=0) <= capacity
    assert np.bincount(bins.bin, weights=images, minlength=len(bins)).max(initial=0) <= most
    for number in range(len(bins)):
        inside = sorted(bins.position[bins.bin == number].tolist())
        assert inside == list(range(len(inside)))


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], list[int], int, int]:
    capacity, most = draw(st.integers(1, 60)), draw(st.integers(1, 6))
    kinds = draw(st.lists(st.tuples(st.integers(1, capacity), st.integers(0, most)), min_size=1, max_size=8))
    items = draw(st.lists(st.sampled_from(kinds), max_size=200))
    return [length for length, _ in items], [count for _, count in items], capacity, most


@settings(deadline=None, max_examples=200)
@given(problems())
def test_both_limits_are_kept_and_no_item_is_lost(problem: tuple[list[int], list[int], int, int]) -> None:
    lengths, images, capacity, most = problem
    sizes = np.array(lengths, dtype=np.int64)
    limit = Limit(name="images", sizes=np.array(images, dtype=np.int64), most=most)
    balanced = fill_balanced(sizes, capacity, limit)
    check(balanced, lengths, images, capacity, most)
    chosen = pack_items(sizes, capacity, limits=[limit])
    check(chosen, lengths, images, capacity, most)
    assert len(chosen) <= len(first_fit_decreasing(sizes, capacity, limits=[limit]))


def test_the_worked_example() -> None:
    lengths, images = np.array([3] * 6 + [2] * 4), np.array([0] * 6 + [1] * 4)
    bins = fill_balanced(lengths, 10, Limit(name="images", sizes=images, most=2))
    filled = [sorted(lengths[bins.bin == number].tolist()) for number in range(len(bins))]
    assert sorted(filled) == [[2, 2, 3, 3], [2, 2, 3, 3], [3, 3]]


def test_where_pools_miss_the_bound_the_best_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short sequences that few long documents and a limit of images rule: as the demo's interleaved packs."""
    rng = np.random.default_rng(3)
    images = np.concatenate([rng.integers(2, 9, 80), np.ones(1100, dtype=np.int64)])
    lengths = np.concatenate([rng.integers(260, 490, 80), rng.integers(15, 30, 1100)])
    limit = Limit(name="images", sizes=images, most=16)
    balanced, pools = fill_balanced(lengths, 512, limit), fill_exactly(lengths, 512, limits=[limit])
    assert len(balanced) < len(pools)
    monkeypatch.setattr(best, "fill_by_columns", lambda sizes, most, start, work: start)
    assert len(pack_items(lengths, 512, limits=[limit])) == len(balanced)


def test_an_item_that_fits_no_bin_is_named() -> None:
    with pytest.raises(ValueError, match=r"item 1 .*more than max_images = 2"):
        fill_balanced(np.array([3, 1]), 10, Limit(name="images", sizes=np.array([0, 3]), most=2))
