"""Packing from pools: every limit kept, no item lost, sequences full and mixed, the same everywhere."""

import hashlib
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.packing import best, exact
from mmcorpus.packing.best import mixing, pack_items
from mmcorpus.packing.binpack import Bins, Limit, first_fit_decreasing
from mmcorpus.packing.exact import fill_exactly
from mmcorpus.packing.subset import choose

Ints = npt.NDArray[np.int64]


def check(bins: Bins, lengths: Ints, capacity: int, limits: list[Limit]) -> None:
    """Every item is somewhere, once, and no bin holds too much."""
    assert len(bins.bin) == len(lengths)
    assert sorted(set(bins.bin.tolist())) == list(range(len(bins)))
    used = np.bincount(bins.bin, weights=lengths, minlength=len(bins))
    assert bins.used.tolist() == used.tolist()
    assert used.max(initial=0) <= capacity
    for limit in limits:
        assert np.bincount(bins.bin, weights=limit.sizes, minlength=len(bins)).max(initial=0) <= limit.most
    order = np.lexsort((bins.position, bins.bin))
    starts = np.searchsorted(bins.bin[order], bins.bin[order])
    assert bins.position[order].tolist() == (np.arange(len(order)) - starts).tolist()


@st.composite
def problems(draw: st.DrawFn) -> tuple[Ints, int, list[Limit]]:
    capacity = draw(st.integers(1, 60))
    most = draw(st.lists(st.integers(1, 200), max_size=3))
    kind = st.tuples(st.integers(1, capacity), *(st.integers(0, own) for own in most))
    kinds = draw(st.lists(kind, min_size=1, max_size=8))
    items = np.array(draw(st.lists(st.sampled_from(kinds), max_size=300)), dtype=np.int64).reshape(-1, 1 + len(most))
    limits = [Limit(name=f"n{n}", sizes=items[:, n + 1], most=own) for n, own in enumerate(most)]
    return items[:, 0], capacity, limits


@settings(deadline=None, max_examples=200)
@given(problems(), st.integers(0, 2**64 - 1))
def test_all_limits_are_kept_and_no_item_is_lost(problem: tuple[Ints, int, list[Limit]], seed: int) -> None:
    lengths, capacity, limits = problem
    bins = fill_exactly(lengths, capacity, limits=limits, seed=seed)
    check(bins, lengths, capacity, limits)
    again = fill_exactly(lengths, capacity, limits=limits, seed=seed)
    assert again.bin.tolist() == bins.bin.tolist()
    decreasing = first_fit_decreasing(lengths, capacity, limits=limits)
    check(decreasing, lengths, capacity, limits)
    chosen = pack_items(lengths, capacity, limits=limits, seed=seed)
    check(chosen, lengths, capacity, limits)
    assert len(chosen) <= len(decreasing)


def captions(count: int) -> Ints:
    return 145 + np.random.default_rng(1).gamma(2.0, 14.0, count).astype(np.int64)


def conversations(count: int) -> Ints:
    return 729 + np.random.default_rng(1).gamma(1.5, 110.0, count).astype(np.int64)


@pytest.mark.parametrize(("lengths", "most"), [(captions(20_000), 1), (conversations(20_000), 6)])
def test_sequences_are_full_and_mixed(lengths: Ints, most: int) -> None:
    lengths = lengths.clip(max=4096)
    bins = fill_exactly(lengths, 4096)
    assert len(bins) - bins.lower_bound <= most
    assert mixing(lengths, bins) > 0.4
    assert mixing(lengths, first_fit_decreasing(lengths, 4096)) < 0.1


def mixture(count: int) -> tuple[Ints, Ints]:
    """Documents, captions and texts, of which positions and images are both nearly scarce."""
    rng = np.random.default_rng(3)
    images = np.concatenate([rng.integers(1, 9, count), np.ones(6 * count, dtype=np.int64), np.zeros(count // 2, int)])
    lengths = images * 9 + rng.integers(5, 90, len(images))
    lengths[-(count // 2) :] = rng.integers(50, 900, count // 2)
    order = rng.permutation(len(lengths))
    return lengths[order], images[order]


def test_a_mixture_of_documents_captions_and_texts_nears_the_bound() -> None:
    lengths, images = mixture(400)
    bound = max(lengths.sum() / 1024, images.sum() / 16)
    limits = [Limit(name="images", sizes=images, most=16)]
    assert len(first_fit_decreasing(lengths, 1024, limits=limits)) > 1.2 * bound
    bins = pack_items(lengths, 1024, limits=limits)
    check(bins, lengths, 1024, limits)
    assert len(bins) < 1.04 * bound
    assert mixing(lengths, bins) > 0.4


def test_a_third_limit_is_kept_and_costs_little() -> None:
    lengths, images = mixture(400)
    crops = images * np.random.default_rng(4).integers(1, 4, len(images))
    limits = [Limit(name="images", sizes=images, most=16), Limit(name="crops", sizes=crops, most=36)]
    bound = max(lengths.sum() / 1024, images.sum() / 16, crops.sum() / 36)
    bins = pack_items(lengths, 1024, limits=limits)
    check(bins, lengths, 1024, limits)
    assert len(bins) < 1.04 * bound


def test_where_hardly_two_fit_together_first_fit_decreasing_is_taken() -> None:
    lengths = np.random.default_rng(0).integers(1, 1001, 4000)
    bins = pack_items(lengths, 1000)
    assert len(bins) == len(first_fit_decreasing(lengths, 1000)) < len(fill_exactly(lengths, 1000))


def test_seeds_differ_and_each_is_the_same_on_every_machine() -> None:
    lengths = captions(3000)
    one, other = fill_exactly(lengths, 4096, seed=1), fill_exactly(lengths, 4096, seed=2)
    assert one.bin.tolist() != other.bin.tolist()
    assert hashlib.sha256(one.bin.astype("<i8").tobytes()).hexdigest()[:16] == "3148d02366574472"


def test_items_that_fit_no_bin_are_named() -> None:
    images = Limit(name="images", sizes=np.array([0, 3]), most=2)
    with pytest.raises(ValueError, match=r"item 1 \(length 1, 3 images\) has more than max_images = 2 images"):
        fill_exactly(np.array([3, 1]), 10, limits=[images])
    with pytest.raises(ValueError, match=r"item 0 \(length 11\) is longer than the capacity of 10"):
        fill_exactly(np.array([11, 1]), 10)


def test_no_items_need_no_bins() -> None:
    assert len(fill_exactly(np.zeros(0, dtype=np.int64), 10)) == len(pack_items(np.zeros(0, dtype=np.int64), 10)) == 0


def test_integers_stay_short_however_large_the_second_limit() -> None:
    rng = np.random.default_rng(2)
    lengths, weights = rng.integers(100, 300, 200), rng.integers(1000, 9000, 200)
    limits = [Limit(name="bytes", sizes=weights, most=100_000)]
    bins = fill_exactly(lengths, 4096, limits=limits)
    check(bins, lengths, 4096, limits)
    assert len(bins) < 1.1 * max(lengths.sum() / 4096, weights.sum() / 100_000)


@pytest.mark.parametrize("limited", [False, True])
def test_very_many_items_are_packed_with_fewer_recipes_and_as_full(
    monkeypatch: pytest.MonkeyPatch, limited: bool
) -> None:
    lengths, images = mixture(4000)
    lengths = lengths // 8 + 1
    limits = [Limit(name="images", sizes=images, most=16)] if limited else []
    if not limited:
        lengths = captions(10_000) // 16
    recipes: list[int] = []

    def counted(pool: Iterable[Any], *limits: Any) -> Any:
        recipes.append(1)
        return choose(pool, *limits)

    monkeypatch.setattr(exact, "choose", counted)
    few = fill_exactly(lengths, 256, limits=limits)
    before = len(recipes)
    recipes.clear()
    monkeypatch.setattr(exact, "LARGE", 1000)
    bins = fill_exactly(lengths, 256, limits=limits)
    assert len(recipes) < 0.75 * before
    assert len(bins) < 1.005 * len(few) + 1
    check(bins, lengths, 256, limits)
    assert bins.used.sum() == lengths.sum(), "of bins is told what items measure, not what they were rounded to"


def test_of_very_many_items_the_other_packers_are_tried_on_some(monkeypatch: pytest.MonkeyPatch) -> None:
    packed: list[tuple[str, int]] = []

    def counted(name: str) -> None:
        pack = getattr(best, name)

        def call(lengths: Ints, *given: Any, **more: Any) -> Bins:
            packed.append((name, len(lengths)))
            bins: Bins = pack(lengths, *given, **more)
            return bins

        monkeypatch.setattr(best, name, call)

    lengths, images = mixture(400)
    lengths[:4] = 900  # pools stay beyond `NEAR`
    limits = [Limit(name="images", sizes=images, most=16)]
    uniform = np.random.default_rng(0).integers(1, 1001, 4000)
    expected = pack_items(lengths, 1024, limits=limits), pack_items(uniform, 1000)
    monkeypatch.setattr(exact, "LARGE", 2000)
    monkeypatch.setattr(best, "TRIED", 1000)
    monkeypatch.setattr(exact, "LARGE_SPARE", exact.SPARE)
    monkeypatch.setattr(exact, "_rounded", lambda sizes, most: list(sizes))
    for name in ("fill_exactly", "first_fit_decreasing", "fill_balanced"):
        counted(name)
    bins = pack_items(lengths, 1024, limits=limits)
    assert bins.bin.tolist() == expected[0].bin.tolist()
    assert ("fill_exactly", len(lengths)) in packed
    assert ("first_fit_decreasing", len(lengths)) not in packed
    assert {name for name, count in packed if count <= 1000} >= {"first_fit_decreasing"}
    bins = pack_items(uniform, 1000)
    assert ("first_fit_decreasing", 4000) in packed, "where they are the better ones on some they pack all"
    assert bins.bin.tolist() == expected[1].bin.tolist()
