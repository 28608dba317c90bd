"""CIDEr-D, as the COCO caption evaluation computes it: tf-idf weighted n-grams shared with the references, times ten.

Source: Vedantam et al. 2015, CIDEr, §§ 3-4 and 6 (the D variant: clipped counts, a Gaussian penalty on lengths), in the
form of `pycocoevalcap`, whose values the tests hold: document frequencies are those of the references evaluated, and
lengths are counted in bigrams.
"""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

_N: Final = 4
_SIGMA: Final = 6.0
_TOKEN: Final = re.compile(r"\w+(?:'\w+)?")

NGram = tuple[str, ...]


def caption_words(text: str) -> list[str]:
    """A caption's words, in lower case and without punctuation, as the Penn Treebank tokeniser of COCO leaves them."""
    return _TOKEN.findall(text.lower())


def cider(captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
    """The CIDEr-D of each caption against its references, 0 to 10; the corpus's is their mean.

    It says something of a corpus alone: with one image every n-gram is in every document, and all weights are 0.
    """
    cooked = [[_ngrams(reference) for reference in those] for those in references]
    documents = Counter(ngram for those in cooked for ngram in {ngram for one in those for ngram in one})
    size = math.log(len(references)) if references else 0.0
    scores = []
    for caption, those in zip(captions, cooked, strict=True):
        ours = _Weighted(_ngrams(caption), documents, size)
        alike = [_similarity(ours, _Weighted(reference, documents, size)) for reference in those]
        scores.append(10.0 * sum(alike) / len(alike) if alike else 0.0)
    return scores


def _ngrams(text: str) -> Counter[NGram]:
    words = caption_words(text)
    return Counter(tuple(words[at : at + n]) for n in range(1, _N + 1) for at in range(len(words) - n + 1))


class _Weighted:
    """The tf-idf vectors of a caption, one for each n, with their norms; and its length in bigrams."""

    def __init__(self, counts: Mapping[NGram, int], documents: Mapping[NGram, int], size: float) -> None:
        self.vectors: list[dict[NGram, float]] = [{} for _ in range(_N)]
        for ngram, count in counts.items():
            self.vectors[len(ngram) - 1][ngram] = count * (size - math.log(max(1.0, documents.get(ngram, 0))))
        self.norms = [math.sqrt(sum(value * value for value in vector.values())) for vector in self.vectors]
        self.length = sum(count for ngram, count in counts.items() if len(ngram) == 2)


def _similarity(ours: _Weighted, reference: _Weighted) -> float:
    """The mean over n of the clipped cosine, times the penalty on the difference in length."""
    penalty = math.exp(-((ours.length - reference.length) ** 2) / (2 * _SIGMA**2))
    total = 0.0
    for mine, theirs, norm, other in zip(ours.vectors, reference.vectors, ours.norms, reference.norms, strict=True):
        shared = sum(min(value, theirs.get(ngram, 0.0)) * theirs.get(ngram, 0.0) for ngram, value in mine.items())
        total += shared / (norm * other) if norm and other else shared
    return penalty * total / _N
