"""An image file's headers, and its pixels upright: orientation applied, first frame, 8 bits, alpha on white.

`inspect` reads headers only. Most files are plain (an upright 8-bit JPEG, PNG or WebP without alpha) and img2dataset's
resizer decodes them as they are; the others go through `upright`, so that what img2dataset gets wrong (EXIF
orientation, CMYK, 16 bits, palettes, animations) never reaches it.
"""

import struct
import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from mmcorpus.filters.decode import DecodeFailure, Unreadable, decode_image, open_image
from mmcorpus.filters.image_files import Tiff, png_damage, png_has_surplus

EXTENSIONS: Final = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif", "bmp": "bmp", "tiff": "tif"}
"""The formats that a shard stores as they arrived, with their names in the tar."""


class BadImage(Exception):
    """An image that cannot be used: `code` as in docs/formats.md, and details."""

    def __init__(self, code: str, detail: str = "") -> None:
        super().__init__(f"{code}: {detail}" if detail else code)
        self.code, self.detail = code, detail


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageInfo:
    """An image by its headers. Width and height are upright."""

    format: str
    """Lower case: `jpeg`, `png`, `gif`, …"""
    mode: str
    """Pillow's."""
    width: int
    height: int
    orientation: int
    """EXIF, 1 (upright) to 8."""
    frames: int
    may_have_alpha: bool
    """A channel or palette entry for transparency exists; whether a pixel uses it, the pixels say."""
    plain: bool
    """A decoder that knows neither orientation nor alpha reads it right."""


def inspect(data: bytes, max_pixels: int, content_type: str = "") -> ImageInfo:
    """Read an image's headers; raises BadImage (`not_an_image`, `unsupported`, `truncated`, `undecodable`,
    `too_many_pixels`)."""
    try:
        with warnings.catch_warnings():  # of metadata that is not needed
            warnings.simplefilter("ignore")
            opened = open_image(data, max_pixels=max_pixels)
    except Unreadable as error:
        sent = f"sent as {content_type}" if error.reason == "not_an_image" and content_type else ""
        raise BadImage(error.reason, error.detail or sent) from None
    name, orientation, image = opened.format, opened.orientation, opened.image
    width, height = image.size
    if orientation >= 5 and name != "tiff":  # Pillow opens a TIFF with its sizes upright already
        width, height = height, width
    frames = Tiff(data).pages() if name == "tiff" else opened.frames
    alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    plain = (
        name in ("jpeg", "png", "webp")
        and image.mode in ("RGB", "L")
        and orientation == 1
        and frames == 1
        and not alpha
        and not opened.lean
        and not (name == "png" and (data[24:25] != b"\x08" or png_damage(data) or png_has_surplus(data)))
    )
    return ImageInfo(
        format=name, mode=image.mode, width=width, height=height, orientation=orientation, frames=frames,
        may_have_alpha=alpha, plain=plain,
    )  # fmt: skip


def is_whole(data: bytes, name: str) -> bool:
    """True if a JPEG, PNG or WebP file ends as its format says; a decoder such as OpenCV's does not complain."""
    if name == "jpeg":
        return data.rstrip(b"\0")[-2:] == b"\xff\xd9"
    if name == "png":
        return b"IEND\xaeB`\x82" in data[-4096:]
    if name == "webp":
        return len(data) >= 8 + struct.unpack("<I", data[4:8])[0]
    return False


def upright(data: bytes, max_pixels: int) -> tuple[np.ndarray[Any, np.dtype[np.uint8]], bool]:
    """The first frame as H×W×3 RGB uint8, upright and on white, and whether any of its pixels is transparent.

    Raises BadImage (`truncated`, `undecodable`, `not_an_image`, `too_many_pixels`).
    """
    decoded = decode_image(data, max_pixels=max_pixels)
    if isinstance(decoded, DecodeFailure):
        raise BadImage(decoded.reason, decoded.detail)
    return decoded.pixels, decoded.has_alpha
