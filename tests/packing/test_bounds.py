"""The bounds: below every packing, and known values; mixing by its definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.packing.bounds import Mixing, beside_bound, dual_bound, l2_bound, lower_bound


def histogram(sizes: list[int], capacity: int) -> np.ndarray:
    return np.bincount(sizes, minlength=capacity + 1)


def least_bins(sizes: list[int], capacity: int) -> int:
    """The optimum, by trying every bin for every item."""

    def place(left: list[int], free: list[int], most: int) -> bool:
        if not left:
            return True
        tried = set()
        for number, space in enumerate(free):
            if space >= left[0] and space not in tried:
                tried.add(space)
                if place(left[1:], [*free[:number], space - left[0], *free[number + 1 :]], most):
                    return True
        return len(free) < most and place(left[1:], [*free, capacity - left[0]], most)

    ordered = sorted(sizes, reverse=True)
    return next(most for most in itertools.count() if place(ordered, [], most))


def l2_by_definition(sizes: list[int], capacity: int) -> int:
    best = 0
    for least in range(capacity // 2 + 1):
        huge = [size for size in sizes if size > capacity - least]
        large = [size for size in sizes if capacity - least >= size > capacity / 2]
        small = [size for size in sizes if capacity / 2 >= size >= least]
        over = sum(small) - (len(large) * capacity - sum(large))
        best = max(best, len(huge) + len(large) + max(0, -(-over // capacity)))
    return best


@settings(deadline=None)
@given(st.integers(1, 21).flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(1, c), max_size=9))))
def test_l2_is_martello_and_toths_and_below_the_optimum(problem: tuple[int, list[int]]) -> None:
    capacity, sizes = problem
    bound = l2_bound(histogram(sizes, capacity))
    assert bound == l2_by_definition(sizes, capacity)
    assert -(-sum(sizes) // capacity) <= bound <= least_bins(sizes, capacity)


@settings(deadline=None)
@given(st.integers(1, 21).flatmap(lambda c: st.tuples(st.just(c), st.lists(st.integers(1, c), max_size=9))))
def test_no_dual_feasible_function_asks_for_more_than_the_optimum(problem: tuple[int, list[int]]) -> None:
    capacity, sizes = problem
    least = lower_bound({"positions": histogram(sizes, capacity)}).bins
    assert dual_bound(histogram(sizes, capacity)) <= least <= least_bins(sizes, capacity)


def test_of_samples_of_which_no_four_fit_together_a_sequence_has_three() -> None:
    many = lower_bound({"positions": histogram([130] * 7203, 512)})
    assert (many.bins, many.name) == (2401, "positions (DFF)")
    assert l2_bound(histogram([130] * 7203, 512)) == 1829
    # No twenty fit; nineteen do.
    assert dual_bound(histogram([5] * 190, 99)) == 10


def test_the_worked_examples() -> None:
    assert l2_bound(histogram([7, 7, 7, 4, 4], 10)) == 4
    assert l2_bound(histogram([6, 6, 6], 10)) == 3
    assert l2_bound(histogram([], 10)) == 0


def least_bins_of_two(items: list[tuple[int, int]], room: tuple[int, int]) -> int:
    """The optimum under two limits, by trying every bin for every item."""

    def place(left: list[tuple[int, int]], free: list[tuple[int, int]], most: int) -> bool:
        if not left:
            return True
        first, rest = left[0], left[1:]
        for number, space in enumerate(free[:most] + ([room] if len(free) < most else [])):
            after = space[0] - first[0], space[1] - first[1]
            if min(after) >= 0 and place(rest, [*free[:number], after, *free[number + 1 :]], most):
                return True
        return False

    ordered = sorted(items, reverse=True)
    return next(most for most in itertools.count() if place(ordered, [], most))


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 20), st.integers(1, 6)).flatmap(
        lambda room: st.tuples(
            st.just(room),
            st.lists(st.tuples(st.integers(1, room[0]), st.integers(0, room[1])), min_size=1, max_size=7),
        )
    )
)
def test_a_limit_beside_another_asks_for_no_more_than_the_optimum(
    problem: tuple[tuple[int, int], list[tuple[int, int]]],
) -> None:
    room, items = problem
    sizes = list(np.array(items, dtype=np.int64).T)
    bound = beside_bound({"positions": room[0], "images": room[1]}, sizes, np.ones(len(items), dtype=np.int64))
    assert bound.bins <= least_bins_of_two(items, room)


def test_beside_a_long_text_there_is_no_room_for_images() -> None:
    sizes = [np.array([9, 2]), np.array([0, 1])]
    bound = beside_bound({"positions": 10, "images": 4}, sizes, np.array([3, 8]))
    assert (bound.bins, bound.name) == (5, "images beside positions"), "8 images, and 4 wasted by each text"
    assert beside_bound({"positions": 10}, sizes[:1], np.array([3, 8])).bins == 0


def test_the_bound_names_the_limit_that_asks_for_most() -> None:
    positions, images = histogram([3, 3, 3, 3], 10), histogram([1, 1, 1, 1], 2)
    assert lower_bound({"positions": positions}) == lower_bound(
        {"positions": positions, "images": np.zeros(3, dtype=np.int64)}
    )
    many = lower_bound({"positions": positions, "images": images})
    assert (many.bins, many.name) == (2, "positions")
    many = lower_bound({"positions": positions, "images": histogram([1] * 5, 2)})
    assert (many.bins, many.name) == (3, "images")
    many = lower_bound({"positions": histogram([6, 6, 6], 10), "images": images})
    assert (many.bins, many.name) == (3, "positions (L2)")


@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 4)), min_size=1, max_size=40), st.integers(0, 40))
def test_mixing_is_the_share_of_variance_within_sequences(items: list[tuple[int, int]], cut: int) -> None:
    lengths = np.array([length for length, _ in items])
    sequence = np.unique([number for _, number in items], return_inverse=True)[1]
    found = Mixing()
    found.add(lengths, sequence)
    means = np.array([lengths[sequence == number].mean() for number in sequence])
    whole = ((lengths - lengths.mean()) ** 2).sum()
    expected = ((lengths - means) ** 2).sum() / whole if whole else 1.0
    assert found.share == pytest.approx(expected)
    # Added up over windows of whole sequences it is the same.
    cut = min(cut, int(sequence.max()))
    parts = Mixing()
    for own in (sequence < cut, sequence >= cut):
        parts.add(lengths[own], sequence[own] - sequence[own].min(initial=0))
    assert parts.share == pytest.approx(expected)


def test_equal_neighbours_do_not_mix() -> None:
    found = Mixing()
    found.add(np.array([3, 3, 5, 5]), np.array([0, 0, 1, 1]))
    assert found.share == 0
    found = Mixing()
    found.add(np.array([3, 5, 3, 5]), np.array([0, 0, 1, 1]))
    assert found.share == 1
