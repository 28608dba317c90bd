"""The whole image squashed to a square, its patches average-pooled to n tokens (Open-Qwen2VL, MM1's pretraining)."""

import dataclasses
import math
from typing import Literal

import numpy as np

from mmcorpus.packing.layout.base import Crop, ImageLayout, Ints, LayoutBase, Token
from mmcorpus.packing.layout.grids import adaptive_windows, patch_grid


@dataclasses.dataclass(frozen=True, kw_only=True)
class SquareLayout(LayoutBase):
    """One crop, the same number of tokens for every image.

    Source: Open-Qwen2VL (arXiv 2504.00595, §2.1): SigLIP-SO400M/14-384 has 27 x 27 patches, AdaptiveAvgPool2d makes 144
    tokens of them in pretraining, SFT takes all 729. 64 and 144 are MM1's numbers (arXiv 2403.09611, §3.1).
    """

    kind: Literal["square"] = "square"
    """Which layout it is."""
    tokens: int = 144
    """Tokens of an image, a square: 64, 144, 729."""
    side: int = 384
    """Pixels a side of what the encoder sees."""
    patch: int = 14
    """Pixels a side of a patch, at most `side`; 384 is no multiple of 14, and the last 6 pixels are seen by none."""

    def __post_init__(self) -> None:
        self._require_counts("tokens", "side", "patch")
        self._require(math.isqrt(self.tokens) ** 2 == self.tokens, "tokens", "give a square such as 64, 144 or 729")
        self._require(self.patch <= self.side, "patch", f"give at most the side, {self.side}")

    @property
    def constant(self) -> int:
        """Positions of every image."""
        return self.tokens

    def _grids(self, widths: Ints, heights: Ints) -> tuple[Ints, Ints]:
        return np.ones_like(heights), np.ones_like(widths)

    def _length(self, rows: Ints, columns: Ints) -> Ints:
        return np.full_like(rows, self.tokens)

    def _crop_count(self, rows: Ints, columns: Ints) -> Ints:
        return rows

    def _build(self, width: int, height: int, rows: int, columns: int) -> ImageLayout:
        size = self.side, self.side
        grid = patch_grid(size, self.patch)
        return ImageLayout(
            width=width,
            height=height,
            crops=(Crop(resized=(size,), box=(0, 0, *size)),),
            patch=self.patch,
            tokens=((Token.IMAGE, self.tokens),),
            pool=adaptive_windows(grid, math.isqrt(self.tokens)),
            padding=np.zeros(grid.size, dtype=np.uint8),
            resample="bicubic",
        )
