"""Grids of patches: numbering them, gathering them into tokens, and how much of each is padding."""

import numpy as np
import numpy.typing as npt

from mmcorpus.packing.layout.base import Crop, Indices, Ints, Size


def patch_grid(size: Size, patch: int, first: int = 0) -> Indices:
    """The patches of one crop in reading order, numbered from `first`; shape (rows, columns)."""
    rows, columns = size[1] // patch, size[0] // patch
    return np.arange(first, first + rows * columns, dtype=np.int32).reshape(rows, columns)


def windows(grid: Indices, side: int) -> Indices:
    """Windows of `side` x `side` patches in reading order, each in reading order; shape (windows, side * side).

    A grid that is no multiple is padded with -1, half of it before, the odd one after (Molmo2's arange_for_pooling).
    """
    missing = [-length % side for length in grid.shape]
    padded = np.pad(grid, [(each // 2, each - each // 2) for each in missing], constant_values=-1)
    rows, columns = (length // side for length in padded.shape)
    return padded.reshape(rows, side, columns, side).transpose(0, 2, 1, 3).reshape(rows * columns, side * side)


def adaptive_windows(grid: Indices, side: int) -> Indices:
    """The patches that torch's AdaptiveAvgPool2d(side) averages for each of side x side tokens; -1 fills the shorter.

    Token i of n over p patches takes those from floor(i p / n) up to ceil((i + 1) p / n): neighbours overlap where n
    does not divide p. Shape (side * side, k).
    """
    rows, columns = (_adaptive(length, side) for length in grid.shape)
    taken = grid[rows[:, None, :, None], columns[None, :, None, :]]
    there = (rows >= 0)[:, None, :, None] & (columns >= 0)[None, :, None, :]
    pool = np.where(there, taken, np.int32(-1)).reshape(side * side, -1)
    # The kept patches first, so that the fillers stand together.
    return np.take_along_axis(pool, np.argsort(pool < 0, axis=1, kind="stable"), axis=1)


def _adaptive(patches: int, tokens: int) -> Ints:
    """Along one side: the patches of each token, -1 for none; shape (tokens, k)."""
    number = np.arange(tokens)
    start, end = number * patches // tokens, -(-(number + 1) * patches // tokens)
    index = start[:, None] + np.arange(int((end - start).max()))
    return np.where(index < end[:, None], index, -1)


def padding_kinds(crop: Crop, patch: int) -> npt.NDArray[np.uint8]:
    """Of each patch of a crop: 0 all image, 1 some of it padding, 2 nothing else; shape (patches,)."""
    covered = []
    for length, before, after in zip(crop.size, crop.padding[:2], crop.padding[2:], strict=True):
        edges = np.clip(np.arange(length // patch + 1) * patch, before, max(before, length - after))
        covered.append(np.diff(edges))
    pixels = np.outer(covered[1], covered[0]).ravel()
    return np.where(pixels == 0, 2, pixels < patch * patch).astype(np.uint8)


def tiles(resized: tuple[Size, ...], side: int, lefts: range, tops: range) -> tuple[Crop, ...]:
    """Square windows on one resized image, row by row."""
    return tuple(Crop(resized=resized, box=(x, y, x + side, y + side)) for y in tops for x in lefts)


def per_crop(pool: Indices, patches: int, crops: int) -> Indices:
    """One crop's pooling for so many crops of `patches` patches, each pooled by itself, one after the other."""
    shifts = (np.arange(crops, dtype=np.int32) * patches)[:, None, None]
    return np.where(pool >= 0, pool + shifts, np.int32(-1)).reshape(-1, pool.shape[1])
