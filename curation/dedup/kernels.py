"""The loops over bytes, shingles and permutations, compiled by numba the first time they are called.

Those of MinHash signatures are in `signatures`. Every function is plain Python on numpy arrays that numba understands;
`compiled` turns one into machine code and keeps it on disk (beside its file, or in the user's cache folder if that
cannot be written), so that a worker process loads it in a fraction of a second. Texts are read where Arrow holds them:
one buffer of UTF-8 and its offsets.

Unsigned 64-bit constants are numpy scalars, because numba makes a float of an int64 and a uint64.
"""

import functools
from collections.abc import Callable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

U8 = npt.NDArray[np.uint8]
U32 = npt.NDArray[np.uint32]
U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]

EXPANDED: Final = np.uint32(1 << 31)
"""In the table of code points: the rest is a place in `expansions`, where the length and then the points stand."""
ALONE: Final = np.uint32(1 << 30)
"""In a point: a word of its own, as a Chinese character is."""
NUMBER: Final = np.uint32(1 << 29)
"""The point that a digit becomes where numbers are made alike; a run of them counts once."""
SPACE: Final = np.uint32(32)
REPLACEMENT: Final = np.uint32(0xFFFD)

MULTIPLIER: Final = np.uint64(0x9E3779B97F4A7C15)
STEP: Final = np.uint64(0xD6E8FEB86659FD93)
_ONE: Final = np.uint64(1)
S32: Final = np.uint64(32)
_S33: Final = np.uint64(33)
_M1: Final = np.uint64(0xFF51AFD7ED558CCD)
_M2: Final = np.uint64(0xC4CEB9FE1A85EC53)
_N1: Final = np.uint32(0x85EBCA6B)
_N2: Final = np.uint32(0xC2B2AE35)


@functools.cache
def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The machine code of one of this file's functions; compiled once a machine, loaded once a process."""
    import numba
    from numba.extending import register_jitable

    for helper in (mix64, mix32, normalise_text, roll_words, shingle_points, ascii_words, fold_points):
        register_jitable(helper)
    code: Callable[..., Any] = numba.njit(cache=True, nogil=True)(function)
    return code


def mix64(h: Any) -> Any:
    """MurmurHash3's 64-bit finalizer: every bit of the input moves every bit of the output."""
    h = (h ^ (h >> _S33)) * _M1
    h = (h ^ (h >> _S33)) * _M2
    return h ^ (h >> _S33)


def mix32(h: Any) -> Any:
    """MurmurHash3's 32-bit finalizer."""
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(16))) * _N1)
    h = np.uint32(np.uint32(h ^ (h >> np.uint32(13))) * _N2)
    return np.uint32(h ^ (h >> np.uint32(16)))


def normalise_text(data: U8, start: int, end: int, table: U32, expansions: U32, collapse: bool, points: U32) -> int:
    """Write the normalised code points of data[start:end] to `points`; returns how many there are.

    What is no UTF-8 becomes U+FFFD, a byte at a time. `collapse` makes one space of a run and drops those at the ends.
    """
    count = 0
    last = SPACE if collapse else REPLACEMENT
    i = start
    while i < end:
        byte = data[i]
        length = 1
        point = np.uint32(byte)
        if byte >= 0x80:
            point = REPLACEMENT
            if 0xC2 <= byte < 0xE0:
                length = 2
                head = np.uint32(byte & 0x1F)
            elif 0xE0 <= byte < 0xF0:
                length = 3
                head = np.uint32(byte & 0x0F)
            elif 0xF0 <= byte < 0xF5:
                length = 4
                head = np.uint32(byte & 0x07)
            else:
                head = np.uint32(0)
            if length > 1:
                whole = i + length <= end
                if whole:
                    for j in range(1, length):
                        follower = data[i + j]
                        whole = whole and (follower & 0xC0) == 0x80
                        head = np.uint32((head << np.uint32(6)) | np.uint32(follower & 0x3F))
                if whole and head < len(table):
                    point = head
                else:
                    length = 1
        i += length
        mapped = table[point]
        if mapped & EXPANDED:
            at = np.int64(mapped ^ EXPANDED)
            for j in range(at + 1, at + 1 + np.int64(expansions[at])):
                points[count] = expansions[j]
                count += 1
            if expansions[at] > 0:
                last = points[count - 1]
            continue
        if (mapped == SPACE and collapse and last == SPACE) or (mapped == NUMBER and last == NUMBER):
            continue
        points[count] = mapped
        count += 1
        last = mapped
    if collapse and count > 0 and points[count - 1] == SPACE:
        count -= 1
    return count


def shingle_points(points: U32, count: int, by_words: bool, size: int, words: U64, out: U64) -> int:
    """Write the hashes of a text's shingles to `out`, in order and with repeats; returns how many there are.

    A text of fewer words (characters) than `size` is one shingle: itself. One without any has none.
    """
    if by_words:
        found = 0
        i = 0
        while i < count:
            if points[i] == SPACE:
                i += 1
                continue
            h = MULTIPLIER
            if points[i] & ALONE:
                h = (h ^ np.uint64(points[i])) * STEP
                i += 1
            else:
                while i < count and points[i] != SPACE and not points[i] & ALONE:
                    h = (h ^ np.uint64(points[i])) * STEP
                    h ^= h >> S32
                    i += 1
            words[found] = mix64(h)
            found += 1
    else:
        found = count
        for i in range(count):
            words[i] = (np.uint64(points[i]) + _ONE) * STEP
    return roll_words(words, found, size, out)


def roll_words(words: U64, found: int, size: int, out: U64) -> int:
    """Write the hashes of the runs of `size` among `found` hashed words; returns how many there are."""
    if found == 0:
        return 0
    width = min(size, found)
    # A polynomial in an odd number, modulo 2^64, over the last `width` units: what leaves is taken off at its power.
    power = _ONE
    for _ in range(width):
        power *= MULTIPLIER
    h = np.uint64(width)
    h ^= h  # zero, of the right type
    for i in range(width):
        h = h * MULTIPLIER + words[i]
    out[0] = mix64(h)
    for i in range(width, found):
        h = h * MULTIPLIER + words[i] - words[i - width] * power
        out[i - width + 1] = mix64(h)
    return found - width + 1


def ascii_words(data: U8, start: int, end: int, table: U32, expansions: U32, words: U64) -> int:
    """Write the hashes of a text's words in one pass, without its points; returns how many, -1 if it is not all ASCII.

    The same hashes as those of `normalise_text` and `shingle_points`, in half the time.
    """
    found = 0
    inside = False
    last = SPACE
    h = MULTIPLIER
    for i in range(start, end):
        byte = data[i]
        if byte >= 0x80:
            return -1
        point = table[byte]
        if point & EXPANDED:
            if expansions[np.int64(point ^ EXPANDED)] > 0:
                return -1
            continue
        if point == SPACE:
            if inside:
                words[found] = mix64(h)
                found += 1
                h = MULTIPLIER
                inside = False
        elif point != NUMBER or last != NUMBER:
            h = (h ^ np.uint64(point)) * STEP
            h ^= h >> S32
            inside = True
        last = point
    if inside:
        words[found] = mix64(h)
        found += 1
    return found


def fold_points(points: U32, count: int) -> Any:
    """One hash of all the points."""
    h = MULTIPLIER
    for i in range(count):
        h = (h ^ np.uint64(points[i])) * STEP
        h ^= h >> S32
    return mix64(h)


def shingle_texts(
    data: U8, offsets: I64, valid: npt.NDArray[np.bool_], table: U32, expansions: U32, growth: int,
    collapse: bool, by_words: bool, size: int,
) -> tuple[I64, U64]:  # fmt: skip
    """The shingles of texts: offsets int64 [N + 1] and their hashes uint64, in order and with repeats."""
    longest = 0
    for i in range(len(valid)):
        longest = max(longest, offsets[i + 1] - offsets[i])
    points = np.empty(longest * growth, np.uint32)
    words = np.empty(longest * growth, np.uint64)
    found = np.empty(longest * growth, np.uint64)
    values = np.empty(max(1024, offsets[-1] - offsets[0]) // 4, np.uint64)
    ends = np.zeros(len(valid) + 1, np.int64)
    total = 0
    for i in range(len(valid)):
        if valid[i]:
            count = normalise_text(data, offsets[i], offsets[i + 1], table, expansions, collapse, points)
            number = shingle_points(points, count, by_words, size, words, found)
            if total + number > len(values):
                larger = np.empty(max(2 * len(values), total + number), np.uint64)
                larger[:total] = values[:total]
                values = larger
            values[total : total + number] = found[:number]
            total += number
        ends[i + 1] = total
    return ends, values[:total].copy()
