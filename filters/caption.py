"""Caption rules: how long, how repetitive, and whether it is a description at all."""

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from mmcorpus.filters import boilerplate
from mmcorpus.filters.scorer import Batch, Columns, Scorer, columns_of
from mmcorpus.filters.texts import NO_CAPTION


@dataclass(frozen=True, kw_only=True)
class CaptionScorer(Scorer):
    """Columns of one caption.

    characters: code points, as `len(caption)` counts. words: runs between whitespace, as `caption.split()` counts
    (both are DataComp's measures). unique_word_ratio: distinct words, whatever their case, over words, 0-1.
    alphanumeric_ratio: letters and digits over characters, 0-1. repetition: the share of the words' characters that
    stand in a word 3-gram that occurs more than once, 0-1 (after Gopher, Rae et al. 2021, A.1.1). is_filename, is_url,
    has_markup, is_boilerplate: see `mmcorpus.filters.boilerplate`. text_hash: see `text_hash`.

    An empty caption has 0 of everything and counts as boilerplate; a missing one is null, with the reason `no_caption`.
    """

    name: ClassVar[str] = "caption"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("caption",)

    def schema(self) -> pa.Schema:
        columns: dict[str, pa.DataType] = {"characters": pa.int32(), "words": pa.int32()}
        columns |= dict.fromkeys(("unique_word_ratio", "alphanumeric_ratio", "repetition"), pa.float64())
        columns |= dict.fromkeys(("is_filename", "is_url", "has_markup", "is_boilerplate"), pa.bool_())
        return pa.schema(columns | {"text_hash": pa.string()})

    def load(self) -> Callable[[Batch], Columns]:
        names = self.schema().names

        def judge(batch: Batch) -> Columns:
            return columns_of(names, [NO_CAPTION if text is None else measure(text) for text in batch["caption"]])

        return judge


def measure(caption: str) -> dict[str, Any]:
    """All the columns of one caption."""
    words = caption.split()
    folded = [word.casefold() for word in words]
    return {
        "characters": len(caption),
        "words": len(words),
        "unique_word_ratio": len(set(folded)) / len(words) if words else 0.0,
        "alphanumeric_ratio": sum(map(str.isalnum, caption)) / len(caption) if caption else 0.0,
        "repetition": repetition(folded),
        "is_filename": boilerplate.is_filename(caption),
        "is_url": boilerplate.is_url(caption),
        "has_markup": boilerplate.has_markup(caption),
        "is_boilerplate": boilerplate.is_boilerplate(caption),
        "text_hash": text_hash(caption),
    }


def repetition(words: list[str], size: int = 3) -> float:
    """The share of characters in words that some repeated n-gram covers.

    `a b c x a b c`: both `a b c` are covered, `x` is not: 6 of 7.
    """
    if len(words) <= size:
        return 0.0
    grams = list(zip(*(words[start:] for start in range(size)), strict=False))
    counts = Counter(grams)
    if len(counts) == len(grams):
        return 0.0
    covered = {start + offset for start, gram in enumerate(grams) if counts[gram] > 1 for offset in range(size)}
    return sum(len(words[position]) for position in covered) / sum(map(len, words))


def text_hash(caption: str) -> str:
    """32 hex digits, equal for captions that differ in case, punctuation, spacing or compatibility forms alone."""
    text = boilerplate.normalise(caption).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()
