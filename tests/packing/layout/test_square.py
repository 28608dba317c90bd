"""Square: what SigLIP's processor yields, pooled as the projector pools."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from mmcorpus.packing.layout import SquareLayout
from mmcorpus.packing.layout.render import patches, render
from mmcorpus.training.connector import PoolingProjector


def test_any_image_is_one_crop_of_the_same_length(sizes: Callable[..., Any]) -> None:
    for tokens in (64, 144, 729):
        config = SquareLayout(tokens=tokens)
        assert set(config.lengths(*sizes(999).T)) == {tokens}
        assert set(config.crop_counts(*sizes(999).T)) == {1}


def test_crops_are_siglips(sizes: Callable[..., Any], picture: Callable[..., Any]) -> None:
    processor = SiglipImageProcessorPil(size={"height": 384, "width": 384}, do_rescale=False, do_normalize=False)
    for width, height in sizes(12, seed=5, largest=1500).tolist():
        image = picture(width, height)
        theirs = processor(image, return_tensors="np", input_data_format="channels_last")["pixel_values"]
        ours = render(image, SquareLayout().layout(width, height))
        assert np.array_equal(ours.transpose(0, 3, 1, 2), theirs)


@pytest.mark.parametrize("tokens", [64, 144, 729])
def test_the_gather_is_the_projectors_pooling(tokens: int, picture: Callable[..., Any]) -> None:
    layout = SquareLayout(tokens=tokens).layout(640, 427)
    cut = patches(render(picture(640, 427), layout), layout.patch)
    features = torch.from_numpy(cut.reshape(len(cut), -1)[:, :16].astype(np.float32))
    projector = PoolingProjector(16, 8, 4, tokens)
    pooled = projector.pool(features.T.reshape(1, 16, 27, 27)).flatten(2)[0].T
    there = torch.from_numpy(layout.pool >= 0)
    gathered = (features[torch.from_numpy(layout.pool).long()] * there[..., None]).sum(1) / there.sum(1, keepdim=True)
    assert torch.allclose(gathered, pooled, atol=1e-3)
