"""Near-duplicate images: perceptual hashes within a Hamming distance, confirmed by the pictures themselves.

Candidates share the bits of one of several tables (`filters/hamming.py`), so no image is compared with all others; a
finer fingerprint and the shape sort most of them out. What is left is aligned and compared block by block
(`same_picture.py`), from the files in the shards: a fingerprint cannot hold a digit. Measured on planted copies and on
pictures that differ in a part by `benchmarks/near_images`.
"""

import functools
import hashlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from mmcorpus.curation.dedup.method import Bools, Indices, Keys, Learned, Method
from mmcorpus.curation.dedup.mirrored import Thumbnails
from mmcorpus.filters.decode import DecodedImage, decode_image
from mmcorpus.filters.hamming import check_distances, table_masks

Bytes = npt.NDArray[np.uint8]

_GAINS: Final = 6
"""Steps in which a change of brightness is tried."""
_BLOCK: Final = 1 << 18
"""Pairs whose fingerprints are compared at a time."""
_HELD: Final = 128
"""Decoded pictures that are kept for their next pair; 100 MB."""
_SPREAD: Final = np.uint64(0x9E3779B97F4A7C15)
"""Odd, so that different hashes stay different."""


@dataclass(frozen=True, kw_only=True)
class NearImages(Method):
    """The same picture compressed, resized, cropped a little, brighter or darker.

    Defaults by the numbers in `filters/fingerprint.py` and `benchmarks/near_images`.
    """

    version: ClassVar[str] = "7"
    chains: ClassVar[bool] = False
    bucket_limit: ClassVar[int] = 128
    survivor: ClassVar[str] = "image.min_side"

    max_distance: int = 10
    """Bits, 0-16, in which the 64-bit `image.phash` of two copies may differ. All such pairs are found."""
    verify: bool = True
    """Compare the scorer `fingerprint` too. Without it use a `max_distance` of 2-4: clocks and documents look alike."""
    pictures: bool = True
    """With `verify`: compare the pictures too, from the shards' images, so that those which differ in a digit or a lamp
    stay apart. Where the images are gone, and with false, the fingerprints decide."""
    candidate_hash_distance: int = 14
    """Bits of 64 in which `image.phash` may differ of two whose pictures are then compared: crops differ by more than
    `max_distance`. Beyond that most pairs are found, not all: the index is laid out for `max_distance`."""
    candidate_distance: int = 90
    """Bits of 256 in which `fingerprint.dct` may differ of two whose pictures are then compared."""
    fingerprint_distance: int = 56
    """Where pictures are not compared: bits of 256 in which `fingerprint.dct` may differ."""
    color_distance: int = 31
    """There too: the largest difference, 0-255, in any channel of any cell of `fingerprint.color`."""
    brightness: float = 0.25
    """There too: by how much a copy may be brighter or darker, as a share; colours are compared once that is undone."""
    aspect_tolerance: float = 0.06
    """Largest relative difference of width / height, so that a picture and its banner crop stay two. One side cut by
    5 % is a difference of 0.053."""
    expected: int = 1_000_000
    """For about how many images the tables are laid out. It changes the time and the disk that it takes, not what is
    found."""

    def __post_init__(self) -> None:
        check_distances(self.max_distance, self.fingerprint_distance, self.color_distance, self.aspect_tolerance)
        if not 0 <= self.candidate_distance <= 256:
            raise ValueError(f"candidate_distance: {self.candidate_distance} is not in 0-256 (bits of 256)")
        if not 0 <= self.candidate_hash_distance <= 64:
            raise ValueError(f"candidate_hash_distance: {self.candidate_hash_distance} is not in 0-64 (bits of 64)")
        if not 0 <= self.brightness < 1:
            raise ValueError(f"brightness: {self.brightness} is not in [0, 1)")
        if self.expected < 1:
            raise ValueError(f"expected: {self.expected}; give about how many images there are, 1 or more")

    def columns(self) -> tuple[str, ...]:
        plain = ("image.phash", "image.stored_width", "image.stored_height")
        finer = (*plain, "fingerprint.dct", "fingerprint.color") if self.verify else plain
        # Only of equal pixels is it known without a look that they are one picture.
        return (*finer, "image.pixel_hash") if self.compares_images else finer

    @property
    def verifies(self) -> bool:
        return True

    @property
    def compares_images(self) -> bool:
        return self.verify and self.pictures

    def keys(self, table: pa.Table, learned: Learned) -> Keys:
        known = np.ones(table.num_rows, bool)
        for name in self.columns():
            known &= ~table[name].is_null().to_numpy()
        rows = table.filter(pa.array(known))
        hashes, identity = (np.zeros(table.num_rows, np.uint64) for _ in range(2))
        hashes[known] = _hashes(rows["image.phash"])
        identity[known] = [_identity(row) for row in zip(*rows.to_pydict().values(), strict=True)]
        masks = np.array(list(table_masks(self.expected, self.max_distance)), np.uint64)
        keys = hashes[:, None] & masks[None, :]
        if self.compares_images:
            colours = np.zeros((table.num_rows, 48), np.uint8)
            colours[known] = _hex_bytes(rows["fingerprint.color"], 48)
            keys = np.concatenate([keys, Thumbnails.of(colours).keys(identity)], axis=1)
        # Multiplied by an odd number, so that the bits that a table ignores are not the same in all its keys.
        return Keys(keys=keys * _SPREAD, known=known, identity=identity)

    def same(self, rows: pa.Table, first: Indices, second: Indices) -> Bools:
        most = max(self.max_distance, self.candidate_hash_distance) if self.compares_images else self.max_distance
        near = self._near_hashes(rows, first, second, most)
        if self.verify:
            limit = self.candidate_distance if self.compares_images else self.fingerprint_distance
            near[near] = _of_pairs(_distances, _dct(rows), first[near], second[near]) <= limit
        if self.compares_images:
            near |= self._mirrored(rows, first, second, most)
        elif self.verify:
            near[near] = self._same_colours(rows, first[near], second[near])
        aspect = _log_aspect(rows)
        near &= np.abs(aspect[first] - aspect[second]) <= math.log1p(self.aspect_tolerance)
        return near

    def _mirrored(self, rows: pa.Table, first: Indices, second: Indices, most: int) -> Bools:
        """Symmetric pictures whose hashes agree but for noise, in as large a share of the other bits."""
        hashes = np.concatenate([_hex_bytes(rows["image.phash"], 8), _dct(rows)], axis=1)
        thumbnails = Thumbnails.of(_hex_bytes(rows["fingerprint.color"], 48))
        result = (thumbnails.symmetries[first] | thumbnails.symmetries[second]) > 0
        places, shares = np.flatnonzero(result), (most / 64, self.candidate_distance / 256)
        for start in range(0, len(places), _BLOCK):
            own = places[start : start + _BLOCK]
            result[own] = thumbnails.near(hashes, first[own], second[own], shares)
        return result

    def same_images(self, rows: pa.Table, first: Indices, second: Indices) -> Bools:
        from mmcorpus.curation.dedup.compared import Compared
        from mmcorpus.curation.dedup.same_picture import Picture, compare  # OpenCV, only where it is needed

        files = rows["image"].combine_chunks()

        @functools.lru_cache(_HELD)
        def picture(place: int) -> Picture | None:
            data = files[place].as_py()
            image = decode_image(data) if data is not None else None
            return Picture.of(image.pixels) if isinstance(image, DecodedImage) else None

        # Where an image is gone the fingerprints decide, by the narrower limits.
        result = self._near_hashes(rows, first, second, self.max_distance)
        result &= _of_pairs(_distances, _dct(rows), first, second) <= self.fingerprint_distance
        result[result] = self._same_colours(rows, first[result], second[result])
        # Of each copy the first picture that it was found to be one of, and how much it differs from that. Two that
        # differ so little from the same one are not compared: a picture's copies cost their number, not its square.
        known: dict[int, tuple[int, float]] = {}
        looks = Compared()
        looked, spared = [], []
        for place, (one, other) in enumerate(zip(first.tolist(), second.tolist(), strict=True)):
            (third, of_one), (same, of_other) = known.get(one, (one, 0.0)), known.get(other, (other, 0.0))
            if third == same and of_one + of_other <= 1 and looks.tells(third, one, other):
                spared.append((place, one, other, third))
                continue
            pair = picture(one), picture(other)
            if pair[0] is not None and pair[1] is not None:
                differs = compare(pair[0], pair[1])
                looks.add((one, other), (max(pair[0].pixels.shape), max(pair[1].pixels.shape)), differs)
                looked.append((place, one, other))
                if differs.worst <= 1 and one not in known:
                    known.setdefault(other, (one, differs.worst))
        looks.settle()
        for place, one, other in looked:
            result[place] = looks.same(one, other)
        for place, one, other, third in spared:
            result[place] = looks.same(one, third) and looks.same(other, third)
        return result

    def _near_hashes(self, rows: pa.Table, first: Indices, second: Indices, most: int) -> Bools:
        hashes = _hashes(rows["image.phash"])
        near: Bools = np.bitwise_count(hashes[first] ^ hashes[second]) <= most
        return near

    def _same_colours(self, rows: pa.Table, first: Indices, second: Indices) -> Bools:
        shift = partial(color_shift, brightness=self.brightness)
        near: Bools = _of_pairs(shift, _hex_bytes(rows["fingerprint.color"], 48), first, second) <= self.color_distance
        return near


def _of_pairs(measure: Callable[[Bytes, Bytes], Any], values: Bytes, first: Indices, second: Indices) -> Any:
    """A measure of pairs of rows of `values`, shape [N, bytes], some pairs at a time."""
    parts = [slice(start, start + _BLOCK) for start in range(0, len(first), _BLOCK)]
    return np.concatenate([np.empty(0), *(measure(values[first[part]], values[second[part]]) for part in parts)])


def _distances(first: Bytes, second: Bytes) -> Indices:
    """The number of bits in which the hashes of each pair differ."""
    return np.bitwise_count(first ^ second).sum(axis=1, dtype=np.int64)


def color_shift(first: npt.NDArray[Any], second: npt.NDArray[Any], brightness: float) -> npt.NDArray[np.float32]:
    """For each pair of thumbnails, shape [P, C], the largest difference in any value, at the best change of brightness.

    Brightening multiplies and cuts off at 255; a darkened copy is one of which the original is the brightened one.
    """
    first, second = first.astype(np.float32), second.astype(np.float32)
    best = np.abs(first - second).max(axis=1, initial=0)
    for gain in np.linspace(1, 1 / (1 - brightness), _GAINS, dtype=np.float32)[1:]:
        for dark, bright in ((first, second), (second, first)):
            best = np.minimum(best, np.abs(np.minimum(dark * gain, 255) - bright).max(axis=1, initial=0))
    return best


def _identity(row: tuple[Any, ...]) -> int:
    return int.from_bytes(hashlib.blake2b(repr(row).encode(), digest_size=8).digest(), "little")


def _hashes(column: Any) -> npt.NDArray[np.uint64]:
    """A column of 16 hex digits as numbers."""
    return _hex_bytes(column, 8).view(">u8").astype(np.uint64).ravel()


def _dct(rows: pa.Table) -> Bytes:
    return _hex_bytes(rows["fingerprint.dct"], 32)


def _log_aspect(table: pa.Table) -> npt.NDArray[np.float64]:
    width, height = (np.asarray(table[f"image.stored_{side}"].to_numpy(), np.float64) for side in ("width", "height"))
    result: npt.NDArray[np.float64] = np.log(width / height)
    return result


def _hex_bytes(column: Any, size: int) -> Bytes:
    """A column of 2 * size hex digits, no nulls, as bytes [N, size]."""
    text = column.combine_chunks().cast(pa.string())
    return np.frombuffer(bytes.fromhex("".join(text.to_pylist())), np.uint8).reshape(len(text), size)
