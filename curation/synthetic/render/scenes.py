"""Scenes: one to three groups of like-coloured shapes, counted and placed, on a plain or shaded background.

The vocabulary is small (eight colours, six shapes, one to five of each, five places) and nothing overlaps, so that
even a tiny model can learn to see what a caption says.
"""

import itertools
import math
import random
from dataclasses import dataclass
from typing import Any, Final

from mmcorpus.curation.synthetic.render.canvas import BRIGHT, Canvas, Color, blend, jittered
from mmcorpus.curation.synthetic.render.rendered import Drawing, Point, make_point
from mmcorpus.curation.synthetic.render.spoken import Thing, transcripts
from mmcorpus.curation.synthetic.render.words import counted, listed, number, plural, sentence

SHAPES: Final = ("circle", "square", "triangle", "star", "diamond", "cross")
PLACES: Final[dict[str, tuple[float, float, float, float]]] = {
    "left": (0.0, 0.0, 0.46, 1.0),
    "right": (0.54, 0.0, 1.0, 1.0),
    "top": (0.0, 0.0, 1.0, 0.46),
    "bottom": (0.0, 0.54, 1.0, 1.0),
    "center": (0.2, 0.2, 0.8, 0.8),
}
"""Each place as shares of the picture: left, top, right, bottom."""
_THIRDS_ACROSS: Final = {
    "left": (0.0, 0.0, 0.32, 1.0),
    "center": (0.35, 0.0, 0.65, 1.0),
    "right": (0.68, 0.0, 1.0, 1.0),
}
_THIRDS_DOWN: Final = {"top": (0.0, 0.0, 1.0, 0.32), "center": (0.0, 0.35, 1.0, 0.65), "bottom": (0.0, 0.68, 1.0, 1.0)}
WHERE: Final = {
    "left": "on the left",
    "right": "on the right",
    "top": "at the top",
    "bottom": "at the bottom",
    "center": "in the center",
}
_OUTLINES: Final[dict[str, tuple[tuple[float, float], ...]]] = {
    "square": ((-0.82, -0.82), (0.82, -0.82), (0.82, 0.82), (-0.82, 0.82)),
    "diamond": ((0, -1), (0.62, 0), (0, 1), (-0.62, 0)),
    "triangle": ((0, -0.9), (0.95, 0.78), (-0.95, 0.78)),
    "cross": (
        (-0.32, -0.92), (0.32, -0.92), (0.32, -0.32), (0.92, -0.32), (0.92, 0.32), (0.32, 0.32),
        (0.32, 0.92), (-0.32, 0.92), (-0.32, 0.32), (-0.92, 0.32), (-0.92, -0.32), (-0.32, -0.32),
    ),
}  # fmt: skip
"""Corners about the centre, in radii."""
_BACKGROUNDS: Final = ("white", "white", "gray", "beige", "black")


@dataclass(frozen=True, kw_only=True, slots=True)
class Group:
    """Like shapes in one place."""

    count: int
    color: str
    shape: str
    place: str
    box: tuple[float, float, float, float]

    @property
    def phrase(self) -> str:
        """`three red circles`."""
        return counted(self.count, self.color, self.shape)

    @property
    def noun(self) -> str:
        """`circles`."""
        return self.shape if self.count == 1 else plural(self.shape)

    @property
    def label(self) -> str:
        """`red circles`."""
        return f"{self.color} {self.noun}"

    @property
    def verb(self) -> str:
        return "is" if self.count == 1 else "are"


def draw_scene(rng: random.Random, size: tuple[int, int]) -> Drawing:
    """A scene."""
    background = rng.choice(_BACKGROUNDS)
    shaded = rng.random() < 0.35
    groups = _draw_groups(rng, background, size)

    base = jittered(rng, background, 4)
    canvas = Canvas(size, base)
    if shaded:
        other = blend(base, (255, 255, 255) if background == "black" else (0, 0, 0), 0.14)
        ends = (base, other) if rng.random() < 0.5 else (other, base)
        canvas.gradient(*ends, vertical=rng.random() < 0.5)
    outlined = rng.random() < 0.3
    absent = _absent(rng, groups)
    points: list[Point] = []
    placed: list[dict[str, object]] = []
    for group in groups:
        fill = jittered(rng, group.color)
        outline = blend(fill, (0, 0, 0), 0.35) if outlined and group.color != "black" else None
        centers = []
        for x, y, radius in _arrange(rng, group, size):
            _shape(canvas, group.shape, (x, y), radius, fill, outline)
            points.append(make_point(group.label, x, y, size))
            centers.append([round(x, 1), round(y, 1)])
        placed.append(
            {"count": group.count, "color": group.color, "shape": group.shape, "place": group.place,
             "rgb": list(fill), "centers": centers}
        )  # fmt: skip
    captions = _captions(rng, groups, background, shaded)
    facts = {"background": background, "shaded": shaded, "groups": placed, "absent": absent}
    return Drawing(canvas.finish(), captions, _questions(rng, groups, background, absent), points, facts)


def _draw_groups(rng: random.Random, background: str, size: tuple[int, int]) -> list[Group]:
    number_of_groups = rng.choices((1, 2, 3), (35, 45, 20))[0]
    aspect = size[0] / size[1]
    across = aspect > 1.3 or (aspect > 0.77 and rng.random() < 0.5)
    if number_of_groups == 1:
        place = rng.choice(tuple(PLACES))
        boxes = {place: PLACES[place]}
    elif number_of_groups == 2:
        boxes = {place: PLACES[place] for place in (("left", "right") if across else ("top", "bottom"))}
    else:
        boxes = _THIRDS_ACROSS if across else _THIRDS_DOWN
    colors = rng.sample([color for color in BRIGHT if color != background], number_of_groups)
    return [
        Group(count=rng.choices((1, 2, 3, 4, 5), (30, 25, 20, 15, 10))[0], color=color, shape=rng.choice(SHAPES),
              place=place, box=box)
        for color, (place, box) in zip(colors, boxes.items(), strict=True)
    ]  # fmt: skip


def _arrange(rng: random.Random, group: Group, size: tuple[int, int]) -> list[tuple[float, float, float]]:
    """Centre and radius in pixels of each shape of a group: one a cell of the grid with the largest cells."""
    left, top, right, bottom = (share * side for share, side in zip(group.box, size * 2, strict=True))
    width, height = right - left, bottom - top
    columns = max(range(1, group.count + 1), key=lambda n: min(width / n, height / math.ceil(group.count / n)))
    rows = math.ceil(group.count / columns)
    cell_width, cell_height = width / columns, height / rows
    largest = 0.44 * min(cell_width, cell_height)
    # A very long place would strew a few shapes thinly; its cells draw together around a point within it.
    cell_width, cell_height = min(cell_width, 3.2 * largest), min(cell_height, 3.2 * largest)
    left += rng.random() * (width - cell_width * columns)
    top += rng.random() * (height - cell_height * rows)
    cells = rng.sample(list(itertools.product(range(columns), range(rows))), group.count)
    shapes = []
    for column, row in cells:
        radius = largest * rng.uniform(0.72, 1.0)
        slack_x, slack_y = cell_width / 2 - radius * 1.08, cell_height / 2 - radius * 1.08
        x = left + (column + 0.5) * cell_width + rng.uniform(-slack_x, slack_x)
        y = top + (row + 0.5) * cell_height + rng.uniform(-slack_y, slack_y)
        shapes.append((x, y, radius))
    return shapes


def _shape(
    canvas: Canvas, shape: str, center: tuple[float, float], radius: float, fill: Color, outline: Color | None
) -> None:
    x, y = center
    width = max(1.0, radius * 0.07)
    if shape == "circle":
        canvas.ellipse(center, radius * 0.95, fill, outline=outline, width=width)
        return
    if shape == "star":
        tips = [(radius * (1.0 if step % 2 == 0 else 0.42), math.pi * step / 5) for step in range(10)]
        corners = [(length * math.sin(angle), -length * math.cos(angle)) for length, angle in tips]
    else:
        corners = [(radius * across, radius * down) for across, down in _OUTLINES[shape]]
    canvas.polygon([(x + dx, y + dy) for dx, dy in corners], fill, outline=outline, width=width)


def _captions(rng: random.Random, groups: list[Group], background: str, shaded: bool) -> list[str]:
    placed = listed([f"{group.phrase} {WHERE[group.place]}" for group in groups])
    total = sum(group.count for group in groups)
    shapes = "one shape" if total == 1 else f"{number(total)} shapes"
    ground = f"a {'shaded ' if shaded else ''}{background} background"
    opening = [f"{WHERE[group.place]} {group.verb} {group.phrase}" for group in rng.sample(groups, len(groups))]
    return [
        sentence(listed([group.phrase for group in groups])),
        sentence(placed),
        sentence(listed(opening)),
        sentence(f"{placed}, on {ground}"),
        sentence(f"a picture of {shapes} on {ground}: {placed}"),
    ]


def scene_transcripts(rng: random.Random, facts: dict[str, Any]) -> list[str]:
    """What three speakers say of a scene with these facts."""
    things = [
        Thing(group["count"], group["color"], group["shape"], WHERE[group["place"]])
        for group in sorted(facts["groups"], key=lambda group: -group["count"])
    ]
    return transcripts(rng, things, ("shaded " if facts["shaded"] else "") + facts["background"])


def _questions(
    rng: random.Random, groups: list[Group], background: str, absent: dict[str, str]
) -> list[tuple[str, str]]:
    asked = rng.choice(groups)
    questions = [
        (f"How many {asked.color} {plural(asked.shape)} are there?", str(asked.count)),
        (f"Where {asked.verb} the {asked.label}?", WHERE[asked.place]),
    ]
    shape = rng.choice(groups)
    if sum(group.shape == shape.shape for group in groups) == 1:
        questions.append((f"What color {shape.verb} the {shape.noun}?", shape.color))
    questions.append((f"What shape is {asked.color}?", asked.shape))
    present = rng.choice(groups)
    yes = rng.random() < 0.5
    color, thing = (present.color, present.shape) if yes else (absent["color"], absent["shape"])
    questions.append((f"Is there {counted(1, color, thing)}?", "yes" if yes else "no"))
    questions.append(("How many shapes are there?", str(sum(group.count for group in groups))))
    questions.append(("What color is the background?", background))
    return questions


def _absent(rng: random.Random, groups: list[Group]) -> dict[str, str]:
    """A colour and shape that no group has together."""
    present = {(group.color, group.shape) for group in groups}
    color, shape = rng.choice([pair for pair in itertools.product(BRIGHT, SHAPES) if pair not in present])
    return {"color": color, "shape": shape}
