"""Objects: every thing counted in the pixels, every point on its thing, every sentence true of the facts."""

import re

import numpy as np
import pytest
from scipy import ndimage

from mmcorpus.curation.synthetic.render import Rendered, render
from mmcorpus.curation.synthetic.render.canvas import COLORS
from mmcorpus.curation.synthetic.render.spoken import CORRECTIONS
from mmcorpus.curation.synthetic.render.sprites import SPRITES
from mmcorpus.curation.synthetic.render.words import NUMBERS, plural

NOUNS = {form: shape for shape in SPRITES for form in (plural(shape), shape)}
COUNTED = re.compile(
    rf"\b(a|an|\d+|{'|'.join(NUMBERS[1:])}) ({'|'.join(COLORS)}) ({'|'.join(sorted(NOUNS, key=len, reverse=True))})\b"
)
CORRECTED = re.compile(rf"\b(?:an? )?[\w-]+(?: \w+)?, (?:{'|'.join(CORRECTIONS)}), ")
HESITATED = re.compile(r",? (?:um|uh|let's see|well|you know|I mean|hmm|okay),")


@pytest.fixture(scope="module")
def pictures() -> list[Rendered]:
    return [render("objects", seed, size=(480, 400)) for seed in range(150)]


def count(word: str) -> int:
    return 1 if word in ("a", "an") else int(word) if word.isdigit() else NUMBERS.index(word)


def test_as_many_blobs_in_the_picture_as_things(pictures: list[Rendered]) -> None:
    seen = 0
    for rendered in pictures:
        facts = rendered.facts
        if facts["background"] not in ("white", "black") or facts["shaded"]:
            continue
        shapes = {kind["shape"] for kind in facts["kinds"]}
        if ("fish" if facts["background"] == "white" else "car") in shapes:
            continue  # an eye on a white ground, hubs of black wheels on a black one
        pixels = np.asarray(rendered.image).astype(int)
        blobs, found = ndimage.label(np.abs(pixels - pixels[0, 0]).max(axis=2) > 40, structure=np.ones((3, 3)))
        sizes = ndimage.sum_labels(np.ones_like(blobs), blobs, range(1, found + 1))
        assert (sizes > 12).sum() == sum(kind["count"] for kind in facts["kinds"]), facts["seed"]
        seen += 1
    assert seen > 30


def test_every_thing_has_its_point_on_its_body(pictures: list[Rendered]) -> None:
    for rendered in pictures:
        width, height = rendered.image.size
        for kind in rendered.facts["kinds"]:
            label = f"{kind['color']} {kind['shape'] if kind['count'] == 1 else plural(kind['shape'])}"
            points = [point for point in rendered.points if point.label == label]
            assert len(points) == kind["count"] == len(kind["places"])
            if kind["shape"] in ("ring", "flower", "house"):  # their middles have another colour
                continue
            for point in points:
                pixel = np.asarray(rendered.image.getpixel((int(point.x * width / 100), int(point.y * height / 100))))
                far = {name: np.abs(pixel - color).sum() for name, color in COLORS.items()}
                near = {kind["color"], "blue", "black"} if kind["shape"] in ("car", "tree") else {kind["color"]}
                assert min(far, key=far.__getitem__) in near or far[kind["color"]] < 200, (rendered.facts["seed"], kind)


def test_answers_are_counts_of_the_facts(pictures: list[Rendered]) -> None:
    for rendered in pictures:
        kinds = {(k["color"], k["shape"]): k["count"] for k in rendered.facts["kinds"]}
        answers = dict(rendered.qa)
        for (color, shape), many in kinds.items():
            assert answers[f"How many {color} {plural(shape)} are there?"] == str(many)
        absent = rendered.facts["absent"]
        assert (absent["color"], absent["shape"]) not in kinds
        assert answers[f"How many {absent['color']} {plural(absent['shape'])} are there?"] == "0"
        assert answers["How many things are there?"] == str(sum(kinds.values()))
        assert 1 <= sum(kinds.values()) <= 48


def said(text: str) -> str:
    """A transcript without hesitations, words said twice, and what was taken back."""
    text = re.sub(r"\b(\w+) \1\b", r"\1", HESITATED.sub("", text))
    return CORRECTED.sub("", text)


def test_transcripts_are_true_differ_and_sound_spoken(pictures: list[Rendered]) -> None:
    hesitant = corrected = reordered = 0
    for rendered in pictures:
        kinds = {(k["color"], k["shape"]): k["count"] for k in rendered.facts["kinds"]}
        assert len(set(rendered.transcripts)) == 3
        orders = set()
        for text in rendered.transcripts:
            corrected += bool(re.search(rf", (?:{'|'.join(CORRECTIONS)}), ", text))
            told = [
                ((color, NOUNS[noun]), count(word))
                for clause in said(text).split(".")
                if not re.search(r"(topmost thing|farthest to the left|more|as many)", clause)
                for word, color, noun in COUNTED.findall(clause)
            ]
            assert dict(told) == kinds, (rendered.facts["seed"], text, told)
            orders.add(tuple(key for key, _ in told))
            hesitant += said(text) != text
            assert rendered.facts["background"] in text
        reordered += len(orders) > 1
    assert hesitant > 200
    assert corrected > 60
    assert reordered > 70


def test_comparisons_and_extremes_hold(pictures: list[Rendered]) -> None:
    compared = topmost = 0
    for rendered in pictures:
        kinds = {f"{k['color']} {plural(k['shape'])}": k["count"] for k in rendered.facts["kinds"]}
        caption = rendered.captions[-1]
        for more, fewer in re.findall(r"There are more (\w+ \w+) than (\w+ \w+)\.", caption):
            assert kinds[more] > kinds[fewer]
            compared += 1
        for one, other in re.findall(r"There are as many (\w+ \w+) as (\w+ \w+)\.", caption):
            assert kinds[one] == kinds[other]
        if found := re.search(r"The topmost thing is an? (\w+) (\w+)\.", caption):
            tops = [
                (y - radius, kind["color"], kind["shape"])
                for kind in rendered.facts["kinds"]
                for _, y, radius in kind["places"]
            ]
            assert min(tops)[1:] == (found[1], found[2])
            topmost += 1
    assert compared > 40
    assert topmost > 25


def test_explanations_point_at_what_they_speak_of(pictures: list[Rendered]) -> None:
    for rendered in pictures:
        places = {(f"{point.x:.1f}", f"{point.y:.1f}") for point in rendered.points}
        assert rendered.explained[-1][1] == "There are none."
        for _, answer in rendered.explained[:-1]:
            pointed = re.findall(r'x\d*="([\d.]+)" y\d*="([\d.]+)"', answer)
            assert pointed
            assert set(pointed) <= places
        counted = [
            re.fullmatch(r"Counting the (<.*>) shows a total of (\d+)\.", answer) for _, answer in rendered.explained
        ]
        (found,) = filter(None, counted)
        assert len(re.findall(r'x\d*="', found[1])) == int(found[2])
