"""Subset sums: the same points as by trying all subsets."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcorpus.packing.subset import Point, choose


@st.composite
def problems(draw: st.DrawFn) -> tuple[list[Point], Point, Point, Point]:
    room = draw(st.integers(0, 30)), draw(st.integers(0, 4))
    pool = draw(st.lists(st.tuples(st.integers(0, room[0]), st.integers(0, room[1])), max_size=9))
    low = draw(st.integers(0, room[0])), draw(st.integers(0, room[1]))
    high = draw(st.integers(low[0], room[0])), draw(st.integers(low[1], room[1]))
    return pool, room, low, high


def reachable(pool: list[Point], room: Point) -> set[Point]:
    subsets = itertools.chain.from_iterable(itertools.combinations(pool, n) for n in range(len(pool) + 1))
    sums = {(sum(column for column, _ in own), sum(row for _, row in own)) for own in subsets}
    return {(column, row) for column, row in sums if column <= room[0] and row <= room[1]}


def missed(point: Point, room: Point, low: Point, high: Point) -> float:
    return sum(
        max(0, least - own, own - most) / max(1, whole)
        for own, whole, least, most in zip(point, room, low, high, strict=True)
    )


@given(problems())
def test_the_nearest_sum_of_all_subsets(problem: tuple[list[Point], Point, Point, Point]) -> None:
    pool, room, low, high = problem
    chosen, miss = choose(iter(pool), room, low, high)
    assert chosen == sorted(set(chosen))
    sums = sum(pool[place][0] for place in chosen), sum(pool[place][1] for place in chosen)
    assert sums in reachable(pool, room)
    assert missed(sums, room, low, high) == pytest.approx(miss)
    assert miss == pytest.approx(min(missed(point, room, low, high) for point in reachable(pool, room)))


def test_no_more_of_the_pool_is_drawn_than_is_needed() -> None:
    pool = iter([(4, 0), (3, 0), (6, 0), (1, 0), (2, 0)])
    assert choose(pool, (10, 0), (10, 0), (10, 0)) == ([0, 2], 0.0)
    assert next(pool) == (1, 0)


def test_two_dimensions_are_reached_together() -> None:
    texts, pictures = [(3, 0)] * 3, [(2, 1)] * 4
    assert choose(texts + pictures, (10, 2), (10, 2), (10, 2)) == ([0, 1, 3, 4], 0.0)
    chosen, miss = choose(texts, (10, 2), (10, 2), (10, 2))
    assert (chosen, miss) == ([0, 1, 2], pytest.approx(0.1 + 1.0))
