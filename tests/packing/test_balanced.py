"""Packing under two limits: both always kept, no item lost, fewer sequences than by length alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.packing.balanced import fill_balanced, pack_items
from mmcorpus.packing.binpack import Bins, first_fit_decreasing


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
    sizes, counts = np.array(lengths, dtype=np.int64), np.array(images, dtype=np.int64)
    check(fill_balanced(sizes, capacity, images=counts, max_images=most), lengths, images, capacity, most)
    chosen = pack_items(sizes, capacity, images=counts, max_images=most)
    check(chosen, lengths, images, capacity, most)
    assert len(chosen) <= len(first_fit_decreasing(sizes, capacity, images=counts, max_images=most))


def test_the_worked_example() -> None:
    lengths, images = np.array([3] * 6 + [2] * 4), np.array([0] * 6 + [1] * 4)
    assert len(first_fit_decreasing(lengths, 10, images=images, max_images=2)) == 4
    bins = pack_items(lengths, 10, images=images, max_images=2)
    filled = [sorted(lengths[bins.bin == number].tolist()) for number in range(len(bins))]
    assert sorted(filled) == [[2, 2, 3, 3], [2, 2, 3, 3], [3, 3]]


def test_a_mixture_of_documents_captions_and_texts_nears_the_bound() -> None:
    rng = np.random.default_rng(3)
    images = np.concatenate([rng.integers(1, 9, 400), np.ones(2500, dtype=np.int64), np.zeros(200, dtype=np.int64)])
    lengths = images * 9 + rng.integers(5, 90, len(images))
    lengths[-200:] = rng.integers(50, 900, 200)
    bound = max(lengths.sum() / 1024, images.sum() / 16)
    assert len(first_fit_decreasing(lengths, 1024, images=images, max_images=16)) > 1.2 * bound
    assert len(pack_items(lengths, 1024, images=images, max_images=16)) < 1.07 * bound


def test_an_item_that_fits_no_bin_is_named() -> None:
    with pytest.raises(ValueError, match=r"item 1 .*more than max_images = 2"):
        fill_balanced(np.array([3, 1]), 10, images=np.array([0, 3]), max_images=2)


def test_without_a_limit_of_images_it_is_first_fit_decreasing() -> None:
    lengths = np.random.default_rng(0).integers(1, 100, 500)
    for bins in (pack_items(lengths, 100), pack_items(lengths, 100, images=lengths % 3)):
        assert bins.bin.tolist() == first_fit_decreasing(lengths, 100).bin.tolist()
