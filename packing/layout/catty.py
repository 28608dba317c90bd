"""Overlapping tiles that keep the image's aspect ratio, and a thumbnail (POINTS' CATTY)."""

import dataclasses
import itertools
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmcorpus.packing.layout.base import Crop, ImageLayout, Ints, LayoutBase, Size, Token
from mmcorpus.packing.layout.grids import patch_grid, per_crop, tiles, windows

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class CattyLayout(LayoutBase):
    """The image resized in its aspect ratio into the nearest grid of tiles that is at least as elongated; the tiles
    overlap where it is shorter than the grid. The thumbnail, squashed and made of the resized image, comes last.

    Source: POINTS (arXiv 2409.04828, §3.2) and WePOINTS' `catty.py` with `do_resize=True`: an image more elongated than
    `max_tiles` to 1 is squeezed to that first, losing up to `max_tiles` - 2 pixels at the right or bottom to rounding.
    """

    kind: Literal["catty"] = "catty"
    """Which layout it is."""
    tile: int = 336
    """Pixels a side of a tile; a multiple of patch x merge."""
    patch: int = 14
    """Pixels a side of a patch."""
    merge: int = 2
    """Patches a side that pixel shuffle joins to a token: 576 patches are 144 tokens."""
    max_tiles: int = 8
    """Most tiles, thumbnail aside."""
    thumbnail: bool = True
    """Whether the whole image follows its tiles, one tile alone too."""

    def __post_init__(self) -> None:
        self._require_counts("tile", "patch", "merge", "max_tiles")
        self._require_switches("thumbnail")
        unit = self.patch * self.merge
        self._require(self.tile % unit == 0, "tile", f"give a multiple of patch x merge, {unit}")

    def _squeezed(self, widths: Ints, heights: Ints) -> tuple[Ints, Ints]:
        """The sizes, with none more elongated than `max_tiles` to 1."""
        most = self.max_tiles
        return np.minimum(widths, most * heights), np.minimum(heights, most * widths)

    def _resized(self, widths: Ints, heights: Ints) -> tuple[Ints, Ints, Ints, Ints]:
        """Columns and rows of the grid, then the width and height of the resized image."""
        widths, heights = self._squeezed(widths, heights)
        aspects, across, down = widths / heights, widths / self.tile, heights / self.tile
        columns, rows = self._nearest(aspects, across * down)
        tall = across < down
        # In floating point, and rounded down, as the reference has it: 1.0 / 3.0 * 1008 may lose a pixel.
        wide = (aspects * (rows * self.tile)).astype(np.int64)
        high = (heights / widths * (columns * self.tile)).astype(np.int64)
        return columns, rows, np.where(tall, columns * self.tile, wide), np.where(tall, high, rows * self.tile)

    def _nearest(self, aspects: Floats, areas: Floats) -> tuple[Ints, Ints]:
        """Columns and rows of the grid of the nearest ratio on the elongated side, and of those the nearest area."""
        counts = range(1, self.max_tiles + 1)
        grids = sorted(((x, n // x) for n in counts for x in counts if n % x == 0), key=_ratio)
        by_ratio = [list(group) for _, group in itertools.groupby(grids, key=_ratio)]
        ratios = np.array([_ratio(group[0]) for group in by_ratio])
        place = np.where(
            aspects < 1, np.searchsorted(ratios, aspects, side="right") - 1, np.searchsorted(ratios, aspects)
        )
        best = np.full(len(aspects), np.inf)
        columns, rows = np.ones((2, len(aspects)), dtype=np.int64)
        for several in itertools.zip_longest(*by_ratio, fillvalue=(0, 0)):
            x, y = np.array(several).T[:, place]
            off = np.where(x > 0, np.abs(x * y - areas), np.inf)
            better = off < best
            for known, new in ((best, off), (columns, x), (rows, y)):
                np.copyto(known, new, where=better)
        return columns, rows

    def _strides(self, cells: Ints, lengths: Ints) -> Ints:
        """Pixels from one tile to the next along a side; a tile's where one tile is all there is."""
        strides = (lengths - self.tile) // np.maximum(1, cells - 1)
        return np.where((cells > 1) & (strides > 0), strides, self.tile)

    def _grids(self, widths: Ints, heights: Ints) -> tuple[Ints, Ints]:
        columns, rows, across, down = self._resized(widths, heights)
        # As many tiles as fit by these strides: with max_tiles below 6 that may be fewer than the grid has.
        fits = [
            (lengths - self.tile) // self._strides(cells, lengths) + 1
            for cells, lengths in ((rows, down), (columns, across))
        ]
        return fits[0], fits[1]

    def _length(self, rows: Ints, columns: Ints) -> Ints:
        return self._crop_count(rows, columns) * (self.tile // (self.patch * self.merge)) ** 2

    def _crop_count(self, rows: Ints, columns: Ints) -> Ints:
        return rows * columns + int(self.thumbnail)

    def _build(self, width: int, height: int, rows: int, columns: int) -> ImageLayout:
        size = np.array([width]), np.array([height])
        squeezed = tuple(int(length[0]) for length in self._squeezed(*size))
        cells_x, cells_y, across, down = self._resized(*size)
        whole: Size = int(across[0]), int(down[0])
        resized: tuple[Size, ...] = (whole,) if squeezed == (width, height) else ((squeezed[0], squeezed[1]), whole)
        strides = int(self._strides(cells_x, across)[0]), int(self._strides(cells_y, down)[0])
        lefts, tops = (range(0, stride * cells, stride) for stride, cells in zip(strides, (columns, rows), strict=True))
        crops = tiles(resized, self.tile, lefts, tops)
        if self.thumbnail:
            side = self.tile, self.tile
            crops = *crops, Crop(resized=(*resized, side), box=(0, 0, *side))
        patches = patch_grid((self.tile, self.tile), self.patch)
        pool = per_crop(windows(patches, self.merge), patches.size, len(crops))
        return ImageLayout(
            width=width,
            height=height,
            crops=crops,
            patch=self.patch,
            tokens=((Token.IMAGE, len(pool)),),
            pool=pool,
            padding=np.zeros(patches.size * len(crops), dtype=np.uint8),
            resample="bilinear",
        )


def _ratio(grid: tuple[int, int]) -> float:
    return grid[0] / grid[1]
