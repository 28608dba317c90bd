"""Decides whether two files show one picture: aligned, tones matched, compared in blocks small enough to see a digit.

A copy may be encoded anew, resized, cropped, brighter, of more contrast, of another gamma or saturation. All of that
changes a picture everywhere alike; what differs in a part alone – a digit, a lamp, a clock's hand – is another picture.

1. Both are brought to the size of the smaller (`SIDE` pixels at most). If that does not align them, one may be cropped
   from the other: the affine map is found from coarse to fine by ECC (Evangelidis and Psarakis, PAMI 2008); it must
   be a change of scale and place alone, and all of the one must lie within the other. Where that is nearly enough,
   scale and place are made finer.
2. One tone curve, `scale * value ** gamma + offset`, and one saturation for the whole picture are fitted from the one
   to the other, robustly, so that parts that differ do not bend it; values are clipped at 0 and 255 as a copy's are.
3. What remains is measured in blocks, luma and chroma apart, each block at the best of small shifts: the standard
   deviation of the difference against what encoding leaves (by the pair's own noise, and a share of the block's
   contrast) and against what is left of the pair's other blocks of as much detail, beside which a mark that is another
   stands out; and its mean, also of all blocks together. The worst decides.
"""

import math
from dataclasses import dataclass, field
from typing import Any, Final

import cv2
import numpy as np
import numpy.typing as npt

from mmcorpus.curation.dedup.alignment import (
    SMALLEST,
    Floats,
    alignments,
    centred,
    in_place,
    refined,
    rescaled,
    resized,
)
from mmcorpus.curation.dedup.tones import Tones, averaged, fit_tones, lost_colour

SIDE: Final = 512
"""Pixels of the longer side at which pictures are compared, at most: a digit of a scanned form is some 10 high."""
_SMALL: Final = 192
_OUTSIDE: Final = 0.012
"""Of a length, by which a picture may reach out of the one that it was cropped from: errors of alignment."""
_SIDES: Final = (8, 16)
_COARSE_SIDES: Final = (4, 4)
"""Of blocks of luma, and of chroma, for what is left of them and for its mean."""
_FLOOR: Final = ((2.5, 7.0), (4.0, 9.0))
"""What may be left of a block of luma, and of chroma, 0-255, from the least noise of a pair to the most."""
_SHARE: Final = ((0.12, 0.26), (0.4, 0.5))
"""And beside that, of the block's contrast: of chroma much, thin lines lose it or have it changed unlike areas."""
_TEXTURE: Final = 1.25
_RING: Final = 0.08
_MOST_RING: Final = 6.0
_MEAN: Final = 12.0
"""Of the mean of a wider block, 0-255: what encoding, resampling and an ill-fitted tone leave beside an edge."""
_PLAIN_MEAN: Final = (4.0, 8.0)
_PLAIN_CONTRAST: Final = 3.0
"""The same of luma, and of chroma, where no block around has more contrast than that: neither resampling nor an error
of alignment changes a plain colour. Of 449 pairs of copies luma is 2.0 off at most, chroma 5.7."""
_OVERALL: Final = 2.5
"""And of all such means together, their root mean square: copies leave 1.7 at most of 155, a picture of the same shapes
whose paper is of another blue 4 and more, though no block of it is far off once saturation takes up the most."""
_COARSER: Final = (5, 5)
"""Pixels whose mean a picture is compared with, to see its detail."""
_EXPECTED: Final = (8.0, 0.2)
"""What is left of a block of luma goes with its detail, and besides with this much, and this share of its contrast."""
_USUAL: Final = 0.95
"""Of the blocks that show something, the share by which it is told what is usual for a pair. Where more than one in 20
differ, that is plainly seen without."""
_OUTLYING: Final = (0.28, 0.93)
"""More than that and so many times what is usual stands out. Of 1,108 pairs of copies 0.5 % have such a block, of 203
pairs of pictures that pass for copies by the limits above, or fail by less than 30 %, 190."""
_TONED: Final = (0.25, 0.35)
"""Of 0-1, what tones may change of luma and chroma: between two pictures of one or two colours some curve always leads.
Of 836 pairs of copies they change 0.21 of either at most; half as much saturation again 0.3 of pure blue."""
_CLIPPED: Final = 0.5
"""How much more a difference counts where tones clip all of a picture: they make one white of many papers."""
_SUBSAMPLED: Final = 1.2
"""The difference up to which it is tried whether colour at half the resolution explains the rest: of 390 pairs of
copies it leaves 1.12 at most."""
_SHOWN: Final = 2.0
_FEW: Final = (8, 0.2)
"""Blocks that show something, at least, to tell what is usual, and what is where there are fewer."""
_CELLS: Final = 24
_PLAIN: Final = 2.5
_SHIFTS: Final = tuple((y, x) for y in (0, -1, 1) for x in (0, -1, 1))


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture made ready for any number of comparisons."""

    pixels: npt.NDArray[np.uint8]
    """uint8 [height, width, 3], RGB, the longer side `SIDE` or less."""

    @classmethod
    def of(cls, pixels: npt.NDArray[np.uint8]) -> "Picture":
        """From uint8 RGB [height, width, 3] of any size."""
        height, width = pixels.shape[:2]
        share = SIDE / max(height, width)
        if share < 1:
            size = (max(1, round(width * share)), max(1, round(height * share)))
            pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
        return cls(pixels)


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """How far two pictures are from being one."""

    worst: float
    """The worst block's, as a multiple of what copying explains: at most 1 between copies, inf where nothing aligns
    them or makes one's tones of the other's."""
    rest: Floats = field(default_factory=lambda: np.zeros((_CELLS, _CELLS), np.float32))
    """Where it lies: the mean square of what is left of luma, 0-255 squared, in the cells of a grid over the
    picture."""


_NOT_ALIGNED: Final = Difference(math.inf)


def _nearer(*found: Difference) -> Difference:
    return min(found, key=lambda each: each.worst)


def difference(first: Picture, second: Picture) -> float:
    """The worst block of `compare`: at most 1 between copies."""
    return compare(first, second).worst


def compare(first: Picture, second: Picture) -> Difference:
    """How two pictures differ, aligned as well as can be and tones matched. Symmetric; 0 for equal pixels, inf where
    the two cannot be aligned."""
    if np.array_equal(first.pixels, second.pixels):
        return Difference(0.0)
    # The smaller one first; of one size, by what they hold, so that the order in which they are given decides nothing.
    one, other = (
        each.astype(np.float32) / np.float32(255)
        for each in sorted((first.pixels, second.pixels), key=lambda each: (each.size, each.shape, each.tobytes()))
    )
    if min(one.shape[:2]) < SMALLEST:
        return _NOT_ALIGNED
    there = resized(other, one.shape[1], one.shape[0])
    direct = _compare(one, there)
    if direct.worst <= 1:
        return direct
    still = in_place(one, there)
    if still and direct.worst > _PLAIN:  # what lies in place but for a part that plainly differs is no crop
        return direct
    return _nearer(direct, _cropped(one, other, finer=not still))


def _cropped(one: Floats, other: Floats, *, finer: bool) -> Difference:
    """The difference once one is found within the other, whichever is the larger cut."""
    best, place = _NOT_ALIGNED, None
    for found in alignments(one, other):
        differs = _either_within(one, other, found)
        if differs.worst <= 1:
            return differs
        if differs.worst < best.worst:
            best, place = differs, found
    if finer and best.worst <= _PLAIN:
        best = _nearer(best, _either_within(one, other, refined(one, other, place)))
    return best


def _either_within(one: Floats, other: Floats, place: Any) -> Difference:
    return _nearer(_within(one, other, place), _within(other, one, cv2.invertAffineTransform(place)))


def _within(part: Floats, whole: Floats, place: Any) -> Difference:
    """The difference of a picture from the place of another that it is said to be cut from."""
    height, width = part.shape[:2]
    corners = place[:, :2] @ np.array([[0, width], [0, height]], np.float64) + place[:, 2:]
    limits = np.array([[whole.shape[1]], [whole.shape[0]]]) * np.array([[-_OUTSIDE, 1 + _OUTSIDE]])
    if (corners[:, 0] < limits[:, 0]).any() or (corners[:, 1] > limits[:, 1]).any():
        return _NOT_ALIGNED
    # At the coarser of the two resolutions, so that nothing is compared that one of them cannot show.
    step = float(np.sqrt(place[0, 0] * place[1, 1]))
    if step < 1:
        part = resized(part, max(1, round(width * step)), max(1, round(height * step)))
    place = rescaled(place, (width / part.shape[1], height / part.shape[0]), (1, 1))
    # As much blur as reducing by `step` leaves, since the warp itself averages nothing.
    seen = whole if step <= 1.05 else cv2.GaussianBlur(whole, (0, 0), 0.45 * math.sqrt(step * step - 1))
    flags = cv2.INTER_CUBIC | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(seen, centred(place), part.shape[1::-1], flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return _compare(part, np.clip(warped, 0, 1))


def _compare(one: Floats, other: Floats) -> Difference:
    """The difference of aligned pictures of one size, from whichever side it is explained better: a copy that was
    clipped at white is explained from the other, not the other from it."""
    height, width = one.shape[:2]
    enlarged = max(height, width) < _SMALL
    if enlarged:  # of a small one, a pixel and a block are half as large
        size = (2 * width, 2 * height)
        one, other = (_enlarged(each, size) for each in (one, other))
    best = _NOT_ALIGNED
    known: Tones | None = None
    tried: list[tuple[Floats, Floats, float]] = []
    small, small_other = averaged(one), averaged(other)
    for source, target, *averages in ((one, other, small, small_other), (other, one, small_other, small)):
        tones = fit_tones(source, target, *averages)
        if tones == Tones() == known:  # the other way round it is the same comparison
            break
        if any(change > most for change, most in zip(tones.changes(source), _TONED, strict=True)):
            continue
        # A copy of less contrast shows less of a difference, and so does one that is white where the other is not.
        gain = max(1.0, 1 / tones.scale) * (1 + _CLIPPED * tones.clipped(averages[0]))
        known = tones
        tried.append((tones.apply(source), target, gain))
        best = _nearer(best, _unexplained(*tried[-1]))
        if best.worst <= 1:
            return best
    if best.worst <= _SUBSAMPLED:
        step = 4 if enlarged else 2
        for made, target, gain in tried:
            for lost in (lost_colour(made, step), -lost_colour(target, step)):
                best = _nearer(best, _unexplained(made, target, gain, lost))
    return best


def _enlarged(pixels: Floats, size: tuple[int, int]) -> Floats:
    result: Floats = np.clip(cv2.resize(pixels, size, interpolation=cv2.INTER_CUBIC), 0, 1).astype(np.float32)
    return result


def _unexplained(made: Floats, target: Floats, gain: float, lost: Floats | None = None) -> Difference:
    """What is left between a picture and what tones made of the other, taken so many times; `lost` is what encoding
    adds to means of the first."""
    first, second = (cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb) * np.float32(255) for pixels in (made, target))
    worst = 0.0
    # Colour is encoded, and seen, at less resolution.
    quarter = (max(SMALLEST, first.shape[1] // 4), max(SMALLEST, first.shape[0] // 4))
    for channel in (1, 2):
        coarse, there = (resized(each[..., channel], *quarter) for each in (first, second))
        coarse_lost = None if lost is None else resized(lost[..., channel], *quarter)
        worst = max(worst, _blocks(coarse, there, coarse_lost, gain, _COARSE_SIDES, chroma=True).worst)
    if worst <= 1:
        luma = _blocks(first[..., 0], second[..., 0], None if lost is None else lost[..., 0], gain, _SIDES)
        return Difference(max(worst, luma.worst), luma.rest)
    return Difference(worst)


def _blocks(
    first: Floats, second: Floats, lost: Floats | None, gain: float, sides: tuple[int, int], *, chroma: bool = False
) -> Difference:
    """The difference in one channel, 0-255, by blocks of so many pixels and, for means, of so many."""
    first, second = (np.asarray(cv2.GaussianBlur(each, (0, 0), 0.7), np.float32) for each in (first, second))
    size, wide = ((min(side, first.shape[1]), min(side, first.shape[0])) for side in sides)
    left, means = _left(first - second, lost, size, wide)
    contrast = np.maximum(_deviation(first, size), _deviation(second, size))
    some = np.s_[:: 1 if chroma else 2, :: 1 if chroma else 2]  # neighbours say the same
    noisy = 2.5 * float(np.median(left[some]))
    textured = (contrast > _SHOWN) & (contrast <= 12)
    if not chroma and textured.any():  # encoders smooth faint texture away, also where most of a picture is plain paper
        noisy = max(noisy, _TEXTURE * float(np.median(left[textured])))
    floor = float(np.clip(noisy + 2, *_FLOOR[chroma]))
    busy = contrast > 12
    noise = float(np.median(left[busy] / contrast[busy])) if busy.any() else 0.0
    share = float(np.clip(2 * noise + 0.1, *_SHARE[chroma]))
    # What is quantised beside an edge rings through the encoder's block.
    near = cv2.dilate(contrast, np.ones((2 * sides[0] + 1, 2 * sides[0] + 1), np.uint8))
    ring = np.minimum(min(1.5 * noise + 0.02, _RING) * near, _MOST_RING)
    explained = (floor + share * contrast + ring) / np.float32(gain)
    allowed = explained
    if not chroma:
        allowed = np.minimum(explained, _usual(left, first, second, contrast, size) / np.float32(gain))
    plain, beside_edges = (np.float32(value / gain) for value in (_PLAIN_MEAN[chroma], _MEAN))
    limit = np.where(near < _PLAIN_CONTRAST, plain, beside_edges)
    scores = np.maximum(left / allowed, means / limit)
    overall = gain / _OVERALL * math.sqrt(float(np.square(means).mean()))
    worst, rest = max(float(scores.max()), overall), resized(left * left, _CELLS, _CELLS)
    if worst <= 1:  # by how much is said by what encoding explains: of every pair much is usual of its own
        return Difference(max(float(np.maximum(left / explained, means / limit).max()), overall), rest)
    if overall > 1:
        return Difference(worst, rest)
    # Blocks that do not fit where they are may fit a pixel beside it: the worst one first, it mostly decides.
    y, x = divmod(int(scores.argmax()), scores.shape[1])
    for places in ((y, y + 1, x, x + 1), _box(scores > 1)):
        worst = _shifted(first, second, lost, allowed, limit, places, size, wide)
        if worst > 1:
            break
    return Difference(worst, rest)


def _usual(left: Floats, first: Floats, second: Floats, contrast: Floats, size: tuple[int, int]) -> Floats:
    """What may be left of a block beside what is left of the others: encoding, resampling and errors of alignment leave
    much wherever there is detail, all over a picture, while a mark that is another stands out."""
    detail = np.sqrt(np.maximum(_energy(first - cv2.blur(first, _COARSER), size),
                                _energy(second - cv2.blur(second, _COARSER), size)))  # fmt: skip
    least, of_contrast = _EXPECTED
    expected: Floats = np.asarray(cv2.addWeighted(detail, 1, contrast, of_contrast, least), np.float32)
    some = np.s_[2::4, 2::4]
    shares = (left[some] / expected[some])[contrast[some] > _SHOWN]
    usual = float(np.quantile(shares, _USUAL)) if shares.size >= _FEW[0] else _FEW[1]
    expected *= np.float32(_OUTLYING[0] + _OUTLYING[1] * usual)
    return expected


def _box(where: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """The first and last row, the first and last column of what is true."""
    rows, columns = np.flatnonzero(where.any(axis=1)), np.flatnonzero(where.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _shifted(
    first: Floats,
    second: Floats,
    lost: Floats | None,
    allowed: Floats,
    limit: Floats,
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
    inside = np.s_[top:bottom, before:after]
    inner = second[inside]
    if not inner.size:
        return float("inf")
    best: Floats | None = None
    added = None if lost is None else lost[inside]
    for y, x in _SHIFTS:
        left, means = _left(first[top + y : bottom + y, before + x : after + x] - inner, added, size, wide)
        scores = np.maximum(left / allowed[inside], means / limit[inside])
        best = scores if best is None else np.minimum(best, scores)
    assert best is not None
    rows = slice(max(0, places[0] - top), max(1, places[1] - top))
    columns = slice(max(0, places[2] - before), max(1, places[3] - before))
    return float(best[rows, columns].max(initial=0))


def _left(
    difference: Floats, lost: Floats | None, size: tuple[int, int], wide: tuple[int, int]
) -> tuple[Floats, Floats]:
    """Of the block about each pixel, the standard deviation of the difference and, of a wider one, its mean's size."""
    whole = difference if lost is None else difference + lost
    return _deviation(difference, size), np.abs(cv2.blur(whole, wide, borderType=cv2.BORDER_REFLECT))


def _energy(values: Floats, size: tuple[int, int]) -> Floats:
    """The mean square of the block about each pixel."""
    mean: Floats = np.asarray(cv2.blur(values * values, size, borderType=cv2.BORDER_REFLECT), np.float32)
    return np.maximum(mean, 0, out=mean)  # sums are rounded


def _deviation(values: Floats, size: tuple[int, int]) -> Floats:
    mean = cv2.blur(values, size, borderType=cv2.BORDER_REFLECT)
    square = cv2.sqrBoxFilter(values, cv2.CV_32F, size, borderType=cv2.BORDER_REFLECT)
    result: Floats = np.sqrt(np.maximum(square - mean * mean, 0))
    return result
