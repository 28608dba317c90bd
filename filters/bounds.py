"""Limits on what decoding an image file may cost, checked from its headers before a decoder sees it.

Pixels alone do not bound the work: a progressive JPEG is gone over once per scan, at 40 bytes a scan; a TIFF or EXIF
directory may say that a tag has millions of values; JPEG 2000 walks every layer of every resolution of every tile,
empty or not. Each bound is far above what real files need.
"""

import math
import re
import struct
from collections.abc import Callable, Iterable
from typing import Final

from mmcorpus.filters.image_files import (
    EXIF,
    MAX_FRAMES,
    MAX_PARTS,
    START_OF_SCAN,
    TEMPORARY,
    Tiff,
    TiffEntry,
    TooManyParts,
    gif_frames,
    jpeg_segments,
    png_chunks,
    webp_chunks,
)  # fmt: skip

MAX_SCANS: Final = 100
"""Of a JPEG. Encoders write about 10; libtiff and libjpeg-turbo's own fuzzers stop at 100 and 500."""
MAX_SCANNED_PIXELS: Final = 2_000_000_000
"""Pixels x scans of a JPEG: 100 megapixels in 20 scans. Some seconds of decoding at the worst."""
MAX_TAG_VALUES: Final = 262_144
"""Values of a TIFF or EXIF tag, but for bytes and text; strips and tiles among them."""
MAX_TILE_PIXELS: Final = 1 << 28
"""Of one TIFF tile, which is decoded whole however small the picture."""
MAX_PACKETS: Final = 4_000_000
"""Of a JPEG 2000: tiles x layers x components x precincts of all resolutions."""
MAX_RLE: Final = 1 << 24
"""Pixels, and bytes, of a run-length-coded BMP, which Pillow decodes in Python."""
MAX_EXIF: Final = 1 << 20
"""Bytes of EXIF that are read. A JPEG segment holds 64 KiB."""
MAX_EXIF_SEGMENTS, MAX_EXIF_BYTES = 1000, 16 << 20
"""Of EXIF in a JPEG: Pillow joins the segments one by one, copying what it has each time."""

_AFTER_SCAN: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
_FRAME_MARKERS: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ONE_BYTE: Final = frozenset({1, 2, 6, 7})
_STRIPS: Final = {273: "strips", 324: "tiles"}
_TILE_WIDTH, _TILE_LENGTH = 322, 323


def refusal(data: bytes, kind: str) -> str:
    """Why a file of the format `kind` is not handed to a decoder, in words; empty if it may be."""
    check = _CHECKS.get(kind)
    if check is None:
        return ""
    try:
        return check(data)
    except TooManyParts as error:
        return str(error)
    except (struct.error, IndexError):  # cut off: the decoder says so
        return ""


def exif_refusal(exif: bytes) -> str:
    """Why an EXIF block is not read, in words; empty if it may be. Raises struct.error for one without a header."""
    if len(exif) > MAX_EXIF:
        return f"EXIF of {len(exif):,} bytes"
    tiff = Tiff(exif.removeprefix(b"Exif\0\0").removeprefix(b"Exif\0\0"))
    return _too_many_values(tiff.entries(tiff.first))


def _jpeg(data: bytes) -> str:
    """Scans are counted where there may be more than one: in progressive files, and in those whose first scan lacks a
    component. The others are decoded in one go, and libjpeg refuses a second scan.
    """
    frame, scan, at, exif_segments, exif_bytes = 0, 0, 0, 0, 0
    for marker, start, at in jpeg_segments(data):
        if marker == EXIF and data.startswith(b"Exif", start + 4):
            exif_segments, exif_bytes = exif_segments + 1, exif_bytes + at - start
        elif marker in _FRAME_MARKERS:
            frame = frame or start
        elif marker == START_OF_SCAN:
            scan = start
    if exif_segments > MAX_EXIF_SEGMENTS or exif_bytes > MAX_EXIF_BYTES:
        return f"JPEG with {exif_bytes:,} bytes of EXIF in {exif_segments:,} segments"
    if not frame or not scan:
        return ""
    height, width, components = struct.unpack_from(">HHB", data, frame + 5)
    if data[frame + 1] not in _PROGRESSIVE and data[scan + 4] >= components:
        return ""
    scans, segments = 1, 0
    while scans <= MAX_SCANS and segments < MAX_PARTS:
        found = _AFTER_SCAN.search(data, at)
        if found is None or data[found.end() - 1] == 0xD9:
            break
        scans += data[found.end() - 1] == START_OF_SCAN
        at = found.end()
        if data[at - 1] != TEMPORARY:  # it alone has no length
            at += max(2, int.from_bytes(data[at : at + 2], "big"))
        segments += 1
    if scans > MAX_SCANS:
        return f"JPEG of more than {MAX_SCANS} scans"
    if segments == MAX_PARTS:
        return f"JPEG of more than {MAX_PARTS:,} segments"
    if scans * width * height > MAX_SCANNED_PIXELS:
        return f"JPEG of {scans} scans of {width}x{height}: more than {MAX_SCANNED_PIXELS:,} pixels to decode"
    return ""


def _png(data: bytes) -> str:
    for _ in png_chunks(data):
        pass
    return ""


def _gif(data: bytes) -> str:
    gif_frames(data)
    return ""


def _webp(data: bytes) -> str:
    for number, _ in enumerate(webp_chunks(data)):
        if number > MAX_PARTS:
            return f"WebP of more than {MAX_PARTS:,} chunks"
    return ""


def _tiff(data: bytes) -> str:
    tiff = Tiff(data)
    entries = list(tiff.entries(tiff.first))
    sides = {entry.tag: entry.value for entry in entries if entry.tag in (_TILE_WIDTH, _TILE_LENGTH)}
    if math.prod(sides.values()) > MAX_TILE_PIXELS:
        return f"TIFF tiles of {sides.get(_TILE_WIDTH)}x{sides.get(_TILE_LENGTH)} pixels"
    return _too_many_values(entries)


def _too_many_values(entries: Iterable[TiffEntry]) -> str:
    for entry in entries:
        if entry.kind not in _ONE_BYTE and entry.values > MAX_TAG_VALUES:
            return f"{entry.values:,} {_STRIPS.get(entry.tag, f'values of tag {entry.tag}')}"
    return ""


def _bmp(data: bytes) -> str:
    size, width, height = struct.unpack_from("<Iii", data, 14)
    if size < 40 or struct.unpack_from("<I", data, 30)[0] not in (1, 2):
        return ""
    large = abs(width * height) > MAX_RLE or len(data) > MAX_RLE
    return f"run-length-coded BMP of {width}x{abs(height)} in {len(data):,} bytes" if large else ""


def _jpeg2000(data: bytes) -> str:
    """The packets by the main header (ISO/IEC 15444-1, A.5 and A.6), precincts counted over the whole image."""
    at = data.find(b"\xff\x4f\xff\x51") + 4
    x1, y1, x0, y0, tile_width, tile_height, *_, components = struct.unpack_from(">8IH", data, at + 4)
    width, height = x1 - x0, y1 - y0
    tiles = math.ceil(x1 / max(1, tile_width)) * math.ceil(y1 / max(1, tile_height))
    at += struct.unpack_from(">H", data, at)[0]
    for _ in range(MAX_FRAMES):
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == 0xFF90:  # the first tile
            break
        if marker == 0xFF52:
            style, _, layers, _, levels = struct.unpack_from(">BBHBB", data, at + 4)
            precincts = 0
            for level in range(min(levels, 32) + 1):
                exponents = data[at + 14 + level] if style & 1 else 0xFF
                scale = 1 << (min(levels, 32) - level)
                across = math.ceil(width / scale / (1 << (exponents & 15)))
                precincts += max(tiles, across * math.ceil(height / scale / (1 << (exponents >> 4))))
            packets = layers * components * precincts
            if packets > MAX_PACKETS:
                return f"JPEG 2000 of {packets:,} packets ({tiles:,} tiles, {layers:,} layers, {levels} levels)"
        at += 2 + length
    return ""


_CHECKS: Final[dict[str, Callable[[bytes], str]]] = {
    "jpeg": _jpeg, "png": _png, "gif": _gif, "webp": _webp, "tiff": _tiff, "bmp": _bmp, "jpeg2000": _jpeg2000,
}  # fmt: skip
