"""The image as a server takes it: a data URL of the file's own bytes, or of a smaller picture if one is asked for."""

import base64
import io
from typing import Final

from mmcorpus.filters.decode import DecodedImage

TYPES: Final = frozenset({"jpeg", "png", "webp", "gif", "bmp"})
"""Formats that every server opens; others are sent as PNG."""
_QUALITY: Final = 95


def image_bytes(encoded: bytes, image: DecodedImage, max_side: int | None) -> tuple[bytes, str]:
    """The bytes to send and their format.

    The file goes as it is, unless its longest side exceeds `max_side` (then a JPEG of that size goes), or its format is
    not one of TYPES, or it must be turned upright (then a PNG of its pixels goes).
    """
    from PIL import Image

    too_large = max_side is not None and max(image.width, image.height) > max_side
    if not too_large and image.format in TYPES and image.orientation == 1:
        return encoded, image.format
    picture, file = Image.fromarray(image.pixels), io.BytesIO()
    if not too_large:
        picture.save(file, "PNG")
        return file.getvalue(), "png"
    assert max_side is not None
    scale = max_side / max(picture.size)
    size = (max(1, round(picture.width * scale)), max(1, round(picture.height * scale)))
    picture.resize(size, Image.Resampling.BICUBIC).save(file, "JPEG", quality=_QUALITY, subsampling=0)
    return file.getvalue(), "jpeg"


def data_url(data: bytes, form: str) -> str:
    """`data:image/jpeg;base64,…`."""
    return f"data:image/{form};base64,{base64.b64encode(data).decode('ascii')}"
