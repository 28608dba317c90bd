"""The tables cover every pair within the distance."""

import numpy as np
import pytest

from mmcorpus.curation.dedup.hamming import table_masks


@pytest.mark.parametrize("distance", [0, 1, 4, 8, 12])
@pytest.mark.parametrize("count", [1, 1_000, 10_000_000])
def test_some_table_ignores_any_few_bits(distance: int, count: int) -> None:
    rng = np.random.default_rng(distance)
    masks = [int(mask) for mask in table_masks(count, distance)]
    for _ in range(50):
        flip = sum(1 << int(bit) for bit in rng.choice(64, distance, replace=False))
        assert any(mask & flip == 0 for mask in masks)


def test_more_hashes_get_longer_keys() -> None:
    small, large = list(table_masks(1_000, 8)), list(table_masks(10_000_000, 8))
    assert min(int(mask).bit_count() for mask in large) > min(int(mask).bit_count() for mask in small)


def test_a_distance_of_all_bits_is_one_table_of_none() -> None:
    assert list(table_masks(10, 64)) == [np.uint64(0)]
