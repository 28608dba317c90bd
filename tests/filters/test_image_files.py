"""Walking image files by their parts."""

import io
import struct
import time

import pytest
from PIL import Image

from mmcorpus.filters import image_files
from mmcorpus.filters.image_files import Tiff, TooManyParts, gif_frames, jpeg_segments, png_chunks, png_damage
from tests.filters.hostile import encode, jpeg_with, photo, png_with, segment


def gif(frames: int, comment: bytes = b"") -> bytes:
    drawn = [Image.new("RGB", (9, 7), (number, 99, 200)) for number in range(frames)]
    return encode(drawn[0], "GIF", save_all=True, append_images=drawn[1:], comment=comment)


def test_a_thumbnail_in_a_jpeg_is_not_walked() -> None:
    thumbnail = encode(photo(16, 16), "JPEG", progressive=True)
    markers = [marker for marker, _, _ in jpeg_segments(jpeg_with(segment(0xE1, b"Exif\0\0" + thumbnail)))]
    assert markers.count(0xDA) == 1
    assert markers == [0xE1, 0xE0, 0xDB, 0xDB, 0xC0, 0xC4, 0xC4, 0xC4, 0xC4, 0xDA]


def test_filling_and_rubbish_between_jpeg_segments() -> None:
    data = encode(photo(), "JPEG")
    padded = data[:2] + b"junk" + b"\xff\xff\xff" + data[2:]
    assert [found[0] for found in jpeg_segments(padded)] == [found[0] for found in jpeg_segments(data)]


def test_png_chunks_and_damage() -> None:
    data = png_with()
    assert [chunk.kind for chunk in png_chunks(data)] == [b"IHDR", b"IDAT", b"IEND"]
    assert png_damage(data) == ""
    at = data.index(b"IDAT")
    wrong = data[: at + 20] + b"?" + data[at + 21 :]
    assert png_damage(wrong) == f"PNG chunk IDAT at byte {at - 4} has a wrong checksum"
    assert png_damage(data[: at + 20]) == f"PNG chunk IDAT at byte {at - 4} is cut off"


def test_gif_frames_as_pillow_counts_them() -> None:
    data = gif(12, comment=b"x" * 700)
    assert gif_frames(data) == Image.open(io.BytesIO(data)).n_frames == 12
    assert gif_frames(data + b"rubbish") == 12
    assert gif_frames(data[:40]) <= 1


def test_a_gif_of_endless_comments_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_files, "MAX_BLOCKS", 1000)
    data = gif(1)
    at = data.index(b",")
    with pytest.raises(TooManyParts, match="before its first frame"):
        gif_frames(data[:at] + b"!\xfe" + b"\1x" * 1001 + b"\0" + data[at:])
    behind = data[:-1] + b"!\xfe" + b"\1x" * 1001 + b"\0;"
    assert gif_frames(behind) == 1


@pytest.mark.parametrize("big", [False, True])
def test_tiff_pages(big: bool) -> None:
    drawn = [Image.new("L", (9, 7), number) for number in range(3)]
    data = encode(drawn[0], "TIFF", save_all=True, append_images=drawn[1:], big_tiff=big)
    assert Tiff(data).pages() == Image.open(io.BytesIO(data)).n_frames == 3


def test_tiff_pages_in_a_loop_and_out_of_the_file() -> None:
    page = struct.pack("<HHHII", 1, 256, 3, 1, 9)
    assert Tiff(b"II*\0" + struct.pack("<I", 8) + page + struct.pack("<I", 8)).pages() == 1
    assert Tiff(b"II*\0" + struct.pack("<I", 8) + page + struct.pack("<I", 9_999_999)).pages() == 1
    assert Tiff(b"II*\0" + struct.pack("<I", 9_999_999)).pages() == 1


def test_tiff_pages_of_the_longest_chain_cost_little() -> None:
    """Overlapping directories of 65,535 entries each: a reader of all entries would look at 650 million."""
    body = bytearray(b"II*\0" + struct.pack("<I", 8))
    size, pages = 65_535 * 12, 12_000
    body += bytes(size + 64 * pages + 64)
    for number in range(pages):
        at = 8 + 6 * number
        struct.pack_into("<H", body, at, 65_535)
        struct.pack_into("<I", body, at + 2 + size, at + 6)
    start = time.process_time()
    assert Tiff(bytes(body)).pages() == image_files.MAX_FRAMES
    assert time.process_time() - start < 2
