"""Near-duplicate texts: MinHash signatures in bands, and the Jaccard similarity of the shingles where it is asked for.

Broder, On the resemblance and containment of documents (SEQUENCES 1997); permutations as datasketch 2.0 has them.
"""

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.dedup.edits import SHINGLES, keys_by_length, same_by_length
from mmcorpus.curation.dedup.kernels import compiled
from mmcorpus.curation.dedup.lsh import optimal_bands
from mmcorpus.curation.dedup.method import Bools, Indices, Keys, Learned, Method
from mmcorpus.curation.dedup.signatures import band_keys
from mmcorpus.curation.dedup.text import Shingles, hash_shingles, jaccard, sign

Permutations = tuple[npt.NDArray[np.uint32], npt.NDArray[np.uint32]]


@dataclass(frozen=True, kw_only=True)
class Bands:
    """A signature's permutations in bands of rows."""

    bands: int
    rows: int


@dataclass(frozen=True, kw_only=True)
class Preset:
    """Shingles and bands that belong together."""

    shingles: Shingles
    bands: Bands


PRESETS: Final = {
    "by_length": Preset(shingles=SHINGLES, bands=Bands(bands=14, rows=8)),
    # FineWeb (arXiv 2406.17557, 3.4) with datatrove's MinhashConfig and TextNormConfig: 112 hashes, 14 x 8.
    "fineweb": Preset(
        shingles=Shingles(unicode="unaccented", punctuation=False, numbers=False), bands=Bands(bands=14, rows=8)
    ),
    # NeMo Curator's FuzzyDeduplicationWorkflow: 24 characters of the text as it is, 20 x 13.
    "curator": Preset(
        shingles=Shingles(unit="characters", size=24, lower=False, unicode="as_is", spaces=True),
        bands=Bands(bands=20, rows=13),
    ),
    # Data-Juicer's document_minhash_deduplicator: 5 words, 256 permutations, threshold 0.7, so 25 x 10.
    "data_juicer": Preset(shingles=Shingles(unicode="as_is"), bands=Bands(bands=25, rows=10)),
}


@dataclass(frozen=True, kw_only=True)
class MinHash(Method):
    """Texts whose sets of shingles are alike. Start from a preset; what is given beside it replaces its part."""

    column: str = "caption"
    """Which text."""
    preset: Literal["by_length", "fineweb", "curator", "data_juicer"] = "by_length"
    """`by_length`: texts below 100 words are duplicates if at most one word in 20 differs, no number and none beside
    one; longer ones if the Jaccard similarity of their 5-word shingles is 0.7 or more. The others are shingles and
    bands as a peer published them: `fineweb` 5 words, 14 bands x 8 rows (finds half of the pairs at Jaccard 0.69);
    `curator` 24 characters, 20 x 13 (half at 0.77); `data_juicer` 5 words, 25 x 10 (half at 0.70). With `shingles`,
    `bands`, `threshold` or `verify`, which `by_length` has no use for, it is `fineweb`."""
    shingles: Shingles | None = None
    """How a text becomes shingles."""
    bands: Bands | None = None
    """Bands and rows: more bands find more, more rows mistake less."""
    threshold: float | None = None
    """Instead of `bands`: the similarity, 0-1, at which the best bands of `permutations` separate."""
    permutations: int = 256
    """For `threshold`: how many there are to share out, 2-1024."""
    false_positive_weight: float = 0.5
    """For `threshold`: what a pair below it costs that becomes a candidate. Lower it where `verify` sorts those out."""
    verify: float | None = None
    """Compare the shingles of candidates: only pairs of at least this Jaccard similarity, 0-1, are duplicates. None:
    agreeing in a band is enough."""
    seed: int = 1
    """Of the permutations."""

    def __post_init__(self) -> None:
        if self.bands is not None and self.threshold is not None:
            raise ValueError("bands and threshold: give one of them; the threshold chooses the bands")
        if self.threshold is not None and not 0 < self.threshold < 1:
            raise ValueError(f"threshold: {self.threshold} is not between 0 and 1")
        if not 2 <= self.permutations <= 1024:
            raise ValueError(f"permutations: {self.permutations} is not in 2-1024")
        if not 0 <= self.false_positive_weight <= 1:
            raise ValueError(f"false_positive_weight: {self.false_positive_weight} is not in 0-1")
        if self.bands is not None and (self.bands.bands < 1 or self.bands.rows < 1):
            raise ValueError(f"bands: {self.bands.bands} x {self.bands.rows}; both are at least 1")
        if self.bands is not None and self.bands.bands * self.bands.rows > 1024:
            raise ValueError(f"bands: {self.bands.bands} x {self.bands.rows} are more than 1024 permutations")
        if self.verify is not None and not 0 < self.verify <= 1:
            raise ValueError(f"verify: {self.verify} is not in (0, 1]")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: {self.seed} is not in 0-{2**32 - 1}")
        if self.preset == "by_length" and (self.shingles or self.bands or self.threshold or self.verify) is not None:
            object.__setattr__(self, "preset", "fineweb")

    @property
    def shingles_used(self) -> Shingles:
        """The preset's, unless others are given; of `by_length`, those of long texts."""
        return self.shingles or PRESETS[self.preset].shingles

    @property
    def bands_used(self) -> Bands:
        """Those given, those of the threshold, or the preset's."""
        if self.threshold is not None:
            weight = self.false_positive_weight
            bands, rows = optimal_bands(self.threshold, self.permutations, weight, 1 - weight)
            return Bands(bands=bands, rows=rows)
        return self.bands or PRESETS[self.preset].bands

    @property
    def verifies(self) -> bool:
        return self.verify is not None or self._by_length

    @property
    def _by_length(self) -> bool:
        return self.preset == "by_length"

    def columns(self) -> tuple[str, ...]:
        return (self.column,)

    def keys(self, table: pa.Table, learned: Learned) -> Keys:
        used = self.bands_used
        a, b = permutations_of(used.bands * used.rows, self.seed)
        if self._by_length:
            keys, known, identity = keys_by_length(table[self.column], a, b, used.bands, used.rows)
            return Keys(keys=keys, known=known, identity=identity)
        signatures, hashes, known = sign(table[self.column], self.shingles_used, a, b, hashed=self.verifies)
        keys = compiled(band_keys)(signatures, used.bands, used.rows)
        return Keys(keys=keys, known=known, identity=hashes if self.verifies else None)

    def same(self, rows: pa.Table, first: Indices, second: Indices) -> Bools:
        if self._by_length:
            return same_by_length(rows[self.column], first, second)
        assert self.verify is not None
        offsets, hashes = hash_shingles(rows[self.column], self.shingles_used)
        return jaccard(offsets, hashes, first, second) >= self.verify


def permutations_of(count: int, seed: int) -> Permutations:
    """The multipliers (odd) and summands, uint32 [count] each, that datasketch 2.0 draws for `affine32`."""
    random = np.random.RandomState(seed)
    a = random.randint(0, 1 << 31, count, dtype=np.uint32) * np.uint32(2) + np.uint32(1)
    return a, random.randint(0, 1 << 32, count, dtype=np.uint32)
