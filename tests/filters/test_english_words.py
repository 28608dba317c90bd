"""Words and marks, as spaCy's English tokenizer parts them."""

import pytest

from mmcorpus.filters.english_words import split_chunk, tokenize


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("A red clock.", "A red clock ."),
        ('He said: "Go!"', 'He said : " Go ! "'),
        ("It's John's, isn't it?", "It 's John 's , is n't it ?"),
        ("I can’t, we'll, cannot", "I ca n’t , we 'll , can not"),
        ("well-known U.S. law (e.g. Mr. J. Smith's).", "well - known U.S. law ( e.g. Mr. J. Smith 's ) ."),
        ("see https://a.org/b?c=d, www.a.org/x.", "see https://a.org/b?c=d , www.a.org/x ."),
        ("me@a.org and/or this/that", "me@a.org and/or this / that"),
        ("1,000.5 costs $3.50, 5km 50%", "1,000.5 costs $ 3.50 , 5 km 50 %"),
        ("wait... what…no", "wait ... what … no"),
        ("--no-check /usr/share/doc -i", "--no - check /usr / share / doc -i"),
        ("end.Next 3-4 2019-12-01", "end . Next 3 - 4 2019 - 12 - 01"),
        ("I ☺ 東京は", "I ☺ 東 京 は"),
        ("---------- # * •", "---------- # * •"),
        (" \n\t ", ""),
    ],
)
def test_tokens(text: str, expected: str) -> None:
    assert tokenize(text) == expected.split()


def test_nothing_but_white_space_is_lost() -> None:
    text = "«Ça va?» (oui–non): l'été… 'tis “so”, a+b=c; x_y [1] {2} <b>"
    assert "".join(tokenize(text)) == text.replace(" ", "")
    assert split_chunk("") == []


@pytest.mark.parametrize(
    "text", ["a" * 900 + ")" * 99, "(" * 100_000, "a.b." * 50_000, "上" * 50_000, "'" * 999, "\udc80"]
)
def test_hostile_text_is_parted_too(text: str) -> None:
    assert "".join(tokenize(text)) == text
