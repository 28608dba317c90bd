"""Image formats told by a file's first bytes, never by its name or by what a server calls it."""

import re
import struct
from typing import Final

PLUGINS: Final = {
    "avif": "AVIF", "bmp": "BMP", "gif": "GIF", "jpeg": "JPEG", "jpeg2000": "JPEG2000", "png": "PNG", "tiff": "TIFF",
    "webp": "WEBP",
}  # fmt: skip
"""The formats that Pillow decodes here, by its own names. Those that start a program (EPS) or hold other formats
(ICO, ICNS) are not among them."""

LIBRARIES: Final = {"heic": "pi-heif", "jxl": "pylibjxl"}
"""The formats that are decoded where a library is installed (the extra `images`)."""

NOT_IMAGES: Final = frozenset({"html", "svg", "pdf", "postscript", "video", "zip", "gzip"})
"""What arrives in an image's place; SVG and PostScript are programs that draw, not pixels."""

_SIGNATURES: Final = {
    "jpeg": (b"\xff\xd8\xff",),
    "png": (b"\x89PNG\r\n\x1a\n",),
    "gif": (b"GIF87a", b"GIF89a"),
    "jpeg2000": (b"\0\0\0\x0cjP  \r\n\x87\n", b"\xff\x4f\xff\x51"),
    "jxl": (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
    "jxr": (b"II\xbc\x01",),
    "tiff": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "ico": (b"\0\0\1\0",),
    "cur": (b"\0\0\2\0",),
    "icns": (b"icns",),
    "psd": (b"8BPS",),
    "dds": (b"DDS ",),
    "exr": (b"v/1\x01",),
    "hdr": (b"#?RADIANCE", b"#?RGBE"),
    "qoi": (b"qoif",),
    "bpg": (b"BPG\xfb",),
    "flif": (b"FLIF",),
    "xcf": (b"gimp xcf",),
    "djvu": (b"AT&TFORM",),
    "fits": (b"SIMPLE  =",),
    "emf": (b"\1\0\0\0X\0\0\0", b"\1\0\0\0l\0\0\0"),
    "wmf": (b"\xd7\xcd\xc6\x9a",),
    "sgi": (b"\x01\xda\0", b"\x01\xda\1"),
    "ras": (b"\x59\xa6\x6a\x95",),
    "xpm": (b"/* XPM */",),
    "pdf": (b"%PDF-",),
    "postscript": (b"%!PS", b"\xc5\xd0\xd3\xc6"),
    "zip": (b"PK\3\4",),
    "gzip": (b"\x1f\x8b\x08",),
    "video": (b"\x1aE\xdf\xa3", b"FLV\1"),
}
_PNM: Final = re.compile(rb"P[1-7]\s")
_BMP_HEADERS: Final = frozenset({12, 16, 40, 52, 56, 64, 108, 124})
_AVIF: Final = frozenset({b"avif", b"avis"})
_HEIC: Final = frozenset({b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1"})


def format_of(data: bytes) -> str:
    """The format by a file's first bytes, in lower case: `jpeg`, `heic`, `html`, …; empty where they tell none."""
    if data[4:8] == b"ftyp":
        return _by_brands(data)
    if data.startswith(b"RIFF"):
        return {b"WEBP": "webp", b"AVI ": "video"}.get(data[8:12], "")
    if data.startswith(b"BM"):
        return "bmp" if len(data) >= 18 and struct.unpack_from("<I", data, 14)[0] in _BMP_HEADERS else ""
    for name, starts in _SIGNATURES.items():
        if data.startswith(starts):
            return name
    if _PNM.match(data):
        return "pnm"
    start = data[:1024].lstrip().lower()
    if b"<svg" in start:
        return "svg"
    return "html" if b"<html" in start or start.startswith(b"<!doctype html") else ""


def _by_brands(data: bytes) -> str:
    """The format of an ISO base media file (ISO/IEC 14496-12, 4.3) by its major brand, else by the compatible ones."""
    size = min(struct.unpack_from(">I", data)[0], 512)
    for brands in ({data[8:12]} - {b"mif1", b"msf1"}, {data[at : at + 4] for at in range(8, size - 3, 4)}):
        if brands & _AVIF:
            return "avif"
        if brands & _HEIC:
            return "heic"
    return "raw" if data[8:12] == b"crx " else "video"
