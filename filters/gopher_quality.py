"""Gopher's quality rules for a document's text (Rae et al. 2021, arXiv:2112.11446, A.1.1)."""

import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa

from mmcorpus.filters.english_words import tokenize
from mmcorpus.filters.texts import Remembered, TextScorer

STOP_WORDS: Final = frozenset({"the", "be", "to", "of", "and", "that", "have", "with"})


@dataclass(frozen=True, kw_only=True)
class GopherQualityScorer(TextScorer):
    """Columns of one document's text.

    The text is tokenised like spaCy (`filters.english_words`), so that a full stop is a token, and no word. words:
    tokens that are not made of punctuation and symbols alone. mean_word_length: their characters over their number.
    hashes, ellipses: occurrences of `#`, and of `...` and `…`, over the number of tokens. bullet_lines: the share of
    lines that start with `•` or `-`. ellipsis_lines: the share that end with an ellipsis. alphabetic_words: the share
    of tokens with a letter. stop_words: how many of the, be, to, of, and, that, have, with occur in lower case.

    The paper does not say what a word is; this follows datatrove's filter, and decides the tests' texts as it does. But
    datatrove takes what its list of punctuation lacks for words, as `•` and `©` alone; here no symbol is one.
    """

    name: ClassVar[str] = "gopher_quality"
    version: ClassVar[str] = "1"

    def schema(self) -> pa.Schema:
        columns: dict[str, pa.DataType] = {"words": pa.int32()}
        ratios = ("mean_word_length", "hashes", "ellipses", "bullet_lines", "ellipsis_lines", "alphabetic_words")
        return pa.schema(columns | dict.fromkeys(ratios, pa.float64()) | {"stop_words": pa.int32()})

    def load_measure(self) -> Callable[[str], Mapping[str, Any]]:
        def measure(text: str) -> dict[str, Any]:
            parts = tokenize(text)
            kinds = [_KINDS[part] for part in parts]
            words = [part for part, (word, _) in zip(parts, kinds, strict=True) if word]
            lines = text.splitlines()
            return {
                "words": len(words),
                "mean_word_length": sum(map(len, words)) / max(len(words), 1),
                "hashes": text.count("#") / len(parts),
                "ellipses": (text.count("...") + text.count("…")) / len(parts),
                "bullet_lines": sum(line.lstrip().startswith(("•", "-")) for line in lines) / len(lines),
                "ellipsis_lines": sum(line.rstrip().endswith(("...", "…")) for line in lines) / len(lines),
                "alphabetic_words": sum(alphabetic for _, alphabetic in kinds) / len(parts),
                "stop_words": len(STOP_WORDS.intersection(parts)),
            }

        return measure


def _kind(token: str) -> tuple[bool, bool]:
    """Whether a token is a word, and whether it has a letter."""
    return not is_mark(token), any(map(str.isalpha, token))


def is_mark(token: str) -> bool:
    """Whether a token is made of punctuation, symbols and controls alone."""
    return all(unicodedata.category(character)[0] in "PSC" for character in token)


_KINDS: Final = Remembered(_kind, most=1 << 17)
