"""Normal forms: Python's own, but for floods of marks."""

import unicodedata

import pytest

from mmcorpus.filters.normal_forms import RUN, normalize, stream_safe


@pytest.mark.parametrize("form", ["NFC", "NFD", "NFKC", "NFKD"])
@pytest.mark.parametrize(
    "text", ["", "plain", "café cafe\u0301", "ﬁ ① ﷺ ｶﾞ", "a" + "\u0301\u0327" * 15, "각", "\ud800", "ก็\u0e49", "x\u0344"]
)
def test_texts_get_pythons_own_form(form: str, text: str) -> None:
    assert normalize(form, text) == unicodedata.normalize(form, text)  # type: ignore[arg-type]


@pytest.mark.parametrize("mark", ["\u0301", "\u0327\u0301", "\uff9e", "\u0f73", "\U0001e94a\u0301"])
def test_floods_are_parted_after_every_run(mark: str) -> None:
    text = "a" + mark * 100
    safe = stream_safe(text)
    assert safe.replace("\u034f", "") == text
    assert max(map(len, safe[1:].split("\u034f"))) == RUN
    assert stream_safe(safe) == safe
