"""A picture laid on something: a document on a desk, a chart in a margin; all of it in a size that was asked for."""

import random
from collections.abc import Sequence
from typing import Final

from PIL import Image, ImageFilter

from mmcorpus.curation.synthetic.render.canvas import COLORS, Color, blend, jittered
from mmcorpus.curation.synthetic.render.engines import Mark
from mmcorpus.curation.synthetic.render.rendered import Drawing, Point
from mmcorpus.curation.synthetic.render.words import article

_GROUNDS: Final = ("brown", "gray", "beige", "black", "blue", "green", "red", "orange", "purple")


def laid(
    rng: random.Random, picture: Image.Image, marks: Sequence[Mark], *, desk: bool
) -> tuple[Image.Image, list[Mark], str]:
    """The picture as it is, or on a desk with a shadow; the marks in it, and what it lies on (`a brown ground`)."""
    if not desk:
        return picture, list(marks), ""
    name = rng.choice(_GROUNDS)
    color = jittered(rng, name, 20)
    left, top, right, bottom = (round(rng.uniform(0.02, 0.22) * min(picture.size)) for _ in range(4))
    size = (picture.width + left + right, picture.height + top + bottom)
    ground = _ground(rng, size, color)
    reach = max(2, min(size) // 90)
    shadow = Image.new("L", size)
    shadow.paste(150, (left + reach, top + reach, left + picture.width + reach, top + picture.height + reach))
    ground.paste(blend(color, (0, 0, 0), 0.75), (0, 0, *size), shadow.filter(ImageFilter.BoxBlur(reach)))
    ground.paste(picture, (left, top))
    moved = [Mark(m.name, m.left + left, m.top + top, m.right + left, m.bottom + top) for m in marks]
    return ground, moved, f"{article(name)} ground"


def _ground(rng: random.Random, size: tuple[int, int], color: Color) -> Image.Image:
    """A desk: one colour, lighter towards one side."""
    other = blend(color, (255, 255, 255) if rng.random() < 0.5 else (0, 0, 0), rng.uniform(0.05, 0.35))
    ramp = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270))).resize(size)
    return Image.composite(Image.new("RGB", size, color), Image.new("RGB", size, other), ramp)


def fitted(drawing: Drawing, size: tuple[int, int], ground: Color = COLORS["gray"]) -> Drawing:
    """The drawing scaled into `size` (width, height), in the middle of a ground; points go with it."""
    picture = drawing.image
    scale = min(size[0] / picture.width, size[1] / picture.height)
    width, height = max(1, round(picture.width * scale)), max(1, round(picture.height * scale))
    left, top = (size[0] - width) // 2, (size[1] - height) // 2
    whole = Image.new("RGB", size, ground)
    whole.paste(picture.resize((width, height), Image.Resampling.LANCZOS), (left, top))

    def moved(point: Point) -> Point:
        x, y = (left + point.x / 100 * width) / size[0], (top + point.y / 100 * height) / size[1]
        return Point(point.label, round(100 * x, 1), round(100 * y, 1))

    return drawing._replace(image=whole, points=[moved(point) for point in drawing.points])
