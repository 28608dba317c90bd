"""Texts as sets of hashed shingles: normalised, cut into words or characters, hashed, straight from Arrow's buffers."""

import functools
import unicodedata
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.dedup import kernels, signatures
from mmcorpus.filters.normal_forms import RUN, stream_safe

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Bools = npt.NDArray[np.bool_]

POINTS: Final = 0x110000
_ASSIGNED: Final = ((0, 0x33500), (0xE0000, 0xE01F0))
"""Where Unicode has characters that normalising changes; planes 4-13 are empty, 15 and 16 private."""
_MEANING: Final = "#%‰"
"""Punctuation by its category that makes another name or number of what it stands beside: C# and C, 5 % and 5."""
_ALONE: Final = (
    (0x0E00, 0x0F00),  # Thai, Lao
    (0x1000, 0x10A0),  # Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x3040, 0x3100), (0x31F0, 0x3200), (0xFF66, 0xFF9E),  # kana
    (0x3400, 0x4DC0), (0x4E00, 0xA000), (0xF900, 0xFB00), (0x20000, 0x33500),  # Han
)  # fmt: skip
"""Scripts written without spaces: each of their characters counts as a word."""


@dataclass(frozen=True, kw_only=True)
class Shingles:
    """Settings by which a text becomes a set of shingles.

    Words are what white space separates; in scripts written without spaces (Chinese, Japanese, Thai, Lao, Khmer,
    Burmese) each character is a word. A text of fewer words or characters than `size` is one shingle, itself, so that
    short texts are duplicates of their equals; a text that normalising leaves nothing of has none.
    """

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    unit: Literal["words", "characters"] = "words"
    """What a shingle is made of. Characters are code points, white space among them."""
    size: int = 5
    """Words or characters in a shingle."""
    lower: bool = True
    """Lower-case, code point by code point: a final sigma becomes σ as any other."""
    unicode: Literal["as_is", "nfc", "nfkc", "unaccented"] = "nfc"
    """`nfc` makes equal what looks equal, `nfkc` also full-width letters, ligatures and ①; `unaccented` drops accents
    (canonical decomposition without its marks); `as_is` compares code points."""
    punctuation: bool | Literal["space"] = True
    """False: punctuation, signs (+ = $ ^) and control characters are dropped, as if they had not been written; pictures
    and emoji stay. `space`: punctuation parts words as a space does, so that 1.5 is not 15, and what means something
    beside a number or a name (+ = $ € # %) stays."""
    numbers: bool = True
    """False: every run of digits becomes the same."""
    spaces: bool = False
    """True: white space counts as it stands (for characters); False: a run of it is one space, none at the ends."""

    def __post_init__(self) -> None:
        if not 1 <= self.size <= 1000:
            raise ValueError(f"size: {self.size} {self.unit} is not in 1-1000")
        if self.spaces and self.unit == "words":
            raise ValueError("spaces: words are what white space separates; leave it out, or count characters")


Texts: TypeAlias = Any
"""pa.Array, pa.ChunkedArray, or a sequence of str and None."""


def hash_shingles(texts: Texts, shingles: Shingles) -> tuple[Indices, Hashes]:
    """The hashed shingles of texts, in order and with repeats; about 150 MB of text a second.

    Returns:
        offsets int64 [N + 1] and hashes uint64: the shingles of text i are hashes[offsets[i]:offsets[i + 1]], none for
        a null. Equal shingles have equal hashes on every machine; others agree with a probability of 2^-64.
    """
    result: tuple[Indices, Hashes] = kernels.compiled(kernels.shingle_texts)(
        *arrow_text(texts, shingles), *table_of(shingles), not shingles.spaces, shingles.unit == "words", shingles.size
    )
    return result


def sign(
    texts: Texts, shingles: Shingles, a: Any, b: Any, *, hashed: bool = False
) -> tuple[npt.NDArray[np.uint32], Hashes, Bools]:
    """MinHash signatures of texts under permutations.

    Args:
        a, b: uint32 [K], the permutations' multipliers and summands.
        hashed: hash the normalised texts too; without, those hashes are zeros and English takes half the time.

    Returns:
        signatures uint32 [N, K], a hash uint64 [N] of each normalised text, and bool [N], whether it has a shingle.
    """
    result: tuple[npt.NDArray[np.uint32], Hashes, Bools] = kernels.compiled(signatures.sign_texts)(
        *arrow_text(texts, shingles), *table_of(shingles), not shingles.spaces,
        shingles.unit == "words", shingles.size, hashed, a, b,
    )  # fmt: skip
    return result


def jaccard(offsets: Indices, hashes: Hashes, first: Indices, second: Indices) -> npt.NDArray[np.float64]:
    """The Jaccard similarity, 0-1 [P], of pairs of texts by their shingles as `hash_shingles` gives them; 0 for two
    without any."""
    result: npt.NDArray[np.float64] = kernels.compiled(signatures.jaccard)(offsets, hashes.copy(), first, second)
    return result


def arrow_text(texts: Texts, shingles: Shingles) -> tuple[npt.NDArray[np.uint8], Indices, Bools]:
    """The UTF-8 of all texts, their offsets [N + 1] in it, and which are not null."""
    array = texts if isinstance(texts, (pa.Array, pa.ChunkedArray)) else pa.array(list(texts), pa.string())
    try:
        array = array.cast(pa.large_string())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ValueError(f"a column of texts is needed, and this holds {array.type}") from error
    if shingles.unicode in ("nfc", "nfkc") and not pc.all(pc.string_is_ascii(array)).as_py():
        if pc.any(pc.match_substring_regex(array, rf"[\pM\x{{FF9E}}\x{{FF9F}}]{{{RUN}}}")).as_py():
            # utf8proc puts marks in order by insertion, as Python does.
            array = pa.array([text and stream_safe(text) for text in array.to_pylist()], array.type)
        array = pc.utf8_normalize(array, form=shingles.unicode.upper())
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
        array = array.chunk(0) if isinstance(array, pa.ChunkedArray) else array
    _, places, data = array.buffers()
    octets, offsets = np.zeros(1, np.uint8), np.zeros(len(array) + 1, np.int64)
    if places is not None and len(array):
        offsets = np.frombuffer(places, np.int64)[array.offset : array.offset + len(array) + 1]
    if data is not None and data.size:
        octets = np.frombuffer(data, np.uint8)
    valid = np.asarray(array.is_valid().to_numpy(zero_copy_only=False), np.bool_)
    for part in (octets, offsets, valid):
        part.setflags(write=False)  # numba compiles anew for each kind of array, and Arrow's cannot be written
    return octets, offsets, valid


@functools.lru_cache(maxsize=8)
def table_of(shingles: Shingles) -> tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32], int]:
    """What every code point becomes: the table [0x110000] and the expansions of `kernels`, and the most code points
    that a byte of UTF-8 can become, rounded up. A fifth of a second, once a process."""
    table = np.arange(POINTS, dtype=np.uint32)
    expansions: list[int] = []
    places: dict[tuple[int, ...], int] = {}
    growth = 1
    for start, end in _ASSIGNED:
        for point in range(start, end):
            character = chr(point)
            mapped = _mapped(character, shingles)
            if len(mapped) == 1:
                table[point] = mapped[0]
                continue
            if mapped not in places:
                places[mapped] = len(expansions)
                expansions += [len(mapped), *mapped]
            table[point] = places[mapped] | int(kernels.EXPANDED)
            size = len(character.encode("utf-8", "surrogatepass"))
            growth = max(growth, -(-len(mapped) // size))
    if shingles.unit == "words":
        for start, end in _ALONE:
            own = table[start:end]
            own[own < POINTS] |= kernels.ALONE
    return table, np.array(expansions or [0], np.uint32), growth


def _mapped(character: str, shingles: Shingles) -> tuple[int, ...]:
    """The points of one character, in the order in which datatrove simplifies a text."""
    if not shingles.spaces and character.isspace():
        return (int(kernels.SPACE),)
    text = character.lower() if shingles.lower else character
    if shingles.punctuation == "space" and text not in _MEANING:
        kinds = {unicodedata.category(part) for part in text}
        if all(kind[0] == "P" or kind in ("Sk", "Cc") for kind in kinds) or text in "|~<>":
            return (int(kernels.SPACE),)
        text = "".join(part for part in text if unicodedata.category(part) != "Cf")
    if not shingles.punctuation:
        text = "".join(part for part in text if not _is_sign(unicodedata.category(part)))
    if shingles.unicode == "unaccented":
        text = "".join(part for part in unicodedata.normalize("NFD", text) if unicodedata.category(part) != "Mn")
    if not shingles.numbers:
        return tuple(int(kernels.NUMBER) if part.isdecimal() else ord(part) for part in text)
    return tuple(ord(part) for part in text)


def _is_sign(category: str) -> bool:
    return category[0] == "P" or category in ("Sm", "Sc", "Sk", "Cc", "Cf")
