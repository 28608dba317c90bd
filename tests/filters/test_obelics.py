"""OBELICS' measures, computed by hand from the definitions of its paper and code."""

import json
from pathlib import Path

import numpy as np
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.filters import wordlists
from mmcorpus.filters.obelics import ObelicsScorer, repeated_share, strip_special, top_share


@pytest.fixture
def lists(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "stop.txt").write_text("The\na\n\nof\n")
    (tmp_path / "common.json").write_text(json.dumps(["cat", "dog", "the", "of"]))
    (tmp_path / "flagged.txt").write_text("damn\n")
    return {
        "stop_words": str(tmp_path / "stop.txt"),
        "common_words": str(tmp_path / "common.json"),
        "flagged_words": str(tmp_path / "flagged.txt"),
    }


def measure(text: str | None, scorer: ObelicsScorer) -> dict[str, float]:
    return {name: values[0] for name, values in scorer.load()({"caption": [text]}).items()}


def test_shares_of_words(lists: dict[str, str]) -> None:
    row = measure('The cat, "DOG" of\tthe damn!! 42 -- Share:', ObelicsScorer(**lists))
    assert row["words"] == 7  # the cat dog of the damn share; 42 and -- are special alone
    assert row["stop_words"] == pytest.approx(3 / 7)  # the, of, the
    assert row["common_words"] == pytest.approx(5 / 7)
    assert row["flagged_words"] == pytest.approx(1 / 7)
    assert row["spam_words"] == pytest.approx(1 / 7)
    assert row["tokens"] == 12  # The cat DOG of the damn 42 Share , ! ! :
    assert row["punctuation"] == pytest.approx(4 / 12)


def test_special_characters(lists: dict[str, str]) -> None:
    text = "Ab 1\u00a0☺️,x"  # special: space, 1, no-break space, smiley and its selector, comma
    assert measure(text, ObelicsScorer(**lists))["special_characters"] == pytest.approx(6 / 9)
    assert strip_special("“don't”,") == "don't"
    assert strip_special("(1)") == ""


def test_character_repetition(lists: dict[str, str]) -> None:
    # 3-grams of abcabcabd: abc bca cab abc bca cab abd: D = 4, ⌊√4⌋ = 2, of 7 occurrences the top two have 4.
    assert measure("abcabcabd", ObelicsScorer(character_length=3, **lists))["character_repetition"] == pytest.approx(
        4 / 7
    )
    # Fewer repeat than √D: 2-grams of abxyab: ab xb.. = ab bx xy ya ab: D = 4, ⌊√4⌋ = 2, but one repeats: 2 of 5.
    assert measure("abxyab", ObelicsScorer(character_length=2, **lists))["character_repetition"] == pytest.approx(2 / 5)
    assert measure("abcdefghi", ObelicsScorer(**lists))["character_repetition"] == 0
    assert top_share(np.array([5, 1, 1, 1])) == pytest.approx(5 / 8)


def test_word_repetition(lists: dict[str, str]) -> None:
    # 2-grams: a b, b c, c A=a, a b, b x: `a b` twice of 5. Case and marks do not count.
    assert measure("A b, c a B x", ObelicsScorer(word_length=2, **lists))["word_repetition"] == pytest.approx(2 / 5)
    assert measure("one two three four", ObelicsScorer(**lists))["word_repetition"] == 0
    assert repeated_share(np.array([], np.int64)) == 0


def test_a_text_of_no_words_is_no_failure(lists: dict[str, str]) -> None:
    row = measure("42 -- !!", ObelicsScorer(**lists))
    assert (row["words"], row["stop_words"], row["reason"]) == (0, 0.0, None)
    assert measure(" ", ObelicsScorer(**lists))["reason"] == "blank"
    assert measure(None, ObelicsScorer(**lists))["reason"] == "no_caption"
    assert measure("\ud800 lone", ObelicsScorer(**lists))["words"] == 1


def test_lists_of_wordfreq() -> None:
    scorer = ObelicsScorer()
    scorer.check()
    assert "wordfreq@" in scorer.model()
    row = measure("The clock on the wall of the xqzzk station was a gift.", scorer)
    assert row["words"] == 12
    assert row["stop_words"] == pytest.approx(7 / 12)  # the on the of the was a
    assert row["common_words"] == pytest.approx(11 / 12)
    assert row["flagged_words"] == 0
    assert measure("Die Lampe an der Wand", ObelicsScorer(language="de"))["stop_words"] == pytest.approx(3 / 5)
    assert len(wordlists.most_frequent("en", 200)) == 200
    assert wordlists.at_least("en", 5.0) < wordlists.at_least("en", 1.0)


def test_another_list_makes_other_scores(lists: dict[str, str], tmp_path: Path) -> None:
    before = ObelicsScorer(**lists).fingerprint()
    (tmp_path / "flagged.txt").write_text("darn\nheck\n")
    assert ObelicsScorer(**lists).fingerprint() != before


def test_lists_may_be_remote(s3_root: str) -> None:
    path = storage.join(s3_root, "flagged.txt")
    storage.write_bytes(path, b"damn\n")
    assert wordlists.from_file(path) == {"damn"}


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"obelics.word_length is 0"):
        ObelicsScorer(word_length=0)
    with pytest.raises(ValueError, match="no frequencies for the language 'xx'"):
        ObelicsScorer(language="xx").check()
    with pytest.raises(ValueError, match="no word list at"):
        ObelicsScorer(flagged_words=str(tmp_path / "missing.txt")).check()
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ValueError, match="is no JSON list of words"):
        ObelicsScorer(flagged_words=str(tmp_path / "bad.json")).check()
