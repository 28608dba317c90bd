"""FineWeb's own rules for a document's text (Penedo et al. 2024, arXiv:2406.17557, 3.6)."""

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from mmcorpus.filters.english_words import tokenize
from mmcorpus.filters.texts import TextScorer, duplicates


@dataclass(frozen=True, kw_only=True)
class FinewebScorer(TextScorer):
    """Columns of one document's text; lines of nothing but white space do not count.

    line_punctuation: the share of lines that end in a mark that ends sentences (Unicode's Sentence_Terminal), 0-1.
    short_lines: the share of lines of at most `short_line` characters, 0-1. duplicate_line_characters: characters of
    lines that stood before over those of the text without line breaks, 0-1. line_breaks: line breaks over words and
    marks (`mmcorpus.filters.english_words`), 0 or more; high in lists.
    """

    short_line: int = 30
    """A line of so many characters is short."""

    name: ClassVar[str] = "fineweb"
    version: ClassVar[str] = "1"

    def __post_init__(self) -> None:
        if self.short_line < 1:
            raise ValueError(f"fineweb.short_line is {self.short_line}; give 1 or more characters")

    def schema(self) -> pa.Schema:
        names = ("line_punctuation", "short_lines", "duplicate_line_characters", "line_breaks")
        return pa.schema(dict.fromkeys(names, pa.float64()))

    def load_measure(self) -> Callable[[str], Mapping[str, Any]]:
        import regex

        terminal = functools.lru_cache(maxsize=4096)(regex.compile(r"\p{Sentence_Terminal}").match)

        def measure(text: str) -> dict[str, Any]:
            lines = [line for line in text.split("\n") if line and not line.isspace()]
            breaks = text.count("\n")
            return {
                "line_punctuation": sum(terminal(line[-1]) is not None for line in lines) / len(lines),
                "short_lines": sum(len(line) <= self.short_line for line in lines) / len(lines),
                "duplicate_line_characters": duplicates(lines)[1] / (len(text) - breaks),
                "line_breaks": breaks / len(tokenize(text)),
            }

        return measure
