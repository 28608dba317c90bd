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
_COARSE: Final = 48
_LEVELS: Final = (64, 160)
"""Longer sides at which the alignment is found, one after the other."""
_SHEAR: Final = 0.02
_MOST_CROPPED: Final = 0.25
"""Of a length, by which the scale may differ from 1."""
_OUTSIDE: Final = 0.012
"""Of a length, by which a picture may reach out of the one that it was cropped from: errors of alignment."""
_GAMMAS: Final = (1.0, 0.8, 1.25, 0.65, 1.55, 0.5, 2.0)
_SCALE: Final = (0.5, 2.0)
_SATURATION: Final = (0.3, 3.0)
_BLOCK: Final = 8
_MEAN_BLOCK: Final = 16
_FLOOR: Final = (2.5, 9.0)
_SHARE: Final = (0.16, 0.34)
_MEAN: Final = 18.0
_MARGIN: Final = 2
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
    found = _align(one, other)
    if found is None:
        return float("inf")
    results = []
    for part, whole, place in ((one, other, found), (other, one, cv2.invertAffineTransform(found))):
        height, width = part.shape[:2]
        corners = place[:, :2] @ np.array([[0, width], [0, height]], np.float64) + place[:, 2:]
        limits = np.array([[whole.shape[1]], [whole.shape[0]]]) * np.array([[-_OUTSIDE, 1 + _OUTSIDE]])
        if (corners[:, 0] < limits[:, 0]).any() or (corners[:, 1] > limits[:, 1]).any():
            continue
        # At the coarser of the two resolutions, so that nothing is compared that one of them cannot show.
        step = float(np.sqrt(abs(np.linalg.det(place[:, :2]))))
        if step < 1:
            part = _resize(part, max(1, round(width * step)), max(1, round(height * step)))
        place = _rescaled(place, (width / part.shape[1], height / part.shape[0]), (1, 1))
        seen = whole if step <= 1.2 else cv2.GaussianBlur(whole, (0, 0), 0.45 * step)
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        warped = cv2.warpAffine(seen, _centred(place), part.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
        results.append(_compare(part, warped))
    return min(results, default=float("inf"))


def _rescaled(place: Any, inner: tuple[float, float], outer: tuple[float, float]) -> Any:
    """An affine map between pictures, for those pictures at other sizes: coordinates times `inner`, results over
    `outer`."""
    result = np.array(place, np.float64)
    result[:, :2] *= inner
    result /= np.array(outer, np.float64)[:, None]
    return result


def _centred(place: Any) -> Any:
    """From coordinates that count from the corner of the first pixel to OpenCV's, which count from its centre."""
    result = np.array(place, np.float64)
    result[:, 2] += result[:, :2] @ (0.5, 0.5) - 0.5
    return result


def _align(one: Floats, other: Floats) -> Any:
    """The affine map [2, 3] from coordinates of one to the other's, from pixel corners; None if there is none."""
    place = np.array([[other.shape[1] / one.shape[1], 0, 0], [0, other.shape[0] / one.shape[0], 0]], np.float64)
    start = np.diag(place[:, :2]).copy()
    for side in _LEVELS:
        small, sizes = [], []
        for pixels in (one, other):
            share = min(1.0, side / max(pixels.shape[:2]))
            width, height = (max(SMALLEST, round(length * share)) for length in pixels.shape[1::-1])
            small.append(cv2.cvtColor(_resize(pixels, width, height), cv2.COLOR_RGB2GRAY))
            sizes.append((pixels.shape[1] / width, pixels.shape[0] / height))
        warp = _rescaled(place, sizes[0], sizes[1])
        warp[:, 2] += warp[:, :2] @ (0.5, 0.5) - 0.5
        criteria = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 40, 1e-4)
        try:
            seen, warp = cv2.findTransformECC(
                small[0], small[1], warp.astype(np.float32), cv2.MOTION_AFFINE, criteria, None, 5
            )
        except cv2.error:  # no texture, or it does not converge
            return None
        if seen < 0.7:
            return None
        warp = warp.astype(np.float64)
        warp[:, 2] -= warp[:, :2] @ (0.5, 0.5) - 0.5
        place = _rescaled(warp, (1 / sizes[0][0], 1 / sizes[0][1]), (1 / sizes[1][0], 1 / sizes[1][1]))
    scale = np.diag(place[:, :2]) / start
    if abs(place[0, 1] / start[0]) > _SHEAR or abs(place[1, 0] / start[1]) > _SHEAR:
        return None
    if (np.abs(np.log(scale)) > np.log1p(_MOST_CROPPED)).any():
        return None
    place[0, 1] = place[1, 0] = 0
    return place


def _compare(one: Floats, other: Floats) -> float:
    """The difference of aligned pictures of one size, from whichever side it is explained better: a copy that was
    clipped at white is explained from the other, not the other from it."""
    return min(_unexplained(one, other, *_fit(one, other)), _unexplained(other, one, *_fit(other, one)))


@dataclass(frozen=True, slots=True)
class _Tones:
    """How a copy's tones follow from its original's."""

    gamma: float = 1.0
    offset: float = 0.0
    scale: float = 1.0
    saturation: float = 1.0

    def apply(self, pixels: Floats) -> Floats:
        if self.gamma != 1:
            pixels = np.power(pixels, np.float32(self.gamma))
        luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
        result = pixels * np.float32(self.scale * self.saturation)
        result += luma * np.float32(self.scale * (1 - self.saturation)) + np.float32(self.offset)
        return np.clip(result, 0, 1, out=result)


def _fit(source: Floats, target: Floats) -> tuple[_Tones]:
    """The tones that make the one of the other."""
    height, width = source.shape[:2]
    share = min(1.0, _COARSE / max(height, width))
    size = (max(4, round(width * share)), max(4, round(height * share)))
    first, second = (_resize(pixels, *size).reshape(-1, 3) for pixels in (source, target))
    best, least = _Tones(), _misfit(first, second, _Tones())
    open_ = ((second > 0.02) & (second < 0.98)).ravel()
    for gamma in _GAMMAS:
        if least < 0.006:
            break
        bent = np.power(first, np.float32(gamma))
        luma = bent @ np.array([0.299, 0.587, 0.114], np.float32)
        base, chroma = np.repeat(luma, 3), (bent - luma[:, None]).ravel()
        rows = np.stack([np.ones_like(base), base, chroma], axis=1)
        weights, goal = open_.astype(np.float32), second.ravel()
        if weights.sum() < 24:
            weights = np.ones_like(weights)
        usable, known = weights.copy(), np.zeros(3, np.float32)
        for _ in range(5):
            weighted = rows * weights[:, None]
            # A little towards no change, so that a picture of one tone has one answer.
            normal = weighted.T @ rows + np.diag([1e-3, 1e-3, 1e-3]).astype(np.float32)
            known = np.linalg.solve(normal, weighted.T @ goal + np.array([0, 1e-3, 1e-3], np.float32))
            error = np.abs(rows @ known - goal)
            spread = max(0.01, 2 * float(np.median(error[usable > 0])))
            weights = usable / (1 + (error / spread) ** 2)
        scale = float(np.clip(known[1], *_SCALE))
        tones = _Tones(
            gamma, float(np.clip(known[0], -0.35, 0.35)), scale, float(np.clip(known[2] / scale, *_SATURATION))
        )
        misfit = _misfit(first, second, tones)
        if misfit < least:
            best, least = tones, misfit
    return (best,)


def _misfit(first: Floats, second: Floats, tones: _Tones) -> float:
    error = np.abs(tones.apply(first[None])[0] - second).max(axis=1)
    return float(np.minimum(error, 0.06).mean())


def _unexplained(source: Floats, target: Floats, tones: _Tones) -> float:
    """The worst block of what the tones leave, as a multiple of what encoding explains."""
    made = tones.apply(source)
    first, second = (cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb) * np.float32(255) for pixels in (made, target))
    # A copy of less contrast shows less of a difference.
    gain = max(1.0, 1 / tones.scale)
    worst = _blocks(first[..., 0], second[..., 0], gain)
    half = (max(SMALLEST, first.shape[1] // 4), max(SMALLEST, first.shape[0] // 4))
    for channel in (1, 2):
        pair = [cv2.resize(each[..., channel], half, interpolation=cv2.INTER_AREA) for each in (first, second)]
        worst = max(worst, _blocks(*pair, gain, block=4, mean_block=4))
    return worst


def _blocks(first: Floats, second: Floats, gain: float, block: int = _BLOCK, mean_block: int = _MEAN_BLOCK) -> float:
    first, second = (cv2.GaussianBlur(each, (0, 0), 0.7) for each in (first, second))
    inner = second[1:-1, 1:-1]
    height, width = inner.shape
    size = (min(block, width), min(block, height))
    least = means = None
    for y, x in _SHIFTS:
        left = first[1 + y : 1 + y + height, 1 + x : 1 + x + width] - inner
        mean = cv2.blur(left, size, borderType=cv2.BORDER_REFLECT)
        square = cv2.blur(left * left, size, borderType=cv2.BORDER_REFLECT)
        variance = square - mean * mean
        least = variance if least is None else np.minimum(least, variance)
        wide = np.abs(cv2.blur(left, (min(mean_block, width), min(mean_block, height)), borderType=cv2.BORDER_REFLECT))
        means = wide if means is None else np.minimum(means, wide)
    assert least is not None
    assert means is not None
    left = np.sqrt(np.maximum(least, 0)) * gain
    contrast = np.maximum(_deviation(first[1:-1, 1:-1], size), _deviation(inner, size)) * gain
    floor = float(np.clip(2.5 * np.median(left) + 2, *_FLOOR))
    busy = contrast > 12
    share = float(np.median(left[busy] / contrast[busy])) if busy.any() else 0.0
    share = float(np.clip(2 * share + 0.1, *_SHARE))
    structure = float((left / (floor + share * contrast)).max())
    return max(structure, float(means.max()) * gain / _MEAN)


def _deviation(values: Floats, size: tuple[int, int]) -> Floats:
    mean = cv2.blur(values, size, borderType=cv2.BORDER_REFLECT)
    square = cv2.blur(values * values, size, borderType=cv2.BORDER_REFLECT)
    return np.sqrt(np.maximum(square - mean * mean, 0))
