"""What the comparisons of a task say together."""

import itertools
from collections.abc import Mapping

import pytest

from mmcorpus.curation.dedup.compared import Compared
from mmcorpus.curation.dedup.same_picture import Difference


def settled(sides: Mapping[int, int], differences: Mapping[tuple[int, int], tuple[float, float]]) -> Compared:
    looks = Compared()
    for (one, other), (worst, rest) in differences.items():
        looks.add((one, other), (sides[one], sides[other]), Difference(worst, rest))
    looks.settle()
    return looks


@pytest.mark.parametrize("rests", [(5.4, 5.6), (5.6, 5.4)])
def test_a_small_copy_of_two_pictures_that_differ_is_of_the_one_that_it_fits_better(rests: tuple[float, float]) -> None:
    differences = {(0, 1): (1.3, 40.0), (0, 2): (0.73, rests[0]), (1, 2): (0.72, rests[1])}
    for order in itertools.permutations(differences):
        looks = settled({0: 440, 1: 418, 2: 110}, {pair: differences[pair] for pair in order})
        assert not looks.same(0, 1)
        assert looks.same(0, 2) == (rests[0] < rests[1])
        assert looks.same(2, 1) == (rests[1] < rests[0])


def test_two_crops_of_a_picture_of_their_size_are_one_by_it() -> None:
    differences = {(0, 1): (float("inf"), float("inf")), (0, 2): (0.4, 3.0), (1, 2): (0.5, 4.0)}
    for side, one in ((400, True), (300, True), (100, False)):
        looks = settled({0: 380, 1: 380, 2: side}, differences)
        assert looks.same(0, 1) == one
        assert looks.same(0, 2)
    assert not settled({0: 380, 1: 380, 2: 400}, differences | {(1, 2): (0.9, 4.0), (0, 2): (0.7, 3.0)}).same(0, 1)


def test_a_small_copy_of_copies_keeps_them_all() -> None:
    differences = {(0, 1): (0.2, 1.0), (0, 2): (0.8, 9.0), (1, 2): (0.7, 8.0)}
    looks = settled({0: 400, 1: 400, 2: 100}, differences)
    assert all(looks.same(*pair) for pair in differences)
