"""Near hashes: the same as comparing with all; the tables cover every pair within the distance."""

import numpy as np
import pytest

from mmcorpus.filters.hamming import NearHashes, table_masks


@pytest.mark.parametrize("distance", [0, 1, 8, 16])
def test_it_finds_what_comparing_with_all_finds(distance: int) -> None:
    rng = np.random.default_rng(distance)
    hashes = rng.integers(0, 2**64, 300, np.uint64)
    copies = hashes[:60].copy()
    for row in range(60):
        for bit in rng.choice(64, rng.integers(0, distance + 3), replace=False):
            copies[row] ^= np.uint64(1) << np.uint64(bit)
    everything = np.concatenate([hashes, copies, copies[:5]])
    near = NearHashes(everything, distance)
    for value in everything[:120]:
        bits = np.bitwise_count(everything ^ value)
        found, distances = near.near(int(value))
        assert found.tolist() == np.flatnonzero(bits <= distance).tolist()
        assert distances.tolist() == bits[found].tolist()


def test_nothing_is_near_in_an_empty_index() -> None:
    found, distances = NearHashes(np.empty(0, np.uint64), 8).near(2**64 - 1)
    assert len(found) == len(distances) == 0
    with pytest.raises(ValueError, match="not in 0-63"):
        NearHashes(np.empty(0, np.uint64), 64)


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
