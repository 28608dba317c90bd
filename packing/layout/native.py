"""The image at its own resolution, to the nearest multiple of a token's side (Qwen2-VL and later)."""

import dataclasses
from typing import Literal

import numpy as np

from mmcorpus.packing.layout.base import Crop, ImageLayout, Ints, LayoutBase, Runs, Token
from mmcorpus.packing.layout.grids import patch_grid, windows


@dataclasses.dataclass(frozen=True, kw_only=True)
class NativeLayout(LayoutBase):
    """One crop of any size; neighbouring patches are merged to a token.

    Source: Qwen2-VL (arXiv 2409.12191, §2.1), transformers' `smart_resize` and Qwen2VLImageProcessor. Sizes more
    elongated than 200 to 1, which transformers refuses, follow the same formula here. Qwen's processor orders patches
    by token; here they are in reading order, and `pool` gathers them as Qwen's merger wants them.
    """

    kind: Literal["native"] = "native"
    """Which layout it is."""
    patch: int = 14
    """Pixels a side of a patch (Qwen3-VL: 16)."""
    merge: int = 2
    """Patches a side that are merged to a token."""
    min_pixels: int = 3136
    """Smaller images are enlarged to about so many pixels: 56 x 56."""
    max_pixels: int = 1003520
    """Larger ones are reduced to at most so many: 1280 tokens of 28 x 28 pixels, but for a side of one token."""
    delimiters: bool = True
    """Whether `<|vision_start|>` and `<|vision_end|>` stand around the image: START, END."""

    def __post_init__(self) -> None:
        self._require_counts("patch", "merge", "min_pixels", "max_pixels")
        self._require_switches("delimiters")
        one = (self.patch * self.merge) ** 2
        self._require(self.max_pixels >= one, "max_pixels", f"give at least one token's {one}")
        self._require(self.min_pixels <= self.max_pixels, "min_pixels", f"give at most max_pixels, {self.max_pixels}")

    def _grids(self, widths: Ints, heights: Ints) -> tuple[Ints, Ints]:
        unit, pixels = self.patch * self.merge, widths * heights
        # Half goes to the even side, as Python rounds.
        nearest = [np.rint(lengths / unit) for lengths in (heights, widths)]
        area = nearest[0] * nearest[1] * unit * unit
        shrink, grow = np.sqrt(pixels / self.max_pixels), np.sqrt(self.min_pixels / pixels)
        sides = [
            np.where(
                area > self.max_pixels,
                np.maximum(1, np.floor(lengths / shrink / unit)),
                np.where(area < self.min_pixels, np.ceil(lengths * grow / unit), rounded),
            ).astype(np.int64)
            for lengths, rounded in zip((heights, widths), nearest, strict=True)
        ]
        return sides[0], sides[1]

    def _length(self, rows: Ints, columns: Ints) -> Ints:
        return rows * columns + 2 * self.delimiters

    def _crop_count(self, rows: Ints, columns: Ints) -> Ints:
        return np.ones_like(rows)

    def _build(self, width: int, height: int, rows: int, columns: int) -> ImageLayout:
        unit = self.patch * self.merge
        size = columns * unit, rows * unit
        patches = patch_grid(size, self.patch)
        tokens: Runs = ((Token.IMAGE, rows * columns),)
        return ImageLayout(
            width=width,
            height=height,
            crops=(Crop(resized=(size,), box=(0, 0, *size)),),
            patch=self.patch,
            tokens=((Token.START, 1), *tokens, (Token.END, 1)) if self.delimiters else tokens,
            pool=windows(patches, self.merge),
            padding=np.zeros(patches.size, dtype=np.uint8),
            resample="bicubic",
        )
