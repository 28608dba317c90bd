"""Pages, screens and codes in which some writing differs."""

import calendar
import random

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from benchmarks.lookalikes.canvas import WORDS, Canvas, backdrop, hue


def form(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """One form with other numbers."""
    width, rows = style.randint(400, 560), style.randint(8, 12)
    canvas = Canvas(width, rows * 50 + 60)
    size = style.choice([14, 16, 18])
    changed = own.sample(range(rows), own.randint(1, 3))
    for row in range(rows):
        canvas.rectangle([30, 30 + row * 50, width - 30, 70 + row * 50], outline="black", width=1.5)
        canvas.text(40, 40 + row * 50, f"{style.choice(WORDS).title()}:", size)
        value = style.randint(1000, 99999)
        if row in changed:
            value += own.choice([1, 3, 20, 400]) * (number + 1)
        canvas.text(width * 0.45, 40 + row * 50, str(value), size, "navy")
    return canvas.done()


def equation(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Sums of one form with other digits."""
    sign = style.choice("+−×")
    first, second = style.randint(2, 9), own.randint(2, 9)
    result = {"+": first + second, "−": first - second, "×": first * second}[sign]
    canvas = Canvas(style.randint(260, 360), 84, style.choice(["white", (250, 248, 235), (30, 60, 50)]))
    ink = "white" if style.random() < 0.3 and canvas.image.getpixel((0, 0))[0] < 100 else "black"
    canvas.text(20, 20, f"{first} {sign} {second} = {result}", 36, ink)
    return canvas.done()


def slide(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """One template with another title or point."""
    canvas = Canvas(560, 320, hue(style, 0, 90))
    canvas.rectangle([0, 270, 560, 320], fill=hue(style, 150))
    points = [" ".join(style.choice(WORDS) for _ in range(3)) for _ in range(3)]
    title = " ".join(style.choice(WORDS) for _ in range(2))
    if number % 2:
        title = " ".join(own.choice(WORDS) for _ in range(2))
    else:
        points[own.randrange(3)] = " ".join(own.choice(WORDS) for _ in range(3))
    canvas.text(40, 40, title.title(), 36, "white")
    for row, point in enumerate(points):
        canvas.text(60, 110 + 45 * row, f"- {point}", 20, "white")
    return canvas.done()


def screenshot(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A window with another row selected, name or checkbox."""
    canvas = Canvas(480, 340, (236, 238, 240))
    canvas.rectangle([0, 0, 480, 28], fill=(60, 70, 90))
    canvas.text(10, 6, style.choice(WORDS).title(), 14, "white")
    rows = [f"{style.choice(WORDS)}_{style.randint(1, 99)}.txt" for _ in range(9)]
    sizes = [style.randint(1, 9999) for _ in rows]
    ticked = [style.random() < 0.5 for _ in rows]
    change, row = own.randrange(3), own.randrange(9)
    if change == 0:
        rows[row] = f"{own.choice(WORDS)}_{own.randint(1, 99)}.txt"
    elif change == 1:
        sizes[row] = (sizes[row] * 7 + number * 131 + 1) % 9999
    else:
        for each in own.sample(range(9), 2):
            ticked[each] = not ticked[each]
    for place, (name, size, tick) in enumerate(zip(rows, sizes, ticked, strict=True)):
        y = 40 + place * 32
        canvas.rectangle([14, y, 30, y + 16], outline=(80, 80, 80), width=1.5, fill="white")
        if tick:
            canvas.line([17, y + 8, 21, y + 13, 28, y + 3], fill=(20, 110, 60), width=2.5)
        canvas.text(46, y, name, 14, (30, 30, 30))
        canvas.text(440, y, f"{size} kB", 14, (90, 90, 90), anchor="ra")
    return canvas.done()


def month(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Sheets of a calendar."""
    canvas = Canvas(340, 270)
    year, which = 2020 + number // 12, number % 12 + 1
    canvas.rectangle([0, 0, 340, 44], fill=hue(style, 20, 150))
    canvas.text(170, 10, f"{calendar.month_name[which]} {year}", 22, "white", anchor="ma")
    for row, week in enumerate(calendar.monthcalendar(year, which)):
        for column, day in enumerate(week):
            if day:
                canvas.text(
                    40 + column * 44,
                    66 + row * 33,
                    str(day),
                    15,
                    (190, 20, 20) if column == 6 else "black",
                    anchor="mm",
                )
    return canvas.done()


def meme(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """One picture, other texts."""
    width, height = style.randint(280, 420), style.randint(220, 340)
    image = backdrop(style, width, height)
    ImageDraw.Draw(image).ellipse([width * 0.3, height * 0.2, width * 0.7, height * 0.8], fill=hue(style))
    pen, size = ImageDraw.Draw(image), style.randint(18, 28)
    top = " ".join(style.choice(WORDS) for _ in range(2))
    bottom = " ".join(own.choice(WORDS) for _ in range(2))
    for y, text in ((6, top), (height - size - 14, bottom)):
        pen.text(
            (width / 2, y),
            text.upper(),
            fill="white",
            stroke_width=2,
            stroke_fill="black",
            font=ImageFont.load_default(size),
            anchor="ma",
        )
    return image


def qr(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Matrix codes of one size."""
    modules = 29
    cells = np.random.default_rng(own.getrandbits(32)).random((modules, modules)) > 0.5
    for y, x in ((0, 0), (0, modules - 7), (modules - 7, 0)):
        cells[max(0, y - 1) : y + 8, max(0, x - 1) : x + 8] = True
        cells[y : y + 7, x : x + 7] = False
        cells[y + 1 : y + 6, x + 1 : x + 6] = True
        cells[y + 2 : y + 5, x + 2 : x + 5] = False
    return (
        Image.fromarray((np.pad(cells, 2, constant_values=True) * 255).astype(np.uint8))
        .resize((297, 297), 0)
        .convert("RGB")
    )


def barcode(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Codes that share most of their digits."""
    digits = [style.randrange(10) for _ in range(12)]
    for place in own.sample(range(6, 12), own.randint(1, 3)):
        digits[place] = (digits[place] + own.randint(1, 9)) % 10
    canvas = Canvas(340, 190)
    x = 24.0
    for digit in digits:
        code = random.Random(digit)
        for bar in range(4):
            width = code.choice([2, 2, 4, 6])
            if bar % 2 == 0:
                canvas.rectangle([x, 20, x + width, 140], fill="black")
            x += width + 2
    canvas.text(170, 150, "".join(map(str, digits)), 20, anchor="ma")
    return canvas.done()
