"""CATTY: tiles and pixels of WePOINTS' own code (fixtures), and the paper's arithmetic."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from mmcorpus.packing.layout import CattyLayout, Token
from mmcorpus.packing.layout.base import Crop
from mmcorpus.packing.layout.render import render


def boxes(crops: tuple[Crop, ...]) -> np.ndarray:
    """Crops as in references.npz."""
    flat = [[len(crop.resized), *(side for size in crop.resized for side in size), *crop.box] for crop in crops]
    return np.array([number for crop in flat for number in crop], dtype=np.int32)


@pytest.mark.parametrize("most", [8, 3, 14])
def test_every_size_is_as_in_wepoints_code(
    most: int, reference: dict[str, Any], checksum: Callable[[Any], int]
) -> None:
    config = CattyLayout(max_tiles=most)
    measured = reference[f"catty{most}_sizes"]
    assert len(measured) >= 1000
    assert np.array_equal(config.crop_counts(*measured.T), reference[f"catty{most}_crops"])
    assert np.array_equal(config.lengths(*measured.T), reference[f"catty{most}_crops"] * 144)
    for (width, height), theirs in zip(measured.tolist(), reference[f"catty{most}_boxes"], strict=True):
        assert checksum(boxes(config.layout(width, height).crops)) == theirs, (width, height)


def test_pixels_are_wepoints(
    reference: dict[str, Any], checksum: Callable[[Any], int], picture: Callable[..., Any]
) -> None:
    for (width, height), theirs in zip(reference["catty_pixel_sizes"].tolist(), reference["catty_pixels"], strict=True):
        assert checksum(render(picture(width, height), CattyLayout().layout(width, height))) == theirs, (width, height)


def test_the_papers_example() -> None:
    layout = CattyLayout().layout(1024, 768)
    *tiles, thumbnail = layout.crops
    assert {crop.resized for crop in tiles} == {((896, 672),)}
    assert [crop.box[:2] for crop in tiles] == [(x, y) for y in (0, 336) for x in (0, 280, 560)]
    assert thumbnail.resized == ((896, 672), (336, 336))
    assert layout.tokens == ((Token.IMAGE, 7 * 144),)


def test_the_aspect_ratio_is_kept_and_all_of_the_image_shown(sizes: Callable[..., Any]) -> None:
    config = CattyLayout()
    for width, height in sizes(150, seed=9).tolist():
        layout = config.layout(width, height)
        across, down = layout.crops[0].resized[-1]
        if max(width, height) <= 8 * min(width, height):
            # To a pixel, which rounding down takes off the longer side.
            assert abs(across / down - width / height) <= (1 + 1e-9) * max(1 / down, across / down**2)
        right, bottom = layout.crops[-2].box[2:]
        assert across - 7 < right <= across
        assert down - 7 < bottom <= down


def test_one_tile_alone_has_a_thumbnail_too() -> None:
    assert CattyLayout().crop_counts([336, 100], [336, 100]).tolist() == [2, 2]
    assert CattyLayout(thumbnail=False).crop_counts([336, 2400], [336, 100]).tolist() == [1, 8]
