"""Windows of patches, average pooling's windows, and how much of a patch is padding."""

import numpy as np
import pytest
import torch

from mmcorpus.packing.layout.base import Crop, Indices
from mmcorpus.packing.layout.grids import adaptive_windows, padding_kinds, patch_grid, per_crop, windows


def averaged(features: np.ndarray, pool: Indices) -> np.ndarray:
    """Each token's mean over its patches, -1 left out; (patches, channels) -> (tokens, channels)."""
    there = pool >= 0
    return (features[pool] * there[..., None]).sum(axis=1) / there.sum(axis=1)[:, None]


@pytest.mark.parametrize("patches", [(27, 27), (24, 24), (8, 8), (48, 48), (7, 31), (1, 5)])
@pytest.mark.parametrize("side", [1, 8, 12, 27])
def test_adaptive_windows_average_as_torch_does(patches: tuple[int, int], side: int) -> None:
    features = np.random.default_rng(side).standard_normal((*patches, 3))
    found = averaged(features.reshape(-1, 3), adaptive_windows(patch_grid(patches[::-1], 1), side))
    expected = torch.nn.AdaptiveAvgPool2d(side)(torch.from_numpy(features).permute(2, 0, 1)[None])
    assert np.allclose(found, expected[0].flatten(1).T.numpy(), atol=1e-12)


def test_144_of_729_patches_overlap_and_729_are_themselves() -> None:
    grid = patch_grid((384, 384), 14)
    assert grid.shape == (27, 27), "384 is no multiple of 14"
    pool = adaptive_windows(grid, 12)
    assert pool.shape == (144, 9)
    assert pool[0].tolist() == [0, 1, 2, 27, 28, 29, 54, 55, 56]
    assert pool[1].tolist() == [2, 3, 4, 29, 30, 31, 56, 57, 58], "column 2 is in two tokens"
    assert np.array_equal(adaptive_windows(grid, 27)[:, 0], np.arange(729))
    ragged = adaptive_windows(patch_grid((5, 5), 1), 3)  # windows of 2, 3 and 2 patches
    assert (ragged >= 0).sum(axis=1).tolist() == [4, 6, 4, 6, 9, 6, 4, 6, 4]
    assert ragged[0].tolist() == [0, 1, 5, 6, -1, -1, -1, -1, -1]


def test_windows_are_in_reading_order_and_padded_around() -> None:
    assert windows(patch_grid((4, 2), 1), 2).tolist() == [[0, 1, 4, 5], [2, 3, 6, 7]]
    assert windows(patch_grid((3, 1), 1, first=10), 2).tolist() == [[10, 11, -1, -1], [12, -1, -1, -1]]
    assert windows(patch_grid((2, 2), 1), 4).tolist() == [[-1, -1, -1, -1, -1, 0, 1, -1, -1, 2, 3, -1, -1, -1, -1, -1]]


def test_crops_are_pooled_one_after_the_other() -> None:
    assert per_crop(np.array([[0, 1, -1]], np.int32), 2, 3).tolist() == [[0, 1, -1], [2, 3, -1], [4, 5, -1]]


def test_padding_kinds_tell_image_edge_and_nothing() -> None:
    crop = Crop(resized=((5, 10),), box=(-2, 0, 10, 8))  # 12 x 8 pixels, of which columns 2 to 6 are image
    assert padding_kinds(crop, 4).reshape(2, 3).tolist() == [[1, 1, 2], [1, 1, 2]]
    assert padding_kinds(Crop(resized=((8, 4),), box=(0, 0, 8, 8)), 4).tolist() == [0, 0, 2, 2]
    assert padding_kinds(Crop(resized=((1, 1),), box=(-30, -30, -22, -22)), 4).tolist() == [2, 2, 2, 2]
    assert Crop(resized=((5, 10),), box=(-2, 0, 10, 8)).padding == (2, 0, 5, 0)
