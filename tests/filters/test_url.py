"""URL rules."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcorpus.filters import SCORERS
from mmcorpus.filters.url import WORDS, UrlScorer, url_path


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://example.com/img/Site-LOGO.png", {"logo"}),
        ("https://example.com/plugins/widget/button_icon.gif", {"plugin", "widget", "button", "icon"}),
        ("http://logo.example.com/photos/clock.jpg", set()),
        ("http://example.com/clock.jpg?icon=1#logo", set()),
        ("http://example.com", set()),
        ("//cdn.example.com/widgets/a.png", {"widget"}),
        ("/relative/icons/a.png", {"icon"}),
        ("data:image/png;base64,AAAA", set()),
        ("http://[broken/icon.png", {"icon"}),
        ("", set()),
    ],
)
def test_words_in_the_path(url: str, found: set[str]) -> None:
    columns = SCORERS["url"]().load()({"url": [url]})
    assert {word for word in WORDS if columns[word][0]} == found
    assert columns["matches"] == [len(found)]
    assert columns["reason"] == [None]


def test_no_url() -> None:
    columns = SCORERS["url"]().load()({"url": [None]})
    assert columns["logo"] == columns["matches"] == [None]
    assert columns["reason"] == ["no_url"]


@given(st.text(st.characters()))
def test_any_text_has_a_path(url: str) -> None:
    assert isinstance(url_path(url), str)


@pytest.mark.parametrize(
    ("url", "published", "whole"),
    [
        ("http://a.test/silicon/chip.png", True, False),
        ("http://a.test/images/icons/a.png", True, True),
        ("http://a.test/icon_2.png", True, True),
        ("http://a.test/favicon.ico", True, False),
        ("http://a.test/ICON-32x32.png", True, True),
    ],
)
def test_whole_words_on_request(url: str, published: bool, whole: bool) -> None:
    batch = {"url": [url]}
    assert UrlScorer().load()(batch)["icon"] == [published]
    assert UrlScorer(whole_words=True).load()(batch)["icon"] == [whole]
