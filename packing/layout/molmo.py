"""An overview and overlapping crops, of which each place in the image is used once (Molmo, Molmo2)."""

import dataclasses
from typing import Literal

import numpy as np
import numpy.typing as npt

from mmcorpus.packing.layout.base import Crop, ImageLayout, Indices, Ints, LayoutBase, Runs, Size, Token
from mmcorpus.packing.layout.grids import padding_kinds, patch_grid, tiles, windows

Floats = npt.NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class MolmoLayout(LayoutBase):
    """The image resized to a canvas of rows x columns windows with a margin around them. Each crop is a window with the
    margin, which shows its features what lies around; only the canvas' own edge keeps the features of its margin.

    Source: Molmo (arXiv 2409.17146, §2), `MultiModalPreprocessor.image_to_patches_and_tokens` of allenai/molmo. Molmo2
    (transformers' Molmo2ImageProcessor) is `{crop: 378, max_crops: 8, keep_aspect: false}`: its first START is the
    token `<low_res_im_start>`. A canvas whose patches are no multiple of `pool` is pooled as Molmo2 does it, whole.
    """

    kind: Literal["molmo"] = "molmo"
    """Which layout it is."""
    crop: int = 336
    """Pixels a side of a crop; a multiple of `patch`."""
    patch: int = 14
    """Pixels a side of a patch."""
    margins: tuple[int, int] = (4, 4)
    """Patches at the left and top, and at the right and bottom, that a crop shows of its neighbours."""
    max_crops: int = 12
    """Most crops, overview aside (Molmo's evaluation: 36)."""
    pool: int = 2
    """Patches a side that are pooled to a token."""
    columns: bool = True
    """Whether `<im_col>` ends each row: COLUMN."""
    keep_aspect: bool = True
    """Whether the image keeps its aspect ratio and is padded with black; false squashes it (Molmo2)."""
    padding: Literal["aligned", "reference"] = "aligned"
    """Of each crop its own padding; or `reference`, what Molmo's checkpoints were trained with: its code appends the
    overview's to the others while the overview's patches come first, so that each crop is told of the next one's
    padding, and the last that all of it is partly padding."""

    def __post_init__(self) -> None:
        self._require_counts("crop", "patch", "max_crops", "pool")
        self._require_switches("columns", "keep_aspect")
        self._require(self.padding in ("aligned", "reference"), "padding", "give 'aligned' or 'reference'")
        self._require(self.crop % self.patch == 0, "crop", f"give a multiple of the patch, {self.patch}")
        given = self.margins if isinstance(self.margins, tuple) else ()
        whole = [isinstance(each, int) and not isinstance(each, bool) and each >= 0 for each in given]
        self._require(whole == [True, True], "margins", "give two whole numbers of 0 or more, in patches")
        most = self.crop // self.patch - 1
        self._require(sum(self.margins) <= most, "margins", f"give at most {most} together: a crop has {most + 1}")

    @property
    def _window(self) -> int:
        """Patches along a side that a crop adds to the canvas."""
        return self.crop // self.patch - sum(self.margins)

    def _grids(self, widths: Ints, heights: Ints) -> tuple[Ints, Ints]:
        """The tiling that shrinks the image least, or where some enlarge it, the one of those that does so least.

        In float32 and of the image without the margins, as the reference has it; what is smaller than the margins comes
        out negative or infinite and has one crop along that side.
        """
        window, margin = self._window * self.patch, sum(self.margins) * self.patch
        sides = np.arange(1, self.max_crops + 1, dtype=np.float32)[:, None] * np.float32(window)
        with np.errstate(divide="ignore"):
            down, across = (sides / (lengths - margin).astype(np.float32) for lengths in (heights, widths))
        least = [np.full(len(widths), extreme, dtype=np.float32) for extreme in (-np.inf, np.inf)]
        choices = np.zeros((2, len(widths)), dtype=np.int64)
        numbers = range(1, self.max_crops + 1)
        tilings = sorted(
            ((i, j) for i in numbers for j in numbers if i * j <= self.max_crops),
            key=lambda tiling: (tiling[0] * tiling[1], tiling[0]),
        )
        enlarges = np.zeros(len(widths), dtype=bool)
        for number, (i, j) in enumerate(tilings):
            scale = np.minimum(down[i - 1], across[j - 1])
            large = scale >= 1
            enlarges |= large
            for which, better in enumerate((scale > least[0], large & (scale < least[1]))):
                np.copyto(least[which], scale, where=better)
                np.copyto(choices[which], number, where=better)
        rows, columns = np.array(tilings, dtype=np.int64)[np.where(enlarges, choices[1], choices[0])].T
        return rows, columns

    def _pooled(self, crops: Ints | int) -> Ints | int:
        """Tokens along a side of a canvas of so many crops."""
        return -(-(crops * self._window + sum(self.margins)) // self.pool)

    def _view(self, rows: Ints | int, columns: Ints | int) -> Ints | int:
        """Positions of a canvas: its tokens, the ends of its rows, START and END."""
        return self._pooled(rows) * (self._pooled(columns) + self.columns) + 2

    def _length(self, rows: Ints, columns: Ints) -> Ints:
        return np.asarray(self._view(1, 1) + self._view(rows, columns))

    def _crop_count(self, rows: Ints, columns: Ints) -> Ints:
        return 1 + rows * columns

    def _build(self, width: int, height: int, rows: int, columns: int) -> ImageLayout:
        canvas = [self._canvas(width, height, *cells) for cells in ((1, 1), (rows, columns))]
        crops = (*canvas[0], *canvas[1])
        one = (self.crop // self.patch) ** 2
        overview = patch_grid((self.crop, self.crop), self.patch)
        pools = [windows(grid, self.pool) for grid in (overview, self._stitched(rows, columns, first=one))]
        kinds = [padding_kinds(crop, self.patch) for crop in crops]
        if self.padding == "reference":
            kinds = [*kinds[1:], np.ones_like(kinds[0])]
        return ImageLayout(
            width=width,
            height=height,
            crops=crops,
            patch=self.patch,
            tokens=(*self._tokens(1, 1), *self._tokens(rows, columns)),
            pool=np.concatenate(pools),
            padding=np.concatenate(kinds),
            resample="bilinear",
        )

    def _canvas(self, width: int, height: int, rows: int, columns: int) -> tuple[Crop, ...]:
        """The crops of the image resized to a canvas of so many crops, row by row."""
        step = self._window * self.patch
        canvas = tuple(step * cells + sum(self.margins) * self.patch for cells in (columns, rows))
        size: Size = _fitted((width, height), canvas) if self.keep_aspect else (canvas[0], canvas[1])
        left, top = ((whole - length) // 2 for whole, length in zip(canvas, size, strict=True))
        lefts, tops = (range(-before, step * cells - before, step) for before, cells in ((left, columns), (top, rows)))
        return tiles((size,), self.crop, lefts, tops)

    def _stitched(self, rows: int, columns: int, first: int) -> Indices:
        """The canvas' patches, each of the one crop that keeps it, numbered from `first`; shape (rows, columns)."""
        side = self.crop // self.patch
        taken = [self._taken(cells) for cells in (rows, columns)]
        (crop_y, y), (crop_x, x) = taken
        crop = crop_y[:, None] * columns + crop_x
        return (first + crop * side * side + y[:, None] * side + x).astype(np.int32)

    def _taken(self, crops: int) -> tuple[Ints, Ints]:
        """Along one side of the canvas: for each patch, the crop that keeps it and its place in that crop."""
        place = np.arange(crops * self._window + sum(self.margins))
        crop = np.clip((place - self.margins[0]) // self._window, 0, crops - 1)
        return crop, place - crop * self._window

    def _tokens(self, rows: int, columns: int) -> Runs:
        row = ((Token.IMAGE, int(self._pooled(columns))), *(((Token.COLUMN, 1),) if self.columns else ()))
        return ((Token.START, 1), *(row * int(self._pooled(rows))), (Token.END, 1))


def _fitted(size: Size, canvas: tuple[int, ...]) -> Size:
    """The largest size of the same aspect ratio on the canvas, in float32 as the reference has it; a pixel at least."""
    lengths = np.array(size, dtype=np.float32)
    scaled = (lengths * (np.array(canvas, dtype=np.float32) / lengths).min()).astype(int)
    return max(1, int(scaled[0])), max(1, int(scaled[1]))
