"""Gopher's repetition rules for a document's text (Rae et al. 2021, arXiv:2112.11446, A.1.1 and table A1)."""

import functools
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from mmcorpus.filters.english_words import tokenize
from mmcorpus.filters.texts import TextScorer, duplicates

TOP: Final = (2, 3, 4)
"""Lengths of which the most frequent n-gram is measured."""
DUPLICATE: Final = (5, 6, 7, 8, 9, 10)
"""Lengths of which all repeated n-grams are measured."""
_PARAGRAPHS: Final = re.compile(r"\n{2,}")
_LINES: Final = re.compile(r"\n+")
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, kw_only=True)
class GopherRepetitionScorer(TextScorer):
    """Columns of one document's text; each a share, 0-1.

    duplicate_lines, duplicate_paragraphs: of the lines (paragraphs: separated by empty lines), those that stood before.
    duplicate_line_characters, duplicate_paragraph_characters: their characters over those of the text. top_2gram …
    top_4gram: the characters (with the spaces between) of the most frequent n-gram of words, times how often it occurs,
    over those of the text; of equally frequent ones the first counts. duplicate_5gram … duplicate_10gram: the
    characters of n-grams that occurred before, read from the left and none counted twice, over those of the text.

    The text is tokenised like spaCy (`filters.english_words`). The paper counts all occurrences of a repeated n-gram
    where this leaves out the first, as does datatrove's filter that FineWeb was made with; tests hold both together.
    """

    name: ClassVar[str] = "gopher_repetition"
    version: ClassVar[str] = "1"

    def schema(self) -> pa.Schema:
        names = ["duplicate_lines", "duplicate_paragraphs"]
        names += ["duplicate_line_characters", "duplicate_paragraph_characters"]
        names += [f"top_{length}gram" for length in TOP] + [f"duplicate_{length}gram" for length in DUPLICATE]
        return pa.schema(dict.fromkeys(names, pa.float64()))

    def load_measure(self) -> Callable[[str], Mapping[str, Any]]:
        top, repeated = _compiled(_top_characters), _compiled(_duplicate_characters)

        def measure(text: str) -> dict[str, Any]:
            lines, paragraphs = _LINES.split(text), _PARAGRAPHS.split(text.strip())
            line_count, line_characters = duplicates(lines)
            paragraph_count, paragraph_characters = duplicates(paragraphs)
            words = tokenize(text)
            numbers: dict[str, int] = {}
            order = np.fromiter((numbers.setdefault(word, len(numbers) + 1) for word in words), np.uint64, len(words))
            lengths = np.fromiter(map(len, words), np.int64, len(words))
            row = {
                "duplicate_lines": line_count / len(lines),
                "duplicate_paragraphs": paragraph_count / len(paragraphs),
                "duplicate_line_characters": line_characters / len(text),
                "duplicate_paragraph_characters": paragraph_characters / len(text),
            }
            row |= {f"top_{length}gram": top(order, lengths, length) / len(text) for length in TOP}
            return row | {
                f"duplicate_{length}gram": repeated(order, lengths, length) / len(text) for length in DUPLICATE
            }

        return measure


@functools.cache
def _compiled(function: Callable[..., int]) -> Callable[..., int]:
    """Its machine code, kept on disk: compiled once a machine, loaded once a process."""
    import numba
    from numba.extending import register_jitable

    for helper in (_windows, _empty_table, _slot):
        register_jitable(helper)
    code: Callable[..., int] = numba.njit(cache=True)(function)
    return code


def _windows(words: Any, length: int) -> Any:
    """A hash of every run of `length` words."""
    hashes = np.empty(max(len(words) - length + 1, 0), np.uint64)
    for start in range(len(hashes)):
        value = np.uint64(length)
        for offset in range(length):
            value = (value ^ words[start + offset]) * _MULTIPLIER
            value ^= value >> np.uint64(29)
        hashes[start] = value
    return hashes


def _empty_table(count: int) -> Any:
    """A table for the positions of so many hashes, at most half full; its size is a power of two."""
    size = 8
    while size < 2 * count:
        size *= 2
    return np.full(size, -1, np.int64)


def _slot(table: Any, hashes: Any, key: Any) -> int:
    """The slot of a table of positions in `hashes` that holds the key, or could."""
    mask = len(table) - 1
    slot = int((key * _MULTIPLIER) >> np.uint64(32)) & mask
    while table[slot] >= 0 and hashes[table[slot]] != key:
        slot = (slot + 1) & mask
    return slot


def _top_characters(words: Any, lengths: Any, length: int) -> int:
    """Characters of all occurrences of the most frequent n-gram, the first of several; 0 if there is none."""
    hashes = _windows(words, length)
    if len(hashes) == 0:
        return 0
    table, counts = _empty_table(len(hashes)), np.zeros(len(hashes), np.int64)
    for start in range(len(hashes)):
        slot = _slot(table, hashes, hashes[start])
        if table[slot] < 0:
            table[slot] = start
        counts[table[slot]] += 1
    place = counts.argmax()  # counted where each occurs first, so that the first of several is found
    return int((length - 1 + lengths[place : place + length].sum()) * counts[place])


def _duplicate_characters(words: Any, lengths: Any, length: int) -> int:
    """Characters of the n-grams that occurred before, read from the left; none counts twice.

    `a b a b a b` with n = 2: `a b` is new, `b a` is new, the second `a b` is not and is stepped over, nor is the third.
    """
    hashes = _windows(words, length)
    table = _empty_table(len(hashes))
    characters = start = 0
    while start < len(hashes):
        slot = _slot(table, hashes, hashes[start])
        if table[slot] < 0:
            table[slot] = start
            start += 1
        else:
            for offset in range(length):
                characters += lengths[start + offset]
            start += length
    return int(characters)
