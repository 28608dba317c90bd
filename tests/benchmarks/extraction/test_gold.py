"""Gold text and images of a small page, and what is said of a bad label."""

from typing import Any

import pytest

from benchmarks.extraction.gold import absolute, decode, gold_images, gold_text, parse, problems
from benchmarks.extraction.pages import Label, label_of, read_labels

PAGE = """<html><head><base href="/b/"><title>No</title></head><body><nav>Menu</nav>
<article><h1>A <i>big</i> ti<b>tle</b></h1><div class=share>Share</div>
<p>One<br>two <!-- not --> <script>no()</script><noscript><img src=a.png>No</noscript>three
<table><tr><td>c1</td><td>c2</td></tr></table><button>Press</button>
<img data-src="ö b.jpg" src="blank.gif"><img srcset="s.jpg 100w, l.jpg?x=1,2 200w" src="s.jpg"></article>
<p class=note>Note <a class=topic>x</a><a class=topic>y</a></p></body></html>"""


def label(**changes: Any) -> Label:
    fields: dict[str, Any] = {
        "from": {"pypi": "a==1", "file": "a.html"}, "sha256": "", "url": "https://w.org/a/x.html", "kind": "news",
        "text": ["article", "article h1"], "without": [".share"],
        "images": ["ö b.jpg", ["l.jpg?x=1,2", "s.jpg"]], "split": "dev",
    }  # fmt: skip
    return label_of("a", {**fields, **changes})


def test_text_is_what_a_reader_sees_once_and_a_line_a_block() -> None:
    tree = parse(PAGE.encode())
    assert gold_text(label(), tree).split("\n") == ["A big title", "One", "two three", "c1", "c2"]
    assert gold_text(label(text=[".topic", "h1"]), tree).split("\n") == ["A big title", "x", "y"]


def test_images_are_absolute() -> None:
    assert gold_images(label(), parse(PAGE.encode())) == [
        {"https://w.org/b/%C3%B6%20b.jpg"},
        {"https://w.org/b/l.jpg?x=1,2", "https://w.org/b/s.jpg"},
    ]
    assert absolute("https://w.org/", "//i.org/a%20b.png#x") == "https://i.org/a%20b.png"


def test_a_sound_label_has_no_problems() -> None:
    assert problems(label(), PAGE.encode()) == []


def test_problems_are_named() -> None:
    assert problems(label(text=["article", ".none"]), PAGE.encode()) == ["nothing matches '.none'"]
    assert problems(label(without=["article"]), PAGE.encode()) == ["no text"]
    assert problems(label(images=["z.png"]), PAGE.encode()) == ["no attribute is the image 'z.png'"]
    assert problems(label(images=["s.jpg", "ö b.jpg"]), PAGE.encode()) == [
        "the image 'ö b.jpg' is not after the one before it"
    ]


def test_encodings() -> None:
    assert decode("é".encode()) == "é"
    assert decode(b'<meta http-equiv=x content="text/html; charset=gb2312">\xc4\xe3').endswith("你")
    assert decode(b"\x93caf\xe9\x94") == "“café”"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"from": {"pypi": "a", "file": "x"}}, "pin"),
        ({"from": {"pypi": "a==1"}}, "'file'"),
        ({"split": "train"}, "dev or test"),
        ({"colour": "red"}, "keys"),
    ],
)
def test_a_label_in_another_form_is_refused(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        label(**change)


def test_the_labels_read_and_their_halves_are_alike() -> None:
    labels = read_labels()
    assert len(labels) >= 60
    halves = [sum(one.split == half for one in labels) for half in ("dev", "test")]
    assert abs(halves[0] - halves[1]) <= 4
    with pytest.raises(ValueError, match="no label called nowhere"):
        read_labels(["nowhere"])
