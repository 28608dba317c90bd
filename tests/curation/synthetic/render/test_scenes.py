"""Scenes: the facts against the pixels."""

import cv2
import numpy as np
import pytest

from mmcorpus.curation.synthetic.render import render
from mmcorpus.curation.synthetic.render.words import number, plural

WITHIN = {
    "left": lambda x, y: x < 50,
    "right": lambda x, y: x > 50,
    "top": lambda x, y: y < 50,
    "bottom": lambda x, y: y > 50,
    "center": lambda x, y: 20 < x < 80 and 20 < y < 80,
}


def mask_of(pixels: np.ndarray, rgb: list[int]) -> np.ndarray:
    return (np.abs(pixels.astype(int) - rgb).max(axis=2) <= 6).astype(np.uint8)


@pytest.mark.parametrize("size", [None, (256, 256), (200, 400), (420, 210)])
def test_each_color_has_as_many_pieces_as_its_group_counts(size: tuple[int, int] | None) -> None:
    for seed in range(60):
        rendered = render("scene", seed, size=size)
        pixels = np.asarray(rendered.image)
        height, width = pixels.shape[:2]
        for group in rendered.facts["groups"]:
            pieces, labels, stats, _ = cv2.connectedComponentsWithStats(mask_of(pixels, group["rgb"]), connectivity=8)
            big = [piece for piece in range(1, pieces) if stats[piece, cv2.CC_STAT_AREA] > 40]
            assert len(big) == group["count"], (seed, group)
            # Each point lies in a piece of its own, as Molmo's pointing is scored.
            hit = {int(labels[round(y), round(x)]) for x, y in group["centers"]}
            assert hit == set(big), (seed, group)
            for piece in big:
                left, top = stats[piece, cv2.CC_STAT_LEFT], stats[piece, cv2.CC_STAT_TOP]
                assert left > 0
                assert top > 0
                assert left + stats[piece, cv2.CC_STAT_WIDTH] < width
                assert top + stats[piece, cv2.CC_STAT_HEIGHT] < height


def test_points_captions_and_answers_agree_with_the_groups() -> None:
    for seed in range(120):
        rendered = render("scene", seed)
        groups = rendered.facts["groups"]
        answers = dict(rendered.qa)
        assert len(rendered.points) == sum(group["count"] for group in groups)
        assert answers["How many shapes are there?"] == str(len(rendered.points))
        assert len({group["color"] for group in groups}) == len(groups)
        for group in groups:
            named = group["shape"] if group["count"] == 1 else plural(group["shape"])
            phrase = f"{group['color']} {named}"
            points = [point for point in rendered.points if point.label == phrase]
            assert len(points) == group["count"]
            if len(groups) < 3 or group["place"] != "center":
                assert all(WITHIN[group["place"]](point.x, point.y) for point in points), (seed, group, points)
            for caption in rendered.captions:
                assert phrase in caption
                if group["count"] > 1:
                    assert f"{number(group['count'])} {phrase}" in caption.lower()
            question = f"How many {group['color']} {plural(group['shape'])} are there?"
            assert answers.get(question, str(group["count"])) == str(group["count"])
        absent = rendered.facts["absent"]
        assert all((group["color"], group["shape"]) != (absent["color"], absent["shape"]) for group in groups)


def test_background_is_what_the_facts_say() -> None:
    for seed in range(60):
        rendered = render("scene", seed)
        luma = np.asarray(rendered.image.convert("L"))
        corners = [int(luma[0, 0]), int(luma[0, -1]), int(luma[-1, 0]), int(luma[-1, -1])]
        assert (max(corners) < 90) == (rendered.facts["background"] == "black")
        assert (max(corners) - min(corners) > 8) == rendered.facts["shaded"]
