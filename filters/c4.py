"""C4's rules for a page's text (Raffel et al. 2020, arXiv:1910.10683, 2.2)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa

from mmcorpus.filters import wordlists
from mmcorpus.filters.texts import TextScorer, count_sentences
from mmcorpus.filters.weights import weights_identity

_CITATION: Final = re.compile(r"\[\d*\]|\[edit\]|\[citation needed\]")
_ENDS: Final = (".", "?", "!", '"', "'")
_POLICIES: Final = re.compile("terms of use|privacy policy|cookie policy|uses cookies|use of cookies|use cookies")
_LONG: Final = 1000  # characters of a word
_UNSPACED: Final = frozenset({"ja", "th", "zh"})


@dataclass(frozen=True, kw_only=True)
class C4Scorer(TextScorer):
    """Columns of one text, a page's or a paragraph's.

    C4 drops lines, then pages. lines: those with anything but white space. kept_lines: those that end in `.`, `?`, `!`
    or a quotation mark and not in `...`, have three words or more, none over 1,000 characters, no `javascript`, and no
    phrase of a policy (`terms of use`, `cookie policy`, …); marks of citation are left out first. sentences: of the
    lines kept. lorem_ipsum, curly_bracket: whether a line that ends well and has three words has the phrase, or `{`.
    flagged_words: how many different entries of the list stand in the text, between non-letters where the language
    has such; of C4's own list (LDNOOBW) nothing ships, so name a file of it.

    The order of the rules is that of C4's code and of datatrove's filter, whose decisions the tests hold it against.
    """

    flagged_words: str | None = None
    """A file of words and phrases, one a line, as LDNOOBW publishes them; null: none is flagged."""
    language: str = "en"
    """Of the flagged words: `ja`, `th` and `zh` are found anywhere, others as whole words."""

    name: ClassVar[str] = "c4"
    version: ClassVar[str] = "1"

    def schema(self) -> pa.Schema:
        columns = dict.fromkeys(("lines", "kept_lines", "sentences"), pa.int32())
        columns |= dict.fromkeys(("lorem_ipsum", "curly_bracket"), pa.bool_())
        return pa.schema(columns | {"flagged_words": pa.int32()})

    def check(self) -> None:
        if self.flagged_words is not None:
            wordlists.from_file(self.flagged_words)

    def model(self) -> str:
        return "" if self.flagged_words is None else weights_identity(self.flagged_words)

    def load_measure(self) -> Callable[[str], Mapping[str, Any]]:
        flagged = _pattern(self.flagged_words, self.language)

        def measure(text: str) -> dict[str, Any]:
            found = len(set(flagged.findall(text.lower()))) if flagged else 0
            return {**measure_lines(text), "flagged_words": found}

        return measure


def measure_lines(text: str) -> dict[str, Any]:
    """All columns but the flagged words."""
    lines = kept = sentences = 0
    lorem = bracket = False
    for raw in text.splitlines():
        line = raw.strip()
        lines += bool(line)
        words = line.split()
        if len(line) > _LONG and any(len(word) > _LONG for word in words):
            continue
        if "[" in line:
            line = _CITATION.sub("", line)
        if not line.endswith(_ENDS) or line.endswith("...") or len(words) < 3:
            continue
        lower = line.lower()
        if "lorem ipsum" in lower:
            lorem = True
            continue
        if "javascript" in lower:
            continue
        if "{" in line:
            bracket = True
            continue
        if _POLICIES.search(lower):
            continue
        kept += 1
        sentences += count_sentences(line)
    return {
        "lines": lines,
        "kept_lines": kept,
        "sentences": sentences,
        "lorem_ipsum": lorem,
        "curly_bracket": bracket,
    }


def _pattern(path: str | None, language: str) -> re.Pattern[str] | None:
    """A pattern of the entries of a list, the longest first; None without a list."""
    entries = sorted(wordlists.from_file(path), key=lambda entry: (-len(entry), entry)) if path else []
    if not entries:
        return None
    either = "|".join(map(re.escape, entries))
    return re.compile(either if language in _UNSPACED else rf"(?<!\w)(?:{either})(?!\w)")
