"""What the web makes of a picture, and what makes another of it."""

import io
import random
from collections.abc import Callable
from typing import Any, Final

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

Copy = Callable[[Image.Image, random.Random], bytes]


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def scaled(image: Image.Image, share: float) -> Image.Image:
    size = (max(1, round(image.width * share)), max(1, round(image.height * share)))
    return image.resize(size, Image.Resampling.LANCZOS)


def crop(image: Image.Image, left: float, up: float, right: float, down: float) -> Image.Image:
    """Without these shares of the sides' lengths."""
    width, height = image.size
    return image.crop(
        (round(width * left), round(height * up), width - round(width * right), height - round(height * down))
    )


def gamma(image: Image.Image, power: float) -> Image.Image:
    return image.point([round(255 * (level / 255) ** power) for level in range(256)] * 3)


def either(rng: random.Random, low: float, high: float) -> float:
    """A factor between low and high, or the inverse of one."""
    factor = rng.uniform(low, high)
    return factor if rng.random() < 0.5 else 1 / factor


def one_side(image: Image.Image, rng: random.Random, share: float) -> Image.Image:
    sides = [share, 0.0, 0.0, 0.0]
    rng.shuffle(sides)
    return crop(image, *sides)


def toned(image: Image.Image, rng: random.Random, most: float) -> Image.Image:
    """Brightness, contrast and saturation changed at once."""
    for change in (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color):
        image = change(image).enhance(either(rng, 1, most))
    return image


def bordered(image: Image.Image, share: float) -> Image.Image:
    return ImageOps.expand(image, max(1, round(share * min(image.size))), "white")


def watermarked(image: Image.Image) -> Image.Image:
    result = image.copy()
    size = max(10, image.height // 14)
    place = (image.width - 8, image.height - 6)
    ImageDraw.Draw(result).text(place, "example.org", "white", ImageFont.load_default(size), anchor="rd")
    return result


COPIES: Final[dict[str, Callable[[Image.Image, random.Random], bytes]]] = {
    "JPEG, quality 30-60": lambda image, rng: encoded(image, quality=rng.randint(30, 60)),
    "JPEG, quality 60-95": lambda image, rng: encoded(image, quality=rng.randint(60, 95)),
    "WebP, quality 40-90": lambda image, rng: encoded(image, "WEBP", quality=rng.randint(40, 90)),
    "AVIF, quality 40-90": lambda image, rng: encoded(image, "AVIF", quality=rng.randint(40, 90), speed=9),
    "PNG": lambda image, rng: encoded(image, "PNG", compress_level=1),
    "resized to 25 %": lambda image, rng: encoded(scaled(image, 0.25), quality=85),
    "resized to 50-90 %": lambda image, rng: encoded(scaled(image, rng.uniform(0.5, 0.9)), quality=85),
    "resized to 200 %": lambda image, rng: encoded(scaled(image, 2), quality=85),
    "10-20 % brighter or darker": lambda image, rng: encoded(
        ImageEnhance.Brightness(image).enhance(either(rng, 1.1, 1.2)), quality=85
    ),
    "contrast by 10-25 %": lambda image, rng: encoded(
        ImageEnhance.Contrast(image).enhance(either(rng, 1.1, 1.25)), quality=85
    ),
    "gamma by 10-35 %": lambda image, rng: encoded(gamma(image, either(rng, 1.1, 1.35)), quality=85),
    "saturation by 10-50 %": lambda image, rng: encoded(
        ImageEnhance.Color(image).enhance(either(rng, 1.1, 1.5)), quality=85
    ),
    "resized, toned, quality 40-80": lambda image, rng: encoded(
        toned(scaled(image, rng.uniform(0.5, 0.9)), rng, 1.15), quality=rng.randint(40, 80)
    ),
    "cropped, 5 % of the area, all sides": lambda image, rng: encoded(crop(image, *(0.0127,) * 4), quality=85),
    "cropped, 5 % of one length": lambda image, rng: encoded(one_side(image, rng, 0.05), quality=85),
    "cropped, 5 % of both lengths": lambda image, rng: encoded(crop(image, *(0.025,) * 4), quality=85),
    "cropped by 0-2 % a side, resized": lambda image, rng: encoded(
        scaled(crop(image, *(rng.uniform(0, 0.02) for _ in range(4))), rng.uniform(0.5, 0.95)), quality=80
    ),
}
"""What the web makes of a picture."""
NOT_PROMISED: Final[dict[str, Callable[[Image.Image, random.Random], bytes]]] = {
    "border of 2 %": lambda image, rng: encoded(bordered(image, 0.02), quality=85),
    "watermark": lambda image, rng: encoded(watermarked(image), quality=85),
}
"""Pictures that differ in a part: left apart, and counted in no recall."""
