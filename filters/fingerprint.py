"""A finer fingerprint of an image than the 64-bit hash: enough to tell one rendered clock or table from another.

Pairs of different pictures by `synthetic.render`, 404,550 a kind, that pass as near duplicates (aspect within 6 %),
and how many are found again with 3 % / 6 % of both lengths cut away evenly:

                              clock  chart  table  scene
    image.phash    <= 8          68     51    100      7
    this, dct      <= 56          6     19      5      1    96-100 % / 44-72 %
    and color      <= 31          0      0      0      0    96-100 % / 44-72 %

Colours are compared once a change of brightness is undone (`curation.dedup.image`). Of symmetric pictures (letters,
road signs) many frequencies are nearly zero and their bits noise: 3 % of a corpus of stamps are not found again once
they are compressed.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
import pyarrow as pa

from mmcorpus.filters.image import dct_hashes
from mmcorpus.filters.scorer import Batch, Columns, Scorer

THUMBNAIL_SIDE: Final = 64
FREQUENCIES: Final = 16
COLOR_SIDE: Final = 4


@dataclass(frozen=True, kw_only=True)
class FingerprintScorer(Scorer):
    """dct: 64 hex digits, 256 bits: pHash (Zauner 2010, §3.2.1) with the 16x16 lowest frequencies of a 64x64 luma
    thumbnail, each bit set if its coefficient is above their median. color: 96 hex digits, the 4x4 area-averaged
    RGB thumbnail, row by row, a byte a channel.
    """

    name: ClassVar[str] = "fingerprint"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("image",)

    def schema(self) -> pa.Schema:
        return pa.schema([pa.field("dct", pa.string()), pa.field("color", pa.string())])

    def load(self) -> Callable[[Batch], Columns]:
        import cv2

        def judge(batch: Batch) -> Columns:
            dcts, colors = [], []
            for image in batch["image"]:
                luma = cv2.cvtColor(image.pixels, cv2.COLOR_RGB2GRAY)
                thumbnail = cv2.resize(luma, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), interpolation=cv2.INTER_AREA)
                dcts.append(dct_hash(thumbnail))
                small = cv2.resize(image.pixels, (COLOR_SIDE, COLOR_SIDE), interpolation=cv2.INTER_AREA)
                colors.append(small.tobytes().hex())
            return {"dct": dcts, "color": colors}

        return judge


def dct_hash(thumbnail: np.ndarray) -> str:
    """64 hex digits of a luma thumbnail [64, 64]; a blank one gives 80…0."""
    return dct_hashes(thumbnail[None].astype(np.float64), FREQUENCIES)[0]
