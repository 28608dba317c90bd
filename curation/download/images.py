"""An image file's headers, and its pixels upright: orientation applied, first frame, 8 bits, alpha on white.

`inspect` reads headers only. Most files are plain (an upright 8-bit JPEG, PNG or WebP without alpha) and img2dataset's
resizer decodes them as they are; the others go through `upright`, so that what img2dataset gets wrong (EXIF
orientation, CMYK, 16 bits, palettes, animations) never reaches it.
"""

import functools
import io
import struct
import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from PIL import Image, UnidentifiedImageError

from mmcorpus.filters.decode import FORMATS, DecodeFailure, decode_image

EXTENSIONS: Final = {"jpeg": "jpg", "png": "png", "webp": "webp", "gif": "gif", "bmp": "bmp", "tiff": "tif"}
"""The formats that a shard stores as they arrived, with their names in the tar."""
ORIENTATION_TAG: Final = 0x0112
MAX_FRAMES: Final = 10_000
"""Frames are counted up to here."""
_MAGIC: Final = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"II*\0", b"MM\0*")


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
    """Read an image's headers; raises BadImage (`not_an_image`, `undecodable`, `too_many_pixels`)."""
    image = _open(data, max_pixels, content_type)
    orientation = _orientation(image)
    width, height = image.size
    name = (image.format or "").lower()
    if orientation >= 5 and name != "tiff":  # Pillow opens a TIFF with its sizes upright already
        width, height = height, width
    frames = _frames(image, data)
    alpha = image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info
    plain = (
        name in ("jpeg", "mpo", "png", "webp")
        and image.mode in ("RGB", "L")
        and orientation == 1
        and frames == 1
        and not alpha
        and not (name == "png" and data[24:25] != b"\x08")
    )
    return ImageInfo(
        format="jpeg" if name == "mpo" else name,  # a JPEG with more pictures behind the first
        mode=image.mode, width=width, height=height, orientation=orientation, frames=frames,
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


@functools.cache
def _formats() -> tuple[str, ...]:
    """Those of FORMATS that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _open(data: bytes, max_pixels: int, content_type: str) -> Image.Image:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = Image.open(io.BytesIO(data), formats=_formats())
    except Image.DecompressionBombError:
        raise BadImage("too_many_pixels", f"over {max_pixels}") from None
    except UnidentifiedImageError:
        if data.startswith(_MAGIC) or (data[:4] == b"RIFF" and data[8:12] == b"WEBP"):
            raise BadImage("undecodable", "damaged header") from None
        raise BadImage("not_an_image", _looks_like(data, content_type)) from None
    except Exception as error:  # header parsers raise nearly everything at hostile bytes
        cut = data.startswith(b"RIFF") and not is_whole(data, "webp")  # libwebp gives no reason
        if cut or "truncated" in str(error).lower() or isinstance(error, EOFError):
            raise BadImage("truncated", "cannot be opened") from None
        raise BadImage("undecodable", f"damaged header ({type(error).__name__})") from None
    width, height = image.size
    if width * height > max_pixels:
        raise BadImage("too_many_pixels", f"{width}x{height}")
    if width < 1 or height < 1:
        raise BadImage("undecodable", "no pixels")
    return image


def _looks_like(data: bytes, content_type: str) -> str:
    start = data[:1024].lstrip().lower()
    if b"<svg" in start:
        return "svg"
    if start.startswith((b"<!doctype html", b"<html")) or b"<html" in start:
        return "html"
    return f"sent as {content_type}" if content_type else ""


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(ORIENTATION_TAG, 1)
    except Exception:  # metadata that cannot be read says nothing; the pixels may still be good
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _frames(image: Image.Image, data: bytes) -> int:
    if image.format == "GIF":
        return max(1, gif_frames(data))
    if image.format in ("JPEG", "MPO", "BMP", "ICO"):
        return 1  # an MPO's further pictures and an icon's sizes are no animation
    if image.format == "TIFF":
        return _tiff_pages(image)
    return min(int(getattr(image, "n_frames", 1)), MAX_FRAMES)


def _tiff_pages(image: Image.Image) -> int:
    pages = 1
    try:
        while pages < MAX_FRAMES:
            image.seek(pages)
            pages += 1
    except Exception:  # the end of the pages, or a damaged one
        pass
    try:
        image.seek(0)
    except Exception:
        raise BadImage("undecodable", "damaged header") from None
    return pages


def gif_frames(data: bytes) -> int:
    """The frames of a GIF, counted along its blocks without decoding any (Pillow decodes as it counts)."""
    try:
        flags = data[10]
        place = 13 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
        frames = 0
        while frames < MAX_FRAMES:
            kind = data[place]
            if kind == 0x2C:
                frames += 1
                flags = data[place + 9]
                place += 11 + (3 << ((flags & 7) + 1) if flags & 0x80 else 0)
            elif kind == 0x21:
                place += 2
            else:
                break
            while data[place]:
                place += data[place] + 1
            place += 1
    except IndexError:  # cut short: what was there was counted
        pass
    return frames
