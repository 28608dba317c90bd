"""Molmo: crops, tokens, pooling and padding of its own code (fixtures); Molmo2: those of transformers' processor."""

import re
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers.models.molmo2.image_processing_molmo2 import Molmo2ImageProcessor, compute_crop_geometry
from transformers.models.molmo2.processing_molmo2 import Molmo2Processor

from mmcorpus.packing.layout import MolmoLayout, Token
from mmcorpus.packing.layout.render import patches, render

MOLMO2 = MolmoLayout(crop=378, max_crops=8, keep_aspect=False)


@pytest.mark.parametrize("most", [12, 36])
def test_every_size_is_as_in_molmos_code(most: int, reference: dict[str, Any], checksum: Callable[[Any], int]) -> None:
    config = MolmoLayout(max_crops=most, padding="reference")
    theirs = {
        name: reference[f"molmo{most}_{name}"] for name in ("sizes", "crops", "lengths", "tokens", "pool", "padding")
    }
    measured = theirs["sizes"]
    assert len(measured) >= 1000
    assert np.array_equal(config.crop_counts(*measured.T), theirs["crops"])
    assert np.array_equal(config.lengths(*measured.T), theirs["lengths"])
    for number in range(0, len(measured), 1 if most == 12 else 3):
        width, height = measured[number].tolist()
        layout = config.layout(width, height)
        found = [checksum(array) for array in (layout.template, layout.pool, layout.padding)]
        assert found == [theirs[name][number] for name in ("tokens", "pool", "padding")], (width, height)


def test_the_papers_numbers() -> None:
    config = MolmoLayout()
    layout = config.layout(1024, 768)
    assert [side.tolist() for side in config.grids([1024], [768])] == [[3], [4]]
    assert (len(layout.crops), layout.length) == (13, 1196)
    assert layout.tokens[:3] == ((Token.START, 1), (Token.IMAGE, 12), (Token.COLUMN, 1))
    widths, heights = (side.ravel() for side in np.meshgrid(np.arange(8, 4000, 37), np.arange(8, 4000, 37)))
    assert config.lengths(widths, heights).max() == 1460
    # An image smaller than the margins has one crop, and counts as large along a side as the margins are.
    assert config.crop_counts([1, 112, 111, 112], [1, 112, 113, 500]).tolist() == [2, 2, 2, 3]


def test_each_crops_padding_is_its_own_unless_the_checkpoints_is_asked_for() -> None:
    own, theirs = (
        MolmoLayout(padding=which).layout(1000, 500).padding.reshape(-1, 576) for which in ("aligned", "reference")
    )
    assert own[0].max() == 2, "the overview of 2 : 1 has black above and below"
    assert np.array_equal(theirs[:-1], own[1:])
    assert (theirs[-1] == 1).all()


@pytest.mark.parametrize(("width", "height"), [(700, 500), (500, 200), (90, 260)])
def test_the_gather_stitches_the_canvas(width: int, height: int, picture: Callable[..., Any]) -> None:
    """Each place of the resized image is in one token, in reading order, whichever crop shows it."""
    for config in (MolmoLayout(), MolmoLayout(crop=56, patch=8, margins=(1, 2), max_crops=5)):
        layout = config.layout(width, height)
        rows, columns = (int(side[0]) for side in config.grids([width], [height]))
        window, margin = (config.crop // config.patch - sum(config.margins), sum(config.margins))
        down, across = rows * window + margin, columns * window + margin
        cut = patches(render(picture(width, height), layout), config.patch)
        first = (-(-config.crop // config.patch // config.pool)) ** 2  # tokens of the overview
        gathered = layout.pool[first:].reshape(-(-down // 2), -(-across // 2), 2, 2).swapaxes(1, 2)
        grid = gathered.reshape(-(-down // 2) * 2, -1)
        grid = grid[(grid >= 0).any(axis=1)][:, (grid >= 0).any(axis=0)]
        assert grid.shape == (down, across)
        stitched = cut[grid].swapaxes(1, 2).reshape(down * config.patch, across * config.patch, 3)
        left, top = -layout.crops[1].box[0], -layout.crops[1].box[1]
        wide, high = layout.crops[1].resized[-1]
        scene = np.zeros_like(stitched)
        resized = Image.fromarray(picture(width, height)).resize((wide, high), Image.Resampling.BILINEAR)
        scene[top : top + high, left : left + wide] = np.asarray(resized)
        assert np.array_equal(stitched, scene)


def test_pixels_are_torchs_to_a_level(picture: Callable[..., Any]) -> None:
    """Molmo resizes in float32 with torch; Pillow rounds to whole levels."""
    image = picture(300, 420)
    layout = MolmoLayout().layout(300, 420)
    overview = layout.crops[0]
    (wide, high), (left, top, *_) = overview.resized[0], overview.box
    scaled = torch.nn.functional.interpolate(
        torch.from_numpy(image).permute(2, 0, 1)[None] / 255, size=(high, wide), mode="bilinear", antialias=True
    )
    theirs = np.zeros((336, 336, 3))
    theirs[-top : -top + high, -left : -left + wide] = scaled[0].permute(1, 2, 0).numpy() * 255
    assert np.abs(render(image, layout)[0] - theirs).max() <= 1.01


def test_molmo2s_grids_and_tokens_are_theirs(sizes: Callable[..., Any]) -> None:
    processor = Molmo2ImageProcessor()
    stand_in = SimpleNamespace(
        image_use_col_tokens=True, use_single_crop_col_tokens=None, use_single_crop_start_token=True
    )
    kinds = {"im_patch": Token.IMAGE, "im_col": Token.COLUMN, "im_end": Token.END}
    measured = sizes(1200, seed=7)
    lengths, counts = MOLMO2.lengths(*measured.T), MOLMO2.crop_counts(*measured.T)
    for number, (width, height) in enumerate(measured.tolist()):
        grid, crops = processor.get_image_grid_and_crops(height, width)
        assert counts[number] == crops
        assert lengths[number] == sum(rows * (columns + 1) + 2 for rows, columns in (grid[:2], grid[2:]))
        if number % 10 == 0:
            text = Molmo2Processor.replace_image_token(stand_in, {"image_grids": [grid]}, 0)
            theirs = [kinds.get(name, Token.START) for name in re.findall(r"<(\w+)>", text)]
            assert MOLMO2.layout(width, height).template.tolist() == theirs


def test_molmo2s_crops_and_pooling_are_theirs(sizes: Callable[..., Any]) -> None:
    processor = Molmo2ImageProcessor()
    for width, height in [*sizes(12, seed=8, largest=1200).tolist(), (1, 1), (112, 112)]:
        theirs = processor(torch.zeros(3, height, width, dtype=torch.uint8), return_tensors="pt")
        layout = MOLMO2.layout(width, height)
        assert len(layout.crops) == int(theirs["image_num_crops"][0]) == len(theirs["pixel_values"])
        assert np.array_equal(layout.pool, theirs["image_token_pooling"].numpy()), (width, height)
        assert not layout.padding.any()
        geometry = compute_crop_geometry(height, width, 8, [4, 4], 378, 14)
        assert layout.crops[-1].box[2:] == (geometry[3], geometry[2]) == layout.crops[-1].resized[-1]


def test_molmo2s_patches_are_theirs_where_nothing_is_resized(picture: Callable[..., Any]) -> None:
    image = picture(644, 644)  # two windows of 266 and the margins
    processor = Molmo2ImageProcessor(do_rescale=False, do_normalize=False)
    theirs = processor(torch.from_numpy(image).permute(2, 0, 1), return_tensors="pt")["pixel_values"].numpy()
    layout = MOLMO2.layout(644, 644)
    assert len(layout.crops) == 5
    ours = patches(render(image, layout), 14).reshape(5, 729, -1)
    assert np.array_equal(ours[1:], theirs[1:].astype(np.uint8))
