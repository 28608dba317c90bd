"""img2dataset's resizer behind ours: the same bytes for plain images, upright for the others."""

import io
import struct
import time
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.images import inspect
from mmcorpus.curation.download.resize import UprightResizer, import_resizer
from tests.curation.download.conftest import UPRIGHT, corners, encoded, picture, rotated
from tests.filters.hostile import HEIC, chunk, jpeg_of_scans, photo, png_with

import_resizer()


def resize(data: bytes, **options: Any) -> tuple[tuple[Any, ...], dict[str, Any]]:
    facts: dict[str, Any] = {}
    return UprightResizer(DownloadConfig(**options))(data, "image/jpeg", facts), facts


def opened(data: bytes) -> Image.Image:
    return Image.open(io.BytesIO(data))


MODES = ["no", "keep_ratio", "keep_ratio_largest", "center_crop", "border"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("only_if_bigger", [True, False])
@pytest.mark.parametrize("encode_format", ["jpg", "png", "webp"])
def test_plain_images_come_out_as_bare_img2dataset_stores_them(
    mode: str, only_if_bigger: bool, encode_format: str
) -> None:
    from img2dataset.resizer import Resizer

    options: dict[str, Any] = {
        "image_size": 50,
        "resize_mode": mode,
        "resize_only_if_bigger": only_if_bigger,
        "encode_format": encode_format,
        "encode_quality": 9 if encode_format == "png" else 90,
    }
    for data in (
        encoded(picture(60, 40)),
        encoded(picture(30, 20)),
        encoded(picture(60, 40).convert("L")),
        encoded(picture(), "PNG"),
        encoded(picture(), "WEBP"),
    ):
        assert resize(data, **options)[0] == Resizer(**options)(io.BytesIO(data))


@pytest.mark.parametrize(
    ("mode", "size"),
    [("no", (60, 40)), ("keep_ratio", (75, 50)), ("keep_ratio_largest", (50, 33)), ("center_crop", (50, 50)),
     ("border", (50, 50))],
)  # fmt: skip
def test_modes_by_their_sizes(mode: str, size: tuple[int, int]) -> None:
    (image, width, height, original_width, original_height, error), _ = resize(
        encoded(picture()), image_size=50, resize_mode=mode, resize_only_if_bigger=False
    )
    assert error is None
    assert opened(image).size == (width, height) == size
    assert (original_width, original_height) == (60, 40)


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_border_is_white(mode: str) -> None:
    (image, *_), _ = resize(
        encoded(Image.new("RGB", (80, 20)).convert(mode)), image_size=80, resize_mode="border", encode_format="png",
        encode_quality=1, resize_only_if_bigger=False,
    )  # fmt: skip
    pixels = np.asarray(opened(image).convert("RGB"))
    assert pixels.shape == (80, 80, 3)
    assert pixels[2].min() == 255
    assert pixels[40].max() < 10


ODD = {
    **{f"jpeg orientation {n}": rotated(n) for n in range(2, 9)},
    "png orientation 6": rotated(6, "PNG"),
    "webp orientation 8": rotated(8, "WEBP"),
    "tiff orientation 6": rotated(6, "TIFF"),
    "cmyk": encoded(picture().convert("CMYK")),
    "palette": encoded(picture().convert("P"), "PNG"),
    "alpha": encoded(picture().convert("RGBA"), "PNG"),
    "gif": encoded(picture(), "GIF"),
    "animation": encoded(picture(), "GIF", save_all=True, append_images=[Image.new("RGB", (60, 40))]),
    "bmp": encoded(picture(), "BMP"),
    "jpeg2000": encoded(picture(), "JPEG2000"),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("kind", ["re-encoded", "skip_reencode", "disable_all_reencoding"])
def test_odd_images_are_stored_upright(name: str, kind: str) -> None:
    options = {} if kind == "re-encoded" else {kind: True}
    (image, width, height, original_width, original_height, error), facts = resize(ODD[name], **options)
    assert error is None
    stored = opened(image)
    assert stored.getexif().get(0x0112, 1) == 1
    assert stored.size == (width, height) == (original_width, original_height) == (60, 40)
    assert corners(np.asarray(stored.convert("RGB"))) == UPRIGHT
    arrives = kind == "disable_all_reencoding" and "orientation" not in name and name != "jpeg2000"
    assert (image == ODD[name]) == arrives
    as_arrived = {"gif": "gif", "animation": "gif", "bmp": "bmp", "palette": "png", "alpha": "png"}
    assert facts["extension"] == (as_arrived.get(name, "jpg") if arrives else "jpg")


def test_skip_reencode_keeps_the_bytes_of_upright_images_of_the_format() -> None:
    data = encoded(picture(), quality=70)
    assert resize(data, skip_reencode=True)[0][0] == data
    assert resize(data, skip_reencode=True, image_size=30)[0][0] != data
    assert resize(encoded(picture(), "PNG"), skip_reencode=True)[0][0][:2] == b"\xff\xd8"


def test_sixteen_bits_do_not_wrap() -> None:
    ramp = Image.fromarray(np.linspace(0, 65535, 2400).reshape(40, 60).astype(np.uint16))
    (image, *_, error), facts = resize(encoded(ramp, "PNG"))
    assert error is None
    pixels = np.asarray(opened(image).convert("L")).astype(int)
    assert pixels[0].mean() < 10
    assert pixels[-1].mean() > 245
    assert facts["original_mode"] == "I;16"


def test_facts_are_recorded() -> None:
    clear = picture().convert("RGBA")
    clear.putpixel((5, 5), (0, 0, 0, 0))
    for options in ({}, {"disable_all_reencoding": True}):
        assert resize(encoded(clear, "PNG"), **options)[1]["has_alpha"] is True
        _, facts = resize(rotated(6), **options)
        assert facts == {
            "extension": "jpg", "original_format": "jpeg", "original_mode": "RGB", "frames": 1, "orientation": 6,
            "has_alpha": False,
        }  # fmt: skip


@pytest.mark.parametrize("options", [{}, {"disable_all_reencoding": True}], ids=["re-encoded", "as arrived"])
@pytest.mark.parametrize(
    ("limit", "message"),
    [
        ({"min_image_size": 41}, "too_small: 60x40"),
        ({"max_image_area": 2399}, "too_large: 60x40"),
        ({"max_aspect_ratio": 1.4}, "aspect_ratio: 60x40"),
        ({"max_pixels": 2399}, "too_many_pixels: 60x40"),
    ],
)
def test_limits(options: dict[str, Any], limit: dict[str, Any], message: str) -> None:
    for data in (encoded(picture()), rotated(6)):
        assert resize(data, **options, **limit)[0] == (None, None, None, None, None, message) or (
            "pixels" in message and "too_many_pixels: 40x60" in str(resize(data, **options, **limit)[0])
        )


@pytest.mark.parametrize("options", [{}, {"disable_all_reencoding": True}], ids=["re-encoded", "as arrived"])
@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"<html></html>", "not_an_image: html"),
        (encoded(picture(400, 300))[:-2000], "truncated"),
        (encoded(picture(400, 300), "PNG")[:-300], "truncated"),
        (encoded(picture(400, 300), "WEBP")[:-200], "truncated"),
    ],
    ids=["html", "jpeg", "png", "webp"],
)
def test_bad_files_fail_with_their_code(options: dict[str, Any], data: bytes, code: str) -> None:
    assert str(resize(data, **options)[0][5]).startswith(code)


def test_a_jpeg_with_rubbish_behind_it_is_whole() -> None:
    assert resize(encoded(picture()) + b"rubbish")[0][5] is None


@pytest.mark.parametrize("mode", ["keep_ratio", "center_crop"])
@pytest.mark.parametrize("size", [(1, 1500), (20_000, 1), (2, 3000)])
def test_enlarging_is_bounded_before_it_starts(mode: str, size: tuple[int, int]) -> None:
    data = encoded(Image.new("RGB", size), "PNG")
    error = resize(data, resize_mode=mode, resize_only_if_bigger=False)[0][5]
    scale = 512 // min(size)
    assert error == f"too_many_pixels: {size[0]}x{size[1]}; resized it would be {size[0] * scale}x{size[1] * scale}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("only_if_bigger", [True, False])
@pytest.mark.parametrize("size", [(1, 20_000), (20_000, 1), (3, 150), (1, 1), (700, 3), (513, 512)])
def test_sizes_are_foreseen(mode: str, only_if_bigger: bool, size: tuple[int, int]) -> None:
    config = DownloadConfig(resize_mode=mode, resize_only_if_bigger=only_if_bigger, max_pixels=20_000_000)
    width, height = UprightResizer(config)._scaled(*size)
    result = UprightResizer(config)(encoded(Image.new("RGB", size), "PNG"), "", {})
    if width * height > 20_000_000:
        assert str(result[5]).startswith("too_many_pixels")
    else:
        assert result[5] is None
        if mode not in ("center_crop", "border"):
            assert result[1:3] == (width, height)


@pytest.mark.parametrize(("form", "quality", "limit"), [("jpg", 90, 65_500), ("webp", 90, 16_383)])
def test_sides_that_a_format_cannot_store(form: str, quality: int, limit: int) -> None:
    options = {"resize_mode": "no", "encode_format": form, "encode_quality": quality}
    assert resize(encoded(Image.new("RGB", (limit, 2)), "PNG"), **options)[0][5] is None
    error = resize(encoded(Image.new("RGB", (limit + 1, 2)), "PNG"), **options)[0][5]
    assert error == f"too_large: {limit + 1}x2; a side of a {form} is at most {limit}"


def test_a_side_that_opencv_does_not_read() -> None:
    error = resize(encoded(Image.new("L", (1 << 21, 1)), "PNG"))[0][5]
    assert error == "too_large: 2097152x1; a side is at most 1048576"


def test_a_jpeg_of_many_scans_is_refused_at_once() -> None:
    assert resize(jpeg_of_scans(2000, 9000))[0][5] == "undecodable: JPEG of more than 100 scans"
    kept, _ = resize(jpeg_of_scans(2000, 9000), disable_all_reencoding=True)
    assert kept[5] == "undecodable: JPEG of more than 100 scans"


@pytest.mark.parametrize("where", ["before", "behind"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_metadata_never_costs_a_png(where: str, mode: str) -> None:
    image = np.asarray(Image.fromarray(photo()).convert(mode))
    text = b"workflow\0\0" + zlib.compress(bytes(3_000_000))
    for extra in (chunk(b"zTXt", text), chunk(b"tEXt", b"a\0b", wrong=True)):
        data = png_with(extra, image=image, where=where)
        (stored, *_, error), facts = resize(data, resize_mode="no", encode_format="png", encode_quality=1)
        assert error is None
        assert facts["original_format"] == "png"
        assert np.array_equal(np.asarray(opened(stored).convert(mode)), image)
        assert resize(data, disable_all_reencoding=True)[0][0] == data


def test_a_png_that_unpacks_to_gigabytes_beyond_its_pixels() -> None:
    packer = zlib.compressobj(9)
    first = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    again = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 20, 10, 8, 2, 0, 0, 0))
    bomb = b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", first + again * 8000) + chunk(b"IEND", b"")
    start = time.process_time()
    result, _ = resize(bomb)
    assert time.process_time() - start < 2
    assert result[1:] == (20, 10, 20, 10, None)
    assert inspect(png_with(image=photo(1200, 900)), 10**7).plain


@pytest.mark.parametrize("options", [{}, {"disable_all_reencoding": True}], ids=["re-encoded", "as arrived"])
def test_a_damaged_png_chunk_is_named(options: dict[str, Any]) -> None:
    data = bytearray(png_with())
    at = data.index(b"IDAT")
    data[at + 30 : at + 60] = bytes(30)
    error = str(resize(bytes(data), **options)[0][5])
    assert error.startswith(f"undecodable: PNG chunk IDAT at byte {at - 4} has a wrong checksum")


def test_formats_are_named_by_their_bytes_whatever_the_server_says() -> None:
    assert resize(b"\0\0\1\0\1\0" + bytes(40))[0][5] == "unsupported: ICO"
    assert resize(b"8BPS\0\1" + bytes(40))[0][5] == "unsupported: PSD"


def test_a_heic_is_stored_upright_whatever_the_server_says() -> None:
    (stored, width, height, *_, error), facts = resize(HEIC["turned"], encode_format="png", encode_quality=1)
    assert (error, width, height, facts["original_format"], facts["orientation"]) == (None, 24, 16, "heic", 1)
    assert np.abs(np.asarray(opened(stored)).astype(int)[2, 2] - (250, 0, 0)).max() < 5
