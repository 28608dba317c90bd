"""Uids as numbers: DataComp's sorted `u8,u8` arrays, read, written, ordered, searched and hashed without a Python loop.

A uid of 32 hex digits is a pair of unsigned 64-bit numbers: `(int(uid[:16], 16), int(uid[16:], 16))`. DataComp (arXiv
2304.14108; its `baselines` and `resharder.py`) stores a subset as the lexicographically sorted array of such pairs, as
`.npy` or as raw bytes; a uid listed twice is used twice.
"""

import hashlib
import io
import tokenize
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.store import storage

PAIR: Final = np.dtype("u8,u8")
"""The type of one uid in DataComp's arrays: fields `f0` (first 16 digits) and `f1` (last 16)."""

Pairs = npt.NDArray[np.void]
Integers = npt.NDArray[np.int64]

_BLOCK: Final = 1 << 16  # rows converted at a time: they stay in the cache, and 100 M uids need no scratch
_MAGIC: Final = b"\x93NUMPY"
_DIGITS: Final = np.frombuffer(b"0123456789abcdef", np.uint8)
_TWO_DIGITS: Final = (_DIGITS[:, None].astype("<u2") | _DIGITS[None, :].astype("<u2") << 8).ravel()
"""Byte to its two hex digits as one little-endian number."""
_BYTES: Final = np.full(1 << 16, 256, np.uint16)
"""The other way; 256 for what is no pair of digits."""
_BYTES[_TWO_DIGITS] = np.arange(256, dtype=np.uint16)


def encode(uids: pa.Array | pa.ChunkedArray | Sequence[str]) -> Pairs:
    """Uids as pairs, shape (n,), in the given order.

    Raises:
        ValueError: one is null or not 32 lower-case hex digits; it is named.
    """
    array = uids if isinstance(uids, (pa.Array, pa.ChunkedArray)) else pa.array(list(uids), pa.string())
    chunks = array.chunks if isinstance(array, pa.ChunkedArray) else [array]
    pairs = np.empty((len(array), 2), np.uint64)
    start = 0
    for chunk in chunks:
        for offset in range(0, len(chunk), _BLOCK):
            block = chunk.slice(offset, _BLOCK).cast(pa.string())
            pairs[start : start + len(block)] = _encode_block(block)
            start += len(block)
    return pairs.view(PAIR).reshape(-1)


def _encode_block(block: Any) -> npt.NDArray[np.uint64]:
    bad_length = pc.fill_null(pc.not_equal(pc.binary_length(block), pa.scalar(32)), True)
    if pc.any(bad_length).as_py():
        raise ValueError(_not_a_uid(block.filter(bad_length)[0].as_py()))
    offsets = np.frombuffer(block.buffers()[1], np.int32)[block.offset : block.offset + len(block) + 1]
    text = np.frombuffer(block.buffers()[2], "<u2", 16 * len(block), int(offsets[0])).reshape(-1, 16)
    octets = _BYTES[text]
    if octets.max(initial=0) == 256:
        raise ValueError(_not_a_uid(block[int((octets == 256).any(axis=1).argmax())].as_py()))
    return octets.astype(np.uint8).view(">u8").astype(np.uint64)


def _not_a_uid(text: object) -> str:
    return f"not a uid: {text!r}; a uid is 32 lower-case hex digits"


def decode(pairs: Pairs) -> pa.Array:
    """Pairs as a string array of uids, in the given order."""
    blocks = [_decode_block(pairs[start : start + _BLOCK]) for start in range(0, len(pairs), _BLOCK)]
    return pa.concat_arrays(blocks) if blocks else pa.array([], pa.string())


def _decode_block(pairs: Pairs) -> pa.Array:
    numbers = np.ascontiguousarray(pairs).view(np.uint64).reshape(-1, 2).astype(">u8")
    octets = numbers.view(np.uint8).reshape(-1, 16)
    text = _TWO_DIGITS[octets]
    offsets = np.arange(0, 32 * len(octets) + 1, 32, dtype=np.int32)
    return pa.Array.from_buffers(
        pa.string(), len(octets), [None, pa.py_buffer(offsets.data), pa.py_buffer(text.view(np.uint8).data)]
    )


def order(pairs: Pairs) -> Integers:
    """The permutation that sorts pairs lexicographically, equal ones in their given order."""
    # Sorting one field and repairing its ties is an order of magnitude faster than numpy's sort of structured pairs.
    first = np.ascontiguousarray(pairs["f0"])
    index: Integers = np.argsort(first)
    ordered = first[index]
    tied = np.zeros(len(ordered) + 1, bool)
    tied[1:-1] = ordered[1:] == ordered[:-1]
    tied = tied[:-1] | tied[1:]
    if tied.any():
        among = index[tied]
        index[tied] = among[np.lexsort((among, pairs["f1"][among], first[among]))]
    return index


def count(pairs: Pairs) -> tuple[Pairs, Integers]:
    """The distinct pairs, sorted, and how often each occurs."""
    ordered = pairs[order(pairs)]
    new = np.ones(len(ordered), bool)
    new[1:] = (ordered["f0"][1:] != ordered["f0"][:-1]) | (ordered["f1"][1:] != ordered["f1"][:-1])
    starts = np.flatnonzero(new)
    return ordered[starts], np.diff(np.append(starts, len(ordered)))


def encode_bytes(uids: npt.NDArray[np.bytes_]) -> tuple[Pairs, npt.NDArray[np.bool_]]:
    """Uids as 32 bytes each, shape (n,), as pairs; and which are uids at all; other pairs mean nothing."""
    octets = _BYTES[np.ascontiguousarray(uids, "S32").view("<u2").reshape(-1, 16)]
    pairs = octets.astype(np.uint8).view(">u8").astype(np.uint64)
    return pairs.view(PAIR).reshape(-1), (octets < 256).all(axis=1)


def find(wanted: Pairs, distinct: Pairs) -> Integers:
    """For each wanted pair its position in `distinct` (sorted, without repeats), or -1; shape (n,)."""
    return find_halves(wanted, np.ascontiguousarray(distinct["f0"]), distinct["f1"])


def find_halves(wanted: Pairs, first: npt.NDArray[np.uint64], second: npt.NDArray[np.uint64]) -> Integers:
    """`find` in pairs that are kept as an array of each field, for who asks often."""
    result = np.full(len(wanted), -1, np.int64)
    if not len(first):
        return result
    sought = np.ascontiguousarray(wanted["f0"])
    position = np.searchsorted(first, sought)
    open_ = np.flatnonzero(position < len(first))
    # Nearly always one step; more only where the first 64 bits of several uids agree.
    while len(open_):
        at = position[open_]
        open_, at = open_[first[at] == sought[open_]], at[first[at] == sought[open_]]
        hit = second[at] == wanted["f1"][open_]
        result[open_[hit]] = at[hit]
        open_ = open_[~hit]
        position[open_] += 1
        open_ = open_[position[open_] < len(first)]
    return result


def hashes(pairs: Pairs, salt: str = "") -> npt.NDArray[np.uint64]:
    """A well mixed 64-bit number of each uid and the salt alone; shape (n,).

    `identity.uid_fraction` for whole columns (other numbers, same promise): splitmix64 (Steele, Lea and Flood,
    OOPSLA 2014) over the two halves.
    """
    key = np.frombuffer(hashlib.blake2b(salt.encode(), digest_size=16).digest(), np.uint64)
    return _mix(_mix(pairs["f0"] ^ key[0]) ^ pairs["f1"] ^ key[1])


def fractions(pairs: Pairs, salt: str = "") -> npt.NDArray[np.float64]:
    """A uniform number in [0, 1) of each uid and the salt alone; shape (n,)."""
    return (hashes(pairs, salt) >> np.uint64(11)).astype(np.float64) / 2**53


def _mix(state: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    mixed = state + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def read_npy(path: str) -> Pairs:
    """The pairs of a DataComp subset, `.npy` or raw bytes, as stored: repeats and order are the file's.

    Raises:
        ValueError: the file is neither.
    """
    data = storage.read_bytes(path)
    if data.startswith(_MAGIC):
        try:
            shape, dtype, begin = _npy_header(data)
        except (ValueError, EOFError, SyntaxError, TypeError, tokenize.TokenError) as error:
            raise ValueError(f"{path}: a damaged .npy: {error}") from None
        if dtype != PAIR or len(shape) != 1:
            hint = "; objects are pickles, never read (allow_pickle); list uids as text" if dtype.hasobject else ""
            raise ValueError(f"{path}: expected a one-dimensional array of {PAIR}, found {dtype} {shape}{hint}")
        if len(data) - begin < shape[0] * PAIR.itemsize:
            raise ValueError(f"{path}: cut short: it says {shape[0]:,} uids and holds {len(data) - begin:,} bytes")
        return np.frombuffer(data, PAIR, shape[0], begin)
    if len(data) % PAIR.itemsize:
        raise ValueError(f"{path}: neither .npy nor raw uids: {len(data)} bytes are no multiple of {PAIR.itemsize}")
    return np.frombuffer(data, PAIR)


def _npy_header(data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """An array's shape and type, and where its values begin; nothing is made of them that a header only claims."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read: Any = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(file)
    return shape, dtype, file.tell()


def write_npy(path: str, pairs: Pairs) -> None:
    """Write pairs, sorted, as `.npy`, byte for byte as DataComp does."""
    with storage.atomic_write(path) as file:
        np.save(file, np.ascontiguousarray(pairs[order(pairs)]), allow_pickle=False)
