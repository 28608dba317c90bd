"""Native resolution: sizes, tokens and patches of Qwen2-VL's processor."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

from mmcorpus.packing.layout import NativeLayout, Token
from mmcorpus.packing.layout.render import patches, render


@pytest.mark.parametrize(
    "config",
    [
        NativeLayout(),
        NativeLayout(max_pixels=12_845_056),
        NativeLayout(patch=16, min_pixels=65_536, max_pixels=300_000),
        NativeLayout(patch=14, merge=4, min_pixels=1, max_pixels=60_000),
    ],
)
def test_sizes_and_tokens_are_theirs(config: NativeLayout, sizes: Callable[..., Any]) -> None:
    measured = sizes(3000, seed=config.max_pixels)
    measured = measured[measured.max(axis=1) <= 200 * measured.min(axis=1)]
    assert len(measured) > 2500
    unit = config.patch * config.merge
    limits = {"min_pixels": config.min_pixels, "max_pixels": config.max_pixels}
    resized = [smart_resize(h, w, factor=unit, **limits) for w, h in measured.tolist()]
    rows, columns = config.grids(*measured.T)
    assert [(r * unit, c * unit) for r, c in zip(rows.tolist(), columns.tolist(), strict=True)] == resized
    processor = Qwen2VLImageProcessorPil(patch_size=config.patch, merge_size=config.merge, **limits)
    counts = [processor.get_number_of_image_patches(h, w) // config.merge**2 for w, h in measured.tolist()]
    assert (config.lengths(*measured.T) - 2).tolist() == counts
    assert set(config.crop_counts(*measured.T)) == {1}


def test_what_they_refuse_follows_the_formula() -> None:
    with pytest.raises(ValueError, match="absolute aspect ratio"):
        smart_resize(1, 100_000)
    layout = NativeLayout().layout(100_000, 1)
    assert layout.crops[0].size == (17724, 28)
    assert layout.tokens == ((Token.START, 1), (Token.IMAGE, 633), (Token.END, 1))


def test_the_gather_gives_their_patches(picture: Callable[..., Any]) -> None:
    processor = Qwen2VLImageProcessorPil(do_rescale=False, do_normalize=False)
    for width, height in [(640, 480), (1, 1), (29, 500), (1500, 1000), (57, 56)]:
        image = picture(width, height)
        theirs = processor(image, return_tensors="np", input_data_format="channels_last")
        layout = NativeLayout().layout(width, height)
        ours = patches(render(image, layout), layout.patch)[layout.pool.ravel()]
        grid = theirs["pixel_values"].reshape(len(ours), 3, 2, 14, 14)  # channels, frames, rows, columns
        assert np.array_equal(ours.transpose(0, 3, 1, 2), grid[:, :, 0])
        assert np.array_equal(ours.transpose(0, 3, 1, 2), grid[:, :, 1])
