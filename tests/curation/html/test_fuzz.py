"""Broken and hostile pages: an answer or an ExtractError, the same each time, soon and in little memory."""

import time
import tracemalloc
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.curation.html import Extracted, ExtractError, extract
from mmcorpus.curation.html.nodes import ImageNode, from_json, to_json
from tests.curation.html.pages import mutate, write_page

URL = "https://example.com/a/page.html"


def answer(data: bytes | str, charset: str | None = None) -> Extracted | str:
    """The extraction of a page, checked for what must hold of any answer."""
    try:
        found = extract(data, URL, charset=charset)
    except ExtractError as error:
        return str(error)
    assert from_json(to_json(found.nodes)) == found.nodes
    for node in found.nodes:
        if isinstance(node, ImageNode):
            assert urlsplit(node.url).scheme in ("http", "https", "data")
        else:
            assert node.text.strip("\n")
            assert "\0" not in node.text
    return found


def fuzz(numbers: range, *, twice: int) -> None:
    """Extract mutated pages; every so many are extracted twice, to the same."""
    pages = [write_page(number).encode() for number in range(50)]
    for number in numbers:
        data = mutate(pages[number % 50], pages[(number * 7 + 1) % 50], number)
        found = answer(data)
        assert number % twice or found == answer(data), number


def test_mutated_pages() -> None:
    fuzz(range(300), twice=1)


@pytest.mark.soak
def test_5000_mutated_pages() -> None:
    fuzz(range(300, 5_300), twice=10)


@given(st.binary(max_size=400), st.sampled_from([None, "utf-8", "utf-16", "shift_jis", "gb18030", "nonsense"]))
@settings(max_examples=200, deadline=None)
def test_any_bytes(data: bytes, charset: str | None) -> None:
    answer(b"<p>" + data, charset)


@given(st.text(max_size=300))
@settings(max_examples=200, deadline=None)
def test_any_text(text: str) -> None:
    answer("<div class='" + text + "'>" + text + "<img srcset='" + text + "' src='" + text + "'>")


HOSTILE: dict[str, Callable[[], str]] = {
    "divs 100,000 deep": lambda: "<div>" * 100_000 + "x",
    "formatting 50,000 deep": lambda: "".join(f"<font size={i}>" for i in range(50_000)) + "x",
    "misnested formatting": lambda: "<b>" + "<div>" * 20_000 + "</b>" * 20_000,
    "formatting opened again in each paragraph": lambda: "".join(f"<b id={i}>" for i in range(3_000)) + "<p>x" * 3_000,
    "lists 20,000 deep": lambda: "<ul><li>x, y." * 20_000,
    "tables 10,000 deep": lambda: "<table><tr><td>x<td>y" * 10_000,
    "text between tables' tags": lambda: "<table>" + "x<b>" * 2_000 + "<i>y" * 30_000,
    "figures 10,000 deep": lambda: "<figure><img src=a.png>x" * 10_000,
    "headlines 20,000 deep": lambda: (
        "<title>x</title>" + "<h1>x<div>" * 20_000 + "<p>" + "Prose, that is long enough. " * 20
    ),
    "500,000 attributes": lambda: "<img src=a.jpg " + " ".join(f"a{i}=1" for i in range(500_000)) + ">",
    "a huge attribute": lambda: '<img src="' + "a" * 10_000_000 + '">',
    "a huge class": lambda: '<div class="' + "comment-" * 1_000_000 + '">x',
    "a huge srcset": lambda: '<img srcset="' + "a.jpg 1w, " * 500_000 + '">',
    "100,000 sources": lambda: "<picture>" + '<source srcset="a 1x">' * 100_000 + "<img src=x.jpg></picture>",
    "50,000 bodies": lambda: "".join(f"<body a{i}=1>" for i in range(50_000)) + "x",
    "unclosed paragraphs": lambda: "<p>x" * 50_000,
    "stray end tags": lambda: "<div>" * 10_000 + "</p></span>" * 50_000,
    "a script that never ends": lambda: "<script>" + "<!--<script>" * 200_000,
    "comments that never end": lambda: "<p>x<!--" * 200_000,
    "entities": lambda: "<p>" + "&amp;&notin;&#x41;&foo" * 200_000,
    "null bytes": lambda: "<p>text" + "x" * 20_000 + "\0a" * 200_000,
    "less-than signs": lambda: "<" * 2_000_000,
    "page chrome in code": lambda: "<pre>" + " <img class=emoji src=x.png> " * 10_000,
    "10,000 noscripts": lambda: "<noscript><img src=a.jpg></noscript>" * 10_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pages_end(name: str) -> None:
    page = "<body>" + HOSTILE[name]()
    start = time.process_time()
    answer(page)
    assert time.process_time() - start < 30.0, "each takes about a second; what is not linear takes many minutes"


def test_memory_is_bounded_by_the_page() -> None:
    page = "<body>" + "<p>One sentence, then another.<img src=a.jpg></p>" * 1_000
    answer(page)
    tracemalloc.start()
    try:
        answer(page)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * len(page)
