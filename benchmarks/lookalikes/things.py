"""Things that show another state: a dial, a lamp, a card, a position."""

import math
import random
from typing import Final

import numpy as np
from PIL import Image

from benchmarks.lookalikes.canvas import TWICE, Canvas, hue


def clock(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """One dial at other times."""
    side, face, rim = style.randint(220, 420), hue(style, 190), hue(style, 0, 120)
    canvas = Canvas(side, side, hue(style, 150))
    middle, radius = side / 2, side * 0.44
    canvas.ellipse([middle - radius, middle - radius, middle + radius, middle + radius], fill=face, outline=rim,
                   width=side * 0.02)  # fmt: skip
    for hour in range(12):
        angle = hour * math.pi / 6
        x, y = middle + 0.82 * radius * math.sin(angle), middle - 0.82 * radius * math.cos(angle)
        canvas.text(x, y, str(hour or 12), side * 0.06, rim, anchor="mm")
    hour, minute = number % 12, (number * 25) % 60
    for angle, length, width in (
        ((hour + minute / 60) * math.pi / 6, 0.45, 0.028),
        (minute * math.pi / 30, 0.68, 0.016),
    ):
        end = (middle + length * radius * math.sin(angle), middle - length * radius * math.cos(angle))
        canvas.line([middle, middle, *end], fill=rim, width=side * width)
    return canvas.done()


def traffic(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A traffic light, another lamp lit."""
    width, height = style.randint(120, 200), style.randint(280, 420)
    canvas = Canvas(width, height, hue(style, 130))
    canvas.rectangle(
        [width * 0.2, height * 0.06, width * 0.8, height * 0.94], fill=(45, 45, 50), outline="black", width=3
    )
    lit = ((235, 40, 30), (250, 200, 30), (40, 200, 80))
    dark = ((90, 25, 22), (95, 80, 20), (20, 80, 35))
    shows = ((1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0), (0, 0, 0))[number % 5]
    radius = min(width * 0.22, height * 0.12)
    for lamp in range(3):
        x, y = width / 2, height * (0.22 + 0.28 * lamp)
        colour = (lit if shows[lamp] else dark)[lamp]
        canvas.ellipse([x - radius, y - radius, x + radius, y + radius], fill=colour)
    return canvas.done()


def dice(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Two dice, other eyes."""
    canvas = Canvas(320, 180, hue(style, 60, 200))
    ink, body = style.choice([((20, 20, 20), (245, 245, 240)), ((250, 250, 250), (180, 20, 30))])
    for die, eyes in enumerate((number % 6 + 1, number // 6 % 6 + 1)):
        left = 30 + die * 140
        canvas.rounded_rectangle([left, 30, left + 120, 150], 16 * TWICE, fill=body, outline=(60, 60, 60), width=2)
        places = {1: [4], 2: [0, 8], 3: [0, 4, 8], 4: [0, 2, 6, 8], 5: [0, 2, 4, 6, 8], 6: [0, 2, 3, 5, 6, 8]}[eyes]
        for place in places:
            x, y = left + 28 + 32 * (place % 3), 58 + 32 * (place // 3)
            canvas.ellipse([x - 10, y - 10, x + 10, y + 10], fill=ink)
    return canvas.done()


_PIPS: Final[dict[int, list[tuple[float, float]]]] = {
    2: [(0.5, 0.2), (0.5, 0.8)],
    3: [(0.5, 0.2), (0.5, 0.5), (0.5, 0.8)],
    4: [(0.3, 0.2), (0.7, 0.2), (0.3, 0.8), (0.7, 0.8)],
    5: [(0.3, 0.2), (0.7, 0.2), (0.5, 0.5), (0.3, 0.8), (0.7, 0.8)],
    6: [(0.3, 0.2), (0.7, 0.2), (0.3, 0.5), (0.7, 0.5), (0.3, 0.8), (0.7, 0.8)],
    7: [(0.3, 0.2), (0.7, 0.2), (0.5, 0.35), (0.3, 0.5), (0.7, 0.5), (0.3, 0.8), (0.7, 0.8)],
}


def _suit(canvas: Canvas, suit: int, x: float, y: float, r: float) -> None:
    colour = (200, 20, 30) if suit < 2 else (15, 15, 20)
    if suit == 1:
        canvas.polygon([x, y - r, x + 0.75 * r, y, x, y + r, x - 0.75 * r, y], fill=colour)
        return
    turn = 1 if suit == 0 else -1
    if suit < 3:
        for side in (-1, 1):
            canvas.ellipse(
                [
                    x + side * 0.45 * r - 0.5 * r,
                    y - turn * 0.3 * r - 0.5 * r,
                    x + side * 0.45 * r + 0.5 * r,
                    y - turn * 0.3 * r + 0.5 * r,
                ],
                fill=colour,
            )
        canvas.polygon(
            [x - 0.92 * r, y - turn * 0.12 * r, x + 0.92 * r, y - turn * 0.12 * r, x, y + turn * r], fill=colour
        )
    else:
        for dx, dy in ((0, -0.5), (-0.45, 0.15), (0.45, 0.15)):
            canvas.ellipse(
                [x + dx * r - 0.42 * r, y + dy * r - 0.42 * r, x + dx * r + 0.42 * r, y + dy * r + 0.42 * r],
                fill=colour,
            )
    if suit >= 2:
        canvas.polygon([x, y, x + 0.3 * r, y + r, x - 0.3 * r, y + r], fill=colour)


def card(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Playing cards: other suits of one number, other numbers of one suit."""
    width, height = 200, 290
    canvas = Canvas(width, height, hue(style, 40, 200))
    canvas.rounded_rectangle(
        [8, 8, width - 8, height - 8], 14 * TWICE, fill=(252, 252, 250), outline=(80, 80, 80), width=1.5
    )
    suit, pips = number % 4, 2 + number // 4 % 6
    for x, y in _PIPS[pips]:
        _suit(canvas, suit, 8 + x * (width - 16), 8 + y * (height - 16), 17)
    canvas.text(20, 16, str(pips), 24, (200, 20, 30) if suit < 2 else (15, 15, 20))
    return canvas.done()


def moon(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Phases of the moon."""
    side = style.randint(180, 320)
    sky, light, dark = hue(style, 0, 50), hue(style, 200, 250), hue(style, 40, 80)
    grid = (np.arange(side * TWICE) + 0.5) / (side * TWICE) * 2 - 1
    x, y = np.meshgrid(grid, grid)
    disk = x**2 + y**2 < 0.64
    half = np.sqrt(np.maximum(0, 0.64 - y**2))
    phase = number % 12
    edge = np.cos(phase * math.pi / 6) * half
    lit = (x > edge) if phase <= 6 else (x < -edge)
    craters = random.Random(style.random())
    shade = np.ones_like(x)
    for _ in range(12):
        cx, cy, r = craters.uniform(-0.6, 0.6), craters.uniform(-0.6, 0.6), craters.uniform(0.03, 0.12)
        shade[(x - cx) ** 2 + (y - cy) ** 2 < r * r] = 0.88
    pixels = np.where(
        (disk & lit)[..., None],
        np.array(light) * shade[..., None],
        np.where(disk[..., None], np.array(dark), np.array(sky)),
    )
    return Image.fromarray(pixels.astype(np.uint8)).resize((side, side), Image.Resampling.BOX)


def chess(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A position after one more move."""
    cell = style.randint(34, 44)
    canvas = Canvas(cell * 8, cell * 8)
    light, dark = hue(style, 200, 245), hue(style, 90, 160)
    for square in range(64):
        x, y = square % 8 * cell, square // 8 * cell
        canvas.rectangle([x, y, x + cell, y + cell], fill=light if (square + square // 8) % 2 == 0 else dark)
    squares = style.sample(range(64), 18)
    pieces = {square: (place % 2, style.randrange(3)) for place, square in enumerate(squares)}
    moved = squares[own.randrange(18)]
    pieces[own.choice([square for square in range(64) if square not in pieces])] = pieces.pop(moved)
    for square, (white, kind) in pieces.items():
        x, y = (square % 8 + 0.5) * cell, (square // 8 + 0.5) * cell
        fill, edge = ((248, 248, 248), (40, 40, 40)) if white else ((35, 35, 35), (230, 230, 230))
        r = cell * (0.22, 0.3, 0.34)[kind]
        if kind == 1:
            canvas.rectangle([x - r, y - r, x + r, y + r], fill=fill, outline=edge, width=1.5)
        elif kind == 2:
            canvas.polygon([x, y - r, x + r, y + r, x - r, y + r], fill=fill, outline=edge)
        else:
            canvas.ellipse([x - r, y - r, x + r, y + r], fill=fill, outline=edge, width=1.5)
    return canvas.done()
