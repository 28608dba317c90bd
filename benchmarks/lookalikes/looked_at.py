"""Yet more kinds, kept for measuring first; boards and thermometers that were merged mended the comparison since."""

import math
import random
from typing import Final

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.lookalikes.canvas import TWICE, WORDS, Canvas, backdrop, hue


def domino(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A domino, other eyes."""
    wide = style.choice([70, 90, 110])
    canvas = Canvas(2 * wide + 40, wide + 40, hue(style, 40, 160))
    canvas.rounded_rectangle(
        [20, 20, 20 + 2 * wide, 20 + wide], 10 * TWICE, fill=(246, 244, 236), outline=(70, 60, 50), width=2
    )
    canvas.line([20 + wide, 28, 20 + wide, 12 + wide], fill=(70, 60, 50), width=2)
    places = {0: [], 1: [4], 2: [0, 8], 3: [0, 4, 8], 4: [0, 2, 6, 8], 5: [0, 2, 4, 6, 8], 6: [0, 3, 6, 2, 5, 8]}
    for half, eyes in enumerate((number % 7, number * 3 // 7 % 7)):
        for place in places[eyes]:
            x, y = 20 + half * wide + wide * (0.22 + 0.28 * (place % 3)), 20 + wide * (0.22 + 0.28 * (place // 3))
            canvas.ellipse([x - wide * 0.07, y - wide * 0.07, x + wide * 0.07, y + wide * 0.07], fill=(25, 25, 25))
    return canvas.done()


_SEGMENTS: Final = ("abcdef", "bc", "abged", "abgcd", "fgbc", "afgcd", "afgedc", "abc", "abcdefg", "abcdfg")


def display(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A display of seven segments: one digit is another."""
    size, dark = style.randint(40, 70), style.random() < 0.6
    lit, ground = ((240, 60, 40), (24, 20, 20)) if dark else ((30, 40, 30), (170, 190, 160))
    off = tuple(round(0.9 * under + 0.1 * over) for under, over in zip(ground, lit, strict=True))
    digits = [style.randrange(10) for _ in range(4)]
    place = own.randrange(4)
    digits[place] = (digits[place] + 1 + number % 9) % 10
    canvas = Canvas(5 * size + 20, 2 * size + 20, ground)
    width, height, thick = size * 0.75, size * 0.9, size * 0.13
    for column, digit in enumerate(digits):
        x, y = 16 + column * size * 1.25, 14
        ends = {
            "a": (0, 0, 1, 0), "b": (1, 0, 1, 1), "c": (1, 1, 1, 2), "d": (0, 2, 1, 2), "e": (0, 1, 0, 2),
            "f": (0, 0, 0, 1), "g": (0, 1, 1, 1),
        }  # fmt: skip
        for name, (x1, y1, x2, y2) in ends.items():
            where = [x + x1 * width, y + y1 * height, x + x2 * width, y + y2 * height]
            canvas.line(where, fill=lit if name in _SEGMENTS[digit] else off, width=thick)
    return canvas.done()


def pin(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A map of streets with the pin elsewhere."""
    width, height = style.randint(320, 460), style.randint(240, 340)
    canvas = Canvas(width, height, (236, 234, 226))
    canvas.ellipse([width * 0.55, height * 0.1, width * 0.95, height * 0.45], fill=(200, 226, 190))
    canvas.polygon([0, height, width * 0.4, height * 0.75, width * 0.5, height, 0, height], fill=(165, 200, 230))
    for _ in range(14):
        ends = [style.uniform(-0.1, 1.1) for _ in range(4)]
        wide = style.choice([3, 3, 5, 8])
        where = [ends[0] * width, ends[1] * height, ends[2] * width, ends[3] * height]
        canvas.line(where, fill=(205, 200, 190), width=wide + 2)
        canvas.line(where, fill=(255, 255, 255) if wide < 8 else (250, 220, 130), width=wide)
    for _ in range(6):
        canvas.text(
            style.uniform(0, 0.8) * width, style.uniform(0, 0.9) * height, style.choice(WORDS), 11, (90, 90, 90)
        )
    x, y, r = own.uniform(0.1, 0.9) * width, own.uniform(0.15, 0.9) * height, 9
    canvas.polygon([x - r, y - 2 * r, x + r, y - 2 * r, x, y], fill=(215, 50, 45))
    canvas.ellipse([x - r, y - 3 * r, x + r, y - r], fill=(215, 50, 45))
    canvas.ellipse([x - 3, y - 2 * r - 3, x + 3, y - 2 * r + 3], fill=(110, 20, 20))
    return canvas.done()


def departures(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A board of departures on which a time or a platform is another."""
    canvas = Canvas(440, 300, (12, 20, 48))
    rows = [
        (style.randint(0, 23), style.randint(0, 59), style.choice(WORDS).title(), style.randint(1, 9)) for _ in range(8)
    ]
    changed, which = own.randrange(8), number % 2
    for row, (hour, minute, name, track) in enumerate(rows):
        if row == changed and which:
            track = track % 9 + 1
        if row == changed and not which:
            minute = (minute + own.randint(1, 58)) % 60
        y = 16 + row * 34
        canvas.text(20, y, f"{hour:02d}:{minute:02d}", 18, (250, 210, 60))
        canvas.text(110, y, name, 18, "white")
        canvas.text(410, y, str(track), 18, "white", anchor="ra")
    return canvas.done()


def subtitle(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A frame of a film with another subtitle."""
    width, height = style.randint(360, 520), style.randint(200, 280)
    image = backdrop(style, width, height)
    pen = ImageDraw.Draw(image)
    pen.ellipse([width * 0.4, height * 0.15, width * 0.58, height * 0.55], fill=(205, 165, 140))
    pen.rectangle([width * 0.34, height * 0.55, width * 0.64, height], fill=hue(style, 0, 120))
    text = " ".join(own.choice(WORDS) for _ in range(3)).capitalize() + "."
    pen.text((width / 2, height - 12), text, "white", ImageFont.load_default(17), anchor="ms", stroke_width=1,
             stroke_fill="black")  # fmt: skip
    return image


def thermometer(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A thermometer that shows another temperature."""
    width, height = style.randint(110, 170), style.randint(300, 420)
    canvas, middle = Canvas(width, height, hue(style, 200)), width * 0.4
    canvas.rounded_rectangle([middle - 9, 20, middle + 9, height - 50], 9 * TWICE, fill="white", outline=(90, 90, 90),
                             width=2)  # fmt: skip
    canvas.ellipse([middle - 18, height - 66, middle + 18, height - 30], fill=(200, 30, 30))
    top = height - 60 - (height - 100) * (0.1 + 0.85 * (number * 5 % 17) / 17)
    canvas.rectangle([middle - 5, top, middle + 5, height - 50], fill=(200, 30, 30))
    for tick in range(9):
        y = height - 75 - tick * (height - 110) / 8
        canvas.line([middle + 12, y, middle + 22, y], fill="black", width=1.5)
        canvas.text(middle + 26, y, str(tick * 10 - 20), 11, anchor="lm")
    return canvas.done()


def price(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A shelf label with another price."""
    canvas = Canvas(style.randint(260, 360), style.randint(150, 190), style.choice([(255, 236, 90), (255, 255, 255)]))
    canvas.rectangle([0, 0, 400, 34], fill=hue(style, 0, 150))
    canvas.text(12, 7, " ".join(style.choice(WORDS) for _ in range(2)).title(), 18, "white")
    euros, cents = style.randint(1, 9), own.choice([9, 19, 29, 49, 59, 69, 79, 89, 95, 99])
    canvas.text(24, 52, f"{euros}.{cents:02d}", 62, (170, 15, 25))
    canvas.text(14, 128, f"{style.randint(100, 900)} g, {style.randint(10, 99)} a kilogram", 11)
    return canvas.done()


def crossword(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A crossword in which one more letter is filled in, or another."""
    cell, count = style.randint(24, 32), 11
    canvas = Canvas(cell * count + 8, cell * count + 8)
    black = set(style.sample(range(count * count), 28))
    free = [square for square in range(count * count) if square not in black]
    letters = {square: style.choice("ABCDEGHILMNOPRSTU") for square in style.sample(free, 40)}
    changed = own.choice(free)
    letters[changed] = own.choice("ABCDEGHILMNOPRSTU".replace(letters.get(changed, "A"), ""))
    for square in range(count * count):
        x, y = 4 + square % count * cell, 4 + square // count * cell
        canvas.rectangle([x, y, x + cell, y + cell], fill="black" if square in black else "white", outline="black",
                         width=1)  # fmt: skip
        if square in letters:
            canvas.text(x + cell / 2, y + cell / 2, letters[square], cell * 0.6, (20, 30, 90), anchor="mm")
    return canvas.done()


def switches(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A page of settings of which one switch is turned."""
    canvas, rows = Canvas(300, 400, (242, 242, 247)), 8
    on = [style.random() < 0.5 for _ in range(rows)]
    turned = own.randrange(rows)
    on[turned] = not on[turned]
    for row in range(rows):
        y = 20 + row * 46
        canvas.rounded_rectangle([10, y, 290, y + 40], 8 * TWICE, fill="white")
        canvas.text(24, y + 12, f"{style.choice(WORDS)} {style.choice(WORDS)}", 14)
        canvas.rounded_rectangle([234, y + 9, 274, y + 31], 11 * TWICE, fill=(52, 199, 89) if on[row] else (225,) * 3)
        x = 254 if on[row] else 236
        canvas.ellipse([x, y + 11, x + 18, y + 29], fill="white", outline=(200, 200, 200))
    return canvas.done()


def arrow(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A sign that points another way."""
    side = style.randint(140, 260)
    canvas, ground = (
        Canvas(side, side, hue(style, 90, 220)),
        style.choice([(20, 80, 170), (240, 240, 235), (250, 200, 20)]),
    )
    ink = (255, 255, 255) if ground[0] == 20 else (20, 20, 25)
    canvas.rounded_rectangle([side * 0.08, side * 0.08, side * 0.92, side * 0.92], side * 0.1 * TWICE, fill=ground)
    turn = number % 8 * math.pi / 4
    shape = [(0.32, 0), (0.05, -0.22), (0.05, -0.08), (-0.3, -0.08), (-0.3, 0.08), (0.05, 0.08), (0.05, 0.22)]
    turned = [
        side * (0.5 + part)
        for x, y in shape
        for part in (x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn))
    ]
    canvas.polygon(turned, fill=ink)
    return canvas.done()


def heatmap(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A grid of coloured cells of which two are others."""
    columns, rows, cell = style.randint(8, 12), style.randint(6, 9), style.randint(26, 34)
    canvas = Canvas(columns * cell + 40, rows * cell + 40)
    values = [style.randrange(6) for _ in range(columns * rows)]
    for place in own.sample(range(columns * rows), 2):
        values[place] = (values[place] + own.randint(1, 5)) % 6
    low, high = hue(style, 200, 255), hue(style, 0, 90)
    for place, value in enumerate(values):
        x, y = 30 + place % columns * cell, 10 + place // columns * cell
        colour = tuple(round(a + (b - a) * value / 5) for a, b in zip(low, high, strict=True))
        canvas.rectangle([x, y, x + cell, y + cell], fill=colour)
    for column in range(columns):
        canvas.text(30 + (column + 0.5) * cell, 16 + rows * cell, "ABCDEFGHIJKL"[column], 12, anchor="ma")
    return canvas.done()


def go(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A board of Go with one stone elsewhere, on wood with grain."""
    cell = style.randint(22, 30)
    side = cell * 13
    grain = np.random.default_rng(style.getrandbits(32)).normal(0, 6, (1, side, 1))
    wood = np.clip(np.array([218, 176, 110]) + np.repeat(grain, side, axis=0), 0, 255).astype(np.uint8)
    canvas = Canvas(side, side)
    canvas.image.paste(Image.fromarray(wood).resize(canvas.image.size))
    for line in range(13):
        at, far = cell * (line + 0.5), side - cell / 2
        canvas.line([cell / 2, at, far, at], fill=(60, 45, 30), width=1)
        canvas.line([at, cell / 2, at, far], fill=(60, 45, 30), width=1)
    stones = {place: index % 2 for index, place in enumerate(style.sample(range(169), 40))}
    moved = own.choice(list(stones))
    stones[own.choice([place for place in range(169) if place not in stones])] = stones.pop(moved)
    for place, white in stones.items():
        x, y, r = cell * (place % 13 + 0.5), cell * (place // 13 + 0.5), cell * 0.46
        canvas.ellipse([x - r, y - r, x + r, y + r], fill=(245,) * 3 if white else (25,) * 3, outline=(60,) * 3)
    return canvas.done()
