"""The drawing surface: sizes, named colours, antialiased shapes and text, with Pillow alone.

Everything is drawn at twice the size and averaged down once, which costs less than any antialiased drawing library
and gives the same bytes everywhere. Text is Aileron, which Pillow carries; no font of the system is used.
"""

import functools
import math
import random
from collections.abc import Sequence
from typing import Final, TypeAlias

from PIL import Image, ImageDraw, ImageFont

Color: TypeAlias = tuple[int, int, int]
XY: TypeAlias = tuple[float, float]
Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont

SCALE: Final = 2
MIN_SIDE: Final = 64
MAX_SIDE: Final = 4096

COLORS: Final[dict[str, Color]] = {
    "red": (220, 38, 38),
    "orange": (247, 138, 24),
    "yellow": (247, 208, 32),
    "green": (34, 160, 70),
    "blue": (37, 99, 230),
    "purple": (134, 56, 200),
    "pink": (246, 130, 190),
    "black": (28, 28, 30),
    "white": (252, 252, 252),
    "gray": (190, 192, 196),
    "beige": (238, 225, 200),
    "brown": (124, 76, 40),
}
"""The named colours. The first eight colour things, the rest surroundings; no two names look alike."""

BRIGHT: Final = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "black")

ASPECTS: Final = ((1, 1), (1, 1), (4, 3), (4, 3), (3, 4), (3, 2), (2, 3), (16, 9), (9, 16), (2, 1), (1, 2), (5, 4))


def draw_size(
    rng: random.Random, sides: tuple[int, int] = (200, 512), aspects: Sequence[tuple[int, int]] = ASPECTS
) -> tuple[int, int]:
    """A width and height as the web has them: sides from the shortest to the longest, of one of the aspect ratios."""
    shortest, longest = sides
    fitting = [aspect for aspect in aspects if shortest * max(aspect) <= longest * min(aspect)] or [(1, 1)]
    across, down = rng.choice(fitting)
    ratio = max(across, down) / min(across, down)
    short = rng.randint(shortest, max(shortest, int(longest / ratio)))
    long = max(short, round(short * ratio))
    return (long, short) if across >= down else (short, long)


def check_size(size: tuple[int, int]) -> tuple[int, int]:
    """The size, if it can be drawn.

    Raises `ValueError` for a side outside 64-4096 pixels.
    """
    width, height = size
    if not (MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE):
        raise ValueError(f"size {width}x{height}: each side must be {MIN_SIDE} to {MAX_SIDE} pixels")
    return width, height


def jittered(rng: random.Random, name: str, amount: int = 8) -> Color:
    """The named colour, each channel moved by at most `amount`, so that no two pictures share every pixel value."""
    red, green, blue = (min(255, max(0, channel + rng.randint(-amount, amount))) for channel in COLORS[name])
    return red, green, blue


def blend(first: Color, second: Color, share: float) -> Color:
    """The colour `share` (0-1) of the way from the first to the second."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


def hex_color(color: Color) -> str:
    """`#dc2626`."""
    return "#{:02x}{:02x}{:02x}".format(*color)


def luminance(color: Color) -> float:
    """Rec. 601 luma, 0-255."""
    return 0.299 * color[0] + 0.587 * color[1] + 0.114 * color[2]


def ink_on(background: Color) -> Color:
    """Black or white, whichever reads better on the background."""
    return (24, 24, 27) if luminance(background) > 120 else (248, 248, 248)


@functools.lru_cache(maxsize=256)
def _font(pixels: int) -> Font:
    return ImageFont.load_default(pixels)


def text_width(text: str, size: float) -> float:
    """The width in pixels of a line of text `size` pixels high."""
    return _font(max(1, round(size * SCALE))).getlength(text) / SCALE


def fit_text(texts: Sequence[str], size: float, width: float, smallest: float = 8.0) -> float:
    """The largest size up to `size` at which every text is at most `width` pixels wide, but at least `smallest`."""
    step = 1 / SCALE  # fonts come in whole pixels of the drawn scale, and their widths do not quite scale with them
    while size > smallest and any(text_width(text, size) > width for text in texts):
        size = max(smallest, math.ceil(size / step - 1) * step)
    return size


class Canvas:
    """An RGB picture to draw on in its own pixels (floats); `finish` gives the antialiased image."""

    def __init__(self, size: tuple[int, int], background: Color) -> None:
        self.size = size
        self._image = Image.new("RGB", (size[0] * SCALE, size[1] * SCALE), background)
        self._draw = ImageDraw.Draw(self._image)

    def gradient(self, first: Color, second: Color, *, vertical: bool) -> None:
        """Fill everything with a linear gradient, top to bottom or left to right."""
        width, height = self._image.size
        length = height if vertical else width
        ramp = Image.new("RGB", (1, length) if vertical else (length, 1))
        ramp.putdata([blend(first, second, step / (length - 1)) for step in range(length)])
        self._image.paste(ramp.resize((width, height), Image.Resampling.NEAREST))

    def rectangle(
        self,
        box: tuple[float, float, float, float],
        fill: Color | None,
        *,
        outline: Color | None = None,
        width: float = 1.0,
        radius: float = 0.0,
    ) -> None:
        """A rectangle (left, top, right, bottom), its corners rounded by `radius`."""
        corners = [round(value * SCALE) for value in box]
        left, top, right, bottom = corners[0], corners[1], corners[2] - 1, corners[3] - 1
        if right < left or bottom < top:
            return
        line = max(1, round(width * SCALE)) if outline else 0
        if radius > 0:
            self._draw.rounded_rectangle((left, top, right, bottom), radius * SCALE, fill, outline, line)
        else:
            self._draw.rectangle((left, top, right, bottom), fill, outline, line)

    def ellipse(
        self, center: XY, radius: float, fill: Color | None, *, outline: Color | None = None, width: float = 1.0
    ) -> None:
        """A circle."""
        x, y = center
        box = ((x - radius) * SCALE, (y - radius) * SCALE, (x + radius) * SCALE - 1, (y + radius) * SCALE - 1)
        self._draw.ellipse(box, fill, outline, max(1, round(width * SCALE)) if outline else 0)

    def slice(self, center: XY, radius: float, start: float, end: float, fill: Color, outline: Color) -> None:
        """A pie slice from angle `start` to `end`, in degrees clockwise from twelve o'clock."""
        x, y = center
        box = ((x - radius) * SCALE, (y - radius) * SCALE, (x + radius) * SCALE, (y + radius) * SCALE)
        self._draw.pieslice(box, start - 90, end - 90, fill, outline, SCALE)

    def polygon(
        self, points: Sequence[XY], fill: Color | None, *, outline: Color | None = None, width: float = 1.0
    ) -> None:
        """A filled polygon."""
        scaled = [(x * SCALE, y * SCALE) for x, y in points]
        self._draw.polygon(scaled, fill)
        if outline:
            self._draw.line([*scaled, scaled[0], scaled[1]], outline, max(1, round(width * SCALE)), joint="curve")

    def line(self, points: Sequence[XY], color: Color, width: float = 1.0) -> None:
        """A line through the points."""
        self._draw.line([(x * SCALE, y * SCALE) for x, y in points], color, max(1, round(width * SCALE)), joint="curve")

    def text(self, place: XY, text: str, size: float, color: Color, anchor: str = "mm", turn: float = 0.0) -> None:
        """A line of text, `size` pixels high, at `place` by Pillow's `anchor`; `turn` is in degrees clockwise."""
        font = _font(max(1, round(size * SCALE)))
        x, y = place[0] * SCALE, place[1] * SCALE
        if not turn:
            self._draw.text((x, y), text, color, font, anchor)
            return
        box = font.getbbox(text, anchor="mm")
        half = round(max(abs(edge) for edge in box)) + 2
        mask = Image.new("L", (2 * half, 2 * half))
        ImageDraw.Draw(mask).text((half, half), text, 255, font, "mm")
        turned = mask.rotate(-turn, Image.Resampling.BILINEAR, expand=True)
        corner = (round(x - turned.width / 2), round(y - turned.height / 2))
        self._image.paste(color, (*corner, corner[0] + turned.width, corner[1] + turned.height), turned)

    def finish(self) -> Image.Image:
        """The picture at its own size."""
        return self._image.reduce(SCALE)
