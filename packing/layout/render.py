"""Pixels by a layout: an image's crops as the encoder gets them, and a crop's patches."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmcorpus.packing.layout.base import ImageLayout, Resample, Size

Pixels = npt.NDArray[np.uint8]

_FILTERS: Final[Mapping[Resample, Image.Resampling]] = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
}


def render(image: Pixels, layout: ImageLayout) -> Pixels:
    """The crops of a decoded, upright RGB image (height, width, 3); shape (crops, height, width, 3).

    The whole image is resized, then cut, as the processors do, so that crops join without seams; padding is black.
    Raises ValueError if the image is not RGB or has another size than the layout was made for.
    """
    if image.dtype != np.uint8 or image.shape != (layout.height, layout.width, 3):
        raise ValueError(
            f"an image of {image.dtype} and shape {image.shape} was given to a layout of {layout.width} x "
            f"{layout.height} pixels; give RGB of uint8 and shape ({layout.height}, {layout.width}, 3)"
        )
    resized: dict[tuple[Size, ...], Image.Image] = {(): Image.fromarray(image)}
    crops = []
    for crop in layout.crops:
        for done in range(len(crop.resized)):
            sizes = crop.resized[: done + 1]
            if sizes not in resized:
                resized[sizes] = resized[sizes[:-1]].resize(sizes[-1], _FILTERS[layout.resample])
        crops.append(np.asarray(resized[crop.resized].crop(crop.box)))
    return np.stack(crops)


def patches(crops: npt.NDArray[Any], patch: int) -> npt.NDArray[Any]:
    """Crops (crops, height, width, channels) as patches (patches, patch, patch, channels), numbered as ImageLayout.pool
    numbers them; pixels at the right and bottom that fill no patch are left out."""
    count, height, width, channels = crops.shape
    rows, columns = height // patch, width // patch
    cut = crops[:, : rows * patch, : columns * patch].reshape(count, rows, patch, columns, patch, channels)
    return cut.swapaxes(2, 3).reshape(-1, patch, patch, channels)
