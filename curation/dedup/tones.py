"""A tone curve from an original to its copy: one curve and one saturation for the whole picture."""

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from mmcorpus.curation.dedup.alignment import Floats, resized

_COARSE: Final = 36
"""Pixels of the longer side at which tones are fitted."""
_FITS: Final = 0.006
"""Mean misfit, 0-1, below which nothing is fitted."""
_POINTS: Final = 4000
"""Pixels by which the fit is made finer."""
_FEWER: Final = 1500
"""And by which it is told how much they change."""
_FINER_STEPS: Final = 5
_GAINS: Final = (0.8, 0.84, 0.88, 0.92, 0.96, 1.04, 1.08, 1.12, 1.16, 1.2, 1.24)
_GAMMA_STEP: Final = 1.18
_GAMMA_STEPS: Final = 3
_SCALE: Final = (0.5, 2.0)
_SATURATION: Final = (0.3, 3.0)
_OFFSET: Final = 0.35
_GAMMA: Final = (0.55, 1.8)
_LUMA: Final = np.array([0.299, 0.587, 0.114], np.float32)
_LEVELS: Final = 16
_WHITE: Final = 0.97
_LEAST: Final = 48
"""Pixels of the most frequent tone that are kept, at least."""


@dataclass(frozen=True, slots=True)
class Tones:
    """The change of tones from an original to its copy."""

    gamma: float = 1.0
    offset: float = 0.0
    scale: float = 1.0
    saturation: float = 1.0

    def apply(self, pixels: Floats) -> Floats:
        if self == Tones():
            return pixels
        if self.gamma != 1:
            pixels = np.power(pixels, np.float32(self.gamma))
        result = pixels * np.float32(self.scale * self.saturation)
        if self.saturation != 1:
            luma = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
            result += luma * np.float32(self.scale * (1 - self.saturation)) + np.float32(self.offset)
        elif self.offset:
            result += np.float32(self.offset)
        return np.clip(result, 0, 1, out=result)

    def changes(self, pixels: Floats) -> tuple[float, float]:
        """By how much luma and chroma change, 0-1: the most of all pixels [height, width, 3] but one in a hundred."""
        if self == Tones():
            return 0.0, 0.0
        step = max(1, pixels.shape[0] * pixels.shape[1] // _FEWER) | 1
        some = pixels.reshape(1, -1, 3)[:, ::step]
        change = self.apply(some) - some
        luma = change @ _LUMA
        chroma = np.abs(change - luma[..., None]).max(axis=2)
        return float(np.quantile(np.abs(luma), 0.99)), float(np.quantile(chroma, 0.99))

    def clipped(self, pixels: Floats) -> float:
        """The share of pixels of which a channel is cut off at white that was not white."""
        if self == Tones():
            return 0.0
        return float(((self.apply(pixels) >= 1) & (pixels < _WHITE)).any(axis=2).mean())


def averaged(pixels: Floats) -> Floats:
    """A picture of few pixels, which a misalignment of one of its own does not disturb."""
    height, width = pixels.shape[:2]
    share = min(1.0, _COARSE / max(height, width))
    return resized(pixels, max(4, round(width * share)), max(4, round(height * share)))


def fit_tones(source: Floats, target: Floats, small_source: Floats, small_target: Floats) -> Tones:
    """The tones that make the one of the other; both also `averaged`."""
    coarse = _coarse_tones(small_source, small_target)
    if coarse == Tones():
        return coarse
    # Single pixels: averages hide by how much thin lines on a paper that is clipped have become brighter.
    step = max(1, source.shape[0] * source.shape[1] // _POINTS) | 1
    first, second = _balanced(*(pixels.reshape(-1, 3)[::step] for pixels in (source, target)))
    fine = _finer(first, second, coarse)
    return fine if _misfit(first, second, fine) < _misfit(first, second, coarse) else coarse


def lost_colour(pixels: Floats, step: int) -> Floats:
    """By how much luma and chroma, 0-255, change where there is one colour for each `step` x `step` pixels, as JPEG,
    WebP and AVIF keep it (4:2:0): what spreads from a saturated colour over lines and grounds that are black or white
    is cut off, so that also the means of what is drawn finely in red or green change."""
    height, width = pixels.shape[:2]
    before: Floats = np.asarray(cv2.cvtColor(pixels, cv2.COLOR_RGB2YCrCb), np.float32)
    kept = before.copy()
    colours = resized(before[..., 1:], max(1, round(width / step)), max(1, round(height / step)))
    kept[..., 1:] = resized(colours, width, height)
    kept = np.clip(cv2.cvtColor(kept, cv2.COLOR_YCrCb2RGB), 0, 1)
    result: Floats = (cv2.cvtColor(kept, cv2.COLOR_RGB2YCrCb) - before) * np.float32(255)
    return result


def _balanced(first: Floats, second: Floats) -> tuple[Floats, Floats]:
    """The pixels [N, 3] without most of the most frequent tone, so that it counts for no more than all the others: of
    a stamp or a line on much white paper the paper says nothing of the tones, and hides that the rest does not fit."""
    levels = ((first @ _LUMA) * np.float32(_LEVELS - 1) + np.float32(0.5)).astype(np.int64)
    counts = np.bincount(levels, minlength=_LEVELS)
    most = int(counts.argmax())
    others = len(levels) - int(counts[most])
    keep = levels != most
    keep[np.flatnonzero(~keep)[:: max(1, int(counts[most]) // max(others, _LEAST))]] = True
    return first[keep], second[keep]


def _coarse_tones(source: Floats, target: Floats) -> Tones:
    first, second = _balanced(*(pixels.reshape(-1, 3) for pixels in (source, target)))
    best, least = Tones(), _misfit(first, second, Tones())
    if least < _FITS:
        return best
    # A change of brightness alone, which clips most of a bright picture and leaves little to fit.
    for gain in _GAINS:
        misfit = _misfit(first, second, Tones(scale=gain))
        if misfit < least:
            best, least = Tones(scale=gain), misfit
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


def _finer(first: Floats, second: Floats, tones: Tones) -> Tones:
    """Gauss and Newton's steps on from there, those pixels that fit badly counting less each time."""
    known = np.array([np.log(tones.gamma), tones.offset, tones.scale, tones.saturation], np.float32)
    low, high = (np.array([np.log(gamma), offset, scale, saturation]) for gamma, offset, scale, saturation in
                 zip(_GAMMA, (-_OFFSET, _OFFSET), _SCALE, _SATURATION, strict=True))  # fmt: skip
    safe = np.maximum(first, np.float32(1e-3))
    logarithm = np.log(safe)
    for _ in range(_FINER_STEPS):
        gamma = np.exp(known[0])
        bent = np.power(safe, gamma)
        slope = gamma * bent * logarithm
        luma, luma_slope = (bent @ _LUMA)[:, None], (slope @ _LUMA)[:, None]
        base = luma + known[3] * (bent - luma)
        made = known[2] * base + known[1]
        rows = np.stack([known[2] * (luma_slope + known[3] * (slope - luma_slope)), np.ones_like(base), base,
                         known[2] * (bent - luma)]).reshape(4, -1)  # fmt: skip
        error = second - np.clip(made, 0, 1)
        size = np.abs(error).max(axis=1)
        seen = (made > 0) & (made < 1)  # what is clipped does not say by how much
        spread = max(0.01, 2 * float(np.median(size)))
        weighted = rows * (np.repeat(1 / (1 + (size / spread) ** 2), 3) * seen.ravel())
        # Little is changed of what the pixels do not tell.
        ridge = np.eye(4, dtype=np.float32) * np.float32(1e-4 * first.size)
        known = np.clip(known + np.linalg.solve(weighted @ rows.T + ridge, weighted @ error.ravel()), low, high)
        known = known.astype(np.float32)
    return Tones(float(np.exp(known[0])), *map(float, known[1:]))


def _fit_linear(first: Floats, second: Floats, gamma: float) -> Tones:
    """Offset, scale and saturation by least squares, those that fit badly counting less each time."""
    bent = np.power(first, np.float32(gamma))
    luma = bent @ _LUMA
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
    return Tones(gamma, float(np.clip(known[0], -_OFFSET, _OFFSET)), scale, saturation)


def _misfit(first: Floats, second: Floats, tones: Tones) -> float:
    error = np.abs(tones.apply(first[None])[0] - second).max(axis=1)
    return float(np.minimum(error, 0.06).mean())
