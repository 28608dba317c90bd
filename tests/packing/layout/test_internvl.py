"""InternVL: grids, tokens and pixels of transformers' processor, and its pixel shuffle."""

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import (
    GotOcr2ImageProcessorPil,
    get_optimal_tiled_canvas,
)
from transformers.models.internvl.modeling_internvl import InternVLModel
from transformers.models.internvl.processing_internvl import InternVLProcessor

from mmcorpus.packing.layout import InternVLLayout, Token
from mmcorpus.packing.layout.render import patches, render


@pytest.mark.parametrize(("fewest", "most"), [(1, 12), (1, 1), (1, 6), (3, 7), (1, 40)])
def test_grids_and_tokens_are_theirs(fewest: int, most: int, sizes: Callable[..., Any]) -> None:
    config = InternVLLayout(min_tiles=fewest, max_tiles=most)
    measured = sizes(1500, seed=most)
    processor = GotOcr2ImageProcessorPil(
        size={"height": 448, "width": 448}, crop_to_patches=True, min_patches=fewest, max_patches=most
    )
    stand_in = SimpleNamespace(
        image_processor=processor,
        image_seq_length=256,
        _merge_kwargs=lambda **_: {"images_kwargs": {"crop_to_patches": True}},
    )
    theirs = InternVLProcessor._get_num_multimodal_tokens(stand_in, [(h, w) for w, h in measured.tolist()])
    assert config.lengths(*measured.T).tolist() == theirs["num_image_tokens"]
    assert config.crop_counts(*measured.T).tolist() == theirs["num_image_patches"]
    grids = [get_optimal_tiled_canvas((h, w), (448, 448), fewest, most) for w, h in measured.tolist()]
    rows, columns = config.grids(*measured.T)
    assert list(zip(columns.tolist(), rows.tolist(), strict=True)) == grids


def test_equally_near_ratios_go_to_the_larger_grid_where_the_image_has_the_pixels() -> None:
    # 1.25 is as far from 1 as from 1.5; 1 x 1 and 2 x 2 tiles have one ratio.
    config = InternVLLayout(max_tiles=6)
    assert [side.tolist() for side in config.grids([500, 2000, 448, 1000], [400, 1600, 448, 1000])] == [
        [1, 2, 1, 2],
        [1, 3, 1, 2],
    ]


def test_crops_are_theirs(picture: Callable[..., Any]) -> None:
    processor = GotOcr2ImageProcessorPil(
        size={"height": 448, "width": 448}, crop_to_patches=True, do_rescale=False, do_normalize=False
    )
    for width, height in [(640, 480), (90, 900), (1, 1), (448, 448), (1300, 200), (31, 17)]:
        image = picture(width, height)
        theirs = processor(image, return_tensors="np", input_data_format="channels_last")["pixel_values"]
        layout = InternVLLayout().layout(width, height)
        assert np.array_equal(render(image, layout).transpose(0, 3, 1, 2), theirs)


def test_the_gather_is_their_pixel_shuffle(picture: Callable[..., Any]) -> None:
    layout = InternVLLayout(tile=112, max_tiles=4).layout(300, 200)
    cut = patches(render(picture(300, 200), layout), layout.patch)
    features = torch.from_numpy(cut.reshape(len(cut), -1)[:, :12].astype(np.float32))
    theirs = InternVLModel.pixel_shuffle(None, features.reshape(len(layout.crops), 8, 8, 12), 0.5)
    gathered = features[torch.from_numpy(layout.pool).long()].reshape(len(layout.pool), -1)
    assert torch.equal(gathered, theirs.reshape(-1, 48))
    assert layout.tokens == ((Token.START, 1), (Token.IMAGE, len(layout.pool)), (Token.END, 1))
