"""An overview and the quarters of a larger square, each a fixed number of tokens (MM1's sub-images)."""

import dataclasses
import math
from typing import Literal

import numpy as np

from mmcorpus.packing.layout.base import Crop, ImageLayout, Ints, LayoutBase, Token
from mmcorpus.packing.layout.grids import adaptive_windows, patch_grid, per_crop, tiles


@dataclasses.dataclass(frozen=True, kw_only=True)
class MM1Layout(LayoutBase):
    """1 + grid² crops, the same number of tokens for every image.

    Source: MM1 (arXiv 2403.09611, §4): 1344 x 1344 pixels as an overview of 672 x 672 and four quarters of that size,
    144 tokens each, 720 in all. No code was published. How an image becomes a square, and which crop comes first, is
    our choice: squashed, the overview first.
    """

    kind: Literal["mm1"] = "mm1"
    """Which layout it is."""
    side: int = 672
    """Pixels a side of a crop; the quarters are cut from a square `grid` times as large."""
    grid: int = 2
    """Sub-images a side: 2 gives four."""
    tokens: int = 144
    """Tokens of a crop, a square."""
    patch: int = 14
    """Pixels a side of a patch, at most `side`."""

    def __post_init__(self) -> None:
        self._require_counts("side", "grid", "tokens", "patch")
        self._require(math.isqrt(self.tokens) ** 2 == self.tokens, "tokens", "give a square such as 64 or 144")
        self._require(self.patch <= self.side, "patch", f"give at most the side, {self.side}")

    @property
    def constant(self) -> int:
        """Positions of every image."""
        return (1 + self.grid**2) * self.tokens

    def _grids(self, widths: Ints, heights: Ints) -> tuple[Ints, Ints]:
        return np.full_like(heights, self.grid), np.full_like(widths, self.grid)

    def _length(self, rows: Ints, columns: Ints) -> Ints:
        return self._crop_count(rows, columns) * self.tokens

    def _crop_count(self, rows: Ints, columns: Ints) -> Ints:
        return 1 + rows * columns

    def _build(self, width: int, height: int, rows: int, columns: int) -> ImageLayout:
        side, whole = (self.side, self.side), (self.side * columns, self.side * rows)
        starts = range(0, whole[0], self.side)
        crops = Crop(resized=(side,), box=(0, 0, *side)), *tiles((whole,), self.side, starts, starts)
        patches = patch_grid(side, self.patch)
        return ImageLayout(
            width=width,
            height=height,
            crops=crops,
            patch=self.patch,
            tokens=((Token.IMAGE, self.tokens * len(crops)),),
            pool=per_crop(adaptive_windows(patches, math.isqrt(self.tokens)), patches.size, len(crops)),
            padding=np.zeros(patches.size * len(crops), dtype=np.uint8),
            resample="bicubic",
        )
