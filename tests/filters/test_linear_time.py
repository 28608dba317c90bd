"""Every pattern and loop that a text passes through takes time that grows with the text, on its worst input."""

from collections.abc import Callable
from typing import Any

import pytest

from mmcorpus.filters import boilerplate, c4, caption, english_words, kenlm, ngrams, url
from mmcorpus.filters.fineweb import FinewebScorer
from mmcorpus.filters.gopher_quality import GopherQualityScorer
from mmcorpus.filters.gopher_repetition import GopherRepetitionScorer
from mmcorpus.filters.mllm import answer
from mmcorpus.filters.obelics import ObelicsScorer
from mmcorpus.filters.texts import count_sentences
from tests.linear import assert_linear

Make = Callable[[int], str]


def repeated(part: str, before: str = "", after: str = "") -> Make:
    return lambda size: before + part * (size // len(part)) + after


def parsed(text: str) -> answer.Parsed:
    return answer.parse(answer.Answer(text=text))


MARKS = "\u0301\u0327"
"""Two marks that stand in the wrong order: putting n of them in order by insertion takes n * n / 4 steps."""

WORST: list[tuple[Callable[[str], object], Make]] = [
    (boilerplate.is_filename, repeated("1", "IMG_123", "!")),
    (boilerplate.is_filename, repeated("1", "2012-01-01 12", "!")),
    (boilerplate.is_filename, repeated("a.jp", "", " ")),
    (boilerplate.is_filename, repeated("_", "", "abcd")),
    (boilerplate.is_url, repeated(".", "www.", " x")),
    (boilerplate.is_url, repeated("a.com/", "", " x")),
    (boilerplate.is_url, repeated("a.", "", "x!")),
    (boilerplate.has_markup, repeated("<a ")),
    (boilerplate.has_markup, repeated(" ", "<br", "x")),
    (boilerplate.has_markup, repeated("[x](")),
    (boilerplate.has_markup, repeated("{{x")),
    (boilerplate.is_boilerplate, repeated("here ", "click ", "x")),
    (boilerplate.is_boilerplate, repeated("full ", "view ", "x")),
    (boilerplate.is_boilerplate, repeated("stock ", "free " * 100, "x")),
    (boilerplate.normalise, repeated(MARKS, "a")),
    (boilerplate.normalise, repeated("\uff9e\u0301", "a")),
    (boilerplate.normalise, repeated("\ufdfa")),
    (caption.measure, repeated("İ\u200b\u202e")),
    (caption.measure, repeated("a ")),
    (count_sentences, repeated("!", "a", "<")),
    (count_sentences, repeated('."')),
    (count_sentences, repeated("。…", "", "<")),
    (c4.measure_lines, repeated("[1", "a b c ", ".")),
    (c4.measure_lines, repeated("…", "a b ", "!<'")),
    (english_words.tokenize, repeated("a.com:", "http://", ")")),
    (english_words.tokenize, repeated("http://a.bb:c.dd:)).) ")),
    (english_words.tokenize, repeated("..a'")),
    (english_words.tokenize, repeated("中")),
    (ngrams.words, repeated(MARKS, "a")),
    (ngrams.words, repeated("1", "<image ")),
    (kenlm.normalize, repeated(MARKS, "a")),
    (url.url_path, repeated("a:", "http://")),
    (parsed, repeated(" ", "", "x")),
    (parsed, repeated(" ", "score ", "x")),
    (parsed, repeated(" ", "85", "x")),
    (parsed, repeated("1", "", "." + "2" * 100 + "x")),
]


@pytest.mark.parametrize("place", range(len(WORST)))
def test_the_worst_input_takes_linear_time(place: int) -> None:
    function, make = WORST[place]
    assert_linear(function, make, least=25_000)


SCORERS: list[Any] = [GopherQualityScorer(), GopherRepetitionScorer(), FinewebScorer(), ObelicsScorer()]


@pytest.mark.parametrize("scorer", SCORERS, ids=lambda scorer: scorer.name)
@pytest.mark.parametrize("part", ["a", "a ", "ab\n\n", "-", "中", "\u0e01\u0e31", "…\n", "1. "])
def test_rules_for_documents_take_linear_time(scorer: Any, part: str) -> None:
    assert_linear(scorer.load_measure(), repeated(part, "x "), least=25_000)


def test_a_chunk_as_long_as_is_split_takes_milliseconds() -> None:
    """Up to 1,000 characters without a space are split mark by mark; the worst of them bounds a page of such chunks."""
    import time

    for part in (".)", "a.b:", "a)", "x@y.", "'", "a.A", "1+"):
        for before in ("", "http://a.bb:"):
            chunk = (before + part * 1000)[:1000]
            start = time.perf_counter()
            english_words.split_chunk(chunk)
            assert time.perf_counter() - start < 0.5, chunk[:20]


@pytest.mark.parametrize(
    ("function", "text", "right"),
    [
        (boilerplate.is_filename, "IMG_20190102_123456.jpg", True),
        (boilerplate.is_filename, "IMG 12", True),
        (boilerplate.is_filename, "IMGP 1", False),
        (boilerplate.is_filename, "DSC00012 copy", True),
        (boilerplate.is_filename, "2012-01-01 12", True),
        (boilerplate.is_filename, "2012-01-01 1", False),
        (boilerplate.is_url, "www.example.com", True),
        (boilerplate.is_url, "www..com", False),
        (boilerplate.is_url, "www...c", True),
        (boilerplate.is_url, "www.a.", False),
        (boilerplate.is_url, "www.example.com today", False),
        (count_sentences, "One!!! Two?! Three…", 3),
        (count_sentences, "a!!<b", 1),
        (count_sentences, 'He said "no."" Then left.', 2),
        (count_sentences, "一。二！三", 3),
    ],
)
def test_patterns_say_what_they_said(function: Callable[[str], object], text: str, right: object) -> None:
    assert function(text) == right
