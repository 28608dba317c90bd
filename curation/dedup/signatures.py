"""The loops that make MinHash signatures and compare shingles, compiled as those of `kernels` are."""

from typing import Final

import numpy as np
import numpy.typing as npt

from mmcorpus.curation.dedup.kernels import (
    I64,
    MULTIPLIER,
    S32,
    STEP,
    U8,
    U32,
    U64,
    ascii_words,
    fold_points,
    mix32,
    mix64,
    normalise_text,
    roll_words,
    shingle_points,
)

_LARGEST: Final = np.uint32(0xFFFFFFFF)


def sign_texts(
    data: U8, offsets: I64, valid: npt.NDArray[np.bool_], table: U32, expansions: U32, growth: int,
    collapse: bool, by_words: bool, size: int, hashed: bool, a: U32, b: U32,
) -> tuple[U32, U64, npt.NDArray[np.bool_]]:  # fmt: skip
    """MinHash signatures uint32 [N, K] of texts, a hash of each normalised text, and which texts have a shingle.

    Hashes are zero unless `hashed`: most texts are read once where they are not asked for.

    The k-th permutation of a shingle's lower 32 bits x is a[k] * mix32(x) + b[k] mod 2^32 (a odd): that of datasketch
    2.0, `affine32`. Signatures of texts without a shingle are all ones.
    """
    longest = 0
    for i in range(len(valid)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    points = np.empty(longest * growth, np.uint32)
    words = np.empty(longest * growth, np.uint64)
    found = np.empty(longest * growth, np.uint64)
    signatures = np.empty((len(valid), len(a)), np.uint32)
    hashes = np.zeros(len(valid), np.uint64)
    known = np.zeros(len(valid), np.bool_)
    for i in range(len(valid)):
        row = signatures[i]
        for k in range(len(a)):
            row[k] = _LARGEST
        if not valid[i]:
            continue
        start, end = offsets[i], offsets[i + 1]
        cut = ascii_words(data, start, end, table, expansions, words) if by_words and not hashed else -1
        if cut >= 0:
            number = roll_words(words, cut, size, found)
        else:
            count = normalise_text(data, start, end, table, expansions, collapse, points)
            number = shingle_points(points, count, by_words, size, words, found)
            if hashed:
                hashes[i] = fold_points(points, count)
        known[i] = number > 0
        # Four shingles a pass: the signature is loaded and stored a quarter as often, and the compiler makes vectors.
        j = 0
        while j + 4 <= number:
            x0 = mix32(np.uint32(found[j]))
            x1 = mix32(np.uint32(found[j + 1]))
            x2 = mix32(np.uint32(found[j + 2]))
            x3 = mix32(np.uint32(found[j + 3]))
            for k in range(len(a)):
                one = min(np.uint32(a[k] * x0 + b[k]), np.uint32(a[k] * x1 + b[k]))
                other = min(np.uint32(a[k] * x2 + b[k]), np.uint32(a[k] * x3 + b[k]))
                row[k] = min(row[k], min(one, other))
            j += 4
        while j < number:
            x0 = mix32(np.uint32(found[j]))
            for k in range(len(a)):
                row[k] = min(row[k], np.uint32(a[k] * x0 + b[k]))
            j += 1
    return signatures, hashes, known


def band_keys(signatures: U32, bands: int, rows: int) -> U64:
    """One hash a band, uint64 [N, bands], of the `rows` numbers of the signature that belong to it."""
    keys = np.empty((len(signatures), bands), np.uint64)
    for i in range(len(signatures)):
        for band in range(bands):
            h = MULTIPLIER
            for k in range(band * rows, (band + 1) * rows):
                h = (h ^ np.uint64(signatures[i, k])) * STEP
                h ^= h >> S32
            keys[i, band] = mix64(h)
    return keys


def jaccard(offsets: I64, values: U64, first: I64, second: I64) -> npt.NDArray[np.float64]:
    """The Jaccard similarity of pairs of shingle sets, [P]; `values` is put in order on the way."""
    ends = np.empty(len(offsets) - 1, np.int64)
    for i in range(len(offsets) - 1):
        own = values[offsets[i] : offsets[i + 1]]
        own.sort()
        kept = 0
        for j in range(len(own)):
            if j == 0 or own[j] != own[kept - 1]:
                own[kept] = own[j]
                kept += 1
        ends[i] = offsets[i] + kept
    result = np.zeros(len(first), np.float64)
    for p in range(len(first)):
        i, i_end = offsets[first[p]], ends[first[p]]
        j, j_end = offsets[second[p]], ends[second[p]]
        union = (i_end - i) + (j_end - j)
        shared = 0
        while i < i_end and j < j_end:
            x, y = values[i], values[j]
            shared += x == y
            i += x <= y
            j += y <= x
        if union > shared:
            result[p] = shared / (union - shared)
    return result
