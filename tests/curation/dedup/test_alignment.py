"""Where one picture lies within another, and when looking for it is no use."""

import numpy as np
import pytest
from PIL import Image, ImageDraw

from benchmarks.lookalikes import lookalikes
from mmcorpus.curation.dedup.alignment import Floats, alignments, in_place, refined
from mmcorpus.curation.synthetic.render import render


def floats(image: Image.Image) -> Floats:
    return np.asarray(image.convert("RGB"), np.float32) / np.float32(255)


@pytest.fixture(scope="module")
def scene() -> Image.Image:
    return render("scene", 3, size=(320, 280)).image


def test_a_crop_is_found_where_it_was_cut(scene: Image.Image) -> None:
    place = next(alignments(floats(scene.crop((12, 6, 320, 276))), floats(scene)))
    assert np.abs(place - [[1, 0, 12], [0, 1, 6]]).max() < 0.5


def test_pictures_that_have_nothing_in_common_are_not_aligned(scene: Image.Image) -> None:
    noise = np.random.default_rng(0).random((280, 320, 3), np.float32)
    assert list(alignments(floats(scene), noise)) == []


@pytest.mark.parametrize("kind", ["form", "screenshot", "chess"])
def test_what_differs_in_a_part_is_in_place_and_a_crop_is_not(kind: str) -> None:
    one, other = map(floats, lookalikes(kind, 2, 2))
    assert in_place(one, other)
    assert in_place(one, np.clip(other * np.float32(0.8) + np.float32(0.1), 0, 1)), "whatever its tones"
    height, width = one.shape[:2]
    cut = Image.fromarray(np.uint8(one[:, width // 20 :] * 255)).resize((width, height))
    assert not in_place(one, floats(cut))


def letter() -> Image.Image:
    """A bold Z that fills its picture."""
    image = Image.new("RGB", (97, 110), "white")
    outline = [(2, 2), (94, 2), (94, 26), (38, 86), (94, 86), (94, 108), (2, 108), (2, 84), (58, 26), (2, 26)]
    ImageDraw.Draw(image).polygon(outline, fill="black")
    return image


def test_a_bold_letter_cut_by_a_pixel_is_not_in_place() -> None:
    whole = letter()
    assert in_place(floats(whole), floats(whole) * np.float32(0.8))
    assert not in_place(floats(whole), floats(whole.crop((1, 1, 96, 109)).resize(whole.size)))


def test_a_place_is_made_finer_than_half_a_pixel() -> None:
    whole = letter()
    cut = whole.crop((1, 1, 96, 109))
    true = np.array([[1.0, 0, 1], [0, 1, 1]])
    start = true + np.array([[-0.01, 0, 0.5], [0, 0, 0.4]])
    found = refined(floats(cut), floats(whole) * np.float32(0.9) + np.float32(0.05), start)
    assert np.abs(found - true).max() < 0.1
    blank = np.ones_like(floats(whole))
    assert np.abs(refined(floats(cut), blank, true) - true).max() < 1e-3


def test_blank_pictures_are_not_said_to_be_in_place() -> None:
    assert not in_place(np.zeros((20, 20, 3), np.float32), np.ones((20, 20, 3), np.float32))
