"""One decode for all: encoded bytes to upright 8-bit RGB, or the reason why not; never raises."""

import io
import struct
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from PIL import Image

MAX_PIXELS: Final = 89_478_485
"""A quarter of a gigabyte of RGB: Pillow's own limit, below which it neither warns nor refuses."""

FORMATS: Final = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "TIFF", "WEBP")
"""The formats that are opened. Those that start a program (EPS) or hold other formats (ICO, ICNS) are not."""

Reason = Literal["empty", "not_an_image", "too_many_pixels", "truncated", "undecodable"]

_ANIMATED: Final = frozenset({"GIF", "PNG", "WEBP", "AVIF"})
_ORIENTATION_TAG: Final = 0x0112
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class DecodedImage:
    """An image as pixels, with what its file said."""

    pixels: np.ndarray
    """uint8 [height, width, 3], RGB, upright, transparency composited on white."""
    format: str
    """Lower case: `jpeg`, `png`, `gif`, `webp`, `bmp`, `tiff`, `avif`, `jpeg2000`."""
    mode: str
    """Pillow's mode of the file: `RGB`, `CMYK`, `I;16`, `P`, …"""
    frames: int
    """Frames of an animation; 1 for a still. The first is in `pixels`."""
    has_alpha: bool
    """True if any pixel of the first frame is not opaque."""
    orientation: int
    """EXIF orientation, 1-8, already undone in `pixels`."""
    nbytes: int
    """Of the encoded file."""

    @property
    def width(self) -> int:
        """Pixels, upright."""
        return int(self.pixels.shape[1])

    @property
    def height(self) -> int:
        """Pixels, upright."""
        return int(self.pixels.shape[0])


@dataclass(frozen=True, kw_only=True, slots=True)
class DecodeFailure:
    """Why there are no pixels."""

    reason: Reason | str
    """A text of another kind is the reason for which an image was not decoded at all, as a score table is to say it."""
    detail: str = ""
    """The decoder's own words."""


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> DecodedImage | DecodeFailure:
    """Decode an image file once for whoever wants its pixels.

    Sizes are checked against `max_pixels` before anything is decompressed. 16-bit greys are scaled to 8 bits (not
    clipped), CMYK is converted, palettes are resolved, transparent pixels are composited on white, EXIF orientation is
    applied, and of an animation the first frame is taken. A file that ends early is a failure, not a half-grey image
    (unless the process has set `PIL.ImageFile.LOAD_TRUNCATED_IMAGES`). Pillow refuses more than twice `MAX_PIXELS`
    whatever `max_pixels` says. Safe to call from many threads.
    """
    if not data:
        return DecodeFailure(reason="empty")
    kind = ""
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            kind = image.format or ""
            if image.width * image.height > max_pixels:
                detail = f"{image.width}x{image.height} is more than {max_pixels} pixels"
                return DecodeFailure(reason="too_many_pixels", detail=detail)
            if image.width == 0 or image.height == 0:
                return DecodeFailure(reason="undecodable", detail=f"{image.width}x{image.height}")
            mode, orientation = image.mode, _orientation(image)
            frames = _frames(image) if kind in _ANIMATED else 1
            image.load()
            pixels, has_alpha = _upright_rgb(image)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        return DecodeFailure(reason="too_many_pixels", detail=str(error))
    except MemoryError:
        return DecodeFailure(reason="undecodable", detail="out of memory")
    except Exception as error:  # Pillow's plugins raise almost anything on hostile input
        return _failure(data, kind, error)
    return DecodedImage(
        pixels=pixels,
        format="jpeg" if kind == "MPO" else kind.lower(),
        mode=mode,
        frames=frames,
        has_alpha=has_alpha,
        orientation=orientation,
        nbytes=len(data),
    )


def _orientation(image: Image.Image) -> int:
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # a broken EXIF block says nothing; the pixels may be fine
        return 1
    return int(value) if value in range(1, 9) else 1


def _frames(image: Image.Image) -> int:
    """The complete frames of an animation, leaving `image` at the first; one whose tail is missing still has that."""
    if not getattr(image, "is_animated", False):
        return 1
    count = 1
    try:
        count = int(getattr(image, "n_frames", 1))
    except Exception:  # cut off within a later frame, of which nothing is used
        count = max(count, image.tell())
    image.seek(0)
    return count


def _upright_rgb(image: Image.Image) -> tuple[np.ndarray, bool]:
    """RGB pixels of a loaded image and whether any was transparent; TIFFs were turned upright while loading."""
    turn = _UPRIGHT.get(_orientation(image))
    has_alpha = False
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        grey, clear = _eight_bits(image)
        if clear is not None:
            grey, has_alpha = np.where(clear, np.uint8(255), grey), bool(clear.any())
        image = Image.fromarray(grey)
    elif image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        alpha = rgba.getchannel("A")
        has_alpha = alpha.getextrema()[0] < 255  # type: ignore[operator]
        if has_alpha:
            white = Image.new("RGB", rgba.size, (255, 255, 255))
            white.paste(rgba, mask=alpha)
            image = white
        else:
            image = rgba
    if image.mode != "RGB":
        image = image.convert("RGB")
    if turn is not None:
        image = image.transpose(turn)
    return np.asarray(image), has_alpha


def _eight_bits(image: Image.Image) -> tuple[np.ndarray, np.ndarray | None]:
    """Grey of more than 8 bits scaled to 8, and the mask of its transparent pixels if it has any.

    65535 becomes 255 and 32896 becomes 128. Wider integers and floats declare no range: values within 0-65535
    (integers) or 0-1 (floats) are read as such, others are stretched from their least to their greatest.
    """
    values = np.asarray(image)
    transparent = image.info.get("transparency")
    clear = values == transparent if isinstance(transparent, int) else None
    wide = np.nan_to_num(values.astype(np.float64), nan=0.0, posinf=0.0, neginf=0.0)
    low, high = float(wide.min()), float(wide.max())
    top = 1.0 if image.mode == "F" else 65535.0
    if low >= 0 and high <= top:
        low, high = 0.0, top
    return np.floor((wide - low) * (255.0 / (high - low)) + 0.5).astype(np.uint8), clear


def _failure(data: bytes, kind: str, error: Exception) -> DecodeFailure:
    detail = f"{type(error).__name__}: {error}"[:200]
    if "truncated" in detail.lower() or _ends_early(data):
        return DecodeFailure(reason="truncated", detail=detail)
    if isinstance(error, Image.UnidentifiedImageError) and not _starts_like_an_image(data):
        return DecodeFailure(reason="not_an_image", detail=f"begins with {data[:12]!r}")
    return DecodeFailure(reason="undecodable", detail=detail)


def _starts_like_an_image(data: bytes) -> bool:
    riff_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    heif = data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"avis", b"mif1")
    magic = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"\0\0\0\x0cjP  ")
    return riff_webp or heif or data.startswith(magic)


def _ends_early(data: bytes) -> bool:
    """True if a file that could not be decoded lacks the end that its format promises."""
    if data.startswith(b"\xff\xd8"):
        return b"\xff\xd9" not in data[-4096:]
    if data.startswith(b"\x89PNG"):
        return b"IEND" not in data[-4096:]
    if data.startswith((b"GIF87a", b"GIF89a")):
        return data[-1:] != b";"
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return struct.unpack("<I", data[4:8])[0] + 8 > len(data)
    if data.startswith(b"BM") and len(data) >= 6:
        return bool(struct.unpack("<I", data[2:6])[0] > len(data))
    if data.startswith((b"II*\0", b"MM\0*")):
        order = "<" if data.startswith(b"II") else ">"
        return len(data) < 8 or struct.unpack(order + "I", data[4:8])[0] >= len(data)
    return data[4:8] in (b"ftyp", b"jP  ") and _boxes_end_early(data)


def _boxes_end_early(data: bytes) -> bool:
    """AVIF and JPEG 2000 are rows of boxes: a 32-bit size (1: a 64-bit one follows; 0: to the end) and four letters."""
    at = 0
    while at < len(data):
        if at + 16 > len(data):
            return True
        size = struct.unpack(">I", data[at : at + 4])[0]
        if size == 0:
            return not data.endswith(b"\xff\xd9")
        if size == 1:
            size = struct.unpack(">Q", data[at + 8 : at + 16])[0]
        if size < 8:
            return False
        at += size
    return at > len(data)
