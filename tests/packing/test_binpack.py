"""First-fit-decreasing: exactly the textbook's bins."""

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.packing import binpack, first_fit_decreasing

FANS = st.sampled_from([1, 2, 8])
"""Trees of many levels and of one."""


def textbook(lengths: list[int], capacity: int, images: list[int], max_images: int) -> tuple[list[int], list[int]]:
    """The quadratic version: (bin, position) of each item."""
    free: list[int] = []
    slots: list[int] = []
    items: list[int] = []
    bins, positions = [0] * len(lengths), [0] * len(lengths)
    for item in sorted(range(len(lengths)), key=lambda item: (-lengths[item], -images[item])):
        for number in range(len(free)):
            if free[number] >= lengths[item] and slots[number] >= images[item]:
                break
        else:
            free.append(capacity)
            slots.append(max_images)
            items.append(0)
            number = len(free) - 1
        free[number] -= lengths[item]
        slots[number] -= images[item]
        bins[item], positions[item] = number, items[number]
        items[number] += 1
    return bins, positions


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[int], int]:
    capacity = draw(st.integers(1, 120))
    distinct = draw(st.lists(st.integers(1, capacity), min_size=1, max_size=12))
    return draw(st.lists(st.sampled_from(distinct), max_size=300)), capacity


@settings(deadline=None, max_examples=200)
@given(problems(), FANS)
def test_the_same_bins_as_the_textbook(problem: tuple[list[int], int], fan_bits: int) -> None:
    lengths, capacity = problem
    with mock.patch.multiple(binpack, _FAN_BITS=fan_bits, _FAN=1 << fan_bits):
        bins = first_fit_decreasing(np.array(lengths, dtype=np.int64), capacity)
    expected, positions = textbook(lengths, capacity, [0] * len(lengths), 0)
    assert bins.bin.tolist() == expected
    assert bins.position.tolist() == positions
    assert len(bins) == max(expected, default=-1) + 1
    assert bins.used.tolist() == [
        sum(n for n, b in zip(lengths, expected, strict=True) if b == k) for k in range(len(bins))
    ]


@settings(deadline=None, max_examples=200)
@given(problems(), FANS, st.integers(1, 6), st.data())
def test_the_same_bins_with_an_image_limit(
    problem: tuple[list[int], int], fan_bits: int, most: int, data: st.DataObject
) -> None:
    lengths, capacity = problem
    images = data.draw(st.lists(st.integers(0, most), min_size=len(lengths), max_size=len(lengths)))
    with mock.patch.multiple(binpack, _FAN_BITS=fan_bits, _FAN=1 << fan_bits):
        bins = first_fit_decreasing(
            np.array(lengths, dtype=np.int64), capacity, images=np.array(images, dtype=np.int64), max_images=most
        )
    assert (bins.bin.tolist(), bins.position.tolist()) == textbook(lengths, capacity, images, most)


@pytest.mark.parametrize("shape", ["captions", "conversations", "uniform"])
def test_the_same_bins_on_thousands_of_realistic_lengths(shape: str) -> None:
    rng = np.random.default_rng(5)
    lengths = {
        "captions": 145 + rng.gamma(2.0, 14.0, 3000),
        "conversations": 729 + rng.gamma(1.5, 110.0, 3000),
        "uniform": rng.integers(1, 4097, 3000),
    }[shape].astype(np.int64)
    assert first_fit_decreasing(lengths, 4096).bin.tolist() == textbook(lengths.tolist(), 4096, [0] * 3000, 0)[0]


def test_the_worked_example_and_its_statistics() -> None:
    bins = first_fit_decreasing(np.array([6, 5, 4, 4, 2]), 10)
    assert bins.bin.tolist() == [0, 1, 0, 1, 2]
    assert bins.position.tolist() == [0, 0, 1, 1, 0]
    assert (bins.used.tolist(), len(bins), bins.lower_bound, bins.padding) == ([10, 9, 2], 3, 3, 9)
    assert bins.fill == pytest.approx(0.7)
    assert bins.packing_factor == pytest.approx(5 / 3)


def test_no_items_need_no_bins() -> None:
    bins = first_fit_decreasing(np.array([], dtype=np.int64), 10)
    assert (len(bins), bins.fill, bins.padding, bins.lower_bound, bins.packing_factor) == (0, 0.0, 0, 0, 0.0)


def test_items_that_fit_no_bin_are_named() -> None:
    with pytest.raises(ValueError, match=r"item 1 \(length 11.*longer than the capacity of 10"):
        first_fit_decreasing(np.array([3, 11, 12]), 10)
    with pytest.raises(ValueError, match=r"item 2 .*shorter than 1"):
        first_fit_decreasing(np.array([3, 1, 0]), 10)
    with pytest.raises(ValueError, match=r"item 0 .*more than max_images = 2"):
        first_fit_decreasing(np.array([3, 1]), 10, images=np.array([3, 0]), max_images=2)
