"""What decoding costs is known before it starts."""

import struct
import time

import pytest

from mmcorpus.filters.bounds import MAX_SCANS, exif_refusal, refusal
from mmcorpus.filters.decode import DecodedImage, DecodeFailure, decode_image
from mmcorpus.filters.formats import PLUGINS, format_of
from tests.filters.hostile import encode, jpeg_of_scans, jpeg_with, photo, png_with, segment, tiff_with
from tests.linear import assert_linear


def refused(data: bytes) -> str:
    start = time.process_time()
    failure = decode_image(data, max_pixels=100_000_000)
    assert time.process_time() - start < 3
    assert isinstance(failure, DecodeFailure), "decoded"
    assert failure.reason == "undecodable"
    return failure.detail


@pytest.mark.parametrize("kind", sorted(PLUGINS))
def test_ordinary_files_are_within_bounds(kind: str) -> None:
    assert refusal(encode(photo(), PLUGINS[kind]), kind) == ""


@pytest.mark.parametrize("baseline", [False, True], ids=["progressive", "sequential"])
def test_scans_are_counted_before_decoding(baseline: bool) -> None:
    data = jpeg_of_scans(2000, 9000, baseline=baseline)
    assert refused(data) == f"JPEG of more than {MAX_SCANS} scans"
    assert "scans of 9000x9000: more than 2,000,000,000 pixels" in refused(jpeg_of_scans(50, 9000, baseline=baseline))
    assert refusal(jpeg_of_scans(80, 64, baseline=baseline), "jpeg") == ""


def test_scans_of_a_thumbnail_and_of_a_trailer_do_not_count() -> None:
    bomb = jpeg_of_scans(300, 64)
    assert refusal(jpeg_with(segment(0xE1, b"Exif\0\0" + bomb), progressive=True), "jpeg") == ""
    assert refusal(encode(photo(), "JPEG", progressive=True) + bomb, "jpeg") == ""
    assert refusal(encode(photo(), "JPEG") + bomb, "jpeg") == ""


def test_filling_bytes_hide_no_scan() -> None:
    data = jpeg_of_scans(2000, 9000).replace(b"\xff\xda", b"\xff\xff\xff\xda")
    assert refused(data) == f"JPEG of more than {MAX_SCANS} scans"


def test_a_marker_without_a_length_hides_no_scan() -> None:
    data = jpeg_of_scans(2000, 9000)
    at = data.index(b"\xff\xda", data.index(b"\xff\xda") + 2)
    assert refused(data[:at] + b"\xff\x01" + data[at:]) == f"JPEG of more than {MAX_SCANS} scans"


def test_counting_is_linear_in_the_file() -> None:
    start = encode(photo(), "JPEG", progressive=True)[:-2]
    assert_linear(
        lambda data: refusal(data, "jpeg"), lambda size: start + b"\xff\0ab" * (size // 4) + b"\xff\xd9", most=4_000_000
    )


@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (jpeg_with(segment(0xFE, b"") * 100_001), "JPEG of more than 100,000 segments"),
        (jpeg_with(segment(0xFE, b""), b"x" * 100_001), "JPEG of more than 100,000 bytes between its segments"),
        (jpeg_with(b"\xff" * 100_002), "JPEG of more than 100,000 bytes between its segments"),
        (jpeg_with(segment(0xE1, b"Exif\0\0") * 1001), "JPEG with 10,010 bytes of EXIF in 1,001 segments"),
        (png_with(struct.pack(">I4sI", 0, b"teSt", 0) * 100_001), "PNG of more than 100,000 chunks"),
        (tiff_with((273, 4, 1_000_000, 8)), "1,000,000 strips"),
        (tiff_with((324, 4, 1_000_000, 8)), "1,000,000 tiles"),
        (tiff_with((274, 5, 1_000_000, 8)), "1,000,000 values of tag 274"),
        (tiff_with((322, 4, 1, 60_000), (323, 4, 1, 60_000)), "TIFF tiles of 60000x60000 pixels"),
    ],
    ids=["segments", "stray bytes", "filling", "EXIF", "chunks", "strips", "tiles", "values", "tile"],
)
def test_many_parts_are_refused(data: bytes, detail: str) -> None:
    assert refused(data) == detail


@pytest.mark.parametrize("lines", [bytes(2), b"\1\1"], ids=["empty lines", "single pixels"])
def test_a_large_run_length_coded_bmp_is_refused(lines: bytes) -> None:
    header = struct.pack("<IiiHHIIiiII", 40, 9000, 9000, 1, 8, 1, 0, 0, 0, 256, 0)
    bmp = b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + 40 + 1024) + header + bytes(1024) + lines * 50_000
    assert refused(bmp).startswith("run-length-coded BMP of 9000x9000")


def test_jpeg2000_of_many_packets() -> None:
    data = bytearray(encode(photo(), "JPEG2000"))
    at = data.index(b"\xff\x52")
    struct.pack_into(">H", data, at + 6, 65_535)
    assert refusal(bytes(data), "jpeg2000") == ""
    size = data.index(b"\xff\x51")
    struct.pack_into(">I", data, size + 22, 2)
    struct.pack_into(">I", data, size + 26, 2)
    assert format_of(bytes(data)) == "jpeg2000"
    assert "packets" in refused(bytes(data))


def test_exif_of_millions_of_values_says_nothing() -> None:
    rows = struct.pack("<HHII", 274, 5, 8_000_000, 26)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + rows + bytes(4) + bytes(64)
    assert exif_refusal(exif) == "8,000,000 values of tag 274"
    image = decode_image(jpeg_with(segment(0xE1, exif)))
    assert isinstance(image, DecodedImage)
    assert image.orientation == 1
    assert exif_refusal(b"Exif\0\0" + bytes(2 << 20)).startswith("EXIF of 2,0")
