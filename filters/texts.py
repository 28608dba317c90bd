"""Shared by the rules for texts: a row a text, counts of sentences, of repeated lines and of n-grams."""

import re
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, TypeVar

import numpy as np
import numpy.typing as npt

from mmcorpus.filters.scorer import Batch, Columns, Scorer, columns_of

NO_CAPTION: Final = "no_caption"
BLANK: Final = "blank"
"""The reason of a text that has nothing but white space."""

Result = TypeVar("Result")
U64 = npt.NDArray[np.uint64]
_LONGEST_REMEMBERED: Final = 200
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)

_ENDS: Final = ".!?…。！？"
# A sentence ends at marks (with quotes and brackets) before a space, or before a capital after a small letter. A run of
# marks is looked at once, from its first on.
_SENTENCE_END: Final = re.compile(rf"(?<![{_ENDS}])[{_ENDS}]++[\"'”’)\]]*+(?=\s|$)|(?<=[a-z])\.(?=[A-Z])|[。！？]")
_ABBREVIATION: Final = re.compile(
    r"(?:^|[\s(\"'])(?:[^\W\d_]|(?:[^\W\d_]\.)+[^\W\d_]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|cf|No|Co"
    r"|Jan|Feb|Aug|Sept?|Oct|Nov|Dec)$"
)


@dataclass(frozen=True, kw_only=True)
class TextScorer(Scorer):
    """A scorer of one text at a time, null where it is missing (`no_caption`) or nothing but white space (`blank`)."""

    inputs: ClassVar[tuple[str, ...]] = ("caption",)

    @abstractmethod
    def load_measure(self) -> Callable[[str], Mapping[str, Any] | str]:
        """The function from a text to its values by column, or to the reason why there are none."""

    def load(self) -> Callable[[Batch], Columns]:
        names, measure = self.schema().names, self.load_measure()
        return lambda batch: columns_of(names, [blank_reason(text) or measure(text) for text in batch["caption"]])


class Remembered(dict[str, Result]):
    """A function's results by its argument, a word, say, of which a text has ever the same; emptied once it is full.

    Arguments of more than 200 characters come once, and are not kept: a page without spaces is one of them.
    """

    def __init__(self, function: Callable[[str], Result], most: int) -> None:
        self._function, self._most = function, most

    def __missing__(self, text: str) -> Result:
        if len(text) > _LONGEST_REMEMBERED:
            return self._function(text)
        if len(self) >= self._most:
            self.clear()
        return self.setdefault(text, self._function(text))


def blank_reason(text: str | None) -> str | None:
    """Why a text cannot be scored before anything is looked at: `no_caption`, `blank`; None if it can."""
    return NO_CAPTION if text is None else BLANK if not text.strip() else None


def count_sentences(line: str) -> int:
    """The sentences of a line; what stands after the last mark is one, too.

    >>> count_sentences('Mr. J. Smith paid $3.50. "Why?" he asked')
    3
    """
    count, end = 0, 0
    for match in _SENTENCE_END.finditer(line):
        if match[0] == "." and _ABBREVIATION.search(line[max(0, match.start() - 12) : match.start()]):
            continue
        count, end = count + 1, match.end()
    return count + (1 if line[end:].strip() else 0)


def duplicates(parts: Sequence[str]) -> tuple[int, int]:
    """The number of repeated lines (or paragraphs), the first of each left out, and their characters.

    >>> duplicates(["ab", "c", "ab", "ab"])
    (2, 4)
    """
    distinct = set(parts)
    return len(parts) - len(distinct), sum(map(len, parts)) - sum(map(len, distinct))


def window_counts(values: U64, length: int) -> npt.NDArray[np.int64]:
    """Counts of the different runs of `length` values, of shape (different runs,); in no order.

    Runs are told apart by 64 bits of hash.
    """
    windows = len(values) - length + 1
    if windows < 1:
        return np.empty(0, np.int64)
    hashes = values[:windows].copy()
    for offset in range(1, length):
        hashes *= _MULTIPLIER
        hashes += values[offset : offset + windows]
    hashes.sort()
    starts = np.flatnonzero(np.concatenate(([True], hashes[1:] != hashes[:-1])))
    return np.diff(starts, append=windows)
