"""Caption rules: exact numbers, what is and is not a description, and any Unicode at all."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.filters import SCORERS, boilerplate
from mmcorpus.filters.caption import measure, repetition, text_hash


def split(text: str) -> list[str]:
    return text.split()


@pytest.mark.parametrize(
    ("caption", "characters", "words", "unique", "alphanumeric"),
    [
        ("A red clock on a wall", 21, 6, 5 / 6, 16 / 21),
        ("", 0, 0, 0.0, 0.0),
        ("   ", 3, 0, 0.0, 0.0),
        ("Straße\tÜber\n3 Uhr!", 18, 4, 1.0, 14 / 18),
        ("one one ONE One", 15, 4, 0.25, 12 / 15),
    ],
)
def test_counts(caption: str, characters: int, words: int, unique: float, alphanumeric: float) -> None:
    row = measure(caption)
    assert (row["characters"], row["words"]) == (characters, words)
    assert row["unique_word_ratio"] == pytest.approx(unique)
    assert row["alphanumeric_ratio"] == pytest.approx(alphanumeric)


def test_repetition_is_the_share_of_characters_that_repeated_trigrams_cover() -> None:
    assert repetition(split("a b c x a b c")) == 6 / 7
    assert repetition(split("aa b c xxxx aa b c")) == 8 / 12
    assert repetition(split("buy now buy now buy now")) == 1.0
    assert repetition(split("a b c d e f g")) == 0.0
    assert repetition(split("a b c")) == repetition([]) == 0.0
    assert measure("Buy Now buy now BUY NOW buy now")["repetition"] == 1.0


@pytest.mark.parametrize(
    "name",
    [
        "IMG_0123",
        "IMG_0123.JPG",
        "DSC00012.jpeg",
        "DSCN0042",
        "P1050234.JPG",
        "red-clock_small.png",
        "20230114_102233",
        "PXL_20230114_102233123.jpg",
        "Screenshot 2023-01-14 at 10.22.33.png",
        "image (3).jpg",
        "my holiday.jpg",
        "image001.gif",
        "c0a8f1de-1b2c-4d3e-8f90-a1b2c3d4e5f6.webp",
        "1234567_n.jpg",
        "WhatsApp Image 2020-01-02 at 10.00.00.jpeg",
        " photo-12 ",
    ],
)
def test_file_names(name: str) -> None:
    assert boilerplate.is_filename(name)


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/a/b.png?w=3",
        "https://example.org",
        "www.example.net/img",
        "example.com",
        "cdn.example.co.uk/x.jpg",
    ],
)
def test_urls(url: str) -> None:
    assert boilerplate.is_url(url)


@pytest.mark.parametrize(
    "text",
    [
        "<b>bold</b> clock",
        '<img src="x.png" alt="a clock">',
        "a clock<br/>",
        "salt &amp; pepper",
        "&#8217;tis",
        "[caption id=4]x[/caption]",
        "![clock](http://a/b.png)",
        "{{ title }}",
        "<!-- x -->",
        "[img]x[/img]",
    ],
)
def test_markup(text: str) -> None:
    assert boilerplate.has_markup(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "image",
        "Image 3",
        "Photo gallery",
        "Click here to enlarge",
        "click to view larger image",
        "View full size",
        "No image available",
        "Image not found",
        "Download free",
        "Free stock photos",
        "Placeholder",
        "Loading...",
        "Share on Facebook",
        "Add to cart",
        "Read more",
        "Advertisement",
        "untitled",
        "Logo",
        "thumbnail image",
        "All rights reserved.",
        "© 2020 Example Ltd. All rights reserved",
        "Haga clic para ampliar",
        "Bild vergrößern",
        "写真",
        "...",
        "🙂",
        "Image may contain: 2 people, people smiling",
        "12345",
    ],
)
def test_boilerplate(text: str) -> None:
    assert boilerplate.is_boilerplate(text)


@pytest.mark.parametrize(
    "caption",
    [
        "A red clock on a wall",
        "Photo of three cats on a sofa",
        "Logo of Acme Corporation",
        "Search and rescue dog at work",
        "Home office desk",
        "Two dogs share a blanket",
        "The sale of the old harbour, 1890",
        "IMG Academy campus",
        "x < y and y > z",
        "AT&T store in Dallas",
        "P90 saxophone",
        "DSLR camera on a table",
        "a view of the harbour at 10:10",
        "clicking sound waves chart",
        "A clock face reading 3:45, drawn in the file clock.svg of the museum",
        "Eine rote Uhr an der Wand",
        "लाल घड़ी",
        "una foto de un reloj",
    ],
)
def test_descriptions_are_nothing_of_the_kind(caption: str) -> None:
    row = measure(caption)
    assert not any(row[name] for name in ("is_boilerplate", "is_filename", "is_url", "has_markup"))


def test_text_hash_ignores_case_punctuation_and_spacing_but_not_words_or_vowels() -> None:
    same = ["A red clock!", "a  RED clock", "A red, clock.", "Ａ red clock", "a\tred\nclock…"]
    assert len({text_hash(caption) for caption in same}) == 1
    different = ["a red clock", "a red clocks", "red a clock", "कि", "का", "🙂", "🙁", "", "été", "ete"]
    assert len({text_hash(caption) for caption in different}) == len(different)
    assert len(text_hash("x")) == 32


@settings(max_examples=400, deadline=None)
@given(st.text(st.characters(), max_size=300))
def test_any_unicode_is_measured(caption: str) -> None:
    row = measure(caption)
    assert row["characters"] == len(caption)
    assert 0 <= row["words"] <= len(caption)
    for name in ("unique_word_ratio", "alphanumeric_ratio", "repetition"):
        assert 0.0 <= row[name] <= 1.0
    assert len(row["text_hash"]) == 32
    assert text_hash(boilerplate.normalise(caption)) == row["text_hash"]


@pytest.mark.parametrize(
    "piece", ["a", "a.", "<a ", "[", "image ", "a b ", "( ", "&", "1_", "www.", "{{", "click here "]
)
def test_long_hostile_captions_take_no_time(piece: str) -> None:
    start = time.process_time()
    measure(piece * 20_000)
    assert time.process_time() - start < 10.0


def test_missing_captions_are_null_with_a_reason() -> None:
    scorer = SCORERS["caption"]()
    columns = scorer.load()({"caption": ["a red clock", None, ""]})
    assert set(columns) == {*scorer.schema().names, "reason"}
    assert columns["words"] == [3, None, 0]
    assert columns["reason"] == [None, "no_caption", None]
    assert columns["is_boilerplate"] == [False, None, True]
