"""Column generation: bounds below every packing, bins as few as they say, the same everywhere, work that ends."""

import hashlib
import itertools

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.packing import best, columns
from mmcorpus.packing.best import mixing, pack_items
from mmcorpus.packing.binpack import Bins, Limit, first_fit_decreasing
from mmcorpus.packing.bounds import Bound, lower_bound
from mmcorpus.packing.columns import MISSED, fill_by_columns, is_small, tighter
from mmcorpus.packing.exact import kinds_of

Ints = npt.NDArray[np.int64]


def by_columns(items: Ints, most: list[int]) -> tuple[Bins, Bins, Bound]:
    """Of items, shape (items, limits): by first-fit-decreasing, the same bettered, and the bound."""
    limits = [Limit(name=f"n{n}", sizes=items[:, n], most=most[n]) for n in range(1, len(most))]
    start = first_fit_decreasing(items[:, 0], most[0], limits=limits)
    bins = fill_by_columns(list(items.T), most, start, columns.WORK)
    return start, bins, bound_of(items, most, len(bins))


def bound_of(items: Ints, most: list[int], bins: int) -> Bound:
    sizes, _, counts = kinds_of(list(items.T), most)
    return tighter(Bound(bins=0, name=""), bins, {f"n{n}": own for n, own in enumerate(most)}, np.stack(sizes), counts)


def check(bins: Bins, items: Ints, most: list[int]) -> None:
    """Every item is somewhere, once, and no bin holds too much."""
    assert len(bins.bin) == len(items)
    assert sorted(set(bins.bin.tolist())) == list(range(len(bins)))
    for own, limit in zip(items.T, most, strict=True):
        assert np.bincount(bins.bin, weights=own).max() <= limit
    assert bins.used.tolist() == np.bincount(bins.bin, weights=items[:, 0]).tolist()
    for number in range(len(bins)):
        inside = sorted(bins.position[bins.bin == number].tolist())
        assert inside == list(range(len(inside)))


def least_bins(items: list[tuple[int, ...]], most: list[int]) -> int:
    """The optimum, by trying every bin for every item."""

    def place(left: list[tuple[int, ...]], free: list[tuple[int, ...]], bins: int) -> bool:
        if not left:
            return True
        for number, room in enumerate(free):
            rest = tuple(own - by for own, by in zip(room, left[0], strict=True))
            tried = min(rest) >= 0 and room not in free[:number]
            if tried and place(left[1:], [*free[:number], rest, *free[number + 1 :]], bins):
                return True
        return len(free) < bins and place(left, [*free, tuple(most)], bins)

    return next(bins for bins in itertools.count(1) if place(sorted(items, reverse=True), [], bins))


@st.composite
def problems(draw: st.DrawFn, most_items: int) -> tuple[Ints, list[int]]:
    most = [draw(st.integers(1, 40)), *draw(st.lists(st.integers(1, 9), max_size=2))]
    kind = st.tuples(st.integers(1, most[0]), *(st.integers(0, own) for own in most[1:]))
    kinds = draw(st.lists(kind, min_size=1, max_size=12))
    items = draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=most_items))
    return np.array(items, dtype=np.int64), most


@settings(deadline=None, max_examples=60)
@given(problems(300))
def test_limits_are_kept_no_item_is_lost_and_bins_are_no_more_than_before(problem: tuple[Ints, list[int]]) -> None:
    items, most = problem
    start, bins, bound = by_columns(items, most)
    check(bins, items, most)
    assert bound.bins <= len(bins) <= len(start)
    assert by_columns(items, most)[1].bin.tolist() == bins.bin.tolist()


@settings(deadline=None, max_examples=60)
@given(problems(7))
def test_the_bound_is_below_the_optimum_and_above_each_limit_by_itself(problem: tuple[Ints, list[int]]) -> None:
    items, most = problem
    _, bins, bound = by_columns(items, most)
    least = least_bins([tuple(own) for own in items.tolist()], most)
    volumes = [int(np.ceil(own.sum() / limit)) for own, limit in zip(items.T, most, strict=True)]
    assert max(volumes) <= bound.bins <= least <= len(bins)


def demo() -> tuple[Ints, Ints]:
    """Documents that nearly fill a sequence of 512, captions of which sixteen fill its images, a few texts."""
    rng = np.random.default_rng(5)
    captions = rng.choice([15, 19, 20, 21, 22, 23, 26, 30], 2080, p=[0.24, 0.34, 0.19, 0.05, 0.01, 0.14, 0.02, 0.01])
    documents = np.minimum(511, 290 + rng.gamma(4.0, 40.0, 150)).astype(np.int64)
    texts = rng.integers(45, 300, 20)
    images = [np.ones(2080, np.int64), np.minimum(9, rng.geometric(0.4, 150)), np.zeros(20, np.int64)]
    order = rng.permutation(2250)
    return np.concatenate([captions, documents, texts])[order], np.concatenate(images)[order]


def test_of_a_distribution_like_the_demos_the_plan_is_within_a_hundredth_of_the_proven_bound() -> None:
    lengths, images = demo()
    limits = [Limit(name="images", sizes=images, most=16)]
    bins = pack_items(lengths, 512, limits=limits)
    check(bins, np.stack([lengths, images], axis=1), [512, 16])
    by_sum = lower_bound(
        {"positions": np.bincount(lengths, minlength=513), "images": np.bincount(images, minlength=17)}
    )
    sizes, _, counts = kinds_of([lengths, images], [512, 16])
    bound = tighter(by_sum, len(bins), {"positions": 512, "images": 16}, np.stack(sizes), counts)
    assert bound.name == "positions and images (LP)"
    assert by_sum.bins < 0.95 * bound.bins, "no plan comes near what each limit by itself asks for"
    assert bound.bins >= 0.99 * len(bins)
    assert mixing(lengths, bins) > 0.4
    assert hashlib.sha256(bins.bin.astype("<i8").tobytes()).hexdigest()[:16] == "e4ec408178077ea4", "on every machine"


def test_the_worked_example() -> None:
    items = np.array([(4, 0)] * 4 + [(3, 1)] * 6)
    start, bins, bound = by_columns(items, [10, 2])
    assert (len(start), len(bins), bound.bins) == (5, 4, 4)


def test_items_of_one_kind_are_placed_as_they_come() -> None:
    items = np.array([(4, 0), (3, 1), (3, 1)] * 40)
    _, bins, _ = by_columns(items, [10, 2])
    for kind in range(2):
        assert (np.diff(bins.bin[items[:, 1] == kind]) >= 0).all()


@pytest.mark.parametrize("work", [0, 200_000, 2_000_000])
def test_where_the_work_is_spent_there_are_no_more_bins_than_before(monkeypatch: pytest.MonkeyPatch, work: int) -> None:
    monkeypatch.setattr(columns, "WORK", work)
    rng = np.random.default_rng(0)
    items = np.stack([rng.integers(1, 60, 300), rng.integers(0, 4, 300)], axis=1)
    start, bins, _ = by_columns(items, [100, 8])
    check(bins, items, [100, 8])
    assert len(bins) <= len(start)
    if not work:
        assert bins is start


@pytest.mark.parametrize("work", [70_000_000, 150_000_000])
def test_what_is_decided_when_the_work_is_spent_is_kept(monkeypatch: pytest.MonkeyPatch, work: int) -> None:
    rng = np.random.default_rng(0)
    kinds = np.stack([rng.integers(42, 320, 60), rng.integers(0, 9, 60)], axis=1)
    items = kinds[rng.integers(0, 60, 4000)]
    start, _, bound = by_columns(items, [512, 16])
    monkeypatch.setattr(columns, "WORK", work)
    ended = list[bool]()
    fill = columns._Program.fill

    def watched(program: columns._Program, counts: Ints) -> tuple[list[tuple[int, Ints]], Ints]:
        filled, left = fill(program, counts)
        ended.append(bool(left.any()))
        return filled, left

    monkeypatch.setattr(columns._Program, "fill", watched)
    bins = fill_by_columns(list(items.T), [512, 16], start, work)
    assert ended == [True]
    check(bins, items, [512, 16])
    assert len(bins) <= 1.03 * bound.bins < 0.97 * len(start)


def test_a_simplex_method_that_goes_round_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns._Simplex, "_enter", lambda *_args, **_keys: None)
    items = np.array([(4, 0)] * 4 + [(3, 1)] * 6)
    start, bins, bound = by_columns(items, [10, 2])
    check(bins, items, [10, 2])
    assert bound.bins <= len(bins) <= len(start)


def test_the_bound_of_many_kinds_is_of_sizes_rounded_down() -> None:
    """Captions and long texts: those leave no room for eight images, and are of 1,400 lengths."""
    rng = np.random.default_rng(2)
    lengths = np.concatenate([rng.integers(68, 90, 4000), rng.integers(20, 2049, 300)])
    images = np.concatenate([np.ones(4000, np.int64), np.zeros(300, np.int64)])
    items, most = np.stack([lengths, images], axis=1)[rng.permutation(4300)], [2048, 8]
    assert not is_small(len(np.unique(items, axis=0)), most, columns.WORK)
    bins = pack_items(items[:, 0], 2048, limits=[Limit(name="images", sizes=items[:, 1], most=8)])
    check(bins, items, most)
    bound = bound_of(items, most, len(bins))
    assert max(items.sum(axis=0) / most) + 1 < bound.bins <= len(bins)
    assert bound.bins >= 0.985 * len(bins)


def test_what_is_of_many_kinds_even_so_or_of_large_knapsacks_is_left_to_the_others() -> None:
    assert is_small(161, [512, 16], columns.WORK)
    assert not is_small(161, [512, 16], columns.WORK // 10)
    assert not is_small(1000, [16], columns.WORK)
    assert not is_small(161, [512, 16, 10**9], columns.WORK)
    lengths = np.random.default_rng(0).integers(1, 4097, 2000)
    start = first_fit_decreasing(lengths, 4096)
    assert len(start) > (1 + MISSED) * lengths.sum() / 4096
    assert fill_by_columns([lengths], [4096], start, columns.WORK) is start


@pytest.mark.parametrize("windows", [1, 7, 100_000])
def test_all_windows_together_work_as_one_and_by_their_items(windows: int) -> None:
    items = 40
    assert windows * columns.work_for(items, windows) <= columns.WORK + columns.AN_ITEM * items * windows
    assert columns.work_for(10**6, windows) == columns.WORK
    assert columns.work_for(items, windows) >= columns.AN_ITEM * items


def test_one_of_many_windows_takes_its_share_of_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(best, "fill_by_columns", lambda sizes, most, start, work: (given.append(work), start)[1])
    monkeypatch.setattr(best, "MISSED", -1)
    lengths = np.array([300] * 20 + [200] * 20 + [90] * 30)
    for windows in (1, 1000):
        pack_items(lengths, 512, windows=windows)
    assert given == [columns.work_for(70, 1), columns.work_for(70, 1000)]
