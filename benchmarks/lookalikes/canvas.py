"""What the pictures are drawn with: a canvas at twice the size, words, colours, a photograph's surface."""

import random
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS: Final = (
    "harbour", "storm", "market", "bridge", "quiet", "morning", "boats", "west", "noon", "square", "closed",
    "traffic", "people", "school", "hill", "night", "river", "paper", "garden", "window", "orange", "letter",
    "music", "winter", "table", "silver",
)  # fmt: skip
TWICE: Final = 2


def font(size: float) -> Any:
    """Pillow's own font, of so many pixels of the finished picture."""
    return ImageFont.load_default(size * TWICE)


class Canvas:
    """A canvas whose coordinates are those of the finished picture."""

    def __init__(self, width: int, height: int, colour: Any = "white") -> None:
        self.image = Image.new("RGB", (width * TWICE, height * TWICE), colour)
        self._pen = ImageDraw.Draw(self.image)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """`line`, `rectangle`, `ellipse`, `polygon`, `pieslice`, `arc` of ImageDraw, coordinates as a flat list."""
        draw = getattr(self._pen, name)

        def drawn(where: Any, *arguments: Any, width: float | None = None, **options: Any) -> None:
            if width is not None:
                options["width"] = max(1, round(width * TWICE))
            draw([value * TWICE for value in where], *arguments, **options)

        return drawn

    def text(self, x: float, y: float, text: str, size: float, fill: Any = "black", **options: Any) -> None:
        self._pen.text((x * TWICE, y * TWICE), text, fill=fill, font=font(size), **options)

    def done(self) -> Image.Image:
        width, height = self.image.size
        return self.image.resize((width // TWICE, height // TWICE), Image.Resampling.BOX)


def hue(rng: random.Random, low: int = 0, high: int = 255) -> tuple[int, int, int]:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def backdrop(rng: random.Random, width: int, height: int) -> Image.Image:
    """A smooth, coloured surface with some texture, as of a photograph."""
    noise = np.random.default_rng(rng.getrandbits(32))
    coarse = Image.fromarray(noise.integers(20, 235, (6, 8, 3), np.uint8)).resize((width, height), 3)
    pixels = np.asarray(coarse, np.float32)
    fine = np.asarray(
        Image.fromarray(noise.integers(0, 255, (height // 3, width // 3), np.uint8)).resize((width, height), 3)
    )
    return Image.fromarray(np.clip(pixels + (fine[..., None].astype(np.float32) - 128) * 0.12, 0, 255).astype(np.uint8))
