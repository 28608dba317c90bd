"""Pictures as the bytes that the web serves: common formats, odd ones, and hostile ones."""

import functools
import struct
import zlib
from collections.abc import Iterable
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from mmcorpus.curation.synthetic.common import saved

CONTENT_TYPES: Final = {"jpg": "image/jpeg", "png": "image/png", "gif": "image/gif", "webp": "image/webp"}
_ORIENTATION_TAG: Final = 0x0112
_TO_STORED: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""Turns of an upright picture that a viewer which obeys the EXIF orientation undoes."""


def encode(image: Image.Image, extension: str, *, quality: int = 90) -> bytes:
    """The picture as `jpg`, `png`, `webp` (both lossy with `quality` where they can be) or `gif`."""
    if extension == "jpg":
        return saved(image, "JPEG", quality=quality)
    if extension == "webp":
        return saved(image, "WEBP", quality=quality, method=2)
    return saved(image.quantize(128), "GIF") if extension == "gif" else saved(image, "PNG")


def rotated_jpeg(image: Image.Image, orientation: int) -> bytes:
    """A JPEG stored turned or mirrored, with the EXIF orientation (2-8) that turns it back upright."""
    exif = Image.Exif()
    exif[_ORIENTATION_TAG] = orientation
    return saved(image.transpose(_TO_STORED[orientation]), "JPEG", quality=92, exif=exif)


def png_16_bit(image: Image.Image, *, color: bool) -> bytes:
    """A PNG of 16 bits a channel: grey, or RGB (which Pillow reads but cannot write)."""
    pixels = np.asarray(image if color else image.convert("L"), dtype=np.uint16) * 257
    rows = pixels.astype(">u2").reshape(image.height, -1)
    return _png(image.width, image.height, 16, 2 if color else 0, (b"\0" + row.tobytes() for row in rows))


def palette_image(image: Image.Image, extension: str) -> bytes:
    """A palette PNG or GIF whose most common colour is transparent."""
    indexed = image.quantize(32)
    background = int(np.bincount(np.asarray(indexed).ravel()).argmax())
    return saved(indexed, extension.upper(), transparency=background)


def rgba_png(image: Image.Image) -> bytes:
    """A PNG with an alpha channel: opaque within an ellipse that touches the edges, see-through in the corners."""
    alpha = Image.new("L", image.size, 0)
    ImageDraw.Draw(alpha).ellipse(
        (-image.width // 8, -image.height // 8, image.width * 9 // 8, image.height * 9 // 8), 255
    )
    picture = image.convert("RGBA")
    picture.putalpha(alpha)
    return encode(picture, "png")


def animation(image: Image.Image, extension: str, frames: int = 5) -> bytes:
    """An animated GIF or WebP: the picture with a dot that travels along its lower edge."""
    radius = max(3, min(image.size) // 24)
    pictures = []
    for number in range(frames):
        picture = image.copy()
        x = image.width * (number + 1) // (frames + 1)
        y = image.height - 2 * radius
        ImageDraw.Draw(picture).ellipse((x - radius, y - radius, x + radius, y + radius), (200, 20, 120))
        pictures.append(picture.quantize(64) if extension == "gif" else picture)
    return saved(pictures[0], extension.upper(), save_all=True, append_images=pictures[1:], duration=120, loop=0)


@functools.lru_cache(maxsize=4)
def bomb_png(side: int) -> bytes:
    """A decompression bomb: a valid black PNG of `side` x `side` pixels, 50 kB where it unpacks to 1.2 GB of RGB."""
    row = bytes(1 + (side + 7) // 8)
    return _png(side, side, 1, 0, (row for _ in range(side)))


def _png(width: int, height: int, depth: int, color_type: int, rows: Iterable[bytes]) -> bytes:
    """A PNG of rows that each open with their filter byte (PNG specification, §11.2 and §9.2)."""
    packer = zlib.compressobj(6)
    data = b"".join([*(packer.compress(row) for row in rows), packer.flush()])
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in chunks
    )
