"""Captions that describe nothing, and the facts in other languages."""

import random
import re

import pytest

from mmcorpus.curation.synthetic.miniweb.captions import LANGUAGES, describe, small_edit
from mmcorpus.curation.synthetic.miniweb.corruptions import CORRUPTIONS
from mmcorpus.curation.synthetic.miniweb.page import clean_page
from mmcorpus.curation.synthetic.render import BASIC_KINDS as KINDS
from mmcorpus.curation.synthetic.render import render

SCRIPTS = {"ru": r"[а-яё]", "zh": r"[一-鿿]", "ja": r"[ぁ-ヿ]", "ar": r"[؀-ۿ]"}


@pytest.mark.parametrize("code", LANGUAGES)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_described_in_every_language(kind: str, code: str):
    for seed in range(8):
        rendered = render(kind, seed, size=(96, 96))
        caption = describe(kind, rendered.facts, code)
        assert "{" not in caption
        assert re.search(r"\d", caption)
        assert len(caption) > 12
        if code in SCRIPTS:
            assert re.search(SCRIPTS[code], caption)


def test_the_facts_are_those_of_the_picture():
    facts = {"groups": [{"count": 3, "color": "red", "shape": "star", "place": "left"}]}
    assert describe("scene", facts, "de") == "Auf diesem Bild sieht man Sterne in Rot (3) auf der linken Seite."
    assert describe("clock", {"time": "7:05"}, "fr").endswith("indiquent 7:05.")


def test_an_edit_changes_the_text_a_little():
    caption = "Three red circles on the left."
    for seed in range(30):
        edited = small_edit(random.Random(seed), caption)
        assert edited != caption
        assert "circles" in edited.lower()


def test_markup_keeps_the_caption_inside():
    for seed in range(20):
        page = clean_page(render("scene", seed, size=(96, 96)), "p1", random.Random(seed))
        caption = page.caption
        CORRUPTIONS["markup_caption"].apply(page)
        assert caption in page.caption
        assert re.search(r"[<\[&]", page.caption)
