"""Kinds drawn before the comparison was made stricter by those of `marked`, and looked at only after that, but for
editors, of which a sign was merged while limits were tried that are not kept."""

import math
import random
from typing import Final

import numpy as np
from PIL import Image, ImageDraw

from benchmarks.lookalikes.canvas import TWICE, WORDS, Canvas, backdrop, hue


def street(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A photograph with a street's name plate and a house number: one of both is another."""
    width, height = style.randint(320, 460), style.randint(220, 320)
    image, name, house = backdrop(style, width, height), style.choice(WORDS), style.randint(1, 120)
    if number % 2:
        name = own.choice([word for word in WORDS if word != name])
    else:
        house += own.randint(1, 60)
    plate = Canvas(150, 34, (20, 50, 140))
    plate.text(75, 17, f"{name.title()} Street", 17, "white", anchor="mm")
    figure = Canvas(44, 30, (245, 240, 225))
    figure.text(22, 15, str(house), 17, (30, 60, 40), anchor="mm")
    image.paste(plate.done(), (style.randint(10, width - 170), style.randint(10, height // 2 - 40)))
    image.paste(figure.done(), (style.randint(10, width - 60), style.randint(height // 2, height - 40)))
    return image


def compass(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A compass that points another way."""
    side = style.randint(170, 300)
    canvas, m = Canvas(side, side, hue(style, 60, 220)), side / 2
    canvas.ellipse([side * 0.06, side * 0.06, side * 0.94, side * 0.94], fill=hue(style, 220, 255),
                   outline=(120, 90, 40), width=side * 0.03)  # fmt: skip
    for place, letter in enumerate("NESW"):
        angle = place * math.pi / 2
        canvas.text(m + side * 0.34 * math.sin(angle), m - side * 0.34 * math.cos(angle), letter, side * 0.09,
                    anchor="mm")  # fmt: skip
    turn = math.radians(number * 37 % 360)
    for sense, colour in ((1, (200, 30, 30)), (-1, (60, 60, 70))):
        tip = (m + sense * side * 0.28 * math.sin(turn), m - sense * side * 0.28 * math.cos(turn))
        across = side * 0.04 * math.cos(turn), side * 0.04 * math.sin(turn)
        canvas.polygon([*tip, m + across[0], m + across[1], m - across[0], m - across[1]], fill=colour)
    return canvas.done()


def checklist(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A list of things to do on which one more is ticked off, or less."""
    rows = style.randint(7, 11)
    canvas, done = Canvas(300, rows * 30 + 30, (255, 255, 252)), [style.random() < 0.5 for _ in range(rows)]
    changed = own.randrange(rows)
    done[changed] = not done[changed]
    for row, ticked in enumerate(done):
        y = 18 + row * 30
        canvas.rectangle([18, y, 34, y + 16], outline=(70, 70, 75), width=1.5)
        if ticked:
            canvas.line([20, y + 8, 25, y + 13, 33, y + 2], fill=(30, 130, 60), width=2.5)
        canvas.text(46, y, f"{style.choice(WORDS)} the {style.choice(WORDS)}", 15, (40, 40, 45))
    return canvas.done()


def lottery(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """The balls of a draw, one with another number."""
    canvas, colour = Canvas(400, 100, hue(style, 20, 110)), hue(style, 170, 250)
    balls = [style.randint(1, 49) for _ in range(6)]
    changed = own.randrange(6)
    balls[changed] = 1 + (balls[changed] + own.randint(0, 47)) % 49
    for place, ball in enumerate(balls):
        x = 44 + place * 62
        canvas.ellipse([x - 26, 24, x + 26, 76], fill=colour)
        canvas.ellipse([x - 15, 35, x + 15, 65], fill="white")
        canvas.text(x, 50, str(ball), 18, anchor="mm")
    return canvas.done()


def formation(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Players on a field, one of whom stands elsewhere."""
    canvas, line = Canvas(300, 420, (60, 140, 70)), (235, 245, 235)
    for stripe in range(0, 10, 2):
        canvas.rectangle([0, stripe * 42, 300, stripe * 42 + 42], fill=(66, 150, 76))
    canvas.rectangle([14, 14, 286, 406], outline=line, width=2)
    canvas.line([14, 210, 286, 210], fill=line, width=2)
    canvas.ellipse([110, 170, 190, 250], outline=line, width=2)
    teams = [hue(style, 130, 255), hue(style, 0, 110)]
    players = [(style.uniform(30, 270), style.uniform(30, 390)) for _ in range(16)]
    players[own.randrange(16)] = (own.uniform(30, 270), own.uniform(30, 390))
    for place, (x, y) in enumerate(players):
        canvas.ellipse([x - 8, y - 8, x + 8, y + 8], fill=teams[place % 2], outline=(20, 20, 20), width=1)
    return canvas.done()


def element(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A cell of the periodic table: another mass, or another number."""
    side = style.randint(160, 240)
    canvas = Canvas(side, side, hue(style, 140, 240))
    order, mass = style.randint(1, 99), style.randint(1000, 24999)
    if number % 2:
        order = 1 + (order + own.randint(0, 97)) % 99
    else:
        mass += own.choice([1, 7, 30, 200, 1000])
    canvas.rectangle([4, 4, side - 4, side - 4], outline="black", width=2)
    canvas.text(side * 0.08, side * 0.07, str(order), side * 0.11)
    canvas.text(
        side / 2, side * 0.45, style.choice(["He", "Na", "Fe", "Cu", "Ag", "Pb", "U"]), side * 0.34, anchor="mm"
    )
    canvas.text(side / 2, side * 0.74, style.choice(WORDS), side * 0.09, anchor="mm")
    canvas.text(side / 2, side * 0.87, f"{mass / 100:.2f}", side * 0.09, anchor="mm")
    return canvas.done()


def spreadsheet(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A spreadsheet with another cell selected, or another value in one."""
    canvas = Canvas(460, 270)
    values = [style.randint(1, 9999) for _ in range(60)]
    shaded, changed = style.randrange(60), own.randrange(60)
    if number % 2:
        shaded = changed
    else:
        values[changed] += own.choice([1, 5, 30, 600])
    canvas.rectangle([0, 0, 460, 22], fill=(232, 234, 237))
    canvas.rectangle([0, 0, 34, 270], fill=(232, 234, 237))
    for place, value in enumerate(values):
        x, y = 34 + place % 6 * 71, 22 + place // 6 * 24
        if place == shaded:
            canvas.rectangle([x, y, x + 71, y + 24], fill=(226, 236, 252), outline=(26, 115, 232), width=2)
        else:
            canvas.rectangle([x, y, x + 71, y + 24], outline=(210, 212, 216), width=0.5)
        canvas.text(x + 66, y + 5, str(value), 12, (30, 30, 30), anchor="ra")
    for column in range(6):
        canvas.text(70 + column * 71, 5, "ABCDEF"[column], 12, (90, 90, 90), anchor="ma")
    return canvas.done()


def editor(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A program of which one number, name or sign is another."""
    canvas, changed = Canvas(440, 300, (30, 32, 40)), own.randrange(13)
    for row in range(13):
        name, other, value, sign = style.choice(WORDS), style.choice(WORDS), style.randint(0, 99), style.choice("+-*/<")
        if row == changed and number % 3 == 0:
            value += own.randint(1, 9)
        elif row == changed and number % 3 == 1:
            other = own.choice([word for word in WORDS if word != other])
        elif row == changed:
            sign = own.choice("+-*/<".replace(sign, ""))
        y = 12 + row * 21
        canvas.text(8, y, str(row + 1), 13, (100, 104, 120))
        canvas.text(36 + style.randint(0, 2) * 20, y, f"{name} = {other} {sign} {value}", 13, hue(style, 150, 240))
    return canvas.done()


def resistor(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A resistor with one other band."""
    canvas = Canvas(280, 110, hue(style, 200, 250))
    bands = [(20, 20, 20), (120, 70, 30), (210, 40, 40), (240, 140, 40), (240, 220, 60), (60, 160, 70), (50, 80, 190),
             (140, 70, 170), (130, 130, 130), (245, 245, 245)]  # fmt: skip
    shown = [style.randrange(10) for _ in range(4)]
    changed = own.randrange(4)
    shown[changed] = (shown[changed] + own.randint(1, 9)) % 10
    canvas.line([0, 55, 280, 55], fill=(150, 150, 155), width=5)
    canvas.rounded_rectangle([50, 30, 230, 80], 18 * TWICE, fill=style.choice([(222, 190, 140), (110, 170, 200)]))
    for place, band in enumerate(shown):
        canvas.rectangle([78 + place * 34, 30, 90 + place * 34, 80], fill=bands[band])
    return canvas.done()


def matrix(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A panel of lamps, a few of them in another state."""
    columns, rows, cell = style.randint(14, 22), style.randint(7, 10), 16
    canvas, lit = Canvas(columns * cell + 10, rows * cell + 10, (18, 18, 20)), hue(style, 120, 255)
    states = [style.random() < 0.4 for _ in range(columns * rows)]
    for changed in own.sample(range(columns * rows), own.randint(1, 3)):
        states[changed] = not states[changed]
    for place, on in enumerate(states):
        x, y = 5 + place % columns * cell, 5 + place // columns * cell
        canvas.ellipse([x + 2, y + 2, x + 14, y + 14], fill=lit if on else tuple(value // 6 + 20 for value in lit))
    return canvas.done()


def organisation(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A tree of boxes: one name is another, or one box hangs elsewhere."""
    canvas, fill = Canvas(460, 250, "white"), hue(style, 200, 245)
    names = [style.choice(WORDS) for _ in range(9)]
    parents = [style.randrange(3) for _ in range(5)]
    if number % 3 == 2:
        changed = own.randrange(5)
        parents[changed] = (parents[changed] + own.randint(1, 2)) % 3
    else:
        changed = own.randrange(9)
        names[changed] = own.choice([word for word in WORDS if word != names[changed]])
    places = [
        (230, 30),
        *((80 + 150 * place, 115) for place in range(3)),
        *((46 + 92 * place, 205) for place in range(5)),
    ]
    links = [(0, 1), (0, 2), (0, 3), *((1 + parent, 4 + child) for child, parent in enumerate(parents))]
    for one, other in links:
        canvas.line([*places[one], *places[other]], fill=(90, 90, 95), width=1.5)
    for (x, y), name in zip(places, names, strict=True):
        canvas.rectangle([x - 40, y - 14, x + 40, y + 14], fill=fill, outline=(60, 60, 70), width=1)
        canvas.text(x, y, name, 13, anchor="mm")
    return canvas.done()


def lift(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """The buttons of a lift, another one lit."""
    columns, rows = style.randint(2, 3), style.randint(5, 8)
    canvas, lit = Canvas(columns * 50 + 30, rows * 44 + 30, (170, 172, 176)), (255, 200, 70)
    pressed = number % (columns * rows)
    for place in range(columns * rows):
        x, y = 40 + place % columns * 50, 36 + place // columns * 44
        canvas.ellipse([x - 17, y - 17, x + 17, y + 17], fill=(225, 226, 230), outline=lit if place == pressed else
                       (120, 120, 125), width=3)  # fmt: skip
        canvas.text(x, y, str(columns * rows - place), 15, (40, 40, 45), anchor="mm")
    return canvas.done()


def blister(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A pack of pills, photographed with some grain: one more is taken, or less."""
    canvas, pill = Canvas(300, 200, (196, 198, 204)), hue(style, 150, 250)
    left = [style.random() < 0.6 for _ in range(15)]
    changed = own.randrange(15)
    left[changed] = not left[changed]
    for place, there in enumerate(left):
        x, y = 36 + place % 5 * 57, 40 + place // 5 * 60
        canvas.ellipse([x - 21, y - 21, x + 21, y + 21], fill=(178, 180, 188), outline=(150, 152, 160), width=1.5)
        if there:
            canvas.ellipse([x - 14, y - 14, x + 14, y + 14], fill=pill)
    grain = np.random.default_rng(style.getrandbits(32)).normal(0, 4, (200, 300, 1))
    return Image.fromarray(np.clip(np.asarray(canvas.done(), np.float32) + grain, 0, 255).astype(np.uint8))


def runner(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A photograph of somebody with another number on the shirt."""
    width, height = style.randint(240, 340), style.randint(260, 360)
    image, x = backdrop(style, width, height), style.randint(90, width - 90)
    pen, top = ImageDraw.Draw(image), style.randint(60, height - 180)
    pen.ellipse([x - 20, top - 44, x + 20, top + 2], fill=(215, 170, 140))
    pen.rounded_rectangle([x - 46, top, x + 46, top + 140], 14, fill=hue(style, 40, 200))
    bib = Canvas(56, 34, "white")
    bib.text(28, 17, str(100 + (style.randint(0, 899) + number * own.randint(1, 90)) % 900), 22, anchor="mm")
    image.paste(bib.done(), (x - 28, top + 40))
    return image


def candles(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """The prices of a share, of which one day fell instead of rising, or by more."""
    canvas, ground = Canvas(400, 240, (250, 250, 252) if style.random() < 0.5 else (22, 26, 36)), 120.0
    days, changed = [style.uniform(-22, 22) for _ in range(24)], own.randrange(24)
    for day, change in enumerate(days):
        opened, closed = ground, min(210.0, max(30.0, ground + change))
        ground, x = closed, 16 + day * 16
        rises = (closed < opened) != (day == changed)
        fill = (38, 166, 120) if rises else (230, 70, 70)
        canvas.line([x + 5, min(opened, closed) - 7, x + 5, max(opened, closed) + 7], fill=fill, width=1)
        canvas.rectangle([x, min(opened, closed), x + 10, max(opened, closed) + 2], fill=fill)
    return canvas.done()


_SHAPES: Final = ("circle", "square", "triangle", "diamond")


def puzzle(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Shapes in rows, of which one is of another form or colour."""
    rows, colours = style.randint(3, 5), [hue(style, 30, 230) for _ in range(4)]
    canvas = Canvas(rows * 60 + 20, rows * 60 + 20, (252, 252, 250))
    cells = [(style.choice(_SHAPES), style.randrange(4)) for _ in range(rows * rows)]
    changed = own.randrange(rows * rows)
    shape, colour = cells[changed]
    cells[changed] = (shape, (colour + own.randint(1, 3)) % 4) if number % 2 else (
        own.choice([each for each in _SHAPES if each != shape]), colour)  # fmt: skip
    for place, (shape, colour) in enumerate(cells):
        x, y, r = 40 + place % rows * 60, 40 + place // rows * 60, 20
        if shape == "circle":
            canvas.ellipse([x - r, y - r, x + r, y + r], fill=colours[colour])
        elif shape == "square":
            canvas.rectangle([x - r, y - r, x + r, y + r], fill=colours[colour])
        elif shape == "triangle":
            canvas.polygon([x, y - r, x + r, y + r, x - r, y + r], fill=colours[colour])
        else:
            canvas.polygon([x, y - r, x + r, y, x, y + r, x - r, y], fill=colours[colour])
    return canvas.done()
