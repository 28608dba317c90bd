"""Whatever stands in a page, its extraction takes a time linear in it. A new pattern or loop is a new line here."""

from collections.abc import Callable
from typing import Any

import pytest

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.optout.site_rules import SiteRules
from mmcorpus.curation.crawl.records import START, Page
from mmcorpus.curation.documents.page_row import PageExtractor
from mmcorpus.curation.download.images import BadImage
from mmcorpus.curation.html import ExtractConfig, ExtractError, decode_html, extract
from mmcorpus.curation.html.addresses import decode_inline, shown_url
from mmcorpus.curation.html.described import is_described
from mmcorpus.curation.html.hints import hint
from mmcorpus.curation.html.images import ImageReader, parse_srcset
from mmcorpus.curation.html.urls import absolute_url, base_url
from tests.linear import assert_linear

URL = "https://example.com/a/page.html"
PROSE = "<p>" + "A sentence that is long enough to be read as prose, with a comma in it. " * 8 + "</p>"
CONFIG = ExtractConfig(max_nodes=10_000_000)
EXTRACTOR = PageExtractor(PagesConfig(extraction=CONFIG), SiteRules(), images=True)


def fill(unit: str, before: str = "", after: str = "") -> Callable[[int], str]:
    return lambda n: before + unit * (n // len(unit)) + after


def read(page: str) -> object:
    try:
        return extract("<body>" + page, URL, CONFIG)
    except ExtractError as error:
        return error


def row(page: str) -> object:
    """With the opt-outs of its images."""
    found = Page(file="", offset=0, length=0, position=START, url=URL, body=page.encode())
    return EXTRACTOR.row(found)["error_message"]


def image(name: str) -> Callable[[str], object]:
    return lambda value: ImageReader(URL, CONFIG).read([("src", "a.jpg"), (name, value)])


def inline(url: str) -> object:
    shown_url(url)
    try:
        return decode_inline(url, 10**9)
    except BadImage as error:
        return error


def classed(given: str) -> object:
    return hint("div", [("class", given)])


VALUES: dict[str, tuple[Callable[[Any], object], Callable[[int], Any]]] = {
    "meta: blanks": (decode_html, lambda n: b"\xff<meta charset=" + b" " * n),
    "meta: many": (decode_html, lambda n: b"\xff" + b"<meta " * (n // 6)),
    "meta: charsets": (decode_html, lambda n: b"\xff<meta " + b"charset" * (n // 7)),
    "meta: many with blanks": (decode_html, lambda n: b"\xff" + b"<meta charset  =  ' " * (n // 20)),
    "bytes that are no UTF-8": (decode_html, lambda n: b"\xff\xfe\xfd" * (n // 3)),
    "half an ISO-2022-JP": (decode_html, lambda n: b"\x1b$B" * (n // 3)),
    "width: blanks": (image("width"), fill(" ", "1", "x")),
    "width: digits": (image("width"), fill("1", "1.", "x")),
    "style": (image("style"), fill("width: ")),
    "class of an image": (image("class"), fill("icon-")),
    "alt": (image("alt"), fill(" a")),
    "data-x": (image("data-x"), fill(".jpg")),
    "lazy address": (image("data-src"), fill("/a")),
    "lazy address: blanks": (image("data-src"), fill(" ", "a", "b")),
    "srcset": (image("srcset"), fill("a 1w,")),
    "srcset: commas": (lambda value: list(parse_srcset(value)), fill(",")),
    "srcset: blanks": (lambda value: list(parse_srcset(value)), fill(" ", "a")),
    "srcset: descriptors": (lambda value: list(parse_srcset(value)), fill("9w ", "a ")),
    "srcset: a number": (lambda value: list(parse_srcset(value)), fill("9", "a ", "w")),
    "description": (lambda text: is_described(text, "seal-a.jpg", "seal"), fill("a b ")),
    "class": (classed, fill("a-")),
    "class: skip": (classed, fill("skip-to", after="!")),
    "class: capitals": (classed, fill("aB")),
    "class: kommentar": (classed, fill("kommentar")),
    "address": (lambda value: absolute_url(URL, value), fill("../")),
    "address: a host": (lambda value: absolute_url(URL, value), fill("ü", "http://", "/a.jpg")),
    "address: backslashes": (lambda value: absolute_url(URL, value), fill("\\")),
    "base": (lambda value: base_url(URL, value), fill("a/")),
    "base: the page's": (lambda value: base_url(value, "x"), fill("a/", "http://e.test/")),
    "data: blanks": (inline, fill(" ", "data:")),
    "data: blanks and a comma": (inline, fill(" ", "data:a", ",")),
    "data: parameters": (inline, fill(";", "data:", ",")),
    "data: base64 of blanks": (inline, fill("A ", "data:;base64,")),
    "data: base64 of =": (inline, fill("=", "data:;base64,")),
    "data: escapes": (inline, fill("%4", "data:,")),
}


@pytest.mark.parametrize("name", VALUES)
def test_values_are_read_in_linear_time(name: str) -> None:
    assert_linear(*VALUES[name])


PAGES: dict[str, tuple[Callable[[Any], object], Callable[[int], Any]]] = {
    "divs": (read, fill("<div>")),
    "formatting": (read, fill("<b><i>")),
    "formatting in paragraphs": (read, fill("<b><p>x")),
    "anchors": (read, fill("<a href=x>x")),
    "lists": (read, fill("<ul><li>x, y.")),
    "definitions": (read, fill("<dl><dt>x<dd>y")),
    "tables": (read, fill("<table><tr><td>x<td>y")),
    "rows": (read, fill("<tr><td>x<td>y", "<table>")),
    "cells": (read, fill("<td>x", "<table><tr>")),
    "text between tables' tags": (read, fill("x<b>", "<table>")),
    "figures": (read, fill("<figure><img src=seal-a.jpg alt=a>x")),
    "a figure of images": (read, fill("<img src=seal-a.jpg>", "<figure>")),
    "images and a caption": (read, fill("<img src=seal-a.jpg>", "<figure>", "<figcaption>x")),
    "captions": (read, fill("<figcaption>x", "<figure><img src=a.jpg>")),
    "headlines": (read, fill("<h1>x<div>", "<title>x</title>")),
    "headings": (read, fill("<h2>x</h2>")),
    "quotes": (read, fill("<blockquote><q>")),
    "code": (read, fill("<pre><code>x\n")),
    "buttons": (read, fill("<button><img src=a>")),
    "attributes": (read, lambda n: "<img src=a.jpg " + " ".join(f"a{i}=1" for i in range(n // 8)) + ">"),
    "data attributes": (read, lambda n: "<img " + " ".join(f"data-{i}=a.jpg" for i in range(n // 16)) + ">"),
    "attributes of the element above": (
        read,
        lambda n: (
            f"<div {' '.join(f'a{i}=1' for i in range(n // 20))}>{'<img src=a>' * (n // 20)}</div><h1>x</h1>{PROSE}"
        ),
    ),
    "a class of the element above": (
        read,
        lambda n: f"<div class='{'-' * (n // 2)}'>" + "<img src=a>" * (n // 20) + "</div><h1>x</h1>" + PROSE,
    ),
    "an attribute": (read, fill("a", "<img src='", "'>")),
    "classes": (read, fill("<p class='skip-toskip-toskip-toskip-to!'>x")),
    "styles": (read, fill("<p style='display :none; color: red'>x")),
    "ids": (read, fill("<p id=post-123456x>x")),
    "a srcset": (read, fill("a.jpg 1w, ", "<img srcset='", "'>")),
    "sources": (read, fill("<source srcset='a 1x'>", "<picture>", "<img src=x.jpg></picture>")),
    "pictures": (read, fill("<picture><source srcset=a><img src=b></picture>")),
    "a long base": (read, lambda n: f"<base href='http://e.test/{'a/' * (n // 4)}'>" + "<img src=a.jpg>" * (n // 30)),
    "a long base of its own": (
        lambda page: extract(page[0], page[1], CONFIG),
        lambda n: ("<img src=a.jpg>" * (n // 30), "http://e.test/" + "a/" * (n // 4)),
    ),
    "bases": (read, fill("<base href=/a/>")),
    "refreshes": (read, fill("<meta http-equiv=refresh content='0;url=x'>")),
    "titles": (read, fill("<title>x</title>")),
    "a title of blanks": (read, lambda n: "<pre><title>" + " " * (n // 2) + "</title>" + "<title></title>" * (n // 30)),
    "svg titles": (read, fill("<svg><title>x</title>")),
    "an inline drawing": (read, fill("<path d='M0 0'/>", "<svg>")),
    "formulas": (read, fill("<math><mi>x")),
    "json-ld": (read, fill('{"a":[', "<script type=application/ld+json>")),
    "scripts": (read, fill("<script>x</script>")),
    "a script without end": (read, fill("<!--<script>", "<script>")),
    "styles without end": (read, fill("a{b:c}", "<style>")),
    "comments": (read, fill("<!-- -->")),
    "a comment without end": (read, fill("-", "<!--")),
    "comments in comments": (read, fill("<!--", "x")),
    "cdata": (read, fill("<![CDATA[")),
    "cdata in svg": (read, fill("]", "<svg><![CDATA[")),
    "processing instructions": (read, fill("<?x ")),
    "doctypes": (read, fill("<!doctype html>")),
    "half an end tag": (read, fill("</", "x")),
    "half a tag": (read, fill("<a ")),
    "entities": (read, fill("&amp;&notin;&#x41;&foo", "<p>")),
    "an entity without end": (read, fill("9", "<p>&#")),
    "an entity of zeros": (read, fill("0", "<p>&#x", "41;")),
    "ampersands": (read, fill("&", "<p>")),
    "null bytes": (read, fill("\0a", "<p>x")),
    "less-than signs": (read, fill("<")),
    "white space": (read, fill(" \n", "<p>x", "x")),
    "white space between tags": (read, fill(" <b> </b>", "<p>x")),
    "breaks": (read, fill("<br> ", "<p>x")),
    "bodies": (read, lambda n: "".join(f"<body a{i}=1>" for i in range(n // 14)) + "x"),
    "attributes of html and of html again": (
        read,
        lambda n: "".join("<html " + " ".join(f"{tag}{i}='>'" for i in range(n // 20)) + ">" for tag in "ab") + "x",
    ),
    "attributes of a body after text": (read, lambda n: "x<body " + " ".join(f"a{i}" for i in range(n // 7)) + ">y"),
    "quotes in html": (read, lambda n: "<html " + "='\"" * (n // 3) + ">x"),
    "forms": (read, fill("<form><input>x")),
    "options": (read, fill("<select><option>x")),
    "end tags": (read, fill("</p></span>", "<div>")),
    "misnested end tags": (read, lambda n: "<b>" + "<div>" * (n // 9) + "</b>" * (n // 9)),
    "noscripts": (read, fill("<noscript><img src=a.jpg></noscript>")),
    "frames": (read, fill("<iframe srcdoc='<p>x'></iframe>")),
    "templates": (read, fill("<template><div>")),
    "datelines": (read, fill("<p>3 May 2019, 10:12", PROSE, PROSE)),
    "posts": (read, fill("<div id=post_123>x</div>", PROSE)),
    "words of a sentence": (read, fill("word. ", "<p>")),
    "sentences without blanks": (read, fill("!?.", "<p>")),
    "emoji images": (read, fill("<img class=emoji src=x.png>", "<p>x")),
    "data addresses": (read, fill("<img src='DATA:image/png;base64," + "A" * 2_000 + "'>")),
    "a data address": (read, lambda n: f"<img src='data:image/png;base64,{'A' * min(n, 900_000)}'>"),
    "robots and images": (
        row,
        lambda n: PROSE + "<meta name=robots content=x>" * (n // 60) + "<img src=a.jpg>" * (n // 30),
    ),
    "a robot and images": (
        row,
        lambda n: f"{PROSE}<meta name=robots content='{'x,' * (n // 4)}'>" + "<img src=b>" * (n // 22),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PAGES)
def test_pages_are_read_in_linear_time(name: str) -> None:
    assert_linear(*PAGES[name], most=400_000)
