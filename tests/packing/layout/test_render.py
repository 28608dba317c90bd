"""Rendering: a layout's crops of its own image, and no other's; patches by number."""

import numpy as np
import pytest

from mmcorpus.packing.layout import CattyLayout, SquareLayout
from mmcorpus.packing.layout.render import patches, render


def test_another_image_than_the_layouts_is_refused() -> None:
    layout = SquareLayout().layout(20, 10)
    with pytest.raises(ValueError, match=r"give RGB of uint8 and shape \(10, 20, 3\)"):
        render(np.zeros((20, 10, 3), np.uint8), layout)
    with pytest.raises(ValueError, match="an image of float64"):
        render(np.zeros((10, 20, 3)), layout)
    with pytest.raises(ValueError, match=r"shape \(10, 20\)"):
        render(np.zeros((10, 20), np.uint8), layout)


def test_patches_count_over_crops_in_reading_order_and_leave_the_rest_out() -> None:
    crops = np.arange(2 * 5 * 7).reshape(2, 5, 7, 1)
    found = patches(crops, 2)
    assert found.shape == (2 * 2 * 3, 2, 2, 1)
    assert found[:, 0, 0, 0].tolist() == [0, 2, 4, 14, 16, 18, 35, 37, 39, 49, 51, 53]


def test_an_image_resized_twice_is_resized_twice() -> None:
    random = np.random.default_rng(0).integers(0, 256, (40, 600, 3), dtype=np.uint8)
    layout = CattyLayout().layout(600, 40)
    assert layout.crops[0].resized == ((320, 40), (2688, 336))
    assert render(random, layout).shape == (9, 336, 336, 3)
