"""What is printed cannot steer a terminal."""

import pytest

from mmcorpus.curation.engine.terminal import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("\x1b]52;c;ZXZpbA==\x07", "\\x1b]52;c;ZXZpbA==\\x07"), ("\x9b31m", "\\x9b31m"),
        ("a\rb\x08c\x0b\x7f", "a\\rb\\x08c\\x0b\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"), ("\u2066x\u2069\u061c\u200f", "\\u2066x\\u2069\\u061c\\u200f"),
        ("\ufeff\u2028\u2029", "\\ufeff\\u2028\\u2029"), ("\ud800", "\\ud800"), ("\U000e0041", "\\U000e0041"),
        ("tab\tline\nüñí 漢字 می\u200cخواهم 👩\u200d👧", "tab\tline\nüñí 漢字 می\u200cخواهم 👩\u200d👧"),
    ],
)  # fmt: skip
def test_control_and_bidi_characters_show_as_text(text: str, expected: str) -> None:
    assert shown(text) == expected
    assert shown(expected) == expected
