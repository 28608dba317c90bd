"""Copies of a picture are one picture; pictures that differ in a part are not, however they were encoded."""

import random
from collections.abc import Callable

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFont

from benchmarks.lookalikes import KINDS, lookalikes
from benchmarks.near_images.copies import COPIES, encoded
from mmcorpus.curation.dedup.same_picture import Picture, difference
from mmcorpus.curation.dedup.tones import lost_colour
from mmcorpus.curation.synthetic.render import render
from mmcorpus.filters import DecodedImage, decode_image


def picture(image: Image.Image | bytes) -> Picture:
    if isinstance(image, Image.Image):
        return Picture.of(np.asarray(image.convert("RGB")))
    decoded = decode_image(image)
    assert isinstance(decoded, DecodedImage)
    return Picture.of(decoded.pixels)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    cv2.setNumThreads(1)


@pytest.fixture(scope="module")
def originals() -> list[Image.Image]:
    drawn = [lookalikes(kind, 0, 1)[0] for kind in ("form", "clock", "meme")]
    return [*drawn, render("chart", 0, size=(320, 280)).image]


@pytest.mark.parametrize("made", list(COPIES))
def test_a_copy_is_the_same_picture(made: str, originals: list[Image.Image]) -> None:
    for number, image in enumerate(originals):
        copy = picture(COPIES[made](image, random.Random(f"{made} {number}")))
        assert difference(picture(image), copy) <= 1, number
        assert difference(copy, picture(image)) <= 1, number


@pytest.mark.parametrize("kind", list(KINDS))
def test_pictures_that_differ_in_a_part_are_not_the_same(kind: str) -> None:
    images = lookalikes(kind, 1, 3)
    sharp = [picture(image) for image in images]
    coded = [picture(COPIES["JPEG, quality 30-60"](image, random.Random(kind))) for image in images]
    for number, one in enumerate(sharp):
        for other in (*sharp[:number], *coded[:number]):
            assert difference(one, other) > 1, number


@pytest.mark.parametrize("kind", ["line chart", "score", "table"])
def test_thin_lines_on_light_paper_are_found_brightened_and_cropped(kind: str) -> None:
    image = lookalikes(kind, 5001, 1)[0]
    width, height = image.size
    toned = [ImageEnhance.Brightness(image).enhance(factor) for factor in (0.85, 1.12, 1.18)]
    cut = [(0, 0, width, height - height // 20), (0, height // 20, width, height), (width // 25, 0, width, height)]
    for number, copy in enumerate((*toned, *map(image.crop, cut))):
        assert difference(picture(image), picture(encoded(copy, quality=85))) <= 1, number


@pytest.mark.parametrize("cut", [(1, 1, 79, 119), (0, 2, 80, 120), (1, 0, 80, 119)])
@pytest.mark.parametrize("share", [0.55, 1.0])
def test_bold_letters_are_found_cut_by_a_pixel_and_resized(cut: tuple[int, int, int, int], share: float) -> None:
    image = Image.new("RGB", (80, 120), "white")
    ImageDraw.Draw(image).text((40, 60), "Z", "black", ImageFont.load_default(140), anchor="mm")
    cropped = image.crop(cut)
    small = cropped.resize((round(cropped.width * share), round(cropped.height * share)), Image.Resampling.LANCZOS)
    assert difference(picture(image), picture(encoded(small, quality=85))) <= 1


def stamp() -> Image.Image:
    """A drawing with faint texture on much white paper."""
    image = Image.new("RGB", (400, 400), "white")
    drawing = lookalikes("go", 5, 1)[0].resize((110, 110))
    grain = np.random.default_rng(0).normal(0, 9, (150, 100, 1))
    rock = Image.fromarray(np.clip(np.array([140, 120, 100]) + grain, 0, 255).astype(np.uint8))
    image.paste(drawing, (150, 70))
    image.paste(rock, (40, 200))
    return image


@pytest.mark.parametrize("factor", [0.84, 0.9, 1.1, 1.19])
def test_what_stands_on_much_white_paper_is_found_of_other_tones(factor: float) -> None:
    image = stamp()
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast):
        assert difference(picture(image), picture(encoded(change(image).enhance(factor), quality=85))) <= 1


def test_faint_texture_on_white_paper_may_be_smoothed_away() -> None:
    image = stamp()
    for kind, quality in (("WEBP", 40), ("AVIF", 40), ("JPEG", 35)):
        assert difference(picture(image), picture(encoded(image, kind, quality=quality))) <= 1, kind
    marked = image.copy()
    ImageDraw.Draw(marked).text((250, 250), "7", fill=(200, 200, 200), font=ImageFont.load_default(16))
    assert difference(picture(image), picture(marked)) > 1


@pytest.mark.parametrize("other", [(163, 183, 254), (150, 190, 200), (142, 160, 216)])
def test_the_same_shapes_on_paper_of_another_colour_are_another_picture(other: tuple[int, int, int]) -> None:
    def light(sky: tuple[int, int, int]) -> Image.Image:
        image = Image.new("RGB", (190, 390), sky)
        pen = ImageDraw.Draw(image)
        pen.rectangle([38, 24, 152, 366], fill=(45, 45, 50))
        for y, lamp in ((86, (235, 40, 30)), (195, (95, 80, 20)), (304, (20, 80, 35))):
            pen.ellipse([53, y - 42, 137, y + 42], fill=lamp)
        return image

    one, another = light((142, 175, 216)), light(other)
    for change, factors in ((ImageEnhance.Brightness, (0.84, 1.19)), (ImageEnhance.Color, (0.7, 1.4))):
        for factor in factors:
            copy = picture(encoded(change(another).enhance(factor), quality=85))
            assert difference(picture(one), copy) > 1, (change, factor)
            assert difference(picture(another), copy) <= 1, (change, factor)


def test_plain_colours_that_no_tone_explains_are_others() -> None:
    """One reading of two thermometers on papers of their own, the one so bright that its paper is white."""
    one, other = (lookalikes("thermometer", group, 2)[1] for group in (0, 1))
    for factor in (1.15, 1.2, 1.24):
        brighter = ImageEnhance.Brightness(other).enhance(factor)
        assert difference(picture(one), picture(encoded(brighter, quality=85))) > 1, factor
        assert difference(picture(other), picture(encoded(brighter, quality=85))) <= 1, factor


def board(digits: str) -> Image.Image:
    """Faint letters on a sign in front of grain, of which scaling leaves much."""
    noise = np.random.default_rng(4)
    coarse = np.asarray(Image.fromarray(noise.integers(40, 215, (6, 8, 3), np.uint8)).resize((360, 260), 3), np.float32)
    pixels = coarse + noise.normal(0, 14, (260, 360, 1))
    image = Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
    pen = ImageDraw.Draw(image)
    pen.rectangle([90, 70, 270, 190], fill=(96, 100, 104))
    for row, text in enumerate(("Harbour 12", "Old bridge 48", f"Market {digits}")):
        pen.text((104, 80 + row * 36), text, (150, 154, 158), ImageFont.load_default(20))
    return image


@pytest.mark.parametrize("share", [0.8, 0.9])
def test_a_faint_digit_stands_out_of_what_scaling_leaves_of_grain(share: float) -> None:
    one, other = board("206"), board("208")
    small = one.resize((round(360 * share), round(260 * share)), Image.Resampling.LANCZOS)
    copy = picture(encoded(small, quality=60))
    assert difference(picture(one), copy) <= 1
    assert difference(picture(other), copy) > 1


def patches(*colours: tuple[int, int, int]) -> Image.Image:
    image = Image.new("RGB", (320, 240), (200, 196, 188))
    pen = ImageDraw.Draw(image)
    for number, colour in enumerate(colours):
        x, y = 20 + number % 3 * 100, 20 + number // 3 * 110
        pen.rectangle([x, y, x + 80, y + 90], fill=colour)
    return image


def test_one_plain_patch_a_little_darker_is_another_picture() -> None:
    colours = [(180, 60, 50), (60, 140, 70), (50, 80, 170), (210, 190, 60), (120, 120, 120), (90, 160, 180)]
    darker = [tuple(value - 8 for value in colour) if colour[0] == 60 else colour for colour in colours]
    one, other = patches(*colours), patches(*darker)
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        for factor in (0.87, 1.15):
            copy = picture(encoded(change(other).enhance(factor), quality=70))
            assert difference(picture(one), copy) > 1, (change, factor)
            assert difference(picture(other), copy) <= 1, (change, factor)


def notice(text: str) -> Image.Image:
    """Fine white writing on red."""
    image = Image.new("RGB", (150, 150), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(12)
    pen.rectangle([20, 20, 130, 130], fill=(205, 10, 25))
    for row in range(5):
        pen.text((26, 24 + 13 * row), text, "white", font)
    return image


@pytest.mark.parametrize(("kind", "quality"), [("JPEG", 85), ("JPEG", 60), ("WEBP", 80)])
def test_fine_writing_on_a_saturated_ground_may_lose_colour_as_encoders_do(kind: str, quality: int) -> None:
    copy = picture(encoded(notice("YIELD 36"), kind, quality=quality))
    assert difference(picture(notice("YIELD 36")), copy) <= 1
    assert difference(picture(notice("YIELD 38")), copy) > 1


def test_the_colour_that_encoding_loses_is_told_beforehand() -> None:
    """Of luma and the red chroma of the whole picture, to a third."""
    before, after = (
        cv2.cvtColor(each.pixels.astype(np.float32) / 255, cv2.COLOR_RGB2YCrCb)
        for each in (picture(notice("YIELD 36")), picture(encoded(notice("YIELD 36"), quality=95)))
    )
    lost = 255 * (after - before).mean(axis=(0, 1))
    told = lost_colour(np.asarray(notice("YIELD 36"), np.float32) / np.float32(255), 2).mean(axis=(0, 1))
    assert lost[1] < -1
    assert told[:2] == pytest.approx(lost[:2], rel=0.34)


def digits(text: str, ink: str = "black", ground: str = "white") -> Image.Image:
    image = Image.new("RGB", (300, 80), ground)
    ImageDraw.Draw(image).text((20, 20), text, fill=ink, font=ImageFont.load_default(36))
    return image


def disk(colour: str) -> Image.Image:
    image = Image.new("RGB", (200, 200), "white")
    ImageDraw.Draw(image).ellipse([40, 40, 160, 160], fill=colour)
    return image


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (digits("3 + 5 = 8"), digits("3 + 6 = 9")),
        (digits("10:01"), digits("10:07")),
        (digits("7", "yellow", "navy"), digits("1", "yellow", "navy")),
        (disk("red"), disk("green")),
        (disk("red"), disk("gold")),
        (disk("black"), disk("gray")),
        (disk("navy"), disk("lightsteelblue")),
        (disk("navy"), Image.new("RGB", (200, 200), "white")),
    ],
)
def test_a_digit_a_colour_or_a_mark_more_is_another_picture(one: Image.Image, other: Image.Image) -> None:
    assert difference(picture(one), picture(other)) > 1
    assert difference(picture(one), picture(one)) <= 1


def test_pictures_that_were_turned_or_mirrored_are_others(originals: list[Image.Image]) -> None:
    for turn in (Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180):
        assert difference(picture(originals[1]), picture(originals[1].transpose(turn))) > 1


@pytest.mark.parametrize("size", [(1, 1), (1, 512), (512, 1), (3, 700), (9, 9), (2000, 9), (200, 200)])
def test_odd_sizes_are_compared(size: tuple[int, int]) -> None:
    white, black = (picture(Image.new("RGB", size, colour)) for colour in ("white", "black"))
    assert difference(white, picture(Image.new("RGB", size, "white"))) <= 1
    assert difference(white, black) > 1
    assert difference(white, picture(Image.new("RGB", size, "gray"))) > 1


def test_the_order_of_the_two_does_not_matter(originals: list[Image.Image]) -> None:
    pairs: list[Callable[[], tuple[Image.Image, Image.Image]]] = [
        lambda: (originals[0], originals[0].crop((10, 0, 400, 300))),
        lambda: (originals[1], originals[2].resize(originals[1].size)),
    ]
    for pair in pairs:
        one, other = map(picture, pair())
        assert difference(one, other) == difference(other, one)
