"""The fingerprint is near for copies and far for other pictures."""

import io

import numpy as np
from PIL import Image

from mmcorpus.curation.synthetic.render import render
from mmcorpus.filters import SCORERS, decode_image
from mmcorpus.filters.fingerprint import dct_hash


def judge(images: list[Image.Image], quality: int = 90) -> list[tuple[int, np.ndarray]]:
    decoded = []
    for image in images:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=quality)
        decoded.append(decode_image(buffer.getvalue()))
    columns = SCORERS["fingerprint"]().load()({"image": decoded})
    pairs = zip(columns["dct"], columns["color"], strict=True)
    return [(int(dct, 16), np.frombuffer(bytes.fromhex(color), np.uint8).astype(int)) for dct, color in pairs]


def test_copies_are_near_and_others_far() -> None:
    images = [render("table", seed).image for seed in range(10)]
    fine, coarse = judge(images), judge([image.resize((image.width // 2, image.height // 2)) for image in images], 50)
    for number, (dct, color) in enumerate(fine):
        assert (dct ^ coarse[number][0]).bit_count() <= 24
        assert np.abs(color - coarse[number][1]).max() <= 10
        assert all((dct ^ other).bit_count() > 40 for other, _ in fine[:number])


def test_a_blank_thumbnail_and_a_ramp() -> None:
    assert dct_hash(np.full((64, 64), 200, np.uint8)) == "8" + "0" * 63
    ramp = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    assert dct_hash(ramp) != dct_hash(ramp[:, ::-1])


def test_color_is_the_thumbnail_of_four_by_four() -> None:
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:, 20:] = (200, 100, 50)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    color = SCORERS["fingerprint"]().load()({"image": [decode_image(buffer.getvalue())]})["color"][0]
    assert color == ("000000" * 2 + "c86432" * 2) * 4
