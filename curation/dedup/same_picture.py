"""Whether two files show one picture: aligned, their tones matched, compared block by block where a digit is seen.

A copy may be encoded anew, resized, cropped, brighter, of more contrast, of another gamma or saturation. All of that
changes a picture everywhere alike; what differs in a part alone – a digit, a lamp, a clock's hand – is another picture.

1. Both are brought to the size of the smaller (`SIDE` pixels at most). If that does not align them, one may be cropped
   from the other: the affine map is found from coarse to fine by ECC (Evangelidis and Psarakis, PAMI 2008); it must
   be a change of scale and place alone, and all of the one must lie within the other.
2. One tone curve, `scale * value ** gamma + offset`, and one saturation for the whole picture are fitted from the one
   to the other, robustly, so that parts that differ do not bend it; values are clipped at 0 and 255 as a copy's are.
3. What remains is measured in blocks, luma and chroma apart, each block at the best of small shifts: the standard
   deviation of the difference against what encoding leaves (by the pair's own noise, and a share of the block's
   contrast), and its mean. The worst block decides.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

SIDE: Final = 512
"""Pixels of the longer side at which pictures are compared, at most: a digit of a scanned form is some 10 high."""
SMALLEST: Final = 8
"""Pixels of the shorter side below which nothing can be said but of equal pixels."""
_COARSE: Final = 36
"""Pixels of the longer side at which tones are fitted."""
_LEVELS: Final = ((64, 40), (160, 30), (320, 10))
"""Longer sides at which the alignment is found, one after the other, and the iterations at most."""
_PROFILE: Final = 256
_START: Final = 0.06
"""Of a length, by which either side may be cut away (or lie further out) for the alignment to begin with it."""
_STEPS: Final = 10
_SHEAR: Final = 0.02
_MOST_CROPPED: Final = 0.25
"""Of a length, by which the scale may differ from 1."""
_OUTSIDE: Final = 0.012
"""Of a length, by which a picture may reach out of the one that it was cropped from: errors of alignment."""
_FITS: Final = 0.006
"""Mean misfit, 0-1, below which nothing is fitted."""
_GAMMA_STEP: Final = 1.18
_GAMMA_STEPS: Final = 3
_OFFSET: Final = 0.35
_SCALE: Final = (0.5, 2.0)
_SATURATION: Final = (0.3, 3.0)
_BLOCK: Final = 8
_MEAN_BLOCK: Final = 16
_FLOOR: Final = (2.5, 9.0)
_SHARE: Final = (0.12, 0.34)
_RING: Final = 0.08
_MOST_RING: Final = 6.0
_MEAN: Final = 18.0
_SHIFTS: Final = tuple((y, x) for y in (0, -1, 1) for x in (0, -1, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture made ready for any number of comparisons."""

    pixels: Floats
    """float32 [height, width, 3], RGB, 0-1, the longer side `SIDE` or less."""

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8]) -> "Picture":
        """From uint8 RGB [height, width, 3]."""
        height, width = pixels.shape[:2]
        share = SIDE / max(height, width)
        if share < 1:
            size = (max(1, round(width * share)), max(1, round(height * share)))
            pixels = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA)
        return cls(pixels.astype(np.float32) / 255)


def same_picture(first: Picture, second: Picture) -> bool:
    """Whether one is a copy of the other. Symmetric."""
    return difference(first, second) <= 1


def difference(first: Picture, second: Picture) -> float:
    """How much the worst block differs, as a multiple of what copying explains; 0 for equal pixels, inf where the two
    cannot be aligned."""
    one, other = first.pixels, second.pixels
    if one.shape == other.shape and np.array_equal(one, other):
        return 0.0
    if one.size > other.size or (one.size == other.size and one.shape < other.shape):
        one, other = other, one
    if min(one.shape[:2]) < SMALLEST:
        return float("inf")
    resized = _resize(other, one.shape[1], one.shape[0])
    direct = _compare(one, resized)
    if direct <= 1:
        return direct
    return min(direct, _cropped(one, other))


def _resize(pixels: Floats, width: int, height: int) -> Floats:
    if pixels.shape[:2] == (height, width):
        return pixels
    smaller = width * height < pixels.shape[0] * pixels.shape[1]
    result: Floats = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return result


def _cropped(one: Floats, other: Floats) -> float:
    """The difference once one is found within the other, whichever is the larger cut."""
    best = float("inf")
    for found in _alignments(one, other):
        best = min(best, _within(one, other, found), _within(other, one, cv2.invertAffineTransform(found)))
        if best <= 1:
            break
    return best


def _within(part: Floats, whole: Floats, place: Any) -> float:
    """The difference of a picture from the place of another that it is said to be cut from."""
    height, width = part.shape[:2]
    corners = place[:, :2] @ np.array([[0, width], [0, height]], np.float64) + place[:, 2:]
    limits = np.array([[whole.shape[1]], [whole.shape[0]]]) * np.array([[-_OUTSIDE, 1 + _OUTSIDE]])
    if (corners[:, 0] < limits[:, 0]).any() or (corners[:, 1] > limits[:, 1]).any():
        return float("inf")
    # At the coarser of the two resolutions, so that nothing is compared that one of them cannot show.
    step = float(np.sqrt(place[0, 0] * place[1, 1]))
    if step < 1:
        part = _resize(part, max(1, round(width * step)), max(1, round(height * step)))
    place = _rescaled(place, (width / part.shape[1], height / part.shape[0]), (1, 1))
    # As much blur as reducing by `step` leaves, since the warp itself averages nothing.
    seen = whole if step <= 1.05 else cv2.GaussianBlur(whole, (0, 0), 0.45 * math.sqrt(step * step - 1))
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(seen, _centred(place), part.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return _compare(part, np.clip(warped, 0, 1))


def _rescaled(place: Any, inner: Sequence[float], outer: Sequence[float]) -> Any:
    """An affine map between pictures, for those pictures at other sizes: coordinates times `inner`, results over
    `outer`."""
    result = np.array(place, np.float64)
    result[:, :2] *= inner
    result /= np.array(outer, np.float64)[:, None]
    return result


def _centred(place: Any, half: float = 0.5) -> Any:
    """From coordinates that count from the corner of the first pixel to OpenCV's, which count from its centre; with
    -0.5 back."""
    result = np.array(place, np.float64)
    result[:, 2] += result[:, :2] @ (half, half) - half
    return result


def _alignments(one: Floats, other: Floats) -> Iterator[Any]:
    """Affine maps [2, 3] without shear from coordinates of one to the other's, from pixel corners, the likelier one
    first."""
    place = start = _start(one, other)
    for side, iterations in _LEVELS:
        small, sizes = [], []
        for pixels in (one, other):
            share = min(1.0, side / max(pixels.shape[:2]))
            width, height = (max(SMALLEST, round(length * share)) for length in pixels.shape[1::-1])
            small.append(cv2.cvtColor(_resize(pixels, width, height), cv2.COLOR_RGB2GRAY))
            sizes.append((pixels.shape[1] / width, pixels.shape[0] / height))
        warp = _centred(_rescaled(place, sizes[0], sizes[1])).astype(np.float32)
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, iterations, 1e-4)
        try:
            _, warp = cv2.findTransformECC(*small, warp, cv2.MOTION_AFFINE, criteria, None, 5)
        except cv2.error:  # too little texture, or it does not converge
            break
        place = _rescaled(_centred(warp, -0.5), [1 / size for size in sizes[0]], [1 / size for size in sizes[1]])
    else:
        lengths = np.array(other.shape[1::-1]) / one.shape[1::-1]
        scale, shear = np.diag(place[:, :2]) / lengths, np.abs([place[0, 1], place[1, 0]] / lengths)
        if (shear <= _SHEAR).all() and (np.abs(scale - 1) < _MOST_CROPPED).all():
            # Without the shear, about the middle.
            place[:, 2] += (place[0, 1] * one.shape[0] / 2, place[1, 0] * one.shape[1] / 2)
            place[0, 1] = place[1, 0] = 0
            yield place
    yield start


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
    result: Floats = cv2.resize(line.reshape(1, -1), (count, 1), interpolation=cv2.INTER_AREA)
    return result.ravel()


def _compare(one: Floats, other: Floats) -> float:
    """The difference of aligned pictures of one size, from whichever side it is explained better: a copy that was
    clipped at white is explained from the other, not the other from it."""
    best = float("inf")
    for source, target in ((one, other), (other, one)):
        tones = _fit(source, target)
        best = min(best, _unexplained(source, target, tones))
        if best <= 1 or tones == _Tones():
            break
    return best


@dataclass(frozen=True, slots=True)
class _Tones:
    """How a copy's tones follow from its original's."""

    gamma: float = 1.0
    offset: float = 0.0
    scale: float = 1.0
    saturation: float = 1.0

    def apply(self, pixels: Floats) -> Floats:
        if self == _Tones():
            return pixels
        if self.gamma != 1:
            pixels = np.power(pixels, np.float32(self.gamma))
        luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
        result = pixels * np.float32(self.scale * self.saturation)
        result += luma * np.float32(self.scale * (1 - self.saturation)) + np.float32(self.offset)
        return np.clip(result, 0, 1, out=result)


def _fit(source: Floats, target: Floats) -> _Tones:
    """The tones that make the one of the other."""
    height, width = source.shape[:2]
    share = min(1.0, _COARSE / max(height, width))
    size = (max(4, round(width * share)), max(4, round(height * share)))
    first, second = (_resize(pixels, *size).reshape(-1, 3) for pixels in (source, target))
    best, least = _Tones(), _misfit(first, second, _Tones())
    if least < _FITS:
        return best
    for step in (0, 1, -1):  # in either direction as long as it gets better
        while abs(step) <= _GAMMA_STEPS:
            tones = _fit_linear(first, second, _GAMMA_STEP**step)
            misfit = _misfit(first, second, tones)
            if misfit >= least:
                break
            best, least = tones, misfit
            if step == 0:
                break
            step += 1 if step > 0 else -1
    return best


def _fit_linear(first: Floats, second: Floats, gamma: float) -> _Tones:
    """Offset, scale and saturation by least squares, those that fit badly counting less each time."""
    bent = np.power(first, np.float32(gamma))
    luma = bent @ np.array([0.299, 0.587, 0.114], np.float32)
    base, chroma = np.repeat(luma, 3), (bent - luma[:, None]).ravel()
    rows, goal = np.stack([np.ones_like(base), base, chroma], axis=1), second.ravel()
    usable = ((goal > 0.02) & (goal < 0.98)).astype(np.float32)  # not what was clipped
    if usable.sum() < 24:
        usable = np.ones_like(usable)
    # A little towards no change, so that a picture of one tone has one answer.
    ridge, towards = np.eye(3, dtype=np.float32) * 1e-3, np.array([0, 1e-3, 1e-3], np.float32)
    weights, known = usable, towards
    for _ in range(4):
        weighted = (rows * weights[:, None]).T
        known = np.linalg.solve(weighted @ rows + ridge, weighted @ goal + towards)
        error = np.abs(rows @ known - goal)
        spread = max(0.01, 2 * float(np.median(error[usable > 0])))
        weights = usable / (1 + (error / spread) ** 2)
    scale = float(np.clip(known[1], *_SCALE))
    saturation = float(np.clip(known[2] / scale, *_SATURATION))
    return _Tones(gamma, float(np.clip(known[0], -_OFFSET, _OFFSET)), scale, saturation)


def _misfit(first: Floats, second: Floats, tones: _Tones) -> float:
    error = np.abs(tones.apply(first[None])[0] - second).max(axis=1)
    return float(np.minimum(error, 0.06).mean())


def _unexplained(source: Floats, target: Floats, tones: _Tones) -> float:
    """The worst block of what the tones leave, as a multiple of what encoding explains."""
    made = tones.apply(source)
    first, second = (cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb) * np.float32(255) for pixels in (made, target))
    # A copy of less contrast shows less of a difference.
    gain = max(1.0, 1 / tones.scale)
    worst = 0.0
    # Colour is encoded, and seen, at less resolution.
    quarter = (max(SMALLEST, first.shape[1] // 4), max(SMALLEST, first.shape[0] // 4))
    for channel in (1, 2):
        pair = [cv2.resize(each[..., channel], quarter, interpolation=cv2.INTER_AREA) for each in (first, second)]
        worst = max(worst, _blocks(*pair, gain, block=4, mean_block=4))
    if worst <= 1:
        worst = max(worst, _blocks(first[..., 0], second[..., 0], gain, _BLOCK, _MEAN_BLOCK))
    return worst


def _blocks(first: Floats, second: Floats, gain: float, block: int, mean_block: int) -> float:
    """The worst block of one channel, 0-255."""
    first, second = (cv2.GaussianBlur(each, (0, 0), 0.7) for each in (first, second))
    size, wide = ((min(side, first.shape[1]), min(side, first.shape[0])) for side in (block, mean_block))
    left, means = _left(first - second, size, wide)
    contrast = np.maximum(_deviation(first, size), _deviation(second, size))
    floor = float(np.clip(2.5 * np.median(left) + 2, *_FLOOR))
    busy = contrast > 12
    noise = float(np.median(left[busy] / contrast[busy])) if busy.any() else 0.0
    share = float(np.clip(2 * noise + 0.1, *_SHARE))
    # What is quantised beside an edge rings through the encoder's block.
    near = cv2.dilate(contrast, np.ones((2 * block + 1, 2 * block + 1), np.uint8))
    ring = np.minimum(min(1.5 * noise + 0.02, _RING) * near, _MOST_RING)
    allowed = (floor + share * contrast + ring) / gain
    limit = _MEAN / gain
    scores = np.maximum(left / allowed, means / limit)
    worst = float(scores.max())
    if worst <= 1:
        return worst
    # Blocks that do not fit where they are may fit a pixel beside it: the worst one first, it mostly decides.
    y, x = np.unravel_index(int(scores.argmax()), scores.shape)
    for places in ((y, y + 1, x, x + 1), _box(scores > 1)):
        worst = _shifted(first, second, allowed, limit, places, size, wide)
        if worst > 1:
            break
    return worst


def _box(where: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The first and last row, the first and last column of what is true."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _shifted(
    first: Floats,
    second: Floats,
    allowed: Floats,
    limit: float,
    places: tuple[int, int, int, int],
    size: tuple[int, int],
    wide: tuple[int, int],
) -> float:
    """The worst score of the blocks about some places, each at the best of small shifts."""
    height, width = first.shape
    top, bottom, before, after = places
    # With all that the blocks about these places see; a pixel at the picture's edge has no neighbour to shift to.
    reach = max(*size, *wide)
    top, bottom = max(1, top - reach), min(height - 1, bottom + reach)
    before, after = max(1, before - reach), min(width - 1, after + reach)
    inner = second[top:bottom, before:after]
    if not inner.size:
        return float("inf")
    best: Floats | None = None
    for y, x in _SHIFTS:
        left, means = _left(first[top + y : bottom + y, before + x : after + x] - inner, size, wide)
        scores = np.maximum(left / allowed[top:bottom, before:after], means / limit)
        best = scores if best is None else np.minimum(best, scores)
    assert best is not None
    rows = slice(max(0, places[0] - top), max(1, places[1] - top))
    columns = slice(max(0, places[2] - before), max(1, places[3] - before))
    return float(best[rows, columns].max(initial=0))


def _left(difference: Floats, size: tuple[int, int], wide: tuple[int, int]) -> tuple[Floats, Floats]:
    """Of the block about each pixel, the standard deviation of the difference and, of a wider one, its mean's size."""
    return _deviation(difference, size), np.abs(cv2.blur(difference, wide, borderType=cv2.BORDER_REFLECT))


def _deviation(values: Floats, size: tuple[int, int]) -> Floats:
    mean = cv2.blur(values, size, borderType=cv2.BORDER_REFLECT)
    square = cv2.sqrBoxFilter(values, cv2.CV_32F, size, borderType=cv2.BORDER_REFLECT)
    result: Floats = np.sqrt(np.maximum(square - mean * mean, 0))
    return result
