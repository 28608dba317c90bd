"""Random numbers that are the same on every machine and with every version of numpy."""

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]


def mix(words: Words) -> Words:
    """SplitMix64's finaliser (Steele, Lea and Flood 2014), modulo 2**64."""
    mixed = words + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def sample_words(
    uids: npt.NDArray[np.bytes_], copy: npt.NDArray[np.int64], seed: int, part: npt.NDArray[np.int64] | None = None
) -> Words:
    """64 bits a sample that depend on uid, copy, seed and part; shape (samples,). uids are 32 hex digits."""
    halves = np.frombuffer(bytes.fromhex(uids.tobytes().decode("ascii")), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    start = mix(np.full(len(uids), seed, dtype=np.uint64))
    words = mix(mix(mix(start ^ halves[:, 0]) ^ halves[:, 1]) ^ copy.astype(np.uint64))
    if part is not None and part.any():
        # Part 0 keeps its sample's hash: most samples are one part, and their order is that of plans without parts.
        words = np.where(part > 0, mix(words ^ part.astype(np.uint64)), words)
    return words


class Draws:
    """A stream of pseudo-random words: the hashes of seed and place."""

    def __init__(self, seed: int) -> None:
        self._start = mix(np.array([seed % 2**64], dtype=np.uint64))
        self._place = 0

    def words(self, count: int) -> Words:
        """The next `count` of 64 random bits each."""
        places = np.arange(self._place, self._place + count, dtype=np.uint64)
        self._place += count
        return mix(self._start ^ mix(places))

    def below(self, bound: int, count: int) -> npt.NDArray[np.int64]:
        """`count` whole numbers from 0 to `bound` - 1; their bias, below bound / 2**64, is of no matter here."""
        return (self.words(count) % np.uint64(bound)).astype(np.int64)
