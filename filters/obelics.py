"""OBELICS' measures of a text, of a paragraph or of a whole document (Laurençon et al. 2023, arXiv:2306.16527, A.2)."""

import functools
import math
import re
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa

from mmcorpus.filters import wordlists
from mmcorpus.filters.texts import Remembered, TextScorer, window_counts
from mmcorpus.filters.weights import weights_identity

PUNCTUATION: Final = ",;:?!."
_SPAM_WORDS: Final = """
    facebook twitter instagram reddit youtube pinterest flickr share tweet post comment subscribe newletter blogger
    bloggers interested might like sign-up sign log logged access contact content privacy policy website cookies cookie
    licensed password account follow terms mailing list download loading click
"""
SPAM_WORDS: Final = frozenset(_SPAM_WORDS.split())
"""As published, its slip (`newletter`) included."""
_SPACES: Final = re.compile("[ \n\t]+")
_RUN: Final = re.compile(r"[\w']+")
_STANDARD: Final = dict.fromkeys([0x00A0, 0x1680, *range(0x2000, 0x200B), 0x202F, 0x205F, 0x3000, 0xFFFC], " ")
_RATIOS: Final = (
    "character_repetition", "word_repetition", "special_characters", "stop_words", "flagged_words", "punctuation",
    "common_words", "spam_words",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class ObelicsScorer(TextScorer):
    """Columns of one text, as OBELICS' code computes them, which took them from ROOTS (Laurençon et al. 2022).

    Words are what spaces, tabs and line breaks part, in lower case, with special characters stripped from both ends;
    what is nothing but those is no word. words: their number. character_repetition: of the n-grams of characters, the
    share of occurrences that the ⌊√D⌋ most frequent have, of D different ones, no more than occur twice.
    word_repetition: of the n-grams of words, the share of occurrences that belong to one that occurs twice.
    special_characters: their share of the characters; special are digits, white space, punctuation, symbols, emoji.
    stop_words, flagged_words, common_words, spam_words: shares of the words that stand in a list. tokens: runs of
    letters, digits and apostrophes, and marks of `,;:?!.`; punctuation: the marks' share of those. All shares are
    0-1, and 0 where there is nothing to share.

    Where OBELICS lists special characters, this goes by Unicode's categories: its list of 1,600 has 29 letters,
    too (`ø`, `π`, `上`). Without files of one's own, the lists are by `filters.wordlists`; OBELICS' common words were
    never part of its code, and its flagged words are not shipped: name a file.
    """

    language: str = "en"
    """Language of the stop words and common words, as wordfreq writes it: `en`, `de`, `zh`, …"""
    character_length: int = 10
    """Characters in an n-gram."""
    word_length: int = 5
    """Words in an n-gram."""
    stop_word_count: int = 200
    """This many of the most frequent words are the stop words."""
    common_word_zipf: float = 1.0
    """Words that occur 10 to the power of this times in a billion words are common; below 1 the list ends."""
    stop_words: str | None = None
    """A file of stop words instead, local or remote: one a line, or a JSON list."""
    common_words: str | None = None
    """A file of common words instead."""
    flagged_words: str | None = None
    """A file of words that should not occur; null: none is flagged, and the share is 0."""

    name: ClassVar[str] = "obelics"
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        for name in ("character_length", "word_length", "stop_word_count"):
            if getattr(self, name) < 1:
                raise ValueError(f"obelics.{name} is {getattr(self, name)}; give 1 or more")

    def schema(self) -> pa.Schema:
        columns: dict[str, pa.DataType] = {"words": pa.int32(), "tokens": pa.int32()}
        return pa.schema(columns | dict.fromkeys(_RATIOS, pa.float64()))

    def check(self) -> None:
        if self.stop_words is None or self.common_words is None:
            wordlists.check_language(self.language)
        for path in self._files:
            wordlists.from_file(path)

    def model(self) -> str:
        shipped = self.stop_words is None or self.common_words is None
        lists = [wordlists.edition()] if shipped else []
        return " ".join(lists + [weights_identity(path) for path in self._files])

    @property
    def _files(self) -> list[str]:
        return [path for path in (self.stop_words, self.common_words, self.flagged_words) if path is not None]

    def load_measure(self) -> Callable[[str], Mapping[str, Any]]:
        lists = {
            "stop_words": wordlists.from_file(self.stop_words)
            if self.stop_words
            else wordlists.most_frequent(self.language, self.stop_word_count),
            "flagged_words": wordlists.from_file(self.flagged_words) if self.flagged_words else frozenset(),
            "common_words": wordlists.from_file(self.common_words)
            if self.common_words
            else wordlists.at_least(self.language, self.common_word_zipf),
            "spam_words": SPAM_WORDS,
        }
        special = special_table()

        def look_up(word: str) -> tuple[str, tuple[bool, ...]]:
            plain = strip_special(word.lower())
            return plain, tuple(plain in one for one in lists.values())

        known = Remembered(look_up, most=1 << 17)

        def measure(text: str) -> dict[str, Any]:
            text = standard_spaces(text)
            codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
            words = [found for word in _SPACES.split(text) if word and (found := known[word])[0]]
            numbers: dict[str, int] = {}
            order = np.fromiter(
                (numbers.setdefault(word, len(numbers) + 1) for word, _ in words), np.uint64, len(words)
            )
            counts = {name: sum(flags[place] for _, flags in words) for place, name in enumerate(lists)}
            marks = sum(map(text.count, PUNCTUATION))
            tokens = marks + sum(1 for _ in _RUN.finditer(text))
            return {
                "words": len(words),
                "tokens": tokens,
                "character_repetition": top_share(window_counts(codes.astype(np.uint64), self.character_length)),
                "word_repetition": repeated_share(window_counts(order, self.word_length)),
                "special_characters": float(special[codes].mean()),
                "punctuation": marks / max(tokens, 1),
                **{name: count / max(len(words), 1) for name, count in counts.items()},
            }

        return measure


def top_share(counts: np.ndarray) -> float:
    """The share of all occurrences that the most frequent n-grams have: ⌊√D⌋ of D, and only such as occur twice.

    >>> top_share(np.array([3, 1, 1, 2, 1]))  # ⌊√5⌋ = 2: 3 and 2 of 8
    0.625
    """
    top = min(math.isqrt(len(counts)), int((counts > 1).sum()))
    if not top:
        return 0.0
    return float(np.partition(counts, len(counts) - top)[len(counts) - top :].sum() / counts.sum())


def repeated_share(counts: np.ndarray) -> float:
    """The share of all occurrences that belong to an n-gram that occurs at least twice."""
    return float(counts[counts > 1].sum() / counts.sum()) if len(counts) else 0.0


def is_special(character: str) -> bool:
    """Digits, white space, punctuation, symbols, controls, what is unassigned, and what makes emoji of characters."""
    return unicodedata.category(character)[0] in "NZPSC" or character in "\ufe0e\ufe0f\u20e3"


@functools.cache
def special_table() -> np.ndarray:
    """Of every code point, whether it is special."""
    table = np.fromiter((is_special(chr(code)) for code in range(0x110000)), bool, 0x110000)
    table.flags.writeable = False
    return table


def strip_special(word: str) -> str:
    """A word without the special characters at its ends."""
    start, end = 0, len(word)
    while start < end and is_special(word[start]):
        start += 1
    while end > start and is_special(word[end - 1]):
        end -= 1
    return word[start:end]


def standard_spaces(text: str) -> str:
    """Unicode's other spaces, and the marks of lost objects, as plain spaces."""
    return text if text.isascii() else text.translate(_STANDARD)
