"""More kinds, first kept for measuring; limits of the comparison were mended by some of them since."""

import math
import random

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.lookalikes.canvas import WORDS, Canvas, backdrop, hue


def speed_sign(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A road sign with another limit."""
    side = style.randint(160, 300)
    canvas = Canvas(side, side, hue(style, 90, 220))
    canvas.ellipse([side * 0.06, side * 0.06, side * 0.94, side * 0.94], fill=(200, 25, 35))
    canvas.ellipse([side * 0.17, side * 0.17, side * 0.83, side * 0.83], fill=(250, 250, 248))
    canvas.text(side / 2, side / 2, str(10 * (1 + number % 13)), side * 0.34, anchor="mm")
    return canvas.done()


def pie(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A pie of which one slice has grown."""
    side = style.randint(240, 360)
    canvas = Canvas(side, side)
    shares = [style.uniform(1, 3) for _ in range(style.randint(3, 6))]
    shares[own.randrange(len(shares))] *= own.choice([1.3, 1.6, 2.0])
    colours, start = [hue(style, 40, 230) for _ in shares], 0.0
    for share, colour in zip(shares, colours, strict=True):
        end = start + 360 * share / sum(shares)
        canvas.pieslice([20, 20, side - 20, side - 20], start, end, fill=colour, outline="white")
        start = end
    return canvas.done()


def line_chart(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A line of which one point lies elsewhere."""
    width, height, points = style.randint(340, 520), style.randint(220, 320), style.randint(7, 12)
    canvas, values = Canvas(width, height, (252, 252, 252)), [style.uniform(0.15, 0.85) for _ in range(points)]
    changed = own.randrange(points)
    values[changed] = (values[changed] + own.choice([0.2, 0.35, 0.5, 0.65])) % 0.9 + 0.05
    for grid in range(5):
        canvas.line([30, 20 + grid * (height - 50) / 4, width - 15, 20 + grid * (height - 50) / 4], fill=(215,) * 3,
                    width=1)  # fmt: skip
    spots = [
        (30 + place * (width - 45) / (points - 1), 20 + (1 - value) * (height - 50))
        for place, value in enumerate(values)
    ]
    colour = hue(style, 0, 170)
    canvas.line([each for spot in spots for each in spot], fill=colour, width=2.5)
    for x, y in spots:
        canvas.ellipse([x - 3.5, y - 3.5, x + 3.5, y + 3.5], fill=colour)
    return canvas.done()


def gauge(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A pressure gauge that reads otherwise."""
    side = style.randint(200, 340)
    canvas, middle = Canvas(side, side, hue(style, 120, 240)), side / 2
    canvas.ellipse([side * 0.05, side * 0.05, side * 0.95, side * 0.95], fill=(245, 245, 240), outline=(70, 70, 75),
                   width=side * 0.03)  # fmt: skip
    for tick in range(11):
        angle = math.radians(135 + 27 * tick)
        inner, outer = side * 0.34, side * 0.40
        canvas.line([middle + inner * math.cos(angle), middle + inner * math.sin(angle),
                     middle + outer * math.cos(angle), middle + outer * math.sin(angle)], fill="black",
                    width=side * 0.012)  # fmt: skip
        canvas.text(middle + side * 0.27 * math.cos(angle), middle + side * 0.27 * math.sin(angle), str(tick),
                    side * 0.055, anchor="mm")  # fmt: skip
    angle = math.radians(135 + 270 * ((number * 5) % 23) / 23)
    end = (middle + side * 0.3 * math.cos(angle), middle + side * 0.3 * math.sin(angle))
    canvas.line([middle, middle, *end], fill=(190, 20, 20), width=side * 0.018)
    return canvas.done()


def sudoku(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A grid with one more digit, or another."""
    cell = style.randint(24, 34)
    side = 9 * cell + 16
    canvas = Canvas(side, side)
    cells = {place: style.randint(1, 9) for place in style.sample(range(81), 30)}
    cells[own.randrange(81)] = own.randint(1, 9)
    for place in range(10):
        for ends in (
            (8, 8 + place * cell, side - 8, 8 + place * cell),
            (8 + place * cell, 8, 8 + place * cell, side - 8),
        ):
            canvas.line(list(ends), fill="black", width=2 if place % 3 == 0 else 0.8)
    for place, digit in cells.items():
        canvas.text(8 + (place % 9 + 0.5) * cell, 8 + (place // 9 + 0.5) * cell, str(digit), cell * 0.6, anchor="mm")
    return canvas.done()


def score(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Music of which two notes are others."""
    canvas = Canvas(420, 150, (253, 251, 244))
    notes = [style.randrange(9) for _ in range(14)]
    for place in own.sample(range(14), 2):
        notes[place] = (notes[place] + own.randint(1, 7)) % 9
    for line in range(5):
        canvas.line([15, 50 + line * 12, 405, 50 + line * 12], fill="black", width=1)
    for place, note in enumerate(notes):
        x, y = 40 + place * 26, 98 - note * 6
        canvas.ellipse([x - 6.5, y - 5, x + 6.5, y + 5], fill="black")
        canvas.line([x + 6, y, x + 6, y - 34], fill="black", width=1.5)
    return canvas.done()


def face(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A drawn face of another mood."""
    side = style.randint(140, 280)
    canvas, skin = Canvas(side, side, hue(style, 130, 255)), hue(style, 150, 250)
    canvas.ellipse([side * 0.08, side * 0.08, side * 0.92, side * 0.92], fill=skin, outline=(60, 50, 30),
                   width=side * 0.015)  # fmt: skip
    mouth, eyes = number % 3, number // 3 % 3
    for x in (0.35, 0.65):
        if eyes == 0 or (eyes == 2 and x > 0.5):
            canvas.ellipse([side * (x - 0.05), side * 0.32, side * (x + 0.05), side * 0.44], fill=(30, 25, 20))
        else:
            canvas.line([side * (x - 0.06), side * 0.39, side * (x + 0.06), side * 0.39], fill=(30, 25, 20),
                        width=side * 0.02)  # fmt: skip
    if mouth == 2:
        canvas.line([side * 0.34, side * 0.68, side * 0.66, side * 0.68], fill=(120, 20, 20), width=side * 0.02)
    else:
        top, turn = (0.5, (20, 160)) if mouth == 0 else (0.62, (200, 340))
        canvas.arc([side * 0.32, side * top, side * 0.68, side * (top + 0.25)], *turn, fill=(120, 20, 20),
                   width=side * 0.02)  # fmt: skip
    return canvas.done()


def table(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A table with a number or two of its cells changed."""
    rows, columns = style.randint(6, 12), style.randint(3, 5)
    canvas = Canvas(60 + columns * 90, 30 + rows * 26)
    values = [[style.randint(10, 9999) / 10 for _ in range(columns)] for _ in range(rows)]
    for _ in range(own.randint(1, 2)):
        values[own.randrange(rows)][own.randrange(columns)] += own.choice([0.3, 2, 40]) * (1 + number % 5)
    shade = hue(style, 215, 245)
    for row in range(rows):
        if row % 2:
            canvas.rectangle([10, 15 + row * 26, 50 + columns * 90, 41 + row * 26], fill=shade)
        canvas.text(16, 20 + row * 26, style.choice(WORDS)[:5], 13)
        for column in range(columns):
            canvas.text(130 + column * 90, 20 + row * 26, f"{values[row][column]:.1f}", 13, anchor="ra")
    return canvas.done()


def plate(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A licence plate of a car: one character is another."""
    width, height = style.randint(300, 420), style.randint(200, 280)
    image = backdrop(style, width, height)
    letters = [style.choice("ABCDEFGHKLMNPRSTUVXYZ0123456789") for _ in range(7)]
    place = own.randrange(7)
    letters[place] = own.choice("ABCDEFGHKLMNPRSTUVXYZ0123456789".replace(letters[place], ""))
    sign = Canvas(170, 40, (245, 245, 240))
    sign.rectangle([1, 1, 168, 38], outline="black", width=2)
    sign.text(85, 20, "".join(letters), 26, anchor="mm")
    image.paste(sign.done(), (style.randint(10, width - 180), style.randint(10, height - 50)))
    return image


def burst(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A scene with the grain of a camera in which somebody is elsewhere."""
    width, height = style.randint(300, 440), style.randint(220, 320)
    image = backdrop(style, width, height)
    pen, coat, size = ImageDraw.Draw(image), hue(style), height * 0.13
    x, y = size + number % 7 * (width - 2 * size) / 6, height * style.uniform(0.5, 0.7)
    pen.ellipse([x - size * 0.4, y - size * 1.8, x + size * 0.4, y - size], fill=(224, 180, 150))
    pen.rounded_rectangle([x - size * 0.6, y - size, x + size * 0.6, y + size], size * 0.3, fill=coat)
    grain = np.random.default_rng(own.getrandbits(32)).normal(0, 2.5, (height, width, 1))
    return Image.fromarray(np.clip(np.asarray(image, np.float32) + grain, 0, 255).astype(np.uint8))
