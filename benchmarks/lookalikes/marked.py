"""Small parts in a fixed frame, by which the comparison was made stricter: one key, one lamp, one word is another."""

import math
import random

from PIL import Image, ImageDraw, ImageFont

from benchmarks.lookalikes.canvas import TWICE, WORDS, Canvas, backdrop, hue


def battery(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """The bar at the top of a telephone: another charge, or one bar less of reception."""
    width = style.randint(260, 380)
    dark = style.random() < 0.5
    canvas = Canvas(width, 56, (18, 18, 22) if dark else (250, 250, 252))
    ink = (240, 240, 240) if dark else (20, 20, 20)
    charge, bars = style.randint(5, 95), style.randint(1, 4)
    if number % 3 == 2:
        bars = 1 + (bars + own.randint(0, 2)) % 4
    else:
        charge = (charge + own.randint(8, 60)) % 96 + 4
    canvas.text(18, 18, f"{style.randint(0, 23):02d}:{style.randint(0, 59):02d}", 17, ink)
    for bar in range(4):
        x = width - 120 + bar * 9
        fill = ink if bar < bars else tuple(round(0.25 * value + 90) for value in ink)
        canvas.rectangle([x, 34 - bar * 4, x + 6, 38], fill=fill)
    x = width - 66
    canvas.rounded_rectangle([x, 20, x + 44, 38], 4 * TWICE, outline=ink, width=1.5)
    canvas.rectangle([x + 45, 26, x + 48, 32], fill=ink)
    canvas.rectangle([x + 3, 23, x + 3 + 38 * charge / 100, 35], fill=(240, 70, 60) if charge < 20 else (70, 190, 90))
    return canvas.done()


def sliders(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A mixing desk of which one slider stands elsewhere."""
    count, height = style.randint(5, 9), style.randint(160, 240)
    canvas, colour = Canvas(count * 40 + 20, height, hue(style, 30, 80)), hue(style, 120, 255)
    places = [style.uniform(0.05, 0.95) for _ in range(count)]
    moved = own.randrange(count)
    places[moved] = (places[moved] + own.uniform(0.15, 0.85)) % 0.9 + 0.05
    for column, place in enumerate(places):
        x, y = 30 + column * 40, 20 + (1 - place) * (height - 60)
        canvas.line([x, 20, x, height - 40], fill=(15, 15, 18), width=4)
        canvas.rounded_rectangle([x - 11, y - 6, x + 11, y + 6], 3 * TWICE, fill=colour, outline=(230, 230, 230))
        canvas.text(x, height - 28, str(column + 1), 13, (210, 210, 210), anchor="ma")
    return canvas.done()


def banknote(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A banknote with another number in its series."""
    canvas, ink = Canvas(420, 200, hue(style, 190, 240)), hue(style, 30, 120)
    for line in range(26):
        y = 14 + line * 7
        points = [(x, y + 5 * math.sin(x / 23 + line * style.uniform(0.2, 0.3))) for x in range(0, 421, 10)]
        canvas.line([part for point in points for part in point], fill=hue(style, 150, 215), width=1)
    canvas.ellipse([150, 34, 270, 170], fill=hue(style, 140, 200), outline=ink, width=2)
    canvas.text(24, 16, str(style.choice([5, 10, 20, 50, 100])), 44, ink)
    digits = [style.randint(0, 9) for _ in range(9)]
    for place in own.sample(range(9), own.randint(1, 2)):
        digits[place] = (digits[place] + own.randint(1, 9)) % 10
    series = style.choice("ABCD") + "".join(map(str, digits))
    canvas.text(400, 22, series, 16, (150, 30, 40), anchor="ra")
    canvas.text(24, 168, series, 16, (30, 30, 40))
    return canvas.done()


def licence(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A page of small print with one other word."""
    words = [style.choice(WORDS) for _ in range(120)]
    changed = own.randrange(120)
    words[changed] = own.choice([word for word in WORDS if word != words[changed]])
    canvas, size = Canvas(470, 310, (255, 254, 250)), style.choice([11, 12, 13])
    for row in range(15):
        canvas.text(18, 14 + row * 19, " ".join(words[row * 8 : row * 8 + 8]), size, (25, 25, 30))
    return canvas.done()


def keyboard(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A keyboard on which another key is pressed."""
    canvas, dark = Canvas(440, 150, hue(style, 60, 120)), style.random() < 0.5
    face, ink = ((50, 50, 55), (235, 235, 235)) if dark else ((238, 238, 240), (30, 30, 30))
    mark, place = hue(style, 90, 230), 0
    pressed = own.randrange(26)
    for row, letters in enumerate(("QWERTYUIOP", "ASDFGHJKL", "ZXCVBNM")):
        for column, letter in enumerate(letters):
            x, y = 12 + row * 16 + column * 41, 14 + row * 42
            fill = mark if place == pressed else face
            canvas.rounded_rectangle([x, y, x + 36, y + 36], 5 * TWICE, fill=fill, outline=(20, 20, 20))
            canvas.text(x + 18, y + 18, letter, 15, ink, anchor="mm")
            place += 1
    return canvas.done()


def metro(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A map of lines on which another station is crossed out."""
    canvas, stations = Canvas(420, 280, (250, 250, 248)), []
    for line in range(4):
        colour, y = hue(style, 20, 220), 40 + line * 62
        points = [(20 + step * 76, y + style.choice([-24, 0, 24])) for step in range(6)]
        canvas.line([part for point in points for part in point], fill=colour, width=6)
        stations += points
    for x, y in stations:
        canvas.ellipse([x - 6, y - 6, x + 6, y + 6], fill="white", outline="black", width=1.5)
        canvas.text(x, y + 8, style.choice(WORDS)[:6], 10, (60, 60, 60), anchor="ma")
    x, y = stations[own.randrange(len(stations))]
    for turn in (-1, 1):
        canvas.line([x - 6, y - 6 * turn, x + 6, y + 6 * turn], fill=(200, 20, 30), width=3)
    return canvas.done()


def captcha(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Letters on noise to be typed off: one is another."""
    image = backdrop(style, 240, 90)
    pen, letters = ImageDraw.Draw(image), [style.choice("ACDEFHKLMNPRTUVWXY3479") for _ in range(6)]
    turns, changed = [style.uniform(-25, 25) for _ in letters], own.randrange(6)
    letters[changed] = own.choice("ACDEFHKLMNPRTUVWXY3479".replace(letters[changed], ""))
    for place, (letter, turn) in enumerate(zip(letters, turns, strict=True)):
        glyph = Image.new("L", (50, 50))
        ImageDraw.Draw(glyph).text((25, 25), letter, fill=255, font=ImageFont.load_default(36), anchor="mm")
        image.paste(hue(style, 0, 90), (place * 38 + 4, 18), glyph.rotate(turn, Image.Resampling.BICUBIC))
    for _ in range(4):
        pen.line([style.randint(0, 240), style.randint(0, 90), style.randint(0, 240), style.randint(0, 90)],
                 fill=hue(style, 0, 120), width=2)  # fmt: skip
    return image


def mines(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A field of mines with one more cell opened, or another number in it."""
    columns, rows, cell = style.randint(10, 16), style.randint(8, 12), style.randint(18, 24)
    canvas = Canvas(columns * cell + 12, rows * cell + 12, (192, 192, 192))
    states = [style.choice([-1, -1, 0, 0, 1, 1, 2, 3]) for _ in range(columns * rows)]
    changed = own.randrange(columns * rows)
    states[changed] = own.choice([state for state in (-1, 0, 1, 2, 3) if state != states[changed]])
    inks = {1: (20, 20, 220), 2: (20, 120, 20), 3: (210, 20, 20)}
    for place, state in enumerate(states):
        x, y = 6 + place % columns * cell, 6 + place // columns * cell
        canvas.rectangle([x, y, x + cell, y + cell], fill=(192,) * 3, outline=(130,) * 3, width=1)
        if state < 0:
            canvas.line([x + 1.5, y + cell - 2, x + 1.5, y + 1.5, x + cell - 2, y + 1.5], fill="white", width=2)
        elif state:
            canvas.text(x + cell / 2, y + cell / 2, str(state), cell * 0.7, inks[state], anchor="mm")
    return canvas.done()


def stamp(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A postage stamp of another value."""
    wide, tall = style.randint(180, 260), style.randint(220, 300)
    image = Image.new("RGB", (wide, tall), "white")
    image.paste(backdrop(style, wide - 24, tall - 24), (12, 12))
    pen = ImageDraw.Draw(image)
    for x in range(0, wide, 14):
        for y in (0, tall):
            pen.ellipse([x - 4, y - 4, x + 4, y + 4], fill=(60, 60, 60))
    ink = style.choice(["white", "black"])
    pen.text((22, tall - 50), style.choice(WORDS).upper(), ink, ImageFont.load_default(20))
    pen.text((wide - 22, 18), str(5 * (1 + number * 7 % 20)), ink, ImageFont.load_default(26), anchor="ra")
    return image


def crossing(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A photograph of a street whose small light is red, yellow or green."""
    width, height = style.randint(300, 440), style.randint(220, 320)
    image = backdrop(style, width, height)
    pen, x, y, r = ImageDraw.Draw(image), style.randint(40, width - 60), style.randint(30, height - 120), 6
    pen.rectangle([x - 2, y, x + 2, height], fill=(80, 80, 85))
    pen.rectangle([x - 10, y - 4, x + 10, y + 50], fill=(25, 25, 28))
    for lamp, lit in enumerate([(235, 50, 40), (240, 190, 50), (60, 210, 90)]):
        fill = lit if lamp == number % 3 else tuple(value // 5 + 15 for value in lit)
        pen.ellipse([x - r, y + lamp * 16, x + r, y + lamp * 16 + 2 * r], fill=fill)
    return image


def bar_labels(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Bars of which one stands for another year, or has another number at its end."""
    count, width = style.randint(5, 8), style.randint(320, 440)
    canvas, colour = Canvas(width, count * 30 + 30), hue(style, 40, 180)
    values, year = [style.randint(20, 99) for _ in range(count)], style.randint(1950, 2010)
    changed = own.randrange(count)
    for row, value in enumerate(values):
        y, own_year, shown = 20 + row * 30, year + row, value / 10
        if row == changed and number % 2:
            own_year += own.randint(10, 40)
        elif row == changed:
            shown = (value + own.randint(1, 9)) / 10
        canvas.text(12, y, str(own_year), 14)
        canvas.rectangle([64, y, 64 + (width - 130) * value / 100, y + 18], fill=colour)
        canvas.text(72 + (width - 130) * value / 100, y + 1, f"{shown:.1f}", 13)
    return canvas.done()


def bingo(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A card of bingo on which other numbers are marked."""
    cell = style.randint(38, 50)
    canvas, ink, mark = Canvas(5 * cell + 20, 6 * cell + 10, "white"), hue(style, 20, 150), hue(style, 150, 230)
    marked = set(style.sample(range(25), 7)) ^ {own.randrange(25)}
    for column, letter in enumerate("BINGO"):
        canvas.text(10 + (column + 0.5) * cell, cell * 0.5, letter, cell * 0.6, ink, anchor="mm")
        for row in range(5):
            x, y = 10 + column * cell, (row + 1) * cell
            canvas.rectangle([x, y, x + cell, y + cell], outline=ink, width=1.5)
            if row * 5 + column in marked:
                canvas.ellipse([x + 4, y + 4, x + cell - 4, y + cell - 4], fill=mark)
            value = column * 15 + style.randint(1, 15)
            canvas.text(x + cell / 2, y + cell / 2, str(value), cell * 0.42, anchor="mm")
    return canvas.done()


def warning(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A triangle that warns of something else."""
    side = style.randint(150, 260)
    canvas, m = Canvas(side, side, hue(style, 90, 230)), side / 2
    canvas.polygon([m, side * 0.06, side * 0.96, side * 0.9, side * 0.04, side * 0.9], fill=(200, 30, 35))
    canvas.polygon([m, side * 0.2, side * 0.84, side * 0.83, side * 0.16, side * 0.83], fill=(252, 250, 240))
    sign = number % 5
    if sign == 0:
        canvas.rectangle([m - side * 0.03, side * 0.42, m + side * 0.03, side * 0.66], fill="black")
        canvas.ellipse([m - side * 0.04, side * 0.7, m + side * 0.04, side * 0.78], fill="black")
    elif sign == 1:
        canvas.polygon([m + side * 0.04, side * 0.4, m - side * 0.09, side * 0.62, m - side * 0.01, side * 0.62,
                        m - side * 0.05, side * 0.79, m + side * 0.09, side * 0.57, m + side * 0.01, side * 0.57],
                       fill="black")  # fmt: skip
    elif sign == 2:
        canvas.ellipse([m - side * 0.1, side * 0.55, m + side * 0.1, side * 0.75], fill="black")
    elif sign == 3:
        for turn in (-1, 1):
            canvas.line([m - side * 0.1, side * (0.64 - 0.11 * turn), m + side * 0.1, side * (0.64 + 0.11 * turn)],
                        fill="black", width=side * 0.04)  # fmt: skip
    else:
        canvas.text(m, side * 0.63, style.choice("STOPAX"), side * 0.28, anchor="mm")
    return canvas.done()
