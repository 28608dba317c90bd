"""A picture as somebody's photograph of it: seen askew, in uneven light, a little unsharp and noisy, on some ground."""

import random
from typing import Final

import numpy as np
from PIL import Image, ImageFilter

from mmcorpus.curation.synthetic.render.canvas import COLORS, blend, jittered
from mmcorpus.curation.synthetic.render.rendered import Drawing, Point

_GROUNDS: Final = ("brown", "gray", "beige", "black", "white", "blue", "green")


def photographed(rng: random.Random, drawing: Drawing) -> Drawing:
    """The drawing as a photograph of the same size; points go with it. Places among its facts are the drawing's."""
    picture = drawing.image
    width, height = picture.size
    quad = [
        (x + rng.uniform(0.01, 0.11) * (1 - 2 * x), y + rng.uniform(0.01, 0.11) * (1 - 2 * y))
        for x, y in ((0, 0), (1, 0), (1, 1), (0, 1))
    ]
    back = _homography([(x * width, y * height) for x, y in quad], [(0, 0), (width, 0), (width, height), (0, height)])
    ahead = np.linalg.inv(back)
    coefficients = (back / back[2, 2]).ravel()[:8].tolist()
    how = {"data": coefficients, "resample": Image.Resampling.BICUBIC}
    seen = picture.transform((width, height), Image.Transform.PERSPECTIVE, **how)
    shown = Image.new("L", (width, height), 255).transform((width, height), Image.Transform.PERSPECTIVE, **how)
    name = rng.choice(_GROUNDS)
    ground = Image.new("RGB", (width, height), blend(jittered(rng, name, 16), COLORS["black"], rng.uniform(0, 0.3)))
    whole = Image.composite(seen, ground, shown).filter(
        ImageFilter.GaussianBlur(rng.uniform(0.0, min(width, height) / 500))
    )
    return drawing._replace(
        image=_lit(rng, whole), points=[_moved(point, ahead, width, height) for point in drawing.points]
    )


def _homography(source: list[tuple[float, float]], target: list[tuple[float, float]]) -> np.ndarray:
    """The projective map, shape [3, 3], that takes four places to four others."""
    rows, right = [], []
    for (x, y), (u, v) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -u * x, -u * y], [0, 0, 0, x, y, 1, -v * x, -v * y]]
        right += [u, v]
    solved = np.linalg.solve(np.array(rows, float), np.array(right, float))
    return np.append(np.round(solved, 10), 1.0).reshape(3, 3)  # rounded: LAPACKs differ in the last digits


def _moved(point: Point, ahead: np.ndarray, width: int, height: int) -> Point:
    x, y, scale = ahead @ (point.x / 100 * width, point.y / 100 * height, 1.0)
    return Point(point.label, round(100 * float(x / scale) / width, 1), round(100 * float(y / scale) / height, 1))


def _lit(rng: random.Random, picture: Image.Image) -> Image.Image:
    """Light that falls off to one side, of some colour, and a sensor's noise."""
    pixels = np.asarray(picture, np.float32)
    height, width = pixels.shape[:2]
    toward = rng.uniform(-1, 1), rng.uniform(-1, 1)
    across, down = np.linspace(-1, 1, width, dtype=np.float32), np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    light = rng.uniform(0.75, 1.02) + 0.16 * (toward[0] * across + toward[1] * down)
    warmth = rng.uniform(-0.06, 0.06)
    tint = np.array([1 + warmth, 1.0, 1 - warmth], np.float32)
    # Nearly normal, of whole numbers alone, which are the same everywhere: three bytes have a deviation of 128.
    bytes_ = np.random.default_rng(rng.getrandbits(64)).integers(0, 256, (3, height, width, 1), np.uint8)
    noise = (bytes_.sum(axis=0, dtype=np.float32) - 382.5) * (rng.uniform(0.5, 5.0) / 128)
    return Image.fromarray(np.clip(pixels * light[..., None] * tint + noise + 0.5, 0, 255).astype(np.uint8))
