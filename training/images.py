"""Encoded bytes to the pixels that encoders see: a square, or the crops of a layout.

A square is resized without keeping the aspect, bicubic with antialiasing: SigLIP's own preprocessing (and the
reference's `resize-naive`). Pixels stay uint8 until they are on the device.
"""

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from PIL import Image
from torch.nn import functional

from mmcorpus.filters.decode import DecodeFailure, decode_rgb
from mmcorpus.packing.layout import LayoutConfig, PerImage, SquareLayout
from mmcorpus.packing.layout.base import Size
from mmcorpus.packing.layout.render import render
from mmcorpus.training.batch import Tiling, widened
from mmcorpus.training.vision import GREY

GAP: Final = 2
"""A JPEG scaled while it is decoded stays so many times larger than the square: what is left to the bicubic filter then
hides the difference. Measured on noise with a photograph's spectrum, text and edges: at 2 the pixels are 0.6 to 0.9 of
255 off in the mean (46 to 49 dB; a JPEG of quality 88 itself is 35 to 40), at 1.5 twice that, at 1 four times."""


def square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """An RGB image as uint8 3×size×size, a view of rows of pixels.

    By PyTorch's filter, as transformers' processors are: Pillow's arithmetic (a value in some hundred is 1 of 255 off)
    with AVX2, in less than half of the time.
    """
    pixels_1CHW = torch.from_numpy(np.array(image, dtype=np.uint8)).permute(2, 0, 1)[None]
    if image.size != (size, size):
        pixels_1CHW = functional.interpolate(pixels_1CHW, size=(size, size), mode="bicubic", antialias=True)
    pixels: npt.NDArray[np.uint8] = pixels_1CHW[0].numpy()
    return pixels


def load_square(data: bytes, size: int, *, scaled: bool = False) -> npt.NDArray[np.uint8] | None:
    """The image in `data` as uint8 3×size×size, upright; None if it cannot be decoded.

    `scaled` lets libjpeg decode large JPEGs at a half, a quarter or an eighth, where that stays `GAP` squares large.
    """
    decoded = decode_rgb(data, least=GAP * size if scaled else None)
    return None if isinstance(decoded, DecodeFailure) else square(decoded, size)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiled:
    """Images as a layout's crops."""

    pixels: npt.NDArray[np.uint8]
    """N×3×H×W, the crops of all images one after the other; smaller ones in the upper left corner."""
    tiling: Tiling
    broken: list[int]
    """The images, by number, that could not be decoded, or are not of the size that was said: grey."""


def tile(
    images: Sequence[bytes | Image.Image],
    layout: LayoutConfig | Sequence[LayoutConfig],
    sizes: Sequence[Size] = (),
    *,
    blank: bool = False,
) -> Tiled:
    """Images, encoded or decoded (upright RGB), as the crops of `layout`, or of one for each.

    `sizes` are the widths and heights that their lengths were planned by; without them, which is right where no length
    depends on the size, or nothing was planned, each image says its own. `blank` makes every crop mid-grey.
    """
    layouts, least = (layout, 1) if isinstance(layout, Sequence) else ([layout] * len(images), layout.patch)
    crops, templates, pools, paddings = list[npt.NDArray[np.uint8]](), [], [], []
    broken = []
    patches = 0
    for number, image in enumerate(images):
        pixels = np.asarray(image, dtype=np.uint8) if isinstance(image, Image.Image) else _decoded(image)
        size = sizes[number] if sizes else (1, 1) if pixels is None else (pixels.shape[1], pixels.shape[0])
        one = layouts[number].layout(*size)
        if pixels is None or pixels.shape[:2] != (size[1], size[0]):
            broken.append(number)
            pixels = None
        if pixels is None or blank:
            crops += [np.full((crop.size[1], crop.size[0], 3), GREY, dtype=np.uint8) for crop in one.crops]
        else:
            crops += list(render(pixels, one))
        templates.append(one.template)
        pools.append(np.where(one.pool >= 0, one.pool.astype(np.int64) + patches, -1))
        paddings.append(one.padding)
        patches += len(one.padding)
    most = max((pool.shape[1] for pool in pools), default=1)
    pools = [widened(pool, most) for pool in pools]
    shapes = [(crop.shape[1], crop.shape[0]) for crop in crops]
    width, height = (max((shape[axis] for shape in shapes), default=least) for axis in (0, 1))
    pixels_NCHW = np.zeros((len(crops), 3, height, width), dtype=np.uint8)
    for row, crop in zip(pixels_NCHW, crops, strict=True):
        row[:, : crop.shape[0], : crop.shape[1]] = crop.transpose(2, 0, 1)
    tiling = Tiling(
        templates=tuple(templates),
        pool=np.concatenate(pools) if pools else np.zeros((0, 1), dtype=np.int64),
        padding=np.concatenate(paddings) if paddings else np.zeros(0, dtype=np.uint8),
        sizes=tuple(shapes) if len(set(shapes)) > 1 else None,
    )
    return Tiled(pixels=pixels_NCHW, tiling=tiling, broken=broken)


def lay_out_images(
    images: Sequence[bytes | Image.Image], per_image: PerImage, side: int
) -> tuple[npt.NDArray[np.uint8], int | Tiling, list[int]]:
    """Images of one sample, encoded or decoded (upright RGB), as `expand` takes them: the crops' pixels, what is said
    of their tokens, and which could not be decoded. Squares are of `side` pixels, the encoder's."""
    if not isinstance(per_image, int):
        tiled = tile(images, per_image)
        return tiled.pixels, tiled.tiling, tiled.broken
    found = [square(one, side) if isinstance(one, Image.Image) else load_square(one, side) for one in images]
    pixels = np.full((len(found), 3, side, side), GREY, dtype=np.uint8)
    for row, one in zip(pixels, found, strict=True):
        if one is not None:
            row[:] = one
    return pixels, per_image, [number for number, one in enumerate(found) if one is None]


def lay_out_each(
    images: Sequence[bytes | Image.Image], layouts: Sequence[PerImage], side: int, patch: int
) -> tuple[npt.NDArray[np.uint8], Tiling, list[int]]:
    """As `lay_out_images`, each image by a layout of its own; `patch` is the encoder's."""
    crops = [SquareLayout(tokens=one, side=side, patch=patch) if isinstance(one, int) else one for one in layouts]
    tiled = tile(images, crops)
    return tiled.pixels, tiled.tiling, tiled.broken


def _decoded(data: bytes) -> npt.NDArray[np.uint8] | None:
    decoded = decode_rgb(data)
    return None if isinstance(decoded, DecodeFailure) else np.asarray(decoded, dtype=np.uint8)
