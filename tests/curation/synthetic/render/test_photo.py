"""Photographed looks: points go with their things, and the picture is another."""

import random

import numpy as np
from PIL import Image, ImageDraw

from mmcorpus.curation.synthetic.render import RenderConfig, render
from mmcorpus.curation.synthetic.render.photo import photographed
from mmcorpus.curation.synthetic.render.rendered import Drawing, make_point


def test_points_go_with_their_things() -> None:
    colors = {"red": (230, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 230), "yellow": (240, 230, 20)}
    places = dict(zip(colors, ((12, 15), (270, 20), (25, 175), (280, 180)), strict=True))
    picture = Image.new("RGB", (300, 200), (128, 128, 128))
    draw = ImageDraw.Draw(picture)
    for name, (x, y) in places.items():
        draw.ellipse((x - 7, y - 7, x + 7, y + 7), fill=colors[name])
    points = [make_point(name, *place, (300, 200)) for name, place in places.items()]
    seen = []
    for seed in range(40):
        photo = photographed(random.Random(seed), Drawing(picture, [], [], points, {}))
        assert photo.image.size == (300, 200)
        for point in photo.points:
            pixel = np.asarray(photo.image.getpixel((int(point.x * 3), int(point.y * 2))))
            far = {name: np.abs(pixel - color).sum() for name, color in colors.items()}
            assert min(far, key=far.__getitem__) == point.label, (seed, point)
        seen.append(photo.image.tobytes())
    assert len(set(seen)) == 40


def test_a_share_of_a_set_is_photographed_and_says_what_was_true_before() -> None:
    config = RenderConfig(photos=0.3)
    assert 0.25 < sum(config.is_photo(index) for index in range(2000)) / 2000 < 0.35
    assert not any(RenderConfig().is_photo(index) for index in range(50))
    plain, photo = render("clock", 5), render("clock", 5, photo=True)
    assert (photo.captions, photo.qa, photo.caption) == (plain.captions, plain.qa, plain.caption)
    assert photo.facts == {**plain.facts, "photo": True}
    assert photo.image.tobytes() == render("clock", 5, photo=True).image.tobytes() != plain.image.tobytes()
    assert {point.label for point in photo.points} == {point.label for point in plain.points}
