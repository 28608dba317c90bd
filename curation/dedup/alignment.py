"""Alignment of a picture with another that it was cut from: scale and offset, from coarse to fine."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SMALLEST: Final = 8
"""Pixels of a side of a picture that is aligned, at least."""
_LEVELS: Final = ((64, 40), (160, 30), (320, 10))
"""Longer sides at which the alignment is found, one after the other, and the iterations at most."""
_PROFILE: Final = 256
_START: Final = 0.06
"""Of a length, by which either side may be cut away (or lie further out) for the alignment to begin with it."""
_STEPS: Final = 10
_SHEAR: Final = 0.02
_LEAST_CORRELATION: Final = 0.85
_ALIKE: Final = (0.8, 0.9)
"""Of a block, the correlation above which it shows the same; and of blocks, the share that then lies in place."""
_PATCH: Final = (16, 16)
_BUSY: Final = 0.05
_MOVED: Final = 0.2
"""Pixels by which no side lies elsewhere of what lies in place: thick shapes correlate as well when they are moved."""
_FINER_STEPS: Final = 6
_MOST_CROPPED: Final = 0.25
"""Of a length, by which the scale may differ from 1."""


def alignments(one: Floats, other: Floats) -> Iterator[Any]:
    """Affine maps [2, 3] without shear from coordinates of one to the other's, from pixel corners, the likelier one
    first; none where the pictures do not even coarsely correlate."""
    place = start = _start(one, other)
    # Thin lines vanish from the coarsest pictures, and the way from there leads astray where the start is right.
    fits = _correlation(*_reduced(one, other, start, _LEVELS[1][0])[0]) >= _LEAST_CORRELATION
    for side, iterations in _LEVELS[1:] if fits else _LEVELS:
        (*small, guess), sizes = _reduced(one, other, place, side)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, 1e-4)
        try:
            correlation, warp = cv2.findTransformECC(small[0], small[1], guess, cv2.MOTION_AFFINE, criteria)
        except cv2.error:  # too little texture, or it does not converge
            break
        if correlation < _LEAST_CORRELATION:
            return
        place = rescaled(centred(warp, -0.5), [1 / size for size in sizes[0]], [1 / size for size in sizes[1]])
    else:
        lengths = np.array(other.shape[1::-1]) / one.shape[1::-1]
        scale, shear = np.diag(place[:, :2]) / lengths, np.abs([place[0, 1], place[1, 0]] / lengths)
        if (shear <= _SHEAR).all() and (np.abs(scale - 1) < _MOST_CROPPED).all():
            # Without the shear, about the middle.
            place[:, 2] += (place[0, 1] * one.shape[0] / 2, place[1, 0] * one.shape[1] / 2)
            place[0, 1] = place[1, 0] = 0
            yield place
    yield start


def refined(one: Floats, other: Floats, place: Any) -> Any:
    """A map made finer by Gauss and Newton's steps on scale and place alone, and on a gain and an offset of tones. Of
    letters and other pictures of few edges ECC explains a part by a shear, and is half a pixel off without it."""
    (first, second, warp), sizes = _reduced(one, other, place, _LEVELS[-1][0])
    height, width = first.shape
    columns, rows = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    slopes = [cv2.Sobel(second, cv2.CV_32F, *axis, ksize=3, scale=1 / 8) for axis in ((1, 0), (0, 1))]
    known = warp.astype(np.float64)
    known[0, 1] = known[1, 0] = 0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for _ in range(_FINER_STEPS):
        there, across, down = (
            cv2.warpAffine(each, known, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE)
            for each in (second, *slopes)
        )
        changes = (across * columns, across, down * rows, down, there - there.mean(), np.ones_like(there))
        matrix = np.stack(changes).reshape(len(changes), -1)
        normal = matrix @ matrix.T + 1e-4 * np.eye(len(matrix), dtype=np.float32)
        step = np.linalg.solve(normal, matrix @ (first - there).ravel())
        known += [[step[0], 0, step[1]], [0, step[2], step[3]]]
    if (np.abs(np.diag(known[:, :2]) / np.diag(warp[:, :2]) - 1) > _START).any():  # led astray
        return place
    return rescaled(centred(known, -0.5), [1 / size for size in sizes[0]], [1 / size for size in sizes[1]])


def _reduced(one: Floats, other: Floats, place: Any, side: int) -> tuple[tuple[Floats, Floats, Floats], Any]:
    """Both in grey, their longer sides `side` or less, and the map between them in OpenCV's coordinates; and by how
    much either was reduced."""
    small, sizes = [], []
    for pixels in (one, other):
        share = min(1.0, side / max(pixels.shape[:2]))
        width, height = (max(SMALLEST, round(length * share)) for length in pixels.shape[1::-1])
        small.append(np.asarray(cv2.cvtColor(resized(pixels, width, height), cv2.COLOR_RGB2GRAY), np.float32))
        sizes.append((pixels.shape[1] / width, pixels.shape[0] / height))
    return (small[0], small[1], centred(rescaled(place, sizes[0], sizes[1])).astype(np.float32)), sizes


def _correlation(one: Floats, other: Floats, warp: Floats) -> float:
    """Of a picture with the place of another that a map says."""
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    there = cv2.warpAffine(other, warp, one.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    first, second = one - one.mean(), there - there.mean()
    return float((first * second).sum() / max(1e-6, np.sqrt((first**2).sum() * (second**2).sum())))


def in_place(one: Floats, other: Floats) -> bool:
    """Whether two pictures of one size lie on each other as they are: nearly all blocks that show something
    correlate, whatever their tones, and so do their profiles best."""
    first, second = (cv2.cvtColor(each, cv2.COLOR_RGB2GRAY) for each in (one, other))
    mean, there = (cv2.blur(each, _PATCH) for each in (first, second))
    shared = cv2.blur(first * second, _PATCH) - mean * there
    squares = (
        np.maximum(cv2.blur(each * each, _PATCH) - middle * middle, 0)
        for each, middle in ((first, mean), (second, there))
    )
    spread, other_spread = (np.sqrt(square) for square in squares)
    busy = np.maximum(spread, other_spread) > _BUSY
    alike = shared[busy] > _ALIKE[0] * spread[busy] * other_spread[busy]
    return bool(alike.size and alike.mean() >= _ALIKE[1]) and _moved(one, other) <= _MOVED


def _moved(one: Floats, other: Floats) -> float:
    """By how many pixels a side of a picture lies elsewhere in another of the same size, by their profiles."""
    place = _start(one, other)
    size = np.array(one.shape[1::-1])
    return float(np.abs([place[:, 2], np.diag(place[:, :2]) * size + place[:, 2] - size]).max())


def _start(one: Floats, other: Floats) -> Any:
    """The map from coordinates of one to the other's by which their profiles – the mean of each column, and of each
    row – correlate best."""
    share = (np.arange(_PROFILE) + 0.5) / _PROFILE
    result = np.zeros((2, 3))
    for axis in (0, 1):
        lines = [cv2.cvtColor(each, cv2.COLOR_RGB2GRAY).mean(axis=axis) for each in (one, other)]
        wanted, there = (_sampled(line, _PROFILE) for line in lines)
        wanted = wanted - wanted.mean()
        left = right = 0.0
        for reach in (_START, _START / _STEPS):
            grid = np.linspace(-reach, reach, 2 * _STEPS + 1)
            before, after = (edges.reshape(-1, 1) for edges in np.meshgrid(left + grid, right + grid))
            places = before + (1 - before - after) * share  # [starts, samples], of the other's length
            shifted = np.interp(np.clip(places, 0, 1), share, there)
            shifted -= shifted.mean(axis=1, keepdims=True)
            norms = np.sqrt((shifted**2).sum(axis=1) * (wanted**2).sum()) + 1e-6
            # A line without marks fits anywhere, and then most simply where it is.
            fits = shifted @ wanted / norms - 0.02 * (np.abs(before) + np.abs(after)).ravel()
            left, right = float(before[fits.argmax(), 0]), float(after[fits.argmax(), 0])
        result[axis, axis] = (1 - left - right) * len(lines[1]) / len(lines[0])
        result[axis, 2] = left * len(lines[1])
    return result


def _sampled(line: Floats, count: int) -> Floats:
    result: Floats = np.asarray(cv2.resize(line.reshape(1, -1), (count, 1), interpolation=cv2.INTER_AREA), np.float32)
    return result.ravel()


def rescaled(place: Any, inner: Sequence[float], outer: Sequence[float]) -> Any:
    """An affine map between pictures, for those pictures at other sizes: coordinates times `inner`, results over
    `outer`."""
    result = np.array(place, np.float64)
    result[:, :2] *= inner
    result /= np.array(outer, np.float64)[:, None]
    return result


def centred(place: Any, half: float = 0.5) -> Any:
    """From coordinates that count from the corner of the first pixel to OpenCV's, which count from its centre; with
    -0.5 back."""
    result = np.array(place, np.float64)
    result[:, 2] += result[:, :2] @ (half, half) - half
    return result


def resized(pixels: Floats, width: int, height: int) -> Floats:
    if pixels.shape[:2] == (height, width):
        return pixels
    smaller = width * height < pixels.shape[0] * pixels.shape[1]
    result: Floats = np.asarray(
        cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR), np.float32
    )
    return result
