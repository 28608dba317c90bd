"""Decoding: exact pixels of every odd kind of file, and a reason for every broken one."""

import io
import threading
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from mmcorpus.filters.decode import DecodedImage, DecodeFailure, decode_image


def photo(width: int = 96, height: int = 64) -> np.ndarray:
    rng = np.random.default_rng(3)
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def encode(image: Image.Image | np.ndarray, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes, **options: Any) -> DecodedImage:
    image = decode_image(data, **options)
    assert isinstance(image, DecodedImage), image
    assert image.pixels.dtype == np.uint8
    assert image.pixels.shape == (image.height, image.width, 3)
    return image


def animation(kind: str) -> bytes:
    frames = [Image.fromarray(np.roll(photo(), 9 * turn, axis=1)) for turn in range(4)]
    return encode(frames[0], kind, save_all=True, append_images=frames[1:])


FILES = {
    "jpeg": encode(photo(), "JPEG"),
    "progressive": encode(photo(), "JPEG", progressive=True),
    "cmyk": encode(Image.fromarray(photo()).convert("CMYK"), "JPEG"),
    "png": encode(photo(), "PNG"),
    "palette": encode(Image.fromarray(photo()).quantize(32), "PNG"),
    "grey16": encode(photo()[..., 0].astype(np.uint16) * 257, "PNG"),
    "gif": encode(photo(), "GIF"),
    "webp": encode(photo(), "WEBP"),
    "bmp": encode(photo(), "BMP"),
    "tiff": encode(photo(), "TIFF", compression="tiff_lzw"),
    "avif": encode(photo(), "AVIF"),
    "jpeg2000": encode(photo(), "JPEG2000"),
    "animated gif": animation("GIF"),
    "animated png": animation("PNG"),
    "animated webp": animation("WEBP"),
}


@pytest.mark.parametrize("kind", FILES)
def test_every_format_decodes(kind: str) -> None:
    image = decoded(FILES[kind])
    assert (image.width, image.height) == (96, 64)
    assert image.nbytes == len(FILES[kind])
    assert image.frames == (4 if "animated" in kind else 1)
    assert image.orientation == 1
    assert not image.has_alpha


def test_lossless_pixels_and_names_are_exact() -> None:
    for kind, form in (("png", "png"), ("bmp", "bmp"), ("tiff", "tiff"), ("animated png", "png")):
        image = decoded(FILES[kind])
        assert np.array_equal(image.pixels, photo())
        assert image.format == form
    assert decoded(FILES["cmyk"]).mode == "CMYK"
    assert decoded(FILES["palette"]).mode == "P"
    assert decoded(FILES["jpeg"]).format == "jpeg"


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("tenths", range(10))
def test_a_truncated_file_is_a_failure_or_whole(kind: str, tenths: int) -> None:
    data = FILES[kind]
    image = decode_image(data[: len(data) * tenths // 10])
    if isinstance(image, DecodeFailure):
        assert image.reason == ("empty" if tenths == 0 else "truncated")
    else:  # the first frame of an animation may lie before the cut
        assert "animated" in kind
        assert np.array_equal(image.pixels, decoded(data).pixels)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_orientation_is_undone(orientation: int, kind: str) -> None:
    upright = np.zeros((48, 32, 3), np.uint8)
    upright[:24, :16] = (250, 0, 0)
    upright[:24, 16:] = (0, 250, 0)
    upright[24:, :16] = (0, 0, 250)
    stored_as = {
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }
    stored = np.ascontiguousarray(stored_as.get(orientation, upright))
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decoded(encode(stored, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {})))
    assert image.pixels.shape == upright.shape
    assert np.abs(image.pixels.astype(int) - upright).mean() < 6
    assert image.orientation == orientation


def test_a_broken_exif_block_does_not_cost_the_image() -> None:
    image = decoded(encode(photo(), "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff rubbish"))
    assert image.orientation == 1


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    values = np.array([[0, 257, 32896, 65535], [128, 129, 65406, 65407]], np.uint16)
    image = decoded(encode(values, "PNG"))
    assert image.mode == "I;16"
    assert image.pixels[..., 0].tolist() == [[0, 1, 128, 255], [0, 1, 254, 255]]
    assert np.array_equal(image.pixels[..., 0], image.pixels[..., 2])


def test_wide_values_without_a_range_are_stretched() -> None:
    integers = np.array([[-100_000, 0, 100_000]], np.int32)
    assert decoded(encode(integers, "TIFF")).pixels[0, :, 0].tolist() == [0, 128, 255]
    shares = np.array([[0.0, 0.5, 1.0, np.nan]], np.float32)
    assert decoded(encode(shares, "TIFF")).pixels[0, :, 0].tolist() == [0, 128, 255, 0]


def test_cmyk_becomes_rgb() -> None:
    cmyk = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    red = decoded(encode(cmyk, "JPEG", quality=95)).pixels.reshape(-1, 3).mean(0)
    assert red[0] > 240
    assert red[1] < 15
    assert red[2] < 15


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "RGB"])
def test_transparency_is_composited_on_white(mode: str) -> None:
    if mode == "RGBA":
        file = encode(Image.new("RGBA", (4, 4), (255, 0, 0, 51)), "PNG")
        expected, has_alpha = [255, 204, 204], True
    elif mode == "LA":
        file = encode(Image.new("LA", (4, 4), (0, 0)), "PNG")
        expected, has_alpha = [255, 255, 255], True
    elif mode == "P":
        image = Image.new("P", (4, 4), 1)
        image.putpalette([0, 0, 0, 9, 8, 7])
        file = encode(image, "PNG", transparency=1)
        expected, has_alpha = [255, 255, 255], True
    else:
        file = encode(Image.new("RGB", (4, 4), (1, 2, 3)), "PNG", transparency=(9, 9, 9))
        expected, has_alpha = [1, 2, 3], False
    image = decoded(file)
    assert image.pixels[0, 0].tolist() == expected
    assert image.has_alpha is has_alpha


def test_an_opaque_alpha_channel_is_no_transparency() -> None:
    image = decoded(encode(Image.fromarray(photo()).convert("RGBA"), "PNG"))
    assert not image.has_alpha
    assert np.array_equal(image.pixels, photo())


def chunk(name: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + name + data + zlib.crc32(name + data).to_bytes(4, "big")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 30_000])
def test_the_size_is_checked_before_anything_is_decompressed(side: int) -> None:
    size = side.to_bytes(4, "big") * 2
    rows = zlib.compress(bytes(1_000_000))
    bomb = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", size + bytes([8, 2, 0, 0, 0]))
        + chunk(b"IDAT", rows)
        + chunk(b"IEND", b"")
    )
    failure = decode_image(bomb)
    assert isinstance(failure, DecodeFailure)
    assert failure.reason == "too_many_pixels"


def test_the_limit_is_exact() -> None:
    assert isinstance(decode_image(FILES["png"], max_pixels=96 * 64), DecodedImage)
    small = decode_image(FILES["png"], max_pixels=96 * 64 - 1)
    assert isinstance(small, DecodeFailure)
    assert small.reason == "too_many_pixels"
    assert "96x64" in small.detail


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty"),
        (b"<!doctype html><html><body>404", "not_an_image"),
        (b"hello", "not_an_image"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not_an_image"),
        (b"\xff\xd8\xff\xe0" + b"\0" * 200 + b"\xff\xd9", "undecodable"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 50 + b"IEND\xaeB`\x82", "undecodable"),
    ],
)
def test_reasons(data: bytes, reason: str) -> None:
    failure = decode_image(data)
    assert isinstance(failure, DecodeFailure)
    assert failure.reason == reason


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(sorted(FILES)), st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=8)
)
def test_damage_never_raises(kind: str, damage: list[tuple[float, int]]) -> None:
    data = bytearray(FILES[kind])
    for place, value in damage:
        data[int(place * (len(data) - 1))] = value
    image = decode_image(bytes(data), max_pixels=1_000_000)
    assert isinstance(image, DecodedImage | DecodeFailure)


def test_many_threads_agree() -> None:
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(decoded(FILES["jpeg"]).pixels)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(np.array_equal(result, results[0]) for result in results)


def test_nothing_global_changes() -> None:
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    decode_image(FILES["jpeg"], max_pixels=10)
    decode_image(FILES["jpeg"][:500])
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)
