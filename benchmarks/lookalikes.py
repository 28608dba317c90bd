"""Different pictures that look alike: of each kind, groups of one layout whose members differ in a part that matters.

    for picture in lookalikes("form", group=0, members=6): ...

Every picture follows from its kind, group and number alone. Drawn at twice the size and averaged, as drawings come.
"""

import calendar
import math
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
_TWICE: Final = 2


def font(size: float) -> Any:
    """Pillow's own font, of so many pixels of the finished picture."""
    return ImageFont.load_default(size * _TWICE)


class Canvas:
    """A canvas whose coordinates are those of the finished picture."""

    def __init__(self, width: int, height: int, colour: Any = "white") -> None:
        self.image = Image.new("RGB", (width * _TWICE, height * _TWICE), colour)
        self._pen = ImageDraw.Draw(self.image)

    def __getattr__(self, name: str) -> Callable[..., None]:
        """`line`, `rectangle`, `ellipse`, `polygon`, `pieslice`, `arc` of ImageDraw, coordinates as a flat list."""
        draw = getattr(self._pen, name)

        def drawn(where: Any, *arguments: Any, width: float | None = None, **options: Any) -> None:
            if width is not None:
                options["width"] = max(1, round(width * _TWICE))
            draw([value * _TWICE for value in where], *arguments, **options)

        return drawn

    def text(self, x: float, y: float, text: str, size: float, fill: Any = "black", **options: Any) -> None:
        self._pen.text((x * _TWICE, y * _TWICE), text, fill=fill, font=font(size), **options)

    def done(self) -> Image.Image:
        width, height = self.image.size
        return self.image.resize((width // _TWICE, height // _TWICE), Image.Resampling.BOX)


def _hue(rng: random.Random, low: int = 0, high: int = 255) -> tuple[int, int, int]:
    return rng.randint(low, high), rng.randint(low, high), rng.randint(low, high)


def _backdrop(rng: random.Random, width: int, height: int) -> Image.Image:
    """A smooth, coloured surface with some texture, as of a photograph."""
    noise = np.random.default_rng(rng.getrandbits(32))
    coarse = Image.fromarray(noise.integers(20, 235, (6, 8, 3), np.uint8)).resize((width, height), 3)
    pixels = np.asarray(coarse, np.float32)
    fine = np.asarray(
        Image.fromarray(noise.integers(0, 255, (height // 3, width // 3), np.uint8)).resize((width, height), 3)
    )
    return Image.fromarray(np.clip(pixels + (fine[..., None].astype(np.float32) - 128) * 0.12, 0, 255).astype(np.uint8))


def clock(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """One dial at other times."""
    side, face, rim = style.randint(220, 420), _hue(style, 190), _hue(style, 0, 120)
    canvas = Canvas(side, side, _hue(style, 150))
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


def chart(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """One bar chart in which a bar or two are of another height."""
    width, height, bars = style.randint(320, 520), style.randint(260, 360), style.randint(5, 9)
    canvas = Canvas(width, height)
    canvas.line([40, 20, 40, height - 40, width - 20, height - 40], fill="black", width=2)
    canvas.text(width / 2, 4, style.choice(WORDS).title(), 15, anchor="ma")
    step, colour = (width - 70) / bars, _hue(style, 0, 200)
    heights = [style.uniform(0.2, 0.9) for _ in range(bars)]
    for bar in own.sample(range(bars), own.randint(1, 2)):
        heights[bar] = min(0.97, max(0.06, heights[bar] + own.choice([-1, 1]) * own.uniform(0.08, 0.3)))
    for bar, share in enumerate(heights):
        left = 50 + bar * step
        canvas.rectangle([left, height - 40 - share * (height - 80), left + step * 0.7, height - 40], fill=colour)
        canvas.text(left + step * 0.35, height - 34, style.choice("ABCDEFGH"), 13, anchor="ma")
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


def traffic(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A traffic light, another lamp lit."""
    width, height = style.randint(120, 200), style.randint(280, 420)
    canvas = Canvas(width, height, _hue(style, 130))
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


def slide(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """One template with another title or point."""
    canvas = Canvas(560, 320, _hue(style, 0, 90))
    canvas.rectangle([0, 270, 560, 320], fill=_hue(style, 150))
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


def flag(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Three stripes of other colours."""
    canvas = Canvas(300, 200)
    palette = [
        (0, 85, 164),
        (255, 255, 255),
        (206, 17, 38),
        (0, 140, 69),
        (252, 209, 22),
        (255, 136, 62),
        (20, 20, 20),
        (110, 30, 120),
        (120, 190, 235),
    ]
    colours = [own.choice(palette) for _ in range(3)]
    upright = style.random() < 0.5
    for stripe, colour in enumerate(colours):
        canvas.rectangle(
            [stripe * 100, 0, stripe * 100 + 100, 200] if upright else [0, stripe * 67, 300, stripe * 67 + 67],
            fill=colour,
        )
    return canvas.done()


def progress(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A bar that has come further."""
    canvas = Canvas(style.randint(300, 480), style.randint(70, 130), _hue(style, 200))
    width, height = (side // _TWICE for side in canvas.image.size)
    share = 0.05 + 0.9 * ((number * 7) % 24) / 24
    canvas.rectangle([20, height * 0.35, width - 20, height * 0.65], outline=(90, 90, 90), width=2)
    canvas.rectangle([22, height * 0.37, 22 + (width - 44) * share, height * 0.63], fill=_hue(style, 20, 160))
    return canvas.done()


def dice(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Two dice, other eyes."""
    canvas = Canvas(320, 180, _hue(style, 60, 200))
    ink, body = style.choice([((20, 20, 20), (245, 245, 240)), ((250, 250, 250), (180, 20, 30))])
    for die, eyes in enumerate((number % 6 + 1, number // 6 % 6 + 1)):
        left = 30 + die * 140
        canvas.rounded_rectangle([left, 30, left + 120, 150], 16 * _TWICE, fill=body, outline=(60, 60, 60), width=2)
        places = {1: [4], 2: [0, 8], 3: [0, 4, 8], 4: [0, 2, 6, 8], 5: [0, 2, 4, 6, 8], 6: [0, 2, 3, 5, 6, 8]}[eyes]
        for place in places:
            x, y = left + 28 + 32 * (place % 3), 58 + 32 * (place // 3)
            canvas.ellipse([x - 10, y - 10, x + 10, y + 10], fill=ink)
    return canvas.done()


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
    canvas = Canvas(width, height, _hue(style, 40, 200))
    canvas.rounded_rectangle(
        [8, 8, width - 8, height - 8], 14 * _TWICE, fill=(252, 252, 250), outline=(80, 80, 80), width=1.5
    )
    suit, pips = number % 4, 2 + number // 4 % 6
    for x, y in _PIPS[pips]:
        _suit(canvas, suit, 8 + x * (width - 16), 8 + y * (height - 16), 17)
    canvas.text(20, 16, str(pips), 24, (200, 20, 30) if suit < 2 else (15, 15, 20))
    return canvas.done()


def moon(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Phases of the moon."""
    side = style.randint(180, 320)
    sky, light, dark = _hue(style, 0, 50), _hue(style, 200, 250), _hue(style, 40, 80)
    grid = (np.arange(side * _TWICE) + 0.5) / (side * _TWICE) * 2 - 1
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


def meme(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """One picture, other texts."""
    width, height = style.randint(280, 420), style.randint(220, 340)
    image = _backdrop(style, width, height)
    ImageDraw.Draw(image).ellipse([width * 0.3, height * 0.2, width * 0.7, height * 0.8], fill=_hue(style))
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


def chess(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A position after one more move."""
    cell = style.randint(34, 44)
    canvas = Canvas(cell * 8, cell * 8)
    light, dark = _hue(style, 200, 245), _hue(style, 90, 160)
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


def month(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """Sheets of a calendar."""
    canvas = Canvas(340, 270)
    year, which = 2020 + number // 12, number % 12 + 1
    canvas.rectangle([0, 0, 340, 44], fill=_hue(style, 20, 150))
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


def map_(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A map of regions, a few of them coloured otherwise, the marker elsewhere."""
    width, height, regions = 360, 260, 14
    points = np.array([(style.uniform(0, width), style.uniform(0, height)) for _ in range(regions)])
    grid = np.stack(np.meshgrid(np.arange(width * 2) / 2, np.arange(height * 2) / 2), axis=-1)
    nearest = ((grid[:, :, None, :] - points) ** 2).sum(-1).argmin(-1)
    palette = np.array([_hue(style, 150, 250)])
    while len(palette) < 5:  # colours that can be told apart
        colour = np.array(_hue(style, 150, 250))
        if np.abs(palette - colour).max(axis=1).min() >= 40:
            palette = np.vstack([palette, colour])
    colours = [style.randrange(5) for _ in range(regions)]
    for region in own.sample(range(regions), 2):
        colours[region] = (colours[region] + own.randint(1, 4)) % 5
    pixels = palette[np.array(colours)[nearest]].astype(np.uint8)
    edge = np.zeros(nearest.shape, bool)
    edge[1:] |= nearest[1:] != nearest[:-1]
    edge[:, 1:] |= nearest[:, 1:] != nearest[:, :-1]
    pixels[edge] = 60
    return Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)


TUNED: Final[dict[str, Callable[[random.Random, random.Random, int], Image.Image]]] = {
    "clock": clock, "form": form, "chart": chart, "equation": equation, "traffic light": traffic, "QR code": qr,
    "slide": slide, "flag": flag, "progress bar": progress, "dice": dice, "barcode": barcode,
    "screenshot": screenshot,
}  # fmt: skip
"""The kinds by which the thresholds of `curation.dedup.same_picture` were chosen."""
HELD_OUT: Final[dict[str, Callable[[random.Random, random.Random, int], Image.Image]]] = {
    "card": card, "moon": moon, "meme": meme, "chess": chess, "calendar": month, "map": map_,
}  # fmt: skip
"""Kinds that were looked at only once the thresholds stood."""
KINDS: Final = TUNED | HELD_OUT


def lookalikes(kind: str, group: int, members: int) -> list[Image.Image]:
    """Pictures of one layout that differ, equal ones left out."""
    pictures: dict[bytes, Image.Image] = {}
    for number in range(members):
        image = KINDS[kind](random.Random(f"{kind} {group}"), random.Random(f"{kind} {group} {number}"), number)
        pictures.setdefault(image.tobytes(), image)
    return list(pictures.values())
