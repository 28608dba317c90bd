"""How near an extraction is to the gold: F1 of words, of words in order, of images in order."""

import re
from collections import Counter
from collections.abc import Sequence
from typing import Final, NamedTuple, TypeVar

T = TypeVar("T")

# Scripts that put no space between words: Thai, Lao, Myanmar, Khmer, kana, Han. Each character is a word of its own.
_UNSPACED: Final = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD: Final = re.compile(rf"[{_UNSPACED}]|(?:(?![{_UNSPACED}])\w)+")


class Score(NamedTuple):
    """Shares of 1."""

    precision: float
    recall: float
    f1: float


def words(text: str) -> list[str]:
    """The words of a text, in order.

    >>> words("Don't 你好 ABC")
    ['don', 't', '你', '好', 'abc']
    """
    return _WORD.findall(text.lower())


def score(common: int, found: int, wanted: int) -> Score:
    """Precision, recall and F1 from counts; nothing found where nothing was wanted is right."""
    if not found and not wanted:
        return Score(1.0, 1.0, 1.0)
    precision, recall = common / found if found else 0.0, common / wanted if wanted else 0.0
    return Score(precision, recall, 2 * common / (found + wanted))


def bag_score(found: Sequence[str], wanted: Sequence[str]) -> Score:
    """Of the words as multisets."""
    return score((Counter(found) & Counter(wanted)).total(), len(found), len(wanted))


def order_score(found: Sequence[str], wanted: Sequence[str]) -> Score:
    """Of the words by their longest common subsequence."""
    return score(longest_common(found, wanted), len(found), len(wanted))


def image_score(found: Sequence[str], wanted: Sequence[frozenset[str]]) -> Score:
    """Of images by their longest common subsequence; any address of a wanted image counts as it."""
    number: dict[str, set[int]] = {}
    for place, image in enumerate(wanted):
        for address in image:
            number.setdefault(address, set()).add(place)
    # Images may share an address (the same one twice), hence places and not names: the plain table, images are few.
    row = [0] * (len(wanted) + 1)
    for address in found:
        places, before = number.get(address, set()), 0
        for place in range(len(wanted)):
            before, row[place + 1] = row[place + 1], before + 1 if place in places else max(row[place], row[place + 1])
    return score(row[-1], len(found), len(wanted))


def longest_common(one: Sequence[T], other: Sequence[T]) -> int:
    """Length of the longest common subsequence, one bit of a long integer a place (Hyyrö 2004, Bit-parallel LCS)."""
    places: dict[T, int] = {}
    for place, item in enumerate(other):
        places[item] = places.get(item, 0) | 1 << place
    mask = (1 << len(other)) - 1
    row = mask
    for item in one:
        matches = row & places.get(item, 0)
        row = ((row + matches) | (row - matches)) & mask
    return len(other) - row.bit_count()
