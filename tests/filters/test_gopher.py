"""Gopher's rules, computed by hand from the paper's definitions."""

import pytest

from mmcorpus.filters.gopher_quality import GopherQualityScorer
from mmcorpus.filters.gopher_repetition import GopherRepetitionScorer
from mmcorpus.filters.scorer import Scorer


def measure(scorer: Scorer, text: str) -> dict[str, float]:
    return {name: values[0] for name, values in scorer.load()({"caption": [text]}).items()}


def quality(text: str) -> dict[str, float]:
    return measure(GopherQualityScorer(), text)


def repetition(text: str) -> dict[str, float]:
    return measure(GopherRepetitionScorer(), text)


def test_words_and_their_length() -> None:
    row = quality("The cat and the dog, 42.")  # tokens: The cat and the dog , 42 .
    assert row["words"] == 6
    assert row["mean_word_length"] == pytest.approx((3 * 5 + 2) / 6)
    assert row["alphabetic_words"] == pytest.approx(5 / 8)
    assert row["stop_words"] == 2  # and, the: in lower case, each once


def test_symbols() -> None:
    row = quality("# a # b ... c …")
    assert row["hashes"] == pytest.approx(2 / 7)
    assert row["ellipses"] == pytest.approx(2 / 7)


def test_lines() -> None:
    row = quality("• one\n - two\nthree...\nfour…  \nfive")
    assert row["bullet_lines"] == pytest.approx(2 / 5)
    assert row["ellipsis_lines"] == pytest.approx(2 / 5)


def test_nothing_but_marks() -> None:
    row = quality("-- !!")
    assert (row["words"], row["mean_word_length"], row["reason"]) == (0, 0.0, None)


def test_lines_and_paragraphs_that_stood_before() -> None:
    text = "aa\nbb\n\naa\nbb\n\ncc"  # 15 characters, 3 paragraphs, 5 lines
    row = repetition(text)
    assert row["duplicate_paragraphs"] == pytest.approx(1 / 3)
    assert row["duplicate_paragraph_characters"] == pytest.approx(5 / len(text))
    assert row["duplicate_lines"] == pytest.approx(2 / 5)
    assert row["duplicate_line_characters"] == pytest.approx(4 / len(text))


def test_the_most_frequent_ngram() -> None:
    text = "the cat saw the cat"  # 2-grams: `the cat` twice, 7 characters each; 19 characters
    row = repetition(text)
    assert row["top_2gram"] == pytest.approx(14 / 19)
    assert row["top_3gram"] == pytest.approx(11 / 19)  # none comes again: the first, `the cat saw`, counts once
    assert row["top_4gram"] == pytest.approx(15 / 19)
    assert repetition("one two")["top_3gram"] == 0


def test_of_equally_frequent_ngrams_the_first_counts() -> None:
    assert repetition("a b x ccc ddd x a b x ccc ddd")["top_2gram"] == pytest.approx(2 * 3 / 29)


def test_ngrams_that_occurred_before() -> None:
    text = "a b c d e a b c d e"  # the second `a b c d e`: 5 characters of 19
    row = repetition(text)
    assert row["duplicate_5gram"] == pytest.approx(5 / 19)
    assert row["duplicate_6gram"] == 0
    # Stepped over: the n-grams that overlap one that was counted are not counted again.
    assert repetition("x x x x x x x x x x x x")["duplicate_5gram"] == pytest.approx(10 / 23)


@pytest.mark.parametrize("scorer", [GopherQualityScorer(), GopherRepetitionScorer()])
def test_a_blank_text_is_null(scorer: Scorer) -> None:
    row = measure(scorer, "\n")
    assert row.pop("reason") == "blank"
    assert set(row.values()) == {None}


def test_many_words_keep_their_table() -> None:
    words = " ".join(f"w{number}" for number in range(3_000))
    row = repetition(f"{words} {words}")
    assert row["duplicate_10gram"] == pytest.approx(sum(len(f"w{n}") for n in range(3_000)) / (2 * len(words) + 1))
