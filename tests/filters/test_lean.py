"""Files that are read once their metadata is left out."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mmcorpus.filters.decode import DecodedImage, DecodeFailure, decode_image
from mmcorpus.filters.lean import without_metadata
from tests.filters.hostile import chunk, encode, jpeg_with, photo, png_with, segment

PACKED = zlib.compress(bytes(3_000_000), 9)
PNG_METADATA = {
    "large zTXt": chunk(b"zTXt", b"workflow\0\0" + PACKED),
    "large iTXt": chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + PACKED),
    "large iCCP": chunk(b"iCCP", b"icc\0\0" + PACKED),
    "tEXt with a wrong checksum": chunk(b"tEXt", b"Title\0a", wrong=True),
    "broken iCCP": chunk(b"iCCP", b"icc\0\0rubbish"),
    "iCCP of an unknown method": chunk(b"iCCP", b"icc\0\7rubbish"),
    "broken zTXt": chunk(b"zTXt", b"a\0\0rubbish"),
    "empty iTXt": chunk(b"iTXt", b""),
    "broken eXIf": chunk(b"eXIf", b"MM\0*\xff\xff\xff\xffrubbish"),
    "eXIf with a wrong checksum": chunk(b"eXIf", b"MM\0*\0\0\0\x08\0\0", wrong=True),
    "unknown with a wrong checksum": chunk(b"prVt", b"x" * 99, wrong=True),
    "short gAMA": chunk(b"gAMA", b"\0"),
    "short pHYs": chunk(b"pHYs", b"\0"),
    "short acTL": chunk(b"acTL", b"\0"),
    "short cHRM": chunk(b"cHRM", b"\0\0\0"),
    "short tRNS": chunk(b"tRNS", b"\0\1"),
    "empty tRNS": chunk(b"tRNS", b""),
    "letters of no alphabet": chunk(b"a\xffBc", b"x"),
}


def pixels(data: bytes) -> np.ndarray:
    image = decode_image(data)
    assert isinstance(image, DecodedImage), image
    assert image.nbytes == len(data)
    return image.pixels


@pytest.mark.parametrize("where", ["before", "behind"])
@pytest.mark.parametrize("name", PNG_METADATA)
def test_png_metadata_never_costs_the_image(name: str, where: str) -> None:
    assert np.array_equal(pixels(png_with(PNG_METADATA[name], where=where)), photo())


def test_png_ends() -> None:
    data = png_with()
    assert np.array_equal(pixels(data[:-12]), photo()), "no IEND"
    assert np.array_equal(pixels(data + b"rubbish" * 99), photo())
    assert np.array_equal(pixels(png_with(PNG_METADATA["large zTXt"])[:-12]), photo())


def test_png_pixels_in_pieces_with_metadata_between() -> None:
    whole = png_with()
    at = whole.index(b"IDAT") + 4
    content = whole[at:-16]
    pieces = chunk(b"IDAT", content[:99]) + chunk(b"tEXt", b"a\0b", wrong=True) + chunk(b"IDAT", content[99:])
    assert np.array_equal(pixels(whole[: at - 8] + pieces + whole[-12:]), photo())


def test_png_transparency_and_orientation_are_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    clear = Image.fromarray(photo()).quantize(8)
    data = encode(clear, "PNG", transparency=0, exif=exif)
    at = data.index(b"PLTE") - 4
    damaged = data[:at] + PNG_METADATA["large zTXt"] + data[at:]
    image, ordinary = decode_image(damaged), decode_image(data)
    assert isinstance(image, DecodedImage)
    assert isinstance(ordinary, DecodedImage)
    assert (image.orientation, image.has_alpha, image.pixels.shape) == (6, True, (96, 64, 3))
    assert np.array_equal(image.pixels, ordinary.pixels)


def test_png_damage_where_the_pixels_are_is_named() -> None:
    data = bytearray(png_with())
    at = data.index(b"IDAT")
    data[at + 30 : at + 60] = bytes(30)
    failure = decode_image(bytes(data))
    assert isinstance(failure, DecodeFailure)
    assert failure.reason == "undecodable"
    assert f"PNG chunk IDAT at byte {at - 4} has a wrong checksum" in failure.detail
    header = bytearray(png_with())
    header[20] ^= 1
    failure = decode_image(bytes(header))
    assert isinstance(failure, DecodeFailure)
    assert "PNG chunk IHDR at byte 8 has a wrong checksum" in failure.detail


JPEG_METADATA = {
    "broken EXIF": segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xffrubbish"),
    "a thousand APP13": segment(0xED, b"x" * 999) * 1000,
    "megabytes of APP2": segment(0xE2, b"ICC_PROFILE\0" + bytes(65_000)) * 60,
    "megabytes of EXIF": segment(0xE1, b"Exif\0\0" + bytes(65_000)) * 100,
    "broken Photoshop": segment(0xED, b"Photoshop 3.0\0008BIM"),
    "broken MPF": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\3\0" + b"\xff" * 40),
    "MPF of no entries": segment(0xE2, b"MPF\0II*\0\x08\0\0\0\0\0" + bytes(4)),
    "short Adobe": segment(0xEE, b"Adobe"),
    "short JFIF": segment(0xE0, b"JFIF"),
    "a reserved marker": segment(0x4F, b"x" * 30),
    "a length of nothing": b"\xff\xe5\0\0",
    "an empty comment": segment(0xFE, b""),
}


@pytest.mark.parametrize("name", JPEG_METADATA)
def test_jpeg_metadata_never_costs_the_image(name: str) -> None:
    assert np.array_equal(pixels(jpeg_with(JPEG_METADATA[name])), pixels(jpeg_with()))


def test_jpeg_adobe_and_orientation_are_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(Image.fromarray(photo()).convert("CMYK"), "JPEG", exif=exif)
    assert b"Adobe" in data
    bad = JPEG_METADATA["a reserved marker"]
    assert np.array_equal(pixels(data[:2] + bad + data[2:]), pixels(data))
    assert pixels(data).shape == (96, 64, 3)


@pytest.mark.parametrize("lossless", [False, True])
@pytest.mark.parametrize("alpha", [False, True])
def test_webp_metadata_never_costs_the_image(lossless: bool, alpha: bool) -> None:
    image = Image.fromarray(photo())
    if alpha:
        image.putalpha(Image.linear_gradient("L").resize(image.size))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(image, "WEBP", lossless=lossless, exif=exif, icc_profile=b"x" * 200, xmp=b"y" * 300)
    xmp = data.index(b"XMP ")
    for damaged in (
        data[: xmp + 4] + struct.pack("<I", 1 << 30) + data[xmp + 8 :],
        data[:xmp] + b"odd?" + struct.pack("<I", 70_000) + b"z",
        data[: xmp + 100],
    ):
        assert np.array_equal(pixels(damaged), pixels(data))
    assert pixels(data).shape == (96, 64, 3)


def test_a_gif_with_rubbish_behind_it() -> None:
    data = encode(photo(), "GIF")
    assert np.array_equal(pixels(data + b"rubbish" * 999), pixels(data))
    assert np.array_equal(pixels(data[:-1]), pixels(data)), "no trailer"


def test_nothing_to_leave_out() -> None:
    assert without_metadata(png_with(), "png") is None
    assert without_metadata(encode(photo(), "GIF"), "gif") is None
    assert without_metadata(b"\x89PNG", "png") is not None
