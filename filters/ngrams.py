"""Hashes of the word n-grams of texts, vectorised (Brown et al. 2020, GPT-3, appendix C)."""

import hashlib
import itertools
import re
from collections.abc import Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from mmcorpus.filters.normal_forms import normalize

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]

_UNSPACED: Final = "\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
"""Kana and Han, written without spaces: each character counts as a word."""
_WORD: Final = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
_IMAGE_MARK: Final = re.compile(r"<image(?: ?\d+)?>")
"""The place of a picture in a question: `<image>` as LLaVA writes it, `<image 1>` as MMMU does."""
_MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
_MIX: Final = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))


def words(text: str) -> list[str]:
    """The words of a text without case, punctuation, spacing, compatibility forms and marks of images."""
    return _WORD.findall(_IMAGE_MARK.sub(" ", normalize("NFKC", text).casefold()))


def hash_ngrams(texts: Sequence[str], n: int, min_words: int) -> tuple[Hashes, Indices]:
    """The hashes of all n-grams of some texts, and of which text each is; both of shape (grams,).

    A text of fewer than n words is one gram, all of it, which only a text of the very same words shares; with fewer
    than `min_words` it has none. Repeats within a text are kept. The hashes depend on nothing but the words.
    """
    split = [words(text) for text in texts]
    counts = np.fromiter(map(len, split), np.int64, len(split))
    ends = np.cumsum(counts)
    numbers: dict[str, int] = {}
    order = np.fromiter(
        (numbers.setdefault(word, len(numbers)) for word in itertools.chain.from_iterable(split)),
        np.int64,
        int(counts.sum()),
    )
    of_word = np.fromiter(map(_hash_word, numbers), np.uint64, len(numbers))[order]
    hashes, owners = [np.empty(0, np.uint64)], [np.empty(0, np.int64)]
    for length in range(max(min_words, 1), n):
        texts_of_length = np.flatnonzero(counts == length)
        hashes.append(_windows(of_word, ends[texts_of_length] - length, length))
        owners.append(texts_of_length)
    owner = np.repeat(np.arange(len(split)), counts)
    starts = np.arange(len(order))
    inside = starts + n <= ends[owner] if len(order) else np.empty(0, bool)
    hashes.append(_windows(of_word, starts[inside], n))
    owners.append(owner[inside])
    return np.concatenate(hashes), np.concatenate(owners)


def _hash_word(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def _windows(of_word: Hashes, starts: Indices, length: int) -> Hashes:
    """The hash of the `length` words from each start on: a polynomial of their hashes, its bits mixed (splitmix64)."""
    result = np.full(len(starts), length, np.uint64)
    for offset in range(length):
        result *= _MULTIPLIER
        result += of_word[starts + offset]
    for shift, factor in _MIX:
        result ^= result >> shift
        result *= factor
    return result ^ (result >> np.uint64(31))
