"""Pictures that are their own mirror image, or stay the same along a side: of their hashes some bits are noise.

Traffic lights, bars, flags, arrows, signs, the full moon. The cosine transform of such a picture has no odd frequencies
across the axis (none but the lowest along a side that it is constant in), so their coefficients are what encoding
leaves, and so are their bits: of two copies a quarter of all bits differ. Of the other frequencies hardly any do, by
which copies are recognised here. They are found by the colours of their 4x4 thumbnails: keys are the signs of random
projections, of which two thumbnails agree in each with 1 - angle / 180° (Charikar, STOC 2002).
"""

import hashlib
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from mmcorpus.curation.dedup.method import Bools, Hashes, Indices

TABLES: Final = 12
_BITS: Final = 20
"""Of a key: 12 tables of 20 find 99.9 % of those 7° apart (toned copies), 98 % at 11° (crops)."""
_SIDE: Final = 4
_ODD: Final = 0.08
"""Of the amplitude about the mean, the share that may be odd across an axis of a mirrored picture, or vary along a
side that it is constant in."""
_FAINT: Final = 2.5
"""Amplitude, 0-255, below which a thumbnail shows too little."""
_ANGLE: Final = np.cos(np.radians(15))
_LUMA: Final = np.array([299.0, 587.0, 114.0])
_UNIT: Final = 16_000.0
"""All is counted in sixteen thousandths of a level, whole numbers, so that sums are exact in any order."""


def _signs() -> npt.NDArray[np.float64]:
    """Random signs, 1 or -1, of each projection [48, tables * bits]; the same on every machine."""
    count = 3 * _SIDE * _SIDE * TABLES * _BITS
    chance = np.frombuffer(hashlib.shake_256(b"thumbnails").digest(count // 8), np.uint8)
    signs = np.unpackbits(chance).astype(np.float64) * 2 - 1
    return signs.reshape(3 * _SIDE * _SIDE, -1)


def _even_bits(side: int) -> Bools:
    """[16, side * side]: for each set of the four symmetries, as the bits of a number, the frequencies that are no
    noise: even ones across a mirror's axis, the lowest alone along a constant side."""
    vertical, horizontal = np.mgrid[:side, :side].reshape(2, -1)
    each = np.stack([horizontal % 2 == 0, vertical % 2 == 0, horizontal == 0, vertical == 0])
    sets = np.arange(16)[:, None] >> np.arange(4) & 1
    result: Bools = (each[None] | (sets == 0)[:, :, None]).all(axis=1)
    return result


@dataclass(frozen=True, slots=True, eq=False)
class Thumbnails:
    """Colours of pictures, and how they are symmetric."""

    colours: npt.NDArray[np.float64]
    """[N, 48]: luma about its mean, and two of chroma, of the 16 cells."""
    symmetries: Indices
    """[N]: bit 0: its own mirror image left to right, 1: top to bottom, 2: the same in each row, 3: in each column; 0
    for pictures that are none of these, or show too little."""

    @classmethod
    def of(cls, colours: npt.NDArray[np.uint8]) -> "Thumbnails":
        """From `fingerprint.color`, bytes [N, 48]."""
        rgb = colours.reshape(-1, _SIDE, _SIDE, 3).astype(np.float64)
        luma = rgb @ _LUMA
        centred = 16 * luma - luma.sum(axis=(1, 2), keepdims=True)
        # Chroma as in YCbCr, 0.564 and 0.713, in sixteenths.
        blue, red = 9 * (1000 * rgb[..., 2] - luma), 11 * (1000 * rgb[..., 0] - luma)
        whole = _energy(centred)
        across = _energy(centred - centred[:, :, ::-1]) / 4, _energy(centred - centred[:, ::-1]) / 4
        along = (_energy(centred - centred.mean(axis=axis, keepdims=True)) for axis in (2, 1))
        symmetric = [part <= _ODD**2 * whole for part in (*across, *along)]
        shown = whole >= 16 * (_FAINT * _UNIT) ** 2
        codes = sum(bits.astype(np.int64) << number for number, bits in enumerate(symmetric)) * shown
        return cls(np.stack([centred, blue, red], axis=1).reshape(len(rgb), -1), codes)

    def keys(self, others: Hashes) -> Hashes:
        """[N, TABLES]: of symmetric pictures those by which copies meet; of the others, which need none, `others` [N],
        numbers of their own."""
        keys = np.repeat(others[:, None], TABLES, axis=1)
        own = np.flatnonzero(self.symmetries)
        bits = (self.colours[own] @ _signs() > 0).reshape(-1, TABLES, _BITS)
        keys[own] = bits @ (np.uint64(1) << np.arange(_BITS, dtype=np.uint64))
        return keys

    def near(
        self, hashes: npt.NDArray[np.uint8], first: Indices, second: Indices, shares: tuple[float, float]
    ) -> Bools:
        """[P]: pairs of which either is symmetric, whose colours lie in one direction, and whose hashes agree in the
        bits that are no noise.

        Args:
            hashes: [N, 8 + 32] bytes, `image.phash` and `fingerprint.dct`.
            shares: of the bits of either, that may differ.
        """
        codes = self.symmetries[first] | self.symmetries[second]
        near = codes > 0
        one, other = self.colours[first], self.colours[second]
        lengths = np.sqrt(_energy(one) * _energy(other))
        near &= (one * other).sum(axis=1) >= _ANGLE * np.maximum(lengths, 1)
        differ = hashes[first] ^ hashes[second]
        for part, side, share in ((slice(0, 8), 8, shares[0]), (slice(8, 40), 16, shares[1])):
            even = _even_bits(side)
            counted = np.bitwise_count(differ[:, part] & np.packbits(even, axis=1)[codes]).sum(axis=1)
            near &= counted <= share * even.sum(axis=1)[codes] + 0.5  # of as few as eight bits, two
        return near


def _energy(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    result: npt.NDArray[np.float64] = (values * values).reshape(len(values), -1).sum(axis=1)
    return result
