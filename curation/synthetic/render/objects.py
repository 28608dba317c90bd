"""Many things of several kinds to count and to point at: strewn, in rows, rings or heaps, every one with its point.

After PixMo-Points, PixMo-Count and PixMo-Cap (Molmo, §3): counts up to some forty, expressions with nothing to point
at, explanations that point, dense captions, and transcripts of several speakers.
"""

import itertools
import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from mmcorpus.curation.synthetic.render.canvas import BRIGHT, Canvas, Color, blend, jittered
from mmcorpus.curation.synthetic.render.conversations import counting_answer, pointing_answer
from mmcorpus.curation.synthetic.render.rendered import Drawing, Point, make_point
from mmcorpus.curation.synthetic.render.spoken import Thing, transcripts
from mmcorpus.curation.synthetic.render.sprites import ANCHORS, SPRITES, draw_sprite
from mmcorpus.curation.synthetic.render.words import article, counted, listed, number, plural, sentence

_BACKGROUNDS: Final = ("white", "white", "gray", "beige", "black")
_LAYOUTS: Final = ("strewn", "strewn", "rows", "ring", "heaps")
_ARRANGED: Final = {
    "strewn": "strewn over the picture",
    "rows": "in rows",
    "ring": "in a ring",
    "heaps": "each kind in a place of its own",
}
_COUNTS: Final = (
    (1, 18),
    (2, 15),
    (3, 14),
    (4, 12),
    (5, 10),
    (6, 8),
    (7, 6),
    (8, 5),
    (10, 4),
    (12, 3),
    (16, 3),
    (24, 2),
)
_MOST: Final = 48


@dataclass(kw_only=True, slots=True)
class _Kind:
    """Things of one colour and shape, and where each of them is, in pixels."""

    color: str
    shape: str
    count: int
    rgb: Color
    places: list[tuple[float, float, float]]
    """x, y and radius."""

    @property
    def noun(self) -> str:
        return self.shape if self.count == 1 else plural(self.shape)

    @property
    def label(self) -> str:
        """`red stars`."""
        return f"{self.color} {self.noun}"

    @property
    def phrase(self) -> str:
        """`three red stars`."""
        return counted(self.count, self.color, self.shape)


def draw_objects(rng: random.Random, size: tuple[int, int]) -> Drawing:
    """Things strewn over a ground."""
    background = rng.choice(_BACKGROUNDS)
    ground = jittered(rng, background, 6)
    canvas = Canvas(size, ground)
    shaded = rng.random() < 0.3
    if shaded:
        canvas.gradient(ground, blend(ground, (128, 128, 128), 0.22), vertical=rng.random() < 0.5)
    kinds = _draw_kinds(rng, background)
    layout = rng.choice(_LAYOUTS) if sum(kind.count for kind in kinds) > 3 else "strewn"
    if layout == "heaps" and len(kinds) == 1:
        layout = "strewn"
    _place(rng, kinds, layout, size)
    for kind in kinds:
        for x, y, radius in kind.places:
            draw_sprite(canvas, kind.shape, (x, y), radius, kind.rgb, ground)
    points = [_point(kind, place, size) for kind in kinds for place in kind.places]
    points.sort(key=lambda point: (point.y, point.x))
    absent = _absent(rng, kinds)
    where = {kind.label: _where(kind, size, alone=len(kinds) == 1) for kind in kinds}
    ground_said = f"shaded {background}" if shaded else background
    asides = _asides(kinds, size)
    things = [Thing(kind.count, kind.color, kind.shape, where[kind.label]) for kind in kinds]
    facts = {
        "background": background, "shaded": shaded, "layout": layout, "absent": absent,
        "kinds": [
            {"count": kind.count, "color": kind.color, "shape": kind.shape, "where": where[kind.label],
             "places": [[round(x, 1), round(y, 1), round(radius, 1)] for x, y, radius in kind.places]}
            for kind in kinds
        ],
    }  # fmt: skip
    return Drawing(
        image=canvas.finish(),
        captions=_captions(kinds, where, asides, ground_said, layout),
        qa=_questions(rng, kinds, absent, background),
        points=points,
        facts=facts,
        transcripts=transcripts(rng, things, ground_said, asides),
        explained=_explained(rng, kinds, points, absent, size),
    )


def _draw_kinds(rng: random.Random, background: str) -> list[_Kind]:
    """One to five kinds, the most numerous first; no two alike in colour and shape."""
    pairs = [(color, shape) for color in BRIGHT if color != background for shape in SPRITES]
    chosen = rng.sample(pairs, rng.choices((1, 2, 3, 4, 5), (12, 28, 30, 20, 10))[0])
    if len(chosen) > 1 and rng.random() < 0.4:  # the same shape in another colour, or another shape in the same
        color, shape = chosen[0]
        twin = (chosen[1][0], shape) if rng.random() < 0.5 else (color, chosen[1][1])
        if twin not in chosen:
            chosen[1] = twin
    counts = [rng.choices([n for n, _ in _COUNTS], [weight for _, weight in _COUNTS])[0] for _ in chosen]
    counts = [count + rng.randint(0, 3) if count > 8 else count for count in counts]
    while sum(counts) > _MOST:
        counts[counts.index(max(counts))] //= 2
    kinds = [
        _Kind(color=color, shape=shape, count=count, rgb=jittered(rng, color, 14), places=[])
        for (color, shape), count in zip(chosen, counts, strict=True)
    ]
    return sorted(kinds, key=lambda kind: -kind.count)


def _place(rng: random.Random, kinds: Sequence[_Kind], layout: str, size: tuple[int, int]) -> None:
    """Gives each thing its place; none touches another or the edge."""
    whole = (0.02 * size[0], 0.02 * size[1], 0.98 * size[0], 0.98 * size[1])
    everything = [kind for kind in kinds for _ in range(kind.count)]
    if layout == "ring":
        rng.shuffle(everything)
        _ring(rng, everything, size)
    elif layout == "heaps":
        across = size[0] >= size[1]
        shares = list(itertools.accumulate((kind.count**0.5 for kind in kinds), initial=0.0))
        for kind, start, end in zip(kinds, shares, shares[1:], strict=False):
            low, high = start / shares[-1], end / shares[-1]
            left, top, right, bottom = whole
            box = (left + low * (right - left), top, left + high * (right - left), bottom)
            if not across:
                box = (left, top + low * (bottom - top), right, top + high * (bottom - top))
            _grid(rng, [kind] * kind.count, box, loose=0.9, spare=0.2)
    elif layout == "rows":
        _grid(rng, everything, whole, loose=0.0, spare=0.0)
    else:
        rng.shuffle(everything)
        _grid(rng, everything, whole, loose=1.0, spare=rng.uniform(0.2, 1.2))


def _grid(
    rng: random.Random, things: Sequence[_Kind], box: tuple[float, float, float, float], *, loose: float, spare: float
) -> None:
    """One thing a cell of a grid that has `spare` cells more, in share of the things; `loose` ones leave the middle."""
    left, top, right, bottom = box
    width, height = right - left, bottom - top
    wanted = math.ceil(len(things) * (1 + spare))
    columns = max(range(1, wanted + 1), key=lambda n: min(width / n, height / math.ceil(wanted / n)))
    rows = math.ceil(wanted / columns)
    across, down = width / columns, height / rows
    cells = list(itertools.product(range(rows), range(columns)))
    if loose:
        cells = sorted(rng.sample(cells, len(things))) if spare else cells[: len(things)]
    most = 0.46 * min(across, down)
    for (row, column), kind in zip(cells, things, strict=False):
        radius = most * (rng.uniform(0.55, 1.0) if loose else 0.85)
        slack_x, slack_y = loose * (across / 2 - radius * 1.06), loose * (down / 2 - radius * 1.06)
        x = left + (column + 0.5) * across + rng.uniform(-slack_x, slack_x)
        y = top + (row + 0.5) * down + rng.uniform(-slack_y, slack_y)
        kind.places.append((x, y, radius))


def _ring(rng: random.Random, things: Sequence[_Kind], size: tuple[int, int]) -> None:
    """Evenly around the centre."""
    start = rng.uniform(0, 2 * math.pi)
    for number_, kind in enumerate(things):
        angle = start + 2 * math.pi * number_ / len(things)
        reach = 0.47 * min(size)
        radius = min(reach * math.sin(math.pi / len(things)) / (1 + math.sin(math.pi / len(things))), 0.2 * min(size))
        x = size[0] / 2 + (size[0] / min(size)) ** 0.7 * (reach - radius) * math.cos(angle)
        y = size[1] / 2 + (size[1] / min(size)) ** 0.7 * (reach - radius) * math.sin(angle)
        kind.places.append((x, y, radius * 0.8))  # the corners of some reach beyond the radius


def _where(kind: _Kind, size: tuple[int, int], *, alone: bool) -> str:
    """Where all things of a kind are, as exactly as is true of all of them."""
    xs, ys = [x / size[0] for x, _, _ in kind.places], [y / size[1] for _, y, _ in kind.places]
    down = "at the top" if max(ys) < 0.46 else "at the bottom" if min(ys) > 0.54 else ""
    across = "on the left" if max(xs) < 0.46 else "on the right" if min(xs) > 0.54 else ""
    if down and across:
        return f"{down} {across.removeprefix('on the ')}"
    if down or across:
        return down or across
    if all(0.25 < x < 0.75 for x in xs) and all(0.25 < y < 0.75 for y in ys):
        return "near the center"
    return "in the picture" if kind.count == 1 or alone else "here and there"


def _point(kind: _Kind, place: tuple[float, float, float], size: tuple[int, int]) -> Point:
    (x, y, radius), (across, down) = place, ANCHORS.get(kind.shape, (0.0, 0.0))
    return make_point(kind.label, x + across * radius, y + down * radius, size)


def _outermost(
    kinds: Sequence[_Kind], axis: int, sign: int, size: tuple[int, int]
) -> tuple[_Kind, tuple[float, float, float]] | None:
    """The thing that is farthest up or left (`sign` 1), down or right (-1), by edge and centre; None if unclear."""
    things = [
        (sign * place[axis], sign * place[axis] - place[2], kind, place) for kind in kinds for place in kind.places
    ]
    if len(things) < 2:
        return None
    things.sort(key=lambda thing: thing[0])
    first, second = things[:2]
    clear = second[0] - first[0] > 0.03 * size[axis] and first[1] == min(edge for _, edge, *_ in things)
    return first[2:] if clear else None


def _asides(kinds: Sequence[_Kind], size: tuple[int, int]) -> list[str]:
    """True sentences about the whole, as they stand within another: which is highest, of which there are more."""
    said = []
    for words, axis, sign in (("the topmost thing", 1, 1), ("the one farthest to the left", 0, 1)):
        if found := _outermost(kinds, axis, sign, size):
            said.append(f"{words} is {article(f'{found[0].color} {found[0].shape}')}")
    for more, fewer in itertools.pairwise(kinds):
        if fewer.count == 1:
            break  # of one thing nobody says so
        pair = f"{more.color} {plural(more.shape)}", f"{fewer.color} {plural(fewer.shape)}"
        same = more.count == fewer.count
        said.append(f"there are as many {pair[0]} as {pair[1]}" if same else f"there are more {pair[0]} than {pair[1]}")
    total = sum(kind.count for kind in kinds)
    said.append(f"altogether there {'is one thing' if total == 1 else f'are {number(total)} things'}")
    return said


def _captions(
    kinds: Sequence[_Kind], where: dict[str, str], asides: Sequence[str], ground: str, layout: str
) -> list[str]:
    total = sum(kind.count for kind in kinds)
    things = "one thing" if total == 1 else f"{number(total)} things"
    placed = listed([f"{kind.phrase} {where[kind.label]}" for kind in kinds])
    arranged = f", {_ARRANGED[layout]}," if total > 3 else ""
    dense = [f"the picture shows {things}{arranged} on {article(ground)} background"]
    for kind in kinds:
        verb = "is" if kind.count == 1 else "are"
        dense.append(f"{where[kind.label]} {verb} {kind.phrase}")
    return [
        sentence(listed([kind.label if kind.count > 1 else article(kind.label) for kind in kinds])),
        sentence(listed([kind.phrase for kind in kinds])),
        sentence(f"{placed}, on {article(ground)} background"),
        " ".join(map(sentence, [*dense, *asides[:-1]])),
    ]


def _questions(
    rng: random.Random, kinds: Sequence[_Kind], absent: dict[str, str], background: str
) -> list[tuple[str, str]]:
    questions = [(f"How many {kind.color} {plural(kind.shape)} are there?", str(kind.count)) for kind in kinds]
    shape = rng.choice(kinds).shape
    of_shape = sum(kind.count for kind in kinds if kind.shape == shape)
    questions.append((f"How many {plural(shape)} are there in all?", str(of_shape)))
    questions.append((f"How many {absent['color']} {plural(absent['shape'])} are there?", "0"))
    questions.append(("How many things are there?", str(sum(kind.count for kind in kinds))))
    if len(kinds) > 1 and kinds[0].count > kinds[1].count:
        questions.append(("Of which kind are there the most?", f"{kinds[0].color} {plural(kinds[0].shape)}"))
    questions.append(("What color is the background?", background))
    return questions


def _explained(
    rng: random.Random, kinds: Sequence[_Kind], points: Sequence[Point], absent: dict[str, str], size: tuple[int, int]
) -> list[tuple[str, str]]:
    """Questions whose answers point at what they speak of (PixMo-Point-Explanations)."""

    def at(label: str) -> list[Point]:
        return [point for point in points if point.label == label]

    said = []
    for words, axis, sign in (("topmost thing", 1, 1), ("lowest thing", 1, -1), ("thing farthest to the right", 0, -1)):
        if found := _outermost(kinds, axis, sign, size):
            kind, place = found
            shown = pointing_answer([_point(kind, place, size)], f"{kind.color} {kind.shape}")
            said.append((f"What is the {words}?", f"The {words} is the {shown}."))
    if len(kinds) > 1:
        one, other = sorted(rng.sample(list(kinds), 2), key=lambda kind: -kind.count)
        pair = [f"{kind.color} {plural(kind.shape)}" for kind in (one, other)]
        both = [pointing_answer(at(kind.label), kind.label) for kind in (one, other)]
        if one.count > other.count:
            said.append(
                (
                    f"Are there more {pair[0]} or more {pair[1]}?",
                    f"There are more {pair[0]}: {number(one.count)}, {both[0]}, and {number(other.count)}, {both[1]}.",
                )
            )
        else:
            said.append(
                (
                    f"Are there as many {pair[0]} as {pair[1]}?",
                    f"Yes, {number(one.count)} of each: {both[0]} and {both[1]}.",
                )
            )
    kind = rng.choice(list(kinds))
    said.append((f"How many {kind.color} {plural(kind.shape)} can you see? Explain by pointing.",
                 counting_answer(at(kind.label), f"{kind.color} {plural(kind.shape)}")))  # fmt: skip
    said.append((f"Point to the {absent['color']} {plural(absent['shape'])}.", pointing_answer((), "")))
    return said


def _absent(rng: random.Random, kinds: Sequence[_Kind]) -> dict[str, str]:
    """A colour and shape that no thing has together; mostly one of them is there."""
    there = {(kind.color, kind.shape) for kind in kinds}
    near = [
        pair
        for pair in itertools.product({k.color: 0 for k in kinds}, {k.shape: 0 for k in kinds})
        if pair not in there
    ]
    anything = [pair for pair in itertools.product(BRIGHT, SPRITES) if pair not in there]
    color, shape = rng.choice(near if near and rng.random() < 0.7 else anything)
    return {"color": color, "shape": shape}
