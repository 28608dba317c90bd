"""Encoded bytes to the square that SigLIP sees: resized without keeping the aspect, bicubic with antialiasing.

That is SigLIP's own preprocessing (and the reference's `resize-naive`). Pixels stay uint8 until they are on the device.
"""

import numpy as np
import numpy.typing as npt
from PIL import Image

from mmcorpus.filters.decode import DecodeFailure, decode_image


def square(image: Image.Image, size: int) -> npt.NDArray[np.uint8]:
    """An RGB image as uint8 3×size×size."""
    resized = image.resize((size, size), Image.Resampling.BICUBIC)
    return np.ascontiguousarray(np.asarray(resized, dtype=np.uint8).transpose(2, 0, 1))


def load_square(data: bytes, size: int) -> npt.NDArray[np.uint8] | None:
    """The image in `data` as uint8 3×size×size, upright; None if it cannot be decoded."""
    decoded = decode_image(data)
    if isinstance(decoded, DecodeFailure):
        return None
    return square(Image.fromarray(decoded.pixels), size)
