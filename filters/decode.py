"""One decode for all: encoded bytes to upright 8-bit RGB, or the reason why not; never raises."""

import functools
import io
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, TypeVar

import numpy as np
from PIL import Image

from mmcorpus.filters.bounds import exif_refusal, refusal
from mmcorpus.filters.formats import LIBRARIES, NOT_IMAGES, PLUGINS, format_of
from mmcorpus.filters.image_files import MAX_FRAMES, gif_frames, png_chunks, png_damage
from mmcorpus.filters.lean import without_metadata

_Read = TypeVar("_Read")

MAX_PIXELS: Final = 89_478_485
"""A quarter of a gigabyte of RGB: Pillow's own limit, below which it neither warns nor refuses."""

Reason = Literal["empty", "not_an_image", "too_many_pixels", "truncated", "undecodable", "unsupported"]

_ANIMATED: Final = frozenset({"png", "webp", "avif"})
_TURNED_BY_DECODER: Final = frozenset({"tiff", "heic", "jxl"})
_SILENT_WHEN_CUT: Final = frozenset({"webp", "avif", "heic", "jxl"})
"""Formats whose decoders do not say that a file ends early."""
_PNG_METADATA: Final = frozenset({b"eXIf", b"iTXt", b"zTXt", b"tEXt"})
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
    """Lower case: `jpeg`, `png`, `gif`, `webp`, `bmp`, `tiff`, `avif`, `jpeg2000`, `heic`, `jxl`."""
    mode: str
    """Pillow's mode of the file: `RGB`, `CMYK`, `I;16`, `P`, …"""
    frames: int
    """Frames of an animation, counted up to 10,000; 1 for a still. The first is in `pixels`."""
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


class Unreadable(ValueError):
    """An image file without pixels to be had: `reason` and `detail` as in DecodeFailure."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason: Reason = reason
        self.detail = detail


@dataclass(frozen=True, kw_only=True, slots=True)
class OpenedImage:
    """An image file whose headers are read and whose pixels are not decoded yet."""

    image: Image.Image
    """To be loaded; its size is the stored one, but upright for TIFF, HEIC and JPEG XL."""
    format: str
    """As in DecodedImage."""
    frames: int
    """As in DecodedImage."""
    orientation: int
    """EXIF, 1 (upright) to 8; 1 for HEIC and JPEG XL, whose decoders turn them."""
    lean: bool
    """True if it could only be opened without its metadata."""


def decode_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> DecodedImage | DecodeFailure:
    """Decode an image file once for whoever wants its pixels.

    The format is told by the first bytes. Sizes are checked against `max_pixels` before anything is decompressed, and
    what else decoding may cost against `filters.bounds`. 16-bit greys are scaled to 8 bits (not clipped), CMYK is
    converted, palettes are resolved, transparent pixels are composited on white, the orientation is applied, and of an
    animation the first frame is taken. A file that ends early is a failure, not a half-grey image (unless the process
    has set `PIL.ImageFile.LOAD_TRUNCATED_IMAGES`). A PNG, JPEG or WebP that fails is tried again without its metadata.
    Safe to call from many threads.
    """

    def decode(file: bytes, kind: str) -> DecodedImage:
        return replace(_decoded(file, kind, max_pixels, file is not data), nbytes=len(data))

    return _or_failure(data, decode)


def decode_rgb(data: bytes, *, max_pixels: int = MAX_PIXELS, least: int | None = None) -> Image.Image | DecodeFailure:
    """The pixels of `decode_image` as a Pillow image, without copying them.

    With `least`, a JPEG is decoded at 1/2, 1/4 or 1/8 of its size (libjpeg scales while it decodes) as far as both
    sides keep that many pixels.
    """

    def decode(file: bytes, kind: str) -> Image.Image:
        opened = _opened(file, kind, max_pixels, file is not data)
        with opened.image as image:
            if least is not None and kind == "jpeg":
                image.draft(None, (least, least))
            return _loaded(image, opened, max_pixels)[0]

    return _or_failure(data, decode)


def _or_failure(data: bytes, decode: Callable[[bytes, str], _Read]) -> "_Read | DecodeFailure":
    """What `decode` makes of the file and its format, or why it cannot be read."""
    if not data:
        return DecodeFailure(reason="empty")
    try:
        kind = _decodable(data)
        return _read(data, kind, lambda file: decode(file, kind))
    except Unreadable as error:
        if error.reason == "not_an_image":
            detail = f"{error.detail}; " if error.detail else ""
            return DecodeFailure(reason="not_an_image", detail=f"{detail}begins with {data[:12]!r}")
        failed_in_decoder = error.__cause__ is not None
        if error.reason == "undecodable" and failed_in_decoder and _ends_early(data):
            return DecodeFailure(reason="truncated", detail=error.detail)
        return DecodeFailure(reason=error.reason, detail=error.detail)


def open_image(data: bytes, *, max_pixels: int = MAX_PIXELS) -> OpenedImage:
    """Read an image file's headers, with the checks of `decode_image`; raises Unreadable."""
    if not data:
        raise Unreadable("empty")
    kind = _decodable(data)
    return _read(data, kind, lambda file: _opened(file, kind, max_pixels, file is not data))


def _decodable(data: bytes) -> str:
    """The format, if files of its kind and this one are decoded; raises Unreadable."""
    kind = format_of(data)
    if not kind or kind in NOT_IMAGES:
        raise Unreadable("not_an_image", kind)
    if _opener(kind) is None:
        missing = f"; {LIBRARIES[kind]} is not installed" if kind in LIBRARIES else ""
        raise Unreadable("unsupported", kind.upper() + missing)
    costly = refusal(data, kind)
    if costly:
        raise Unreadable("undecodable", costly)
    return kind


@functools.cache
def _opener(kind: str) -> Callable[[io.BytesIO, str], Image.Image] | None:
    """What opens files of a format; None if nothing here does."""
    try:
        if kind == "heic":
            from pi_heif.as_plugin import HeifImageFile

            return HeifImageFile
        if kind == "jxl":
            from pylibjxl.pillow_plugin import JxlImageFile

            return JxlImageFile
    except ImportError:
        return None
    Image.init()
    plugin: Any = Image.OPEN.get(PLUGINS.get(kind, ""))
    return plugin[0] if plugin else None


def _read(data: bytes, kind: str, read: Callable[[bytes], _Read]) -> _Read:
    """`read` of the file or, if a decoder does not like it, of the file without metadata; raises Unreadable, whose
    cause is the decoder's error if there was one."""
    failure: Exception | None = None
    for file in _attempts(data, kind):
        try:
            return read(file)
        except Unreadable:
            raise
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise Unreadable("too_many_pixels", str(error)) from None
        except MemoryError:
            raise Unreadable("undecodable", "out of memory") from None
        except Exception as error:  # decoders raise almost anything on hostile input
            failure = error
    assert failure is not None
    detail = f"{type(failure).__name__}: {failure}"[:200]
    cut = "truncated" in detail.lower() or isinstance(failure, EOFError)
    cut = cut or (kind in _SILENT_WHEN_CUT and _ends_early(data))
    if kind == "png" and (damage := png_damage(data)):
        detail = f"{damage} ({detail})"
    raise Unreadable("truncated" if cut else "undecodable", detail) from failure


def _attempts(data: bytes, kind: str) -> Iterator[bytes]:
    yield data
    lean = without_metadata(data, kind)
    if lean is not None:
        yield lean


def _opened(data: bytes, kind: str, max_pixels: int, lean: bool) -> OpenedImage:
    opener = _opener(kind)
    assert opener is not None
    image = opener(io.BytesIO(data), "")
    _check_size(image, max_pixels)
    frames = 1
    if kind == "gif":
        frames = max(1, gif_frames(data))
    elif kind in _ANIMATED:
        frames = min(int(getattr(image, "n_frames", 1)), MAX_FRAMES)
    return OpenedImage(
        image=image, format=kind, frames=frames, orientation=_orientation(image, data, kind), lean=lean
    )  # fmt: skip


def _check_size(image: Image.Image, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise Unreadable("too_many_pixels", f"{image.width}x{image.height}")
    if image.width < 1 or image.height < 1:
        raise Unreadable("undecodable", f"{image.width}x{image.height}")


def _decoded(data: bytes, kind: str, max_pixels: int, lean: bool) -> DecodedImage:
    opened = _opened(data, kind, max_pixels, lean)
    with opened.image as image:
        mode = image.mode
        upright, has_alpha = _loaded(image, opened, max_pixels)
    return DecodedImage(
        pixels=np.asarray(upright), format=kind, mode=mode, frames=opened.frames, has_alpha=has_alpha,
        orientation=opened.orientation, nbytes=len(data),
    )  # fmt: skip


def _loaded(image: Image.Image, opened: OpenedImage, max_pixels: int) -> tuple[Image.Image, bool]:
    """An opened image's pixels as upright RGB, and whether any was transparent."""
    image.load()
    _check_size(image, max_pixels)  # a HEIC's pixels are as many as its stream says, whatever its header said
    turn = None if opened.format in _TURNED_BY_DECODER else _UPRIGHT.get(opened.orientation)
    return _upright_rgb(image, turn)


def _orientation(image: Image.Image, data: bytes, kind: str) -> int:
    try:
        if kind == "png" and _metadata_behind_pixels(data):
            image.load()
        exif = image.info.get("exif")
        if exif and exif_refusal(exif):
            return 1
        # Not the PNG plugin's own, which decodes the pixels to look behind them
        value = Image.Image.getexif(image).get(_ORIENTATION_TAG, 1)
    except Exception:  # a broken EXIF block says nothing; the pixels may be fine
        return 1
    return int(value) if value in range(1, 9) else 1


def _metadata_behind_pixels(data: bytes) -> bool:
    kinds = [chunk.kind for chunk in png_chunks(data)]
    return b"IDAT" in kinds and not _PNG_METADATA.isdisjoint(kinds[kinds.index(b"IDAT") :])


def _upright_rgb(image: Image.Image, turn: Image.Transpose | None) -> tuple[Image.Image, bool]:
    """A loaded image as RGB, turned, and whether any was transparent."""
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
    return image, has_alpha


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
    return data[4:8] in (b"ftyp", b"jP  ", b"JXL ") and _boxes_end_early(data)


def _boxes_end_early(data: bytes) -> bool:
    """ISO media files, JPEG 2000 and JPEG XL are boxes: 32 bits of size (1: 64 more; 0: to the end), then 4 letters."""
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
