"""Charts, flags, maps and bars with other values or colours."""

import random

import numpy as np
from PIL import Image

from benchmarks.lookalikes.canvas import TWICE, WORDS, Canvas, hue


def chart(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """One bar chart in which a bar or two are of another height."""
    width, height, bars = style.randint(320, 520), style.randint(260, 360), style.randint(5, 9)
    canvas = Canvas(width, height)
    canvas.line([40, 20, 40, height - 40, width - 20, height - 40], fill="black", width=2)
    canvas.text(width / 2, 4, style.choice(WORDS).title(), 15, anchor="ma")
    step, colour = (width - 70) / bars, hue(style, 0, 200)
    heights = [style.uniform(0.2, 0.9) for _ in range(bars)]
    for bar in own.sample(range(bars), own.randint(1, 2)):
        heights[bar] = min(0.97, max(0.06, heights[bar] + own.choice([-0.28, -0.2, -0.12, 0.12, 0.2, 0.28])))
    for bar, share in enumerate(heights):
        left = 50 + bar * step
        canvas.rectangle([left, height - 40 - share * (height - 80), left + step * 0.7, height - 40], fill=colour)
        canvas.text(left + step * 0.35, height - 34, style.choice("ABCDEFGH"), 13, anchor="ma")
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
    canvas = Canvas(style.randint(300, 480), style.randint(70, 130), hue(style, 200))
    width, height = (side // TWICE for side in canvas.image.size)
    share = 0.05 + 0.9 * ((number * 7) % 24) / 24
    canvas.rectangle([20, height * 0.35, width - 20, height * 0.65], outline=(90, 90, 90), width=2)
    canvas.rectangle([22, height * 0.37, 22 + (width - 44) * share, height * 0.63], fill=hue(style, 20, 160))
    return canvas.done()


def map_(style: random.Random, own: random.Random, number: int) -> Image.Image:
    """A map of regions, a few of them coloured otherwise, the marker elsewhere."""
    width, height, regions = 360, 260, 14
    points = np.array([(style.uniform(0, width), style.uniform(0, height)) for _ in range(regions)])
    grid = np.stack(np.meshgrid(np.arange(width * 2) / 2, np.arange(height * 2) / 2), axis=-1)
    nearest = ((grid[:, :, None, :] - points) ** 2).sum(-1).argmin(-1)
    palette = np.array([hue(style, 150, 250)])
    while len(palette) < 5:  # colours that can be told apart
        colour = np.array(hue(style, 150, 250))
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
