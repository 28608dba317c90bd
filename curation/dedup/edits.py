"""Texts by their length: captions that differ by few words, none of them a number; longer texts by their shingles.

Of two captions of a template ("A photo of a red bicycle in Lisbon") all words but one agree, as of a caption and its
edited copy. What tells them apart is how many words agree beside it, and whether it is a number: product codes, prices,
sizes and dates make another thing of the same words.
"""

from typing import Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mmcorpus.curation.dedup.kernels import ALONE, MULTIPLIER, S32, SPACE, STEP, compiled, mix64, normalise_text
from mmcorpus.curation.dedup.signatures import band_keys
from mmcorpus.curation.dedup.text import (
    POINTS,
    Bools,
    Hashes,
    Indices,
    Shingles,
    Texts,
    arrow_text,
    hash_shingles,
    jaccard,
    sign,
    table_of,
)

EDIT_WORDS: Final = 20
"""Words of the longer text for each one that may differ."""
LONG: Final = 100
"""Words from which on texts are compared by shingles."""
LONG_SIMILARITY: Final = 0.7
WORDS: Final = Shingles(size=1, unicode="nfkc", punctuation="space")
SHINGLES: Final = Shingles(size=5, unicode="nfkc", punctuation="space", numbers=False)

_ALONE_MARK: Final = np.uint64(1)
_NUMBER_MARK: Final = np.uint64(2)
_HASH: Final = np.uint64(0xFFFFFFFFFFFFFFFC)
_MARKS: Final = np.uint64(3)
_COSTS: Final = np.array([2, 1, 1 << 20, 1 << 20])
"""Of a word that differs, by its marks, in halves: of a number more than any two texts may differ by."""


class Words(NamedTuple):
    """The words of N texts."""

    offsets: Indices
    """[N + 1]: those of text i are words[offsets[i]:offsets[i + 1]]."""
    words: Hashes
    """Their hashes; the lowest bit says that a word is a character of a script without spaces, the next that it has a
    digit or numeral, or stands beside one that has: `12 March`, `500 ml`, `No 5 B`."""
    halves: Indices
    """[N]: twice the length in words, a character of a script without spaces being half a word."""
    whole: Hashes
    """[N]: a hash of all the words in their order."""


def read_words(texts: Texts) -> Words:
    """The words of texts as captions are compared by: lower case, NFKC, punctuation a space."""
    code = compiled(_read_words)
    return Words(*code(*arrow_text(texts, WORDS), *table_of(WORDS), numeric_points()))


def keys_by_length(texts: Any, a: Any, b: Any, bands: int, rows: int) -> tuple[Hashes, Bools, Hashes]:
    """Keys uint64 [N, bands], whether a text has a word [N], and a hash of each text's words [N].

    Below EDIT_WORDS - 1 words only equal texts share keys; up to LONG those that share most words; then most shingles.
    """
    found = read_words(texts)
    keys = np.repeat(found.whole[:, None], bands, axis=1)
    short = found.halves < 2 * (EDIT_WORDS - 1)
    long = found.halves >= 2 * LONG
    for chosen, shingles in ((~short & ~long, WORDS), (long, SHINGLES)):
        places = np.flatnonzero(chosen)
        if len(places):
            signatures, _, _ = sign(texts.take(places), shingles, a, b)
            keys[places] = compiled(band_keys)(signatures, bands, rows)
    return keys, found.halves > 0, found.whole


def same_by_length(texts: Any, first: Indices, second: Indices) -> Bools:
    """[P]: which pairs are duplicates.

    Of fewer than LONG words: the words that differ (substituted, inserted, left out) are no numbers nor beside one, and
    at most one for every EDIT_WORDS of the longer text. Of more: the Jaccard similarity of the 5-word shingles, all
    numbers alike, is at least LONG_SIMILARITY. One of each is no pair.
    """
    found = read_words(texts)
    long = found.halves >= 2 * LONG
    same = np.zeros(len(first), np.bool_)
    both = long[first] & long[second]
    if both.any():
        offsets, hashes = hash_shingles(texts, SHINGLES)
        same[both] = jaccard(offsets, hashes, first[both], second[both]) >= LONG_SIMILARITY
    neither = ~long[first] & ~long[second]
    code = compiled(_few_edits)
    same[neither] = code(found.offsets, found.words, found.halves, first[neither], second[neither], EDIT_WORDS)
    return same


def numeric_points() -> Bools:
    """[0x110000]: which code points are digits or numerals, 三 and Ⅷ among them."""
    if not _NUMERIC:
        table = np.fromiter((chr(point).isnumeric() for point in range(POINTS)), np.bool_, POINTS)
        table.setflags(write=False)
        _NUMERIC.append(table)
    return _NUMERIC[0]


_NUMERIC: list[Bools] = []


def _read_words(
    data: npt.NDArray[np.uint8], offsets: Indices, valid: Bools, table: Any, expansions: Any, growth: int, numeric: Any
) -> tuple[Indices, Hashes, Indices, Hashes]:
    longest = 0
    for i in range(len(valid)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    points = np.empty(longest * growth, np.uint32)
    values = np.empty(max(1024, offsets[-1] - offsets[0]) // 4, np.uint64)
    ends = np.zeros(len(valid) + 1, np.int64)
    halves = np.zeros(len(valid), np.int64)
    whole = np.zeros(len(valid), np.uint64)
    total = 0
    for i in range(len(valid)):
        count = 0
        if valid[i]:
            count = normalise_text(data, offsets[i], offsets[i + 1], table, expansions, True, points)
        if total + count > len(values):
            larger = np.empty(max(2 * len(values), total + count), np.uint64)
            larger[:total] = values[:total]
            values = larger
        start, carried = total, False
        j = 0
        while j < count:
            if points[j] == SPACE:
                j += 1
                continue
            h = MULTIPLIER
            marks = np.uint64(0)
            number = False
            if points[j] & ALONE:
                h = (h ^ np.uint64(points[j])) * STEP
                marks |= _ALONE_MARK
                number = numeric[points[j] ^ ALONE]
                halves[i] += 1
                j += 1
            else:
                while j < count and points[j] != SPACE and not points[j] & ALONE:
                    h = (h ^ np.uint64(points[j])) * STEP
                    h ^= h >> S32
                    number = number or numeric[points[j]]
                    j += 1
                halves[i] += 2
            if number or carried:
                marks |= _NUMBER_MARK
            if number and total > start:
                values[total - 1] |= _NUMBER_MARK
            carried = number
            values[total] = (mix64(h) & _HASH) | marks
            total += 1
        together = MULTIPLIER
        for j in range(start, total):
            together = (together ^ values[j]) * STEP
            together ^= together >> S32
        whole[i] = mix64(together)
        ends[i + 1] = total
    return ends, values[:total].copy(), halves, whole


def _few_edits(offsets: Indices, words: Hashes, halves: Indices, first: Indices, second: Indices, each: int) -> Bools:
    """Levenshtein's distance of words, after what both begin and end with is left off."""
    same = np.zeros(len(first), np.bool_)
    for p in range(len(first)):
        i, i_end = offsets[first[p]], offsets[first[p] + 1]
        j, j_end = offsets[second[p]], offsets[second[p] + 1]
        budget = 2 * (max(halves[first[p]], halves[second[p]]) // (2 * each))
        while i < i_end and j < j_end and words[i] == words[j]:
            i += 1
            j += 1
        while i < i_end and j < j_end and words[i_end - 1] == words[j_end - 1]:
            i_end -= 1
            j_end -= 1
        if budget == 0:
            same[p] = i == i_end and j == j_end
            continue
        line, column = words[i:i_end], words[j:j_end]
        row = np.zeros(len(column) + 1, np.int64)
        for n in range(len(column)):
            row[n + 1] = row[n] + _COSTS[column[n] & _MARKS]
        for m in range(len(line)):
            own = _COSTS[line[m] & _MARKS]
            before = row[0]
            row[0] += own
            least = row[0]
            for n in range(len(column)):
                other = _COSTS[column[n] & _MARKS]
                changed = before if line[m] == column[n] else before + max(own, other)
                before = row[n + 1]
                row[n + 1] = min(changed, min(before + own, row[n] + other))
                least = min(least, row[n + 1])
            if least > budget:
                break
        same[p] = row[-1] <= budget
    return same
