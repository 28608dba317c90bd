"""F1 of words and of images, against cases worked by hand."""

import random

import pytest

from benchmarks.extraction.measures import Score, bag_score, image_score, longest_common, order_score, words


def test_words() -> None:
    assert words("The cat’s 2 KITS, déjà-vu") == ["the", "cat", "s", "2", "kits", "déjà", "vu"]
    assert words("你好 world、カナ") == ["你", "好", "world", "カ", "ナ"]
    assert words("abc中文def") == ["abc", "中", "文", "def"]


def test_bag_counts_each_word_as_often_as_both_have_it() -> None:
    found, wanted = list("aabc"), list("cabbde")
    # common: a once, b once, c once
    assert bag_score(found, wanted) == Score(3 / 4, 3 / 6, 2 * 3 / 10)


def test_order() -> None:
    found, wanted = list("xcdab"), list("abcd")
    assert bag_score(found, wanted).f1 == pytest.approx(8 / 9)
    assert order_score(found, wanted) == Score(2 / 5, 2 / 4, 2 * 2 / 9)


def test_nothing() -> None:
    assert bag_score([], []) == Score(1, 1, 1)
    assert bag_score(["a"], []) == Score(0, 0, 0)
    assert order_score([], ["a"]) == Score(0, 0, 0)
    assert image_score([], []) == Score(1, 1, 1)


def test_images() -> None:
    wanted = [frozenset({"a"}), frozenset({"b", "b2"}), frozenset({"c"})]
    assert image_score(["a", "b2", "c"], wanted).f1 == 1
    assert image_score(["a", "ad", "c"], wanted) == Score(2 / 3, 2 / 3, 2 / 3)
    assert image_score(["c", "b", "a"], wanted) == Score(1 / 3, 1 / 3, 1 / 3)
    # an image found in two sizes is one right and one wrong
    assert image_score(["a", "b", "b2", "c"], wanted) == Score(3 / 4, 1, 6 / 7)
    assert image_score(["a", "a"], [frozenset({"a"}), frozenset({"a"})]).f1 == 1


def test_longest_common_against_the_plain_table() -> None:
    draw = random.Random(1)
    for _ in range(200):
        one = [draw.randrange(4) for _ in range(draw.randrange(90))]
        other = [draw.randrange(4) for _ in range(draw.randrange(90))]
        row = [0] * (len(other) + 1)
        for item in one:
            before = 0
            for place, wanted in enumerate(other):
                best = before + 1 if item == wanted else max(row[place], row[place + 1])
                before, row[place + 1] = row[place + 1], best
        assert longest_common(one, other) == row[-1]
