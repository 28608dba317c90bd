"""Encoders at another resolution: position embeddings are interpolated once, between stages, and trained on from there.

MM1 (arXiv 2403.09611, §4) goes from 336 or 378 pixels in pretraining to 448, 560 and 672 in SFT so; the encoder itself
has no other weights that know of the image's size. What comes out is what a single forward pass at that size, which
interpolates as it goes, computes.
"""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F

from mmcorpus.training.config import EncoderConfig, RandomVision
from mmcorpus.training.vision import FAMILIES, VisionEncoder, empty_vision, family_of


def resized_configs(encoders: Sequence[EncoderConfig], side: int) -> tuple[EncoderConfig, ...]:
    """The encoders' settings at squares of `side` pixels; those by name are as they were."""
    return tuple(
        dataclasses.replace(one, source=dataclasses.replace(one.source, image_size=side))
        if isinstance(one.source, RandomVision)
        else one
        for one in encoders
    )


@torch.no_grad()
def resized(vision: VisionEncoder, encoders: Sequence[EncoderConfig], side: int) -> VisionEncoder:
    """Encoders for squares of `side` pixels with the weights of these, which must be whole and on one device.

    Raises ValueError for a side at which there is no patch, or their grids differ.
    """
    configs = []
    for name, tower in vision.towers():
        patch = tower.config.patch_size
        if side < patch:
            raise ValueError(
                f"image_size {side} is less than {patch}, the pixels a side of {name}'s patches; give more"
            )
        size = {"num_patches": (side // patch) ** 2} if family_of(tower.config) == "siglip2" else {"image_size": side}
        configs.append({**tower.config.to_dict(), **size})
    made = empty_vision(encoders, configs)
    before = vision.state_dict()
    for name, value in made.state_dict().items():
        old = before[name]
        value.copy_(old if old.shape == value.shape else _interpolated(old, value.shape, name.partition(".")[0]))
    return made.train(vision.training)


def _interpolated(table: torch.Tensor, shape: torch.Size, tower: str) -> torch.Tensor:
    """A table of position embeddings (…×P×E, maybe after a class token's) for another square grid, as the family's own
    forward pass interpolates it."""
    family = tower.partition("_")[0]
    prefix = 0 if family == "siglip2" else FAMILIES[family].prefix
    rows = table.reshape(-1, table.shape[-1]).float()
    old, new = (math.isqrt(count - prefix) for count in (len(rows), math.prod(shape[:-1])))
    how: dict[str, Any] = {"mode": "bilinear", "antialias": True} if family == "siglip2" else {"mode": "bicubic"}
    grid = rows[prefix:].view(1, old, old, -1).permute(0, 3, 1, 2)
    found = F.interpolate(grid, size=(new, new), align_corners=False, **how).permute(0, 2, 3, 1).flatten(0, 2)
    return torch.cat([rows[:prefix], found]).view(shape)
