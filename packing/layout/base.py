"""The interface of an image layout: the crops that the encoder sees, the tokens of the sequence, and their patches.

A layout's config is its arithmetic. `lengths` and `crop_counts` go over arrays of widths and heights without building
anything, for planners; `layout` builds the one ImageLayout that a loader renders and a model gathers by. Both ask
`grids`, so that they cannot disagree.
"""

import abc
import dataclasses
import enum
import hashlib
import json
from collections.abc import Callable
from typing import Any, ClassVar, Final, Literal

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Indices = npt.NDArray[np.int32]
Size = tuple[int, int]
"""Width and height, pixels."""
Resample = Literal["bilinear", "bicubic"]

_CHUNK: Final = 1 << 16
"""Images measured at once: the arrays of a chunk stay in the processor's cache."""
_MOST_PIXELS: Final = 1 << 14
"""A side's, and of whatever else is counted in a layout."""
_MOST: Final = {"max_crops": 1024, "min_tiles": 1024, "max_tiles": 1024, "grid": 64, "tokens": 1 << 22} | dict.fromkeys(
    ("min_pixels", "max_pixels"), 1 << 28
)
"""Where that is another number: tilings are tried one by one."""


class Token(enum.IntEnum):
    """The content of one position of an image."""

    IMAGE = 0
    """Filled with pooled features, a row of ImageLayout.pool each, in order."""
    START = 1
    """Opens an image, or one view of it: Molmo's `<im_start>`, InternVL's `<img>`, Qwen2-VL's `<|vision_start|>`."""
    END = 2
    """Closes what START opened."""
    COLUMN = 3
    """Ends a row of features: Molmo's `<im_col>`."""
    NEWLINE = 4
    """Ends a row as a learned vector rather than a token of the vocabulary (LLaVA-NeXT's `image_newline`)."""


Runs = tuple[tuple[Token, int], ...]
"""Tokens by runs of equal ones."""


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Crop:
    """One picture for the encoder: the whole image resized, and a window on it."""

    resized: tuple[Size, ...]
    """What the whole image is resized to, one resize after the other (the references resize some images twice)."""
    box: tuple[int, int, int, int]
    """Left, top, right and bottom of the window, pixels of the resized image; what lies outside it is padding."""

    @property
    def size(self) -> Size:
        """Of the crop as the encoder sees it."""
        left, top, right, bottom = self.box
        return right - left, bottom - top

    @property
    def padding(self) -> tuple[int, int, int, int]:
        """Black pixels at the left, top, right and bottom."""
        (width, height), (left, top, right, bottom) = self.resized[-1], self.box
        return max(0, -left), max(0, -top), max(0, right - width), max(0, bottom - height)

    def source(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of what it shows of the `width` x `height` image, in that image's pixels."""
        (across, down), (left, top, right, bottom) = self.resized[-1], self.box
        x, y = width / across, height / down
        return max(0, left) * x, max(0, top) * y, min(across, right) * x, min(down, bottom) * y


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class ImageLayout:
    """One image's crops, tokens and pooling."""

    width: int
    """Pixels of the image that it is for, upright."""
    height: int
    crops: tuple[Crop, ...]
    """In the order in which the encoder's features are joined; all of one size. Their number is the encoder's cost."""
    patch: int
    """Pixels a side of a patch. A crop's patches count in reading order; what is left at its right and bottom edge is
    seen by no patch."""
    tokens: Runs
    """What stands in the sequence."""
    pool: Indices
    """Shape (IMAGE tokens, k): the patches that make each, numbered over all crops, -1 for none. Averaged, attended to,
    or concatenated (pixel shuffle) they are the token's feature; patches that are nowhere here are dropped."""
    padding: npt.NDArray[np.uint8]
    """Shape (patches,): 0 shows image alone, 1 also padding, 2 nothing but padding (Molmo's pad_embed)."""
    resample: Resample
    """The resizing filter, with antialiasing."""

    @property
    def length(self) -> int:
        """Positions in the sequence."""
        return sum(count for _, count in self.tokens)

    @property
    def template(self) -> npt.NDArray[np.int8]:
        """Shape (length,): the Token at each position."""
        kinds, counts = zip(*self.tokens, strict=True)
        return np.repeat(np.array(kinds, dtype=np.int8), counts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LayoutBase(abc.ABC):
    """A layout's config, and with it its arithmetic. Equal configs give equal layouts."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    kind: str
    """Which layout it is."""

    @abc.abstractmethod
    def _grids(self, widths: Ints, heights: Ints) -> tuple[Ints, Ints]:
        """Rows and columns of each image's grid of crops (of tokens, where there is one crop of any size)."""

    @abc.abstractmethod
    def _length(self, rows: Ints, columns: Ints) -> Ints:
        """Positions of an image with such a grid."""

    @abc.abstractmethod
    def _crop_count(self, rows: Ints, columns: Ints) -> Ints:
        """Crops of an image with such a grid."""

    @abc.abstractmethod
    def _build(self, width: int, height: int, rows: int, columns: int) -> ImageLayout:
        """The layout of an image whose grid is that."""

    @property
    def constant(self) -> int | None:
        """Positions of every image, if they are the same whatever its size."""
        return None

    def layout(self, width: int, height: int) -> ImageLayout:
        """The layout of an upright image of `width` x `height` pixels; raises ValueError if either is below 1."""
        rows, columns = self.grids(np.array([width]), np.array([height]))
        return self._build(int(width), int(height), int(rows[0]), int(columns[0]))

    def grids(self, widths: npt.ArrayLike, heights: npt.ArrayLike) -> tuple[Ints, Ints]:
        """Rows and columns of each image's grid: crops without overview and thumbnail; for `native`, tokens."""
        found = self._measure(widths, heights, lambda rows, columns: np.stack([rows, columns]))
        return found[0], found[1]

    def lengths(self, widths: npt.ArrayLike, heights: npt.ArrayLike) -> Ints:
        """Positions of each image; shapes (n,). Raises ValueError for a size below 1 pixel."""
        return self._measure(widths, heights, self._length)

    def crop_counts(self, widths: npt.ArrayLike, heights: npt.ArrayLike) -> Ints:
        """Crops of each image; shapes (n,). Raises ValueError for a size below 1 pixel."""
        return self._measure(widths, heights, self._crop_count)

    def _measure(
        self, widths: npt.ArrayLike, heights: npt.ArrayLike, measure: Callable[[Ints, Ints], npt.NDArray[Any]]
    ) -> Ints:
        across, down = np.asarray(widths), np.asarray(heights)
        if across.ndim != 1 or across.shape != down.shape:
            raise ValueError(f"widths of shape {across.shape} and heights of {down.shape} are not one list of sizes")
        if across.dtype.kind not in "iu" or down.dtype.kind not in "iu":
            raise ValueError(f"widths are {across.dtype}, heights {down.dtype}; give whole pixels")
        if len(across) and min(across.min(), down.min()) < 1:
            bad = int(np.argmax((across < 1) | (down < 1)))
            raise ValueError(f"image {bad} is {across[bad]} x {down[bad]} pixels; an image has at least one pixel")
        parts = [
            measure(*self._grids(across[at : at + _CHUNK].astype(np.int64), down[at : at + _CHUNK].astype(np.int64)))
            for at in range(0, max(1, len(across)), _CHUNK)
        ]
        return np.concatenate(parts, axis=-1).astype(np.int64, copy=False)

    def as_dict(self) -> dict[str, Any]:
        """Every setting as JSON-able values; `read_layout` makes the config of them."""
        settings = dataclasses.asdict(self)
        return {name: list(value) if isinstance(value, tuple) else value for name, value in settings.items()}

    @property
    def hash(self) -> str:
        """16 hex digits: equal hashes mean the same crops, tokens and pooling for every image."""
        return hashlib.blake2b(json.dumps(self.as_dict(), sort_keys=True).encode(), digest_size=8).hexdigest()

    def _require(self, condition: bool, name: str, hint: str) -> None:
        if not condition:
            raise ValueError(f"{name} is {getattr(self, name)!r} in the layout {self.kind!r}; {hint}")

    def _require_counts(self, *names: str) -> None:
        """Raise ValueError unless these fields are whole numbers of 1 or more, and none that nobody could mean."""
        for name in names:
            value, most = getattr(self, name), _MOST.get(name, _MOST_PIXELS)
            whole = isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most
            self._require(whole, name, f"give a whole number from 1 to {most}")

    def _require_switches(self, *names: str) -> None:
        for name in names:
            self._require(isinstance(getattr(self, name), bool), name, "give true or false")
