"""Web pages by a headless browser, where one is installed."""

import re

import numpy as np
import pytest

from mmcorpus.curation.synthetic.render import browser, render

pytestmark = pytest.mark.skipif(browser.program() is None, reason="needs a headless Chromium or Chrome")
COMPUTED = re.compile(r"^(How many|Is |On which side)")


def test_answers_stand_on_the_page_and_ink_at_the_points() -> None:
    for seed in range(12):
        rendered = render("page", seed)
        pixels = np.asarray(rendered.image.convert("L")).astype(int)
        height, width = pixels.shape
        for question, answer in rendered.qa:
            assert answer in rendered.facts["text"] or COMPUTED.search(question), question
        for point in rendered.points:
            x, y = round(point.x * width / 100), round(point.y * height / 100)
            around = pixels[max(0, y - 5) : y + 6, max(0, x - 9) : x + 10]
            assert np.ptp(around) > 25, (seed, point)
        if ticks := re.findall(r"type=checkbox (checked)?", rendered.facts["code"]):
            assert dict(rendered.qa)["How many settings are switched on?"] == str(ticks.count("checked"))


def test_a_page_is_the_same_whatever_was_shown_before_and_texts_are_no_markup() -> None:
    first = render("page", 7)
    pictures, marks = browser.running().picture("<p data-mark='a'>&lt;b&gt;</p>" + "<br>" * 90, 300)
    assert pictures.startswith(b"\x89PNG")
    assert [mark[0] for mark in marks] == ["a"]
    assert render("page", 7).image.tobytes() == first.image.tobytes()


def test_a_page_reaches_nothing_outside() -> None:
    """What a page names is not fetched: names resolve to nothing."""
    html = "<img src='http://pictures.example/a.png' onerror=\"document.title='none'\"><p data-mark='x'>x</p>"
    data, _ = browser.running().picture(html, 200)
    assert data.startswith(b"\x89PNG")
    assert "--host-resolver-rules=MAP * ~NOTFOUND" in browser._FLAGS


def test_a_program_that_is_no_browser_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="the headless browser has ended; does it run by hand"):
        browser.Browser("/bin/true")
    monkeypatch.setenv("MMCORPUS_BROWSER", "/nowhere/chrome")
    assert browser.program() is None
