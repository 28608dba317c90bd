"""Kinds kept for measuring: drawn before the comparison was last changed, and looked at only after that, but for games,
weather and road signs, of which copies at a quarter of the size were looked at before its last step."""

import math
import random
from typing import Final

from PIL import Image, ImageDraw

from benchmarks.lookalikes.canvas import TWICE, WORDS, Canvas, backdrop, hue


def receipt(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A receipt of a till on which one price, and with it the total, is another."""
    rows = style.randint(8, 13)
    canvas = Canvas(240, 110 + rows * 19, (style.randint(236, 252),) * 3)
    prices = [style.randint(49, 2999) for _ in range(rows)]
    prices[own.randrange(rows)] += own.choice([1, 3, 10, 50, 100]) * (1 + number % 4)
    canvas.text(120, 12, style.choice(WORDS).upper(), 20, anchor="ma")
    canvas.text(120, 38, f"{style.randint(1, 28):02d}.{style.randint(1, 12):02d}.2024", 12, anchor="ma")
    for row, price in enumerate(prices):
        canvas.text(14, 62 + row * 19, f"{style.choice(WORDS)} {style.choice(WORDS)[:4]}", 13, (40, 40, 45))
        canvas.text(226, 62 + row * 19, f"{price / 100:.2f}", 13, (40, 40, 45), anchor="ra")
    canvas.line([14, 68 + rows * 19, 226, 68 + rows * 19], fill=(40, 40, 45), width=1)
    canvas.text(14, 76 + rows * 19, "total", 16)
    canvas.text(226, 76 + rows * 19, f"{sum(prices) / 100:.2f}", 16, anchor="ra")
    return canvas.done()


def game(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A game of blocks with another score, or a life less."""
    tile, columns, rows = style.randint(20, 28), 16, 11
    canvas, ground = Canvas(tile * columns, tile * rows, hue(style, 90, 190)), hue(style, 30, 140)
    height = 2
    for column in range(columns):
        height = min(5, max(1, height + style.randint(-1, 1)))
        for row in range(rows - height, rows):
            canvas.rectangle([column * tile, row * tile, (column + 1) * tile, (row + 1) * tile], fill=ground,
                             outline=(0, 0, 0), width=1)  # fmt: skip
        if style.random() < 0.4:
            x, y = (column + 0.5) * tile, style.uniform(3, 5) * tile
            canvas.ellipse([x - 6, y - 6, x + 6, y + 6], fill=(250, 205, 40), outline=(140, 100, 0))
    points, lives = style.randint(1000, 99999), style.randint(2, 5)
    if number % 3 == 2:
        lives -= own.choice([-1, 1])
    else:
        points += own.choice([1, 10, 100, 250]) * (1 + number)
    canvas.text(8, 6, f"SCORE {points:06d}", 15, "white")
    for life in range(lives):
        x = columns * tile - 16 - life * 18
        canvas.polygon([x - 7, 10, x, 20, x + 7, 10, x + 3, 6, x, 10, x - 3, 6], fill=(225, 30, 60))
    return canvas.done()


def ticket(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A boarding pass of another seat or gate."""
    canvas, colour = Canvas(420, 170, (250, 250, 248)), hue(style, 20, 150)
    canvas.rectangle([0, 0, 420, 34], fill=colour)
    canvas.text(14, 7, f"{style.choice(WORDS).title()} Air", 19, "white")
    seat, gate = (style.randint(1, 34), style.randrange(6)), style.randint(1, 60)
    if number % 2:
        seat = (1 + (seat[0] + own.randint(0, 32)) % 34, (seat[1] + own.randint(0, 5)) % 6)
    else:
        gate = 1 + (gate + own.randint(0, 58)) % 60
    cells = [("passenger", f"{style.choice(WORDS)} {style.choice(WORDS)}".upper()), ("gate", f"B{gate}"),
             ("seat", f"{seat[0]}{'ABCDEF'[seat[1]]}"),
             ("from", style.choice(WORDS)[:3].upper()), ("to", style.choice(WORDS)[:3].upper()),
             ("time", f"{style.randint(0, 23):02d}:{style.randint(0, 59):02d}")]  # fmt: skip
    for place, (name, value) in enumerate(cells):
        x, y = (16, 210, 310)[place % 3], 48 + place // 3 * 58
        canvas.text(x, y, name, 11, (120, 120, 125))
        canvas.text(x, y + 15, value, 20)
    return canvas.done()


_UNITS: Final = {"R": "k", "C": "nF", "L": "mH"}


def circuit(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A circuit of which one part has another value, or is of another kind."""
    canvas, count = Canvas(400, 220), 4
    parts = [(style.choice("RCL"), style.randint(1, 99)) for _ in range(2 * count)]
    changed = own.randrange(2 * count)
    kind, value = parts[changed]
    parts[changed] = (own.choice("RCL".replace(kind, "")), value) if number % 3 == 2 else (kind, value % 99 + 1)
    canvas.rectangle([20, 40, 380, 180], outline="black", width=1.5)
    for place, (kind, value) in enumerate(parts):
        x, y = 65 + place % count * 90, 40 if place < count else 180
        canvas.rectangle([x - 16, y - 8, x + 16, y + 8], fill="white")
        if kind == "R":
            canvas.rectangle([x - 16, y - 6, x + 16, y + 6], outline="black", width=1.5)
        elif kind == "L":
            for turn in range(4):
                canvas.arc([x - 16 + turn * 8, y - 5, x - 8 + turn * 8, y + 5], 180, 360, fill="black", width=1.5)
        else:
            for side in (-3, 3):
                canvas.line([x + side, y - 10, x + side, y + 10], fill="black", width=1.5)
                canvas.line([x + side, y, x + (16 if side > 0 else -16), y], fill="black", width=1.5)
        canvas.text(x, y + 12, f"{value} {_UNITS[kind]}", 12, anchor="ma")
    return canvas.done()


def molecule(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A ring with other groups at it, or another bond doubled."""
    side = style.randint(200, 300)
    canvas, middle, radius = Canvas(side, side), side / 2, side * 0.2
    groups = [style.choice(["", "OH", "Cl", "NH2", "CH3", "Br", "F"]) for _ in range(6)]
    double = style.randrange(2)
    if number % 3 == 2:
        double = 1 - double
    place = own.randrange(6)
    groups[place] = own.choice([each for each in ("", "OH", "Cl", "NH2", "CH3", "Br", "F") if each != groups[place]])
    for corner, group in enumerate(groups):
        angle, after = (math.radians(60 * (corner + step) - 90) for step in (0, 1))
        for share in (1, 0.82) if corner % 2 == double else (1,):
            canvas.line([middle + share * radius * function(each) for each in (angle, after)
                         for function in (math.cos, math.sin)], fill="black", width=2)  # fmt: skip
        if group:
            canvas.line([middle + share * radius * function(angle) for share in (1, 1.55)
                         for function in (math.cos, math.sin)], fill="black", width=2)  # fmt: skip
            x, y = middle + 1.85 * radius * math.cos(angle), middle + 1.85 * radius * math.sin(angle)
            canvas.text(x, y, group, side * 0.06, anchor="mm")
    return canvas.done()


def seats(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """The seats of a theatre, one more or less of them taken."""
    rows, columns, cell = style.randint(8, 13), style.randint(12, 18), 18
    canvas = Canvas(columns * cell + 40, rows * cell + 60, (245, 245, 248))
    canvas.rectangle([30, 10, columns * cell + 10, 24], fill=(90, 90, 100))
    free, taken = hue(style, 20, 110), (190, 190, 195)
    states = [style.random() < 0.4 for _ in range(rows * columns)]
    changed = own.randrange(rows * columns)
    states[changed] = not states[changed]
    for place, state in enumerate(states):
        x, y = 20 + place % columns * cell, 40 + place // columns * cell
        canvas.rounded_rectangle([x + 2, y + 2, x + 15, y + 15], 3 * TWICE, fill=taken if state else free)
    return canvas.done()


def piano(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A keyboard on which another chord is marked."""
    wide, tall, octaves = style.randint(18, 26), style.randint(90, 140), 2
    canvas, mark = Canvas(octaves * 7 * wide + 20, tall + 20, hue(style, 200)), hue(style, 60, 200)
    marked = set(style.sample(range(12 * octaves), 3))
    marked ^= {own.choice(sorted(marked)), own.choice([key for key in range(12 * octaves) if key not in marked])}
    for black in (False, True):
        for key in range(12 * octaves):
            step = key % 12
            if (step in (1, 3, 6, 8, 10)) != black:
                continue
            white = key // 12 * 7 + (0, 0, 1, 1, 2, 3, 3, 4, 4, 5, 5, 6)[step]
            x = 10 + white * wide
            where = [x + wide * 0.7, 10, x + wide * 1.3, 10 + tall * 0.6] if black else [x, 10, x + wide, 10 + tall]
            fill = mark if key in marked else (20, 20, 22) if black else (252, 252, 250)
            canvas.rectangle(where, fill=fill, outline=(40, 40, 40), width=1)
    return canvas.done()


def abacus(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """An abacus that shows another number."""
    rods, bead = style.randint(7, 10), style.randint(9, 13)
    canvas = Canvas(rods * 3 * bead + 40, 16 * bead + 40, hue(style, 180, 240))
    colour, shown = hue(style, 60, 190), [style.randrange(10) for _ in range(rods)]
    changed = own.randrange(rods)
    shown[changed] = (shown[changed] + own.randint(1, 9)) % 10
    canvas.rectangle([14, 14, rods * 3 * bead + 26, 16 * bead + 26], outline=(90, 60, 30), width=8)
    for rod, digit in enumerate(shown):
        x = 20 + (rod + 0.5) * 3 * bead
        canvas.line([x, 20, x, 16 * bead + 20], fill=(110, 90, 70), width=2)
        for place in range(9):
            y = 24 + (place + (0 if place < digit else 5.5)) * bead * 1.05
            canvas.ellipse([x - bead * 1.1, y, x + bead * 1.1, y + bead], fill=colour, outline=(50, 40, 30))
    return canvas.done()


def weather(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A week's weather of which a day is colder, or rainy."""
    canvas = Canvas(420, 130, hue(style, 170, 240))
    days = [(style.randint(-5, 35), style.randrange(3)) for _ in range(7)]
    changed = own.randrange(7)
    degrees, sky = days[changed]
    days[changed] = (degrees, (sky + own.randint(1, 2)) % 3) if number % 2 else (degrees + 1 + number, sky)
    for day, (degrees, sky) in enumerate(days):
        x = 30 + day * 60
        canvas.text(x, 12, ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su")[day], 14, (40, 50, 70), anchor="ma")
        if sky == 0:
            canvas.ellipse([x - 12, 44, x + 12, 68], fill=(250, 190, 30))
        else:
            for left, top, size in ((-16, 52, 16), (-6, 44, 20), (4, 52, 14)):
                canvas.ellipse([x + left, top, x + left + size, top + size], fill=(235, 238, 242))
            for drop in range(3 if sky == 2 else 0):
                canvas.line([x - 8 + drop * 8, 72, x - 11 + drop * 8, 80], fill=(40, 90, 200), width=2)
        canvas.text(x, 92, f"{degrees}°", 16, (20, 25, 40), anchor="ma")
    return canvas.done()


def scatter(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A scatter plot of which one point lies elsewhere."""
    width, height = style.randint(280, 400), style.randint(220, 300)
    canvas, colours = Canvas(width, height), [hue(style, 30, 190) for _ in range(2)]
    points = [(style.gauss(0.5, 0.2), style.gauss(0.5, 0.2)) for _ in range(45)]
    points[own.randrange(45)] = (own.uniform(0.05, 0.95), own.uniform(0.05, 0.95))
    canvas.line([30, 10, 30, height - 25, width - 10, height - 25], fill="black", width=1)
    for tick in range(6):
        x, y = 30 + tick * (width - 45) / 5, height - 25 - tick * (height - 40) / 5
        canvas.text(x, height - 22, str(tick * 2), 11, anchor="ma")
        canvas.text(26, y, str(tick * 5), 11, anchor="rm")
    for place, (across, up) in enumerate(points):
        x, y = 30 + min(0.98, max(0.02, across)) * (width - 45), height - 25 - min(0.98, max(0.02, up)) * (height - 40)
        canvas.ellipse([x - 3.5, y - 3.5, x + 3.5, y + 3.5], fill=colours[place % 2])
    return canvas.done()


def frets(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Chords for a guitar: a finger lies elsewhere."""
    canvas, cell = Canvas(4 * 100 + 20, 150, (252, 250, 245)), 13
    for chord in range(4):
        places = [style.randrange(5) for _ in range(6)]
        name = style.choice("ABCDEFG") + style.choice(["", "m", "7"])
        if chord == number % 4:
            string = own.randrange(6)
            places[string] = (places[string] + own.randint(1, 4)) % 5
        left, top = 30 + chord * 100, 44
        canvas.text(left + 2.5 * cell, 8, name, 18, anchor="ma")
        for line in range(6):
            canvas.line([left + line * cell, top, left + line * cell, top + 5 * 18], fill="black", width=1)
            canvas.line([left, top + line * 18, left + 5 * cell, top + line * 18], fill="black", width=1)
        for string, place in enumerate(places):
            if place:
                x, y = left + string * cell, top + (place - 0.5) * 18
                canvas.ellipse([x - 5, y - 5, x + 5, y + 5], fill="black")
    return canvas.done()


def road_sign(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A photograph with a signpost on which one distance is another."""
    width, height = style.randint(340, 460), style.randint(240, 320)
    image = backdrop(style, width, height)
    places = [(style.choice(WORDS).title(), style.randint(1, 240)) for _ in range(3)]
    changed = own.randrange(3)
    places[changed] = (places[changed][0], places[changed][1] + own.choice([1, 4, 10, 30]) * (1 + number % 3))
    sign = Canvas(180, 96, style.choice([(20, 90, 60), (20, 70, 150), (245, 200, 40)]))
    ink = "black" if style.random() < 0.3 else "white"
    for row, (name, far) in enumerate(places):
        sign.text(12, 10 + row * 28, name, 17, ink)
        sign.text(168, 10 + row * 28, str(far), 17, ink, anchor="ra")
    left, top = style.randint(20, width - 200), style.randint(20, height - 120)
    ImageDraw.Draw(image).rectangle([left + 86, top + 90, left + 94, height], fill=(110, 110, 115))
    image.paste(sign.done(), (left, top))
    return image
