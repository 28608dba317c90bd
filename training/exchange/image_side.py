"""A model's image side by itself – encoders and connector – image by image, as model servers run it.

Shape legend: N crops, Q patches of all crops, T tokens, K patches a token, L positions, D the decoder's width.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch import nn

from mmcorpus.packing.layout import PerImage
from mmcorpus.packing.layout.base import Size, Token
from mmcorpus.training.config import ModelConfig
from mmcorpus.training.connector import build_connector
from mmcorpus.training.images import lay_out_images
from mmcorpus.training.vision import empty_vision

INPUTS: Final = ("pixel_values", "image_template", "image_pool", "image_padding", "image_crops")
"""What is said of an image: its crops, uint8 N×3×H×W; and, of layouts other than squares, the Token at each of its
positions, the patches of each token T×K, how much of each patch is padding, width and height of each crop."""


class ImageSide(nn.Module):
    """Encoders and connector, by the names that they have in a checkpoint."""

    def __init__(self, config: ModelConfig, visions: Sequence[dict[str, Any]], width: int) -> None:
        """`visions`: the encoders' Hugging Face configs; `width`: the decoder's. Weights are to be loaded."""
        super().__init__()
        self.vision = empty_vision(config.encoders, visions)
        self.projector = build_connector(config.connector, self.vision.width, width, config.layout, self.vision.patches)

    def forward(self, image: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """One image's `INPUTS` to what stands at its positions, L×D."""
        pixels = image["pixel_values"]
        if "image_pool" not in image:
            tokens: torch.Tensor = self.projector(self.vision(pixels))[0]
            return tokens
        sizes = [(int(width), int(height)) for width, height in image["image_crops"].tolist()]
        whole = all(size == (pixels.shape[3], pixels.shape[2]) for size in sizes)
        features_QE = self.vision.crops(pixels, None if whole else sizes)
        tokens_TD = self.projector(features_QE, image["image_pool"], image["image_padding"])
        kinds_L = image["image_template"].long()
        placed_LD = tokens_TD.new_zeros(len(kinds_L), tokens_TD.shape[1])
        placed_LD[kinds_L == Token.IMAGE] = tokens_TD
        if (marks := kinds_L != Token.IMAGE).any():
            placed_LD[marks] = self.projector.mark(kinds_L[marks]).to(tokens_TD.dtype)
        return placed_LD


def shown(image: Image.Image, layout: PerImage, side: int) -> dict[str, npt.NDArray[Any]]:
    """An upright image's `INPUTS`; squares are of `side` pixels."""
    pixels, tiling, _ = lay_out_images([image.convert("RGB")], layout, side)
    if isinstance(tiling, int):
        return {"pixel_values": pixels}
    whole = (pixels.shape[3], pixels.shape[2])
    return {
        "pixel_values": pixels,
        "image_template": tiling.templates[0],
        "image_pool": tiling.pool,
        "image_padding": tiling.padding,
        "image_crops": np.array(tiling.sizes or [whole] * len(pixels), dtype=np.int64),
    }


def positions(size: Size, layout: PerImage) -> int:
    """Positions of an image of this width and height."""
    return layout if isinstance(layout, int) else int(layout.lengths([size[0]], [size[1]])[0])


def longest(layout: PerImage, side: int) -> Size:
    """The width and height of an image that takes the most positions, as far as a few hundred sizes tell."""
    if isinstance(layout, int):
        return side, side
    sides = np.unique(np.geomspace(32, 8192, 33).astype(np.int64))
    widths, heights = (axis.ravel() for axis in np.meshgrid(sides, sides))
    most = int(layout.lengths(widths, heights).argmax())
    return int(widths[most]), int(heights[most])
