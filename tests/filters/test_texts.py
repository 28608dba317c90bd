"""What the rules for texts share."""

import numpy as np
import pytest

from mmcorpus.filters.fineweb import FinewebScorer
from mmcorpus.filters.texts import count_sentences, duplicates, window_counts


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("One. Two! Three?", 3),
        ("No mark at the end", 1),
        ("Mr. Smith paid $3.50 to J. Doe of the U.S. Navy.", 1),
        ('He asked "Why?" She left.', 2),
        ("What?! Really...", 2),
        ("Glued together.Next one.", 2),
        ("version 1.2.3 of file.txt", 1),
        ("第一句。第二句！", 2),
        ("", 0),
    ],
)
def test_count_sentences(line: str, count: int) -> None:
    assert count_sentences(line) == count


def test_duplicates_are_those_that_stood_before() -> None:
    assert duplicates(["ab", "c", "ab", "ab", "c"]) == (3, 5)
    assert duplicates([]) == (0, 0)


def test_window_counts() -> None:
    values = np.array([1, 2, 1, 2, 1, 3], np.uint64)  # 12 21 12 21 13
    assert sorted(window_counts(values, 2)) == [1, 2, 2]
    assert sorted(window_counts(values, 6)) == [1]
    assert window_counts(values, 7).tolist() == []


def test_texts_that_are_none_are_null_with_a_reason() -> None:
    columns = FinewebScorer().load()({"caption": ["ab\ncd", None, "", " \n"]})
    assert columns["short_lines"] == [1.0, None, None, None]
    assert columns["reason"] == [None, "no_caption", "blank", "blank"]
