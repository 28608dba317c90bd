"""What the comparisons of a task say together."""

import itertools
from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import pytest

from mmcorpus.curation.dedup.compared import Compared
from mmcorpus.curation.dedup.same_picture import Difference


def left(*places: tuple[int, float]) -> npt.NDArray[np.float32]:
    """What is left everywhere, and more of it in some of the cells."""
    rest = np.full(24 * 24, 3, np.float32)
    for cell, more in places:
        rest[cell] += more
    return rest.reshape(24, 24)


def settled(sides: Mapping[int, int], differences: Mapping[tuple[int, int], Difference]) -> Compared:
    looks = Compared()
    for (one, other), differs in differences.items():
        looks.add((one, other), (sides[one], sides[other]), differs)
    looks.settle()
    return looks


@pytest.mark.parametrize("own", [0, 1])
def test_a_small_copy_of_two_pictures_that_differ_is_of_the_one_that_it_fits_better(own: int) -> None:
    # The other leaves much where its digit is another; its own was compressed and leaves a little more everywhere.
    rests = [left((70, 40.0)), left((70, 2.0)) + np.float32(4)]
    rests = rests if own else rests[::-1]
    differences = {(0, 1): Difference(1.3), (0, 2): Difference(0.73, rests[0]), (1, 2): Difference(0.72, rests[1])}
    for order in itertools.permutations(differences):
        looks = settled({0: 440, 1: 418, 2: 110}, {pair: differences[pair] for pair in order})
        assert not looks.same(0, 1)
        assert looks.same(own, 2)
        assert not looks.same(2, 1 - own)


def test_two_crops_of_a_picture_of_their_size_are_one_by_it() -> None:
    differences = {(0, 1): Difference(float("inf")), (0, 2): Difference(0.4), (1, 2): Difference(0.5)}
    for side, one in ((400, True), (300, True), (100, False)):
        looks = settled({0: 380, 1: 380, 2: side}, differences)
        assert looks.same(0, 1) == one
        assert looks.same(0, 2)
    further = differences | {(1, 2): Difference(0.9), (0, 2): Difference(0.7)}
    assert not settled({0: 380, 1: 380, 2: 400}, further).same(0, 1)


def test_a_small_copy_of_copies_keeps_them_all() -> None:
    differences = {(0, 1): Difference(0.2), (0, 2): Difference(0.8, left((3, 9))), (1, 2): Difference(0.7, left())}
    looks = settled({0: 400, 1: 400, 2: 100}, differences)
    assert all(looks.same(*pair) for pair in differences)
