"""Odd image files come out upright, 8 bits, on white; bad ones say what is wrong."""

import io
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from mmcorpus.curation.download.images import BadImage, ImageInfo, inspect, is_whole, upright
from mmcorpus.filters.image_files import gif_frames
from tests.curation.download.conftest import UPRIGHT, corners, encoded, picture, rotated

PIXELS = 10_000_000


def both(data: bytes) -> tuple[ImageInfo, np.ndarray, bool]:
    info = inspect(data, PIXELS)
    pixels, has_alpha = upright(data, PIXELS)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (info.height, info.width, 3)
    return info, pixels, has_alpha


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_comes_out_upright(image_format: str, orientation: int) -> None:
    info, pixels, _ = both(rotated(orientation, image_format))
    assert (info.width, info.height, info.orientation) == (60, 40, orientation)
    assert corners(pixels) == UPRIGHT
    assert info.plain == (orientation == 1 and image_format != "TIFF")


def test_avif() -> None:
    info, pixels, _ = both(rotated(6, "AVIF"))
    assert (info.format, info.width, info.height) == ("avif", 60, 40)
    assert corners(pixels) == UPRIGHT


@pytest.mark.parametrize(
    ("data", "image_format", "mode"),
    [
        (encoded(picture()), "jpeg", "RGB"),
        (encoded(picture().convert("CMYK")), "jpeg", "CMYK"),
        (encoded(picture().convert("P"), "PNG"), "png", "P"),
        (encoded(picture().convert("P"), "GIF"), "gif", "P"),
        (encoded(picture(), "BMP"), "bmp", "RGB"),
        (encoded(picture(), "JPEG2000", quality_mode="rates", quality_layers=[1]), "jpeg2000", "RGB"),
        (encoded(picture(), "WEBP", lossless=True), "webp", "RGB"),
        (encoded(picture(), "MPO", save_all=True, append_images=[picture()]), "jpeg", "RGB"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_formats_and_modes(data: bytes, image_format: str, mode: str) -> None:
    info, pixels, has_alpha = both(data)
    assert (info.format, info.mode, info.frames, has_alpha) == (image_format, mode, 1, False)
    assert corners(pixels) == UPRIGHT


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 60 * 40).reshape(40, 60).astype(np.uint16)
    for image_format in ("PNG", "TIFF"):
        info, pixels, _ = both(encoded(Image.fromarray(ramp), image_format))
        assert info.mode == "I;16"
        assert not info.plain
        np.testing.assert_array_equal(pixels[:, :, 1], np.rint(ramp / 257.0))


def test_a_sixteen_bit_colour_png_is_not_plain() -> None:
    row = b"\0" + struct.pack(">3H", 65535, 0, 32768) * 4
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)),
        (b"IDAT", zlib.compress(row * 2)),
        (b"IEND", b""),
    ]
    body = (struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks)
    info, pixels, _ = both(b"\x89PNG\r\n\x1a\n" + b"".join(body))
    assert not info.plain
    assert pixels[0, 0].tolist() == [255, 0, 128]


def test_floats() -> None:
    for values, expected in (([0.0, 0.5, 1.0], [0, 128, 255]), ([0.0, 128.0, 300.0], [0, 109, 255])):
        image = Image.fromarray(np.array([values], np.float32))
        assert both(encoded(image, "TIFF"))[1][0, :, 0].tolist() == expected


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_is_laid_on_white_and_recorded(mode: str) -> None:
    clear = Image.new("RGBA", (8, 8), (0, 0, 0, 255))
    clear.putpixel((0, 0), (0, 0, 0, 0))
    if mode == "P":
        image = Image.new("P", (8, 8), 1)
        image.putpalette([9, 9, 9, 0, 0, 0])
        image.putpixel((0, 0), 0)
        data = encoded(image, "PNG", transparency=0)
    elif mode == "RGB":
        image = Image.new("RGB", (8, 8))
        image.putpixel((0, 0), (9, 9, 9))
        data = encoded(image, "PNG", transparency=(9, 9, 9))
    else:
        data = encoded(clear.convert(mode), "PNG")
    info, pixels, has_alpha = both(data)
    assert info.may_have_alpha
    assert not info.plain
    assert has_alpha
    assert pixels[0, 0].tolist() == [255, 255, 255]
    assert pixels[1, 1].tolist() == [0, 0, 0]


def test_an_opaque_alpha_channel_is_not_transparency() -> None:
    info, pixels, has_alpha = both(encoded(picture().convert("RGBA"), "PNG"))
    assert info.may_have_alpha
    assert not has_alpha
    assert corners(pixels) == UPRIGHT


@pytest.mark.parametrize("image_format", ["GIF", "WEBP", "PNG", "TIFF"])
def test_of_an_animation_the_first_frame_and_the_count(image_format: str) -> None:
    frames = [picture(seed=1), *(Image.new("RGB", (60, 40), (50 * i, 0, 0)) for i in range(1, 5))]
    data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:])
    info, pixels, _ = both(data)
    assert info.frames == 5
    assert corners(pixels) == UPRIGHT


def test_gif_frames_are_counted_as_pillow_counts_them() -> None:
    frames = [Image.new("P", (9, 7), i).convert("RGB") for i in range(12)]
    for i, frame in enumerate(frames):
        frame.putpixel((i % 9, 0), (i, 99, 200))
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], comment=b"x" * 700, loop=0)
    assert gif_frames(data) == Image.open(io.BytesIO(data)).n_frames == 12
    assert gif_frames(data[:40]) <= 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<!DOCTYPE html><html>404</html>", "not_an_image: html"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not_an_image: svg"),
        (b"%PDF-1.7", "not_an_image: pdf"),
        (b"no image at all", "not_an_image: sent as image/jpeg"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "not_an_image"),
        (b"\xff\xd8\xff\xe0", "undecodable"),
        (b"\x89PNG\r\n\x1a\nrubbish", "undecodable"),
        (encoded(picture())[:600], "truncated"),
        (encoded(picture(400, 300), "PNG")[:-200], "truncated"),
        (encoded(picture(4000, 3000)), "too_many_pixels: 4000x3000"),
    ],
)
def test_bad_files_say_what_is_wrong(data: bytes, code: str) -> None:
    def both_steps() -> None:
        inspect(data, PIXELS, "image/jpeg")
        upright(data, PIXELS)

    with pytest.raises(BadImage) as caught:
        both_steps()
    assert str(caught.value).startswith(code)


def test_a_bomb_is_refused_by_its_header() -> None:
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + struct.pack(">I", 13)
        + b"IHDR"
        + header
        + struct.pack(">I", zlib.crc32(b"IHDR" + header))
    )
    for limit in (10_000, 178_000_000):
        with pytest.raises(BadImage, match="too_many_pixels"):
            inspect(data + struct.pack(">I", 9) + b"IDAT" + bytes(100), limit)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP"])
def test_whole_files_end_as_their_format_says(image_format: str) -> None:
    data = encoded(picture(), image_format)
    assert is_whole(data, image_format.lower())
    assert not is_whole(data[:-10], image_format.lower())


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_damaged_bytes_give_pixels_or_a_bad_image_and_nothing_else(data: st.DataObject) -> None:
    image_format = data.draw(st.sampled_from(["JPEG", "PNG", "GIF", "TIFF", "WEBP", "BMP"]))
    exif = Image.Exif()
    exif[0x0112] = 6
    raw = bytearray(encoded(picture(16, 12), image_format, exif=exif))
    for _ in range(data.draw(st.integers(1, 6))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(raw[: data.draw(st.integers(1, len(raw)))])
    code = None
    try:
        inspect(cut, PIXELS)
        upright(cut, PIXELS)
    except BadImage as error:
        code = error.code
    assert code in {None, "not_an_image", "undecodable", "truncated", "too_many_pixels", "unsupported"}
