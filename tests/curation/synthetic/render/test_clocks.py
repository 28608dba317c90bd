"""Clocks: the time read from the pixels."""

import numpy as np
import pytest

from mmcorpus.curation.synthetic.render import Rendered, render
from mmcorpus.curation.synthetic.render.clocks import HOUR_LENGTH, time_in_words
from mmcorpus.curation.synthetic.render.words import ordinal


def hand_pixels(rendered: Rendered, rgb: list[int], inner: float, outer: float) -> np.ndarray:
    """The angles, in degrees clockwise from the top, of the pixels of a colour between two shares of the radius."""
    pixels = np.asarray(rendered.image).astype(int)
    x0, y0 = rendered.facts["center"]
    ys, xs = np.nonzero(np.abs(pixels - rgb).max(axis=2) <= 24)
    dx, dy = xs + 0.5 - x0, ys + 0.5 - y0
    distance = np.hypot(dx, dy) / rendered.facts["radius"]
    chosen = (distance > inner) & (distance < outer)
    return np.degrees(np.arctan2(dx[chosen], -dy[chosen])) % 360


def mean_angle(angles: np.ndarray) -> float:
    return float(np.degrees(np.angle(np.exp(1j * np.radians(angles)).mean())) % 360)


def apart(first: float, second: float) -> float:
    return abs((first - second + 180) % 360 - 180)


def test_the_minute_hand_points_to_the_minute() -> None:
    read = 0
    for seed in range(80):
        rendered = render("clock", seed, size=(320, 320))
        facts = rendered.facts
        # Beyond the hour hand and before the numerals there is nothing but the minute (and second) hand.
        angles = hand_pixels(rendered, facts["rgb"]["hands"], HOUR_LENGTH + 0.04, 0.63)
        assert len(angles) > 10
        angle = mean_angle(angles)
        assert apart(angle, facts["angles"][1]) < 2.0, (seed, facts["time"])
        minute = (angle - facts["tilt"]) % 360 / 6 - (facts["second"] or 0) / 60
        assert abs((minute - facts["minute"] + 30) % 60 - 30) < 0.4
        read += 1
    assert read == 80


def test_the_hour_hand_is_between_the_hours() -> None:
    read = 0
    for seed in range(120):
        rendered = render("clock", seed, size=(320, 320))
        facts = rendered.facts
        hour, minute = facts["angles"][:2]
        if apart(hour, minute) < 40:
            continue
        angles = hand_pixels(rendered, facts["rgb"]["hands"], 0.25, 0.45)
        angle = mean_angle(angles[[apart(a, minute) > 20 for a in angles]])
        assert apart(angle, hour) < 2.5, (seed, facts["time"])
        exact = (angle - facts["tilt"]) % 360 / 30
        assert abs((exact - (facts["hour"] % 12 + facts["minute"] / 60) + 6) % 12 - 6) < 0.1
        read += 1
    assert read > 60


def test_the_second_hand_points_to_the_second() -> None:
    seen = 0
    for seed in range(120):
        rendered = render("clock", seed, size=(320, 320))
        facts = rendered.facts
        if facts["second"] is None:
            continue
        angles = hand_pixels(rendered, facts["rgb"]["second_hand"], 0.3, 0.6)
        near = angles[[apart(a, facts["angles"][2]) < 30 for a in angles]]
        if not len(near):  # thinner than a pixel: blended with the face everywhere
            continue
        assert apart(mean_angle(near), 6 * facts["second"] + facts["tilt"]) < 2.0
        seen += 1
    assert seen > 20


def test_captions_and_answers_tell_the_time_of_the_facts() -> None:
    for seed in range(150):
        rendered = render("clock", seed)
        facts = rendered.facts
        assert facts["time"] == f"{facts['hour']}:{facts['minute']:02d}"
        answers = dict(rendered.qa)
        assert answers["What time is it?"] == facts["time"]
        assert answers["Is there a second hand?"] == ("no" if facts["second"] is None else "yes")
        words = time_in_words(facts["hour"], facts["minute"]) if facts["minute"] % 5 == 0 else "?"
        assert all(facts["time"] in caption or words in caption for caption in rendered.captions)
        if facts["numerals"] == "none":
            assert facts["tilt"] == 0


def test_the_face_is_inside_the_picture_and_has_its_color() -> None:
    for seed in range(60):
        rendered = render("clock", seed)
        width, height = rendered.image.size
        x, y = rendered.facts["center"]
        radius = rendered.facts["radius"] / 0.92
        assert radius <= x <= width - radius
        assert radius <= y <= height - radius
        box = tuple(round(v) for v in (x - radius / 2, y - radius / 2, x + radius / 2, y + radius / 2))
        inside = np.asarray(rendered.image.crop(box)).astype(int)
        same = np.abs(inside - rendered.facts["rgb"]["face"]).max(axis=2) <= 4
        assert same.mean() > 0.6


@pytest.mark.parametrize(
    ("hour", "minute", "words"),
    [
        (5, 0, "five o'clock"), (3, 15, "quarter past three"), (12, 45, "quarter to one"), (11, 30, "half past eleven"),
        (6, 25, "twenty-five past six"), (9, 35, "twenty-five to ten"), (12, 5, "five past twelve"),
        (1, 50, "ten to two"),
    ],
)  # fmt: skip
def test_time_in_words(hour: int, minute: int, words: str) -> None:
    assert time_in_words(hour, minute) == words


def test_only_fives_have_words() -> None:
    with pytest.raises(ValueError, match="multiple of five"):
        time_in_words(3, 7)


def test_the_date_stands_in_its_window() -> None:
    """The window is where its point is, on paper of its own; a clock without one says nothing of it."""
    days = set()
    for seed in range(60):
        rendered = render("dated_clock", seed)
        facts, answers = rendered.facts, dict(rendered.qa)
        days.add(facts["day"])
        assert answers["Which day of the month does the clock show?"] == str(facts["day"])
        assert f"the window shows the {facts['day']}" in rendered.captions[-1]
        (window,) = [point for point in rendered.points if point.label == "date window"]
        pixels = np.asarray(rendered.image).astype(int)
        x, y = window.x * facts["size"][0] / 100, window.y * facts["size"][1] / 100
        half = max(2, round(0.09 * facts["radius"]))
        around = pixels[round(y) - half : round(y) + half, round(x) - half : round(x) + half]
        assert np.ptp(around.mean(axis=2)) > 120, seed
    assert len(days) > 20
    assert [ordinal(day) for day in (1, 2, 3, 4, 11, 12, 13, 21, 22, 23, 30, 31, 111)] == [
        "1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "22nd", "23rd", "30th", "31st", "111th",
    ]  # fmt: skip
    assert "day" not in render("clock", 1).facts


def test_a_dial_is_the_plainest_of_clocks_at_any_time() -> None:
    hours = set()
    for seed in range(60):
        rendered = render("dial", seed, size=(320, 320))
        facts = rendered.facts
        look = {name: facts[name] for name in ("second", "body", "shape", "numerals", "face", "hands", "tilt")}
        assert look == {
            "second": None, "body": "clock", "shape": "round", "numerals": "none", "face": "white", "hands": "black",
            "tilt": 0.0,
        }  # fmt: skip
        assert rendered.captions[:2] == (f"{facts['time']}.", f"A clock showing {facts['time']}.")
        angle = mean_angle(hand_pixels(rendered, facts["rgb"]["hands"], HOUR_LENGTH + 0.04, 0.7))
        assert apart(angle, 6 * facts["minute"]) < 4.0, (seed, facts["time"])
        hours.add(facts["hour"])
    assert hours == set(range(1, 13))
