"""Formats by their first bytes."""

import struct
import sys

import numpy as np
import pytest
from PIL import Image

from mmcorpus.filters import decode
from mmcorpus.filters.decode import DecodedImage, DecodeFailure, decode_image
from mmcorpus.filters.formats import LIBRARIES, PLUGINS, format_of
from tests.filters.hostile import HEIC, encode, photo


def ftyp(major: bytes, *compatible: bytes) -> bytes:
    return struct.pack(">I", 16 + 4 * len(compatible)) + b"ftyp" + major + bytes(4) + b"".join(compatible)


@pytest.mark.parametrize("kind", sorted(PLUGINS))
def test_what_pillow_writes_is_told(kind: str) -> None:
    assert format_of(encode(photo(), PLUGINS[kind])) == kind


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (ftyp(b"heic", b"mif1", b"heic"), "heic"),
        (ftyp(b"mif1", b"mif1", b"heix"), "heic"),
        (ftyp(b"mif1", b"avif", b"mif1"), "avif"),
        (ftyp(b"avis", b"avif", b"msf1"), "avif"),
        (ftyp(b"heic", b"avif", b"mif1"), "heic"),
        (ftyp(b"isom", b"mp42"), "video"),
        (ftyp(b"crx ", b"isom"), "raw"),
        (b"\xff\x0a\xfa\x1f", "jxl"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "jxl"),
        (b"\xff\x4f\xff\x51\0", "jpeg2000"),
        (b"\0\0\1\0\1\0", "ico"),
        (b"8BPS\0\1", "psd"),
        (b"P6\n2 2\n255\n", "pnm"),
        (b"P2 1 1 1 1", "pnm"),
        (b"%!PS-Adobe-3.0 EPSF-3.0", "postscript"),
        (b"\xc5\xd0\xd3\xc6\x1e", "postscript"),
        (b"%PDF-1.4", "pdf"),
        (b"<?xml version='1.0'?>\n<svg xmlns='x'/>", "svg"),
        (b"\n <!DOCTYPE html>", "html"),
        (b"BMW is a car", ""),
        (b"RIFF....WAVE", ""),
        (b"", ""),
        (b"P6", ""),
    ],
)
def test_first_bytes(data: bytes, kind: str) -> None:
    assert format_of(data) == kind


@pytest.mark.parametrize(
    ("data", "reason", "detail"),
    [
        (b"\0\0\1\0\1\0\x10\x10" + bytes(40), "unsupported", "ICO"),
        (b"icns" + bytes(40), "unsupported", "ICNS"),
        (b"P6\n2 2\n255\n" + bytes(12), "unsupported", "PNM"),
        (b"\xd7\xcd\xc6\x9a" + bytes(40), "unsupported", "WMF"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image", "postscript"),
        (b"%PDF-1.4\n", "not_an_image", "pdf"),
        (ftyp(b"isom", b"mp42") + bytes(40), "not_an_image", "video"),
    ],
)
def test_other_formats_are_named(data: bytes, reason: str, detail: str) -> None:
    failure = decode_image(data)
    assert isinstance(failure, DecodeFailure)
    assert (failure.reason, failure.detail.split(";")[0]) == (reason, detail)


def without_library(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    decode._opener.cache_clear()


@pytest.mark.parametrize("name", sorted(HEIC))
def test_heic_is_upright_once(name: str) -> None:
    image = decode_image(HEIC[name])
    assert isinstance(image, DecodedImage), image
    assert (image.format, image.orientation, image.pixels.shape) == ("heic", 1, (16, 24, 3))
    corners = image.pixels[[2, 2, -3, -3], [2, -3, 2, -3]].astype(int)
    assert np.abs(corners - [(250, 0, 0), (0, 250, 0), (0, 0, 250), (250, 250, 250)]).max() < 5


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_jpeg_xl(channels: int) -> None:
    import pylibjxl

    values = np.dstack([photo(), np.full((64, 96), 255, np.uint8)])[..., :channels]
    data = pylibjxl.encode(np.ascontiguousarray(values.squeeze()), lossless=True)
    image = decode_image(data)
    assert isinstance(image, DecodedImage), image
    assert (image.format, image.has_alpha) == ("jxl", False)
    assert np.array_equal(image.pixels, photo() if channels > 1 else np.repeat(values, 3, axis=2))


def test_jpeg_xl_is_upright_once() -> None:
    """Its orientation is in the codestream; what EXIF says is not to be applied (ISO/IEC 18181-2, 9.4)."""
    import pylibjxl

    exif = Image.Exif()
    exif[0x0112] = 6
    image = decode_image(pylibjxl.encode(photo(), lossless=True, exif=exif.tobytes()))
    assert isinstance(image, DecodedImage), image
    assert np.array_equal(image.pixels, photo())


@pytest.mark.parametrize(("module", "kind"), [("pi_heif.as_plugin", "heic"), ("pylibjxl.pillow_plugin", "jxl")])
def test_without_the_library_the_format_and_the_library_are_named(
    monkeypatch: pytest.MonkeyPatch, module: str, kind: str
) -> None:
    data = HEIC["upright"] if kind == "heic" else b"\xff\x0a" + bytes(20)
    without_library(monkeypatch, module)
    try:
        failure = decode_image(data)
    finally:
        decode._opener.cache_clear()
    assert isinstance(failure, DecodeFailure)
    assert (failure.reason, failure.detail) == ("unsupported", f"{kind.upper()}; {LIBRARIES[kind]} is not installed")


@pytest.mark.parametrize("cut", [50, -5])
def test_a_heic_that_ends_early(cut: int) -> None:
    failure = decode_image(HEIC["upright"][:cut])
    assert isinstance(failure, DecodeFailure)
    assert failure.reason == "truncated"


def test_pixels_of_a_heic_are_bounded_by_its_header() -> None:
    failure = decode_image(HEIC["upright"], max_pixels=24 * 16 - 1)
    assert failure == DecodeFailure(reason="too_many_pixels", detail="24x16")
