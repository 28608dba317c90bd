"""Image files without their metadata, for those that a decoder refuses on its account.

Browsers and libpng read a PNG whose text chunk has a wrong checksum or unpacks to megabytes; Pillow does not. What is
left out here has no part in the pixels; transparency, Adobe's colour transform and a sound orientation are kept.
"""

import re
import struct
import zlib
from typing import Final

from mmcorpus.filters.bounds import MAX_EXIF
from mmcorpus.filters.image_files import EXIF, START_OF_SCAN, TooManyParts, jpeg_segments, png_chunks, webp_chunks

_PNG_KEPT: Final = frozenset({b"IHDR", b"PLTE", b"IDAT"})
_JPEG_ADOBE: Final = 0xEE
_ADOBE: Final = re.compile(rb".{4}Adobe.{7}", re.DOTALL)
_WEBP_IMAGE: Final = frozenset({b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF"})
_WEBP_ALPHA_AND_ANIMATION: Final = 0x12
_WEBP_EXIF: Final = 0x08


def without_metadata(data: bytes, kind: str) -> bytes | None:
    """The same picture with no more metadata than its pixels need; None where nothing can be left out.

    PNG, JPEG and WebP. Of an animated PNG the default picture is left.
    """
    try:
        lean = {"png": _png, "jpeg": _jpeg, "webp": _webp}[kind](data)
    except (KeyError, TooManyParts, struct.error, IndexError):
        return None
    return None if lean == data else lean


def _png(data: bytes) -> bytes | None:
    parts = [data[:8]]
    for chunk in png_chunks(data):
        size = chunk.end - chunk.start
        needed = chunk.kind in _PNG_KEPT
        if needed and chunk.end + 4 > len(data):  # what follows would be taken for its content
            return None
        useful = (chunk.kind == b"tRNS" and _has_transparency(data, size)) or (
            chunk.kind == b"eXIf" and size <= MAX_EXIF
        )
        if needed or (useful and chunk.is_sound(data)):
            parts.append(data[chunk.start - 8 : chunk.end + 4])
    end = b"IEND"
    parts.append(bytes(4) + end + zlib.crc32(end).to_bytes(4, "big"))
    return b"".join(parts)


def _has_transparency(data: bytes, size: int) -> bool:
    """True if a tRNS chunk of so many bytes fits the PNG's color type (PNG 1.2, 4.2.1.1); libpng passes over others."""
    color_type = data[25]
    return size == {0: 2, 2: 6}[color_type] if color_type in (0, 2) else color_type == 3 and 0 < size <= 256


def _jpeg(data: bytes) -> bytes:
    parts, has_exif = [data[:2]], False
    for marker, start, end in jpeg_segments(data):
        content = data[start:end]
        if marker == START_OF_SCAN:
            parts.append(data[start:])
            break
        if marker == EXIF and content[4:10] == b"Exif\0\0" and not has_exif:
            parts.append(content)
            has_exif = True
        elif 0xC0 <= marker <= 0xDF or (marker == _JPEG_ADOBE and _ADOBE.match(content)):
            parts.append(content)
    return b"".join(parts)


def _webp(data: bytes) -> bytes | None:
    parts, exif, flags = [], b"", None
    for kind, start, end in webp_chunks(data):
        chunk = data[start - 8 : end] + bytes((end - start) & 1)
        if kind == b"VP8X":
            flags = bytearray(chunk)
        elif kind in _WEBP_IMAGE:
            if end > len(data):
                return None
            parts.append(chunk)
        elif kind == b"EXIF" and end <= len(data) and end - start <= MAX_EXIF:
            exif = chunk
    if flags is not None:
        flags[8] = flags[8] & _WEBP_ALPHA_AND_ANIMATION | (_WEBP_EXIF if exif else 0)
        parts.insert(0, bytes(flags))
        parts.append(exif)
    body = b"WEBP" + b"".join(parts)
    return b"RIFF" + struct.pack("<I", len(body)) + body
