"""n-grams: exactly those that a slow and obvious count finds."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.filters.ngrams import hash_ngrams, words


def by_hand(text: str, n: int, least: int) -> list[tuple[str, ...]]:
    found = words(text)
    if len(found) >= n:
        return [tuple(found[start : start + n]) for start in range(len(found) - n + 1)]
    return [tuple(found)] if len(found) >= least else []


def test_case_punctuation_spacing_and_forms_do_not_count() -> None:
    assert words("  The ﬁrst,\tSTRASSE's “Cat”—42!") == ["the", "first", "strasse", "s", "cat", "42"]
    assert words("Straße_x") == ["strasse", "x"]
    assert words("红色的cat ねこ") == ["红", "色", "的", "cat", "ね", "こ"]
    assert words(" .,! ") == []
    assert words("<image>\nIs <image 2> of an image?<IMAGE>") == ["is", "of", "an", "image"]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.text(alphabet="ab 1.", max_size=30), max_size=8),
    st.integers(1, 6),
    st.integers(1, 6),
)
def test_equal_hashes_are_equal_grams(texts: list[str], n: int, least: int) -> None:
    least = min(least, n)
    hashes, owners = hash_ngrams(texts, n, least)
    expected = [(number, gram) for number, text in enumerate(texts) for gram in by_hand(text, n, least)]
    assert sorted(owners.tolist()) == sorted(number for number, _ in expected)
    names = {gram: hash_ngrams([" ".join(gram)], n, least)[0] for _, gram in expected}
    assert all(len(found) == 1 for found in names.values())
    assert len({int(found[0]) for found in names.values()}) == len(names)
    assert sorted(zip(owners.tolist(), hashes.tolist(), strict=True)) == sorted(
        (number, int(names[gram][0])) for number, gram in expected
    )


def test_a_short_text_is_equal_to_no_part_of_a_long_one() -> None:
    short, _ = hash_ngrams(["one two three"], 4, 2)
    long, _ = hash_ngrams(["one two three four five"], 4, 2)
    assert len(short) == 1
    assert not set(short.tolist()) & set(long.tolist())


def test_hashes_are_the_same_for_ever() -> None:
    hashes, owners = hash_ngrams(["a b c", "a b"], 2, 1)
    assert owners.tolist() == [0, 0, 1]
    assert hashes[0] == hashes[2]
    assert [f"{value:016x}" for value in hashes[:2]] == ["8be5e75d755beb86", "665c90a28b929323"]
    assert hash_ngrams([], 3, 1)[0].dtype == np.uint64
