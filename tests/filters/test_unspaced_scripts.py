"""What docs/rules-documents.md says of scripts without spaces, number by number."""

import pytest

from mmcorpus.filters import c4, caption, ngrams
from mmcorpus.filters.english_words import tokenize
from mmcorpus.filters.fineweb import FinewebScorer
from mmcorpus.filters.gopher_quality import GopherQualityScorer
from mmcorpus.filters.gopher_repetition import GopherRepetitionScorer
from mmcorpus.filters.obelics import ObelicsScorer
from mmcorpus.filters.texts import count_sentences

CHINESE = "今天天气很好。我们去公园!"
THAI = "วันนี้อากาศดี เราไปสวน"


def test_words_of_the_rules() -> None:
    assert tokenize(CHINESE) == list(CHINESE), "Han and Kana: a word a character, marks too"
    assert tokenize("カメラ") == list("カメラ")
    assert tokenize(THAI) == THAI.split(), "Thai: what spaces part"
    assert tokenize("한국어 문장") == ["한국어", "문장"], "Korean has spaces"
    assert caption.measure(CHINESE)["words"] == 1
    assert ObelicsScorer().load_measure()(CHINESE)["words"] == 1  # type: ignore[index,call-overload]
    assert ngrams.words("天气很好") == list("天气很好")
    assert ngrams.words("อากาศดี")[0] == "อากาศด", "a Thai vowel above is no letter to the pattern, and parts words"


def test_sentences() -> None:
    assert count_sentences(CHINESE) == 2
    assert count_sentences("一。二！三？四") == 4, "full-width marks end a sentence without a space after them"
    assert count_sentences("一!二") == 1, "ASCII's do not"
    assert count_sentences(THAI) == 1, "Thai has no mark"


def test_rules_that_no_chinese_or_thai_text_passes() -> None:
    quality = GopherQualityScorer().load_measure()
    assert quality(CHINESE)["mean_word_length"] == 1  # type: ignore[index,call-overload]
    assert quality(THAI)["stop_words"] == 0  # type: ignore[index,call-overload]
    lines = c4.measure_lines("今天天气很好。\n今天 天气 很好。\n今天 天气 很好!")
    assert (lines["lines"], lines["kept_lines"]) == (3, 1), "C4 knows neither 。 nor words without spaces"


def test_top_ngrams_count_spaces_that_are_not_there() -> None:
    found = GopherRepetitionScorer().load_measure()("中国" * 50)
    assert not isinstance(found, str)
    assert found["top_2gram"] == pytest.approx(50 * 3 / 100), "two characters and a space, as datatrove joins them"
    assert found["duplicate_10gram"] <= 1, "these have none"
    assert GopherRepetitionScorer().load_measure()("中" * 20)["top_4gram"] > 1  # type: ignore[index,call-overload]


def test_ends_of_lines_and_breaks() -> None:
    found = FinewebScorer().load_measure()("今天天气很好。\n我们去公园")
    assert not isinstance(found, str)
    assert found["line_punctuation"] == 0.5, "by Unicode's Sentence_Terminal"
    assert found["line_breaks"] == pytest.approx(1 / 12)
