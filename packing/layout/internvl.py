"""Tiles in the grid whose aspect ratio is nearest, and a thumbnail (InternVL 1.5 to 3)."""

import dataclasses
from typing import Literal

import numpy as np

from mmcorpus.packing.layout.base import Crop, ImageLayout, Ints, LayoutBase, Runs, Token
from mmcorpus.packing.layout.grids import patch_grid, per_crop, tiles, windows


@dataclasses.dataclass(frozen=True, kw_only=True)
class InternVLLayout(LayoutBase):
    """The image squashed to columns x rows tiles, then the whole as a thumbnail if there are several.

    Source: InternVL 1.5 (arXiv 2404.16821, §3.2); transformers' `get_optimal_tiled_canvas` and
    `GotOcr2ImageProcessor.crop_image_to_patches`, and InternVLProcessor for the tokens.
    """

    kind: Literal["internvl"] = "internvl"
    """Which layout it is."""
    tile: int = 448
    """Pixels a side of a tile; a multiple of patch x merge."""
    patch: int = 14
    """Pixels a side of a patch."""
    merge: int = 2
    """Patches a side that pixel shuffle joins to a token: 2 is its scale of 0.5."""
    min_tiles: int = 1
    """Fewest tiles, thumbnail aside."""
    max_tiles: int = 12
    """Most tiles, thumbnail aside."""
    thumbnail: bool = True
    """Whether the whole image follows its tiles, where there are several."""
    delimiters: bool = True
    """Whether `<img>` and `</img>` stand around the image: START, END."""

    def __post_init__(self) -> None:
        self._require_counts("tile", "patch", "merge", "min_tiles", "max_tiles")
        self._require_switches("thumbnail", "delimiters")
        unit = self.patch * self.merge
        self._require(self.tile % unit == 0, "tile", f"give a multiple of patch x merge, {unit}")
        self._require(self.min_tiles <= self.max_tiles, "min_tiles", f"give at most max_tiles, {self.max_tiles}")

    def _grids(self, widths: Ints, heights: Ints) -> tuple[Ints, Ints]:
        aspects, areas = widths / heights, widths * heights
        best = np.full(len(widths), np.inf)
        rows, columns = np.ones_like(heights), np.ones_like(widths)
        sides = range(1, self.max_tiles + 1)
        grids = [(x, y) for x in sides for y in sides if self.min_tiles <= x * y <= self.max_tiles]
        # Of equally near ratios, which need not be equal ratios, the later one wins where the image has the pixels.
        for x, y in sorted(grids, key=lambda grid: grid[0] * grid[1]):
            off = np.abs(aspects - x / y)
            better = (off < best) | ((off == best) & (areas > 0.5 * self.tile * self.tile * x * y))
            np.copyto(best, off, where=better)
            np.copyto(columns, x, where=better)
            np.copyto(rows, y, where=better)
        return rows, columns

    def _length(self, rows: Ints, columns: Ints) -> Ints:
        return self._crop_count(rows, columns) * (self.tile // (self.patch * self.merge)) ** 2 + 2 * self.delimiters

    def _crop_count(self, rows: Ints, columns: Ints) -> Ints:
        return rows * columns + (self.thumbnail & (rows * columns > 1))

    def _build(self, width: int, height: int, rows: int, columns: int) -> ImageLayout:
        side, whole = (self.tile, self.tile), (self.tile * columns, self.tile * rows)
        crops = tiles((whole,), self.tile, range(0, whole[0], self.tile), range(0, whole[1], self.tile))
        if self.thumbnail and len(crops) > 1:
            crops = *crops, Crop(resized=(side,), box=(0, 0, *side))
        patches = patch_grid(side, self.patch)
        pool = per_crop(windows(patches, self.merge), patches.size, len(crops))
        tokens: Runs = ((Token.IMAGE, len(pool)),)
        return ImageLayout(
            width=width,
            height=height,
            crops=crops,
            patch=self.patch,
            tokens=((Token.START, 1), *tokens, (Token.END, 1)) if self.delimiters else tokens,
            pool=pool,
            padding=np.zeros(patches.size * len(crops), dtype=np.uint8),
            resample="bicubic",
        )
