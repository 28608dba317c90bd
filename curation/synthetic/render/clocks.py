"""Analogue clocks, wristwatches and alarm clocks at any time of day (after PixMo-Clocks; Molmo, §3)."""

import math
import random
from dataclasses import asdict, dataclass, replace
from typing import Final

from mmcorpus.curation.synthetic.render.canvas import COLORS, XY, Canvas, Color, blend, ink_on, jittered, luminance
from mmcorpus.curation.synthetic.render.rendered import Drawing, make_point
from mmcorpus.curation.synthetic.render.words import article, capital, number, ordinal

BODIES: Final = {"clock": 65, "wristwatch": 18, "alarm clock": 17}
SHAPES: Final = {"round": 70, "square": 18, "octagonal": 12}
NUMERALS: Final = {"arabic": 40, "quarters": 15, "roman": 25, "none": 20}
_FACES: Final = ("white", "white", "white", "beige", "black", "gray", "yellow", "pink", "blue", "green")
_BACKGROUNDS: Final = ("white", "gray", "beige", "black", "red", "orange", "yellow", "green", "blue", "purple", "pink")
_HANDS: Final = ("black", "black", "white", "blue", "red", "brown")
_SECONDS: Final = ("red", "red", "orange", "blue", "green", "purple", "white")
_ROMAN: Final = ("XII", "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI")
HOUR_LENGTH, MINUTE_LENGTH, SECOND_LENGTH = 0.50, 0.78, 0.86
"""The lengths of the hands, as shares of the face's radius."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Clock:
    hour: int
    minute: int
    second: int | None
    body: str
    shape: str
    numerals: str
    face: str
    hands: str
    second_hand: str
    background: str
    tilt: float
    day: int | None = None
    """The day of the month in its window, of clocks that have one."""

    @property
    def time(self) -> str:
        return f"{self.hour}:{self.minute:02d}"

    def angles(self) -> tuple[float, float, float]:
        """Of the hour, minute and second hand: degrees clockwise from the top of the picture, tilt included."""
        seconds = self.second or 0
        hour = 30 * (self.hour % 12) + self.minute / 2 + seconds / 120
        return tuple((angle + self.tilt) % 360 for angle in (hour, 6 * self.minute + seconds / 10, 6 * seconds))  # type: ignore[return-value]


def draw_dated_clock(rng: random.Random, size: tuple[int, int]) -> Drawing:
    """A clock that shows the day of the month in a window."""
    return draw_clock(rng, size, day=rng.randint(1, 31))


def draw_clock(rng: random.Random, size: tuple[int, int], day: int | None = None) -> Drawing:
    """A clock."""
    return _draw(rng, size, replace(_draw_facts(rng), day=day))


def draw_dial(rng: random.Random, size: tuple[int, int]) -> Drawing:
    """A clock of the plainest look: round, upright, white without numerals, with two black hands. What a model that has
    seen nothing learns to read first: on all clocks it long learns nothing. Its shortest caption is the time alone."""
    clock = replace(
        _draw_facts(rng), second=None, body="clock", shape="round", numerals="none", face="white", hands="black",
        tilt=0.0,
    )  # fmt: skip
    drawing = _draw(rng, size, clock)
    return drawing._replace(captions=[f"{clock.time}.", *drawing.captions])


def _draw(rng: random.Random, size: tuple[int, int], clock: _Clock) -> Drawing:
    background, face = jittered(rng, clock.background), jittered(rng, clock.face, 6)
    hands, second_hand = jittered(rng, clock.hands, 6), jittered(rng, clock.second_hand, 6)
    canvas = Canvas(size, background)
    if rng.random() < 0.3:
        canvas.gradient(background, blend(background, (128, 128, 128), 0.25), vertical=rng.random() < 0.5)

    radius = min(size) * (rng.uniform(0.33, 0.37) if clock.body == "alarm clock" else rng.uniform(0.36, 0.45))
    margin = radius * (1.35 if clock.body == "alarm clock" else 1.08)
    x, y = (
        side / 2
        + rng.uniform(-1, 1) * max(0.0, side / 2 - margin) * (0.0 if clock.body == "wristwatch" and axis else 1)
        for axis, side in enumerate(size)
    )
    center = (x, y)
    rim = rng.choice([color for name, color in COLORS.items() if name not in (clock.background, clock.face)])
    _body(canvas, clock, center, radius, rim, rng)
    _face(canvas, clock, center, radius, face, rim, rng)
    _dial(canvas, clock, center, radius * 0.92, face, rng)
    window = _date_window(canvas, clock, center, radius * 0.92, rng) if clock.day else None
    tips = _hands(canvas, clock, center, radius * 0.92, hands, second_hand, rng)

    labels = ["hour hand", "minute hand", "second hand"][: len(tips)]
    points = [make_point(label, *tip, size) for label, tip in zip(labels, tips, strict=True)]
    said = asdict(clock)
    if window is None:
        del said["day"]
    else:
        points.append(make_point("date window", *window, size))
    facts = {
        "time": clock.time,
        **said,
        "second_hand": None if clock.second is None else clock.second_hand,
        "center": [round(x, 1), round(y, 1)],
        "radius": round(radius * 0.92, 1),
        "angles": [round(angle, 2) for angle in clock.angles()[: len(tips)]],
        "rgb": {"hands": list(hands), "second_hand": list(second_hand), "face": list(face)},
    }
    return Drawing(canvas.finish(), _captions(clock), _questions(clock), points, facts)


def _draw_facts(rng: random.Random) -> _Clock:
    minute = 5 * rng.randrange(12) if rng.random() < 0.5 else rng.randrange(60)
    face = rng.choice(_FACES)
    hands = rng.choice([name for name in _HANDS if abs(luminance(COLORS[name]) - luminance(COLORS[face])) > 110])
    numerals = _weighted(rng, NUMERALS)
    # Without numerals, nothing but the upright posture says where twelve is.
    tilted = numerals != "none" and rng.random() < 0.3
    return _Clock(
        hour=rng.randint(1, 12),
        minute=minute,
        second=rng.randrange(60) if rng.random() < 0.45 else None,
        body=_weighted(rng, BODIES),
        shape=_weighted(rng, SHAPES),
        numerals=numerals,
        face=face,
        hands=hands,
        second_hand=rng.choice([name for name in _SECONDS if min(_distance(name, face), _distance(name, hands)) > 130]),
        background=rng.choice([name for name in _BACKGROUNDS if name != face]),
        tilt=round(rng.uniform(-20, 20), 1) if tilted else 0.0,
    )


def _weighted(rng: random.Random, weights: dict[str, int]) -> str:
    return rng.choices(tuple(weights), tuple(weights.values()))[0]


def _distance(first: str, second: str) -> float:
    return math.dist(COLORS[first], COLORS[second])


def _at(center: XY, angle: float, distance: float) -> XY:
    """The place at an angle in degrees clockwise from the top."""
    turn = math.radians(angle)
    return center[0] + distance * math.sin(turn), center[1] - distance * math.cos(turn)


def _corners(center: XY, radius: float, shape: str, tilt: float) -> list[XY]:
    """The outline of a square or octagonal face whose inscribed circle has the radius."""
    sides = 4 if shape == "square" else 8
    return [_at(center, tilt + 360 * (n + 0.5) / sides, radius / math.cos(math.pi / sides)) for n in range(sides)]


def _body(canvas: Canvas, clock: _Clock, center: XY, radius: float, rim: Color, rng: random.Random) -> None:
    if clock.body == "wristwatch":
        half = radius * rng.uniform(0.42, 0.6)
        strap = blend(rim, (0, 0, 0), 0.25)
        far = 3.0 * max(canvas.size)
        across, along = _at((0.0, 0.0), clock.tilt + 90, half), _at((0.0, 0.0), clock.tilt, far)
        signs = ((1, 1), (1, -1), (-1, -1), (-1, 1))
        canvas.polygon(
            [(center[0] + a * across[0] + b * along[0], center[1] + a * across[1] + b * along[1]) for a, b in signs],
            strap,
        )
    if clock.body == "alarm clock":
        spread = 1.0 if clock.shape != "square" else 1.18
        dark = blend(rim, (0, 0, 0), 0.3)
        for side in (-1, 1):
            canvas.ellipse(_at(center, clock.tilt + side * 38, radius * 1.02 * spread), radius * 0.27, dark)
            foot = _at(center, clock.tilt + 180 + side * 35, radius * 1.28)
            canvas.line([center, foot], dark, radius * 0.13)


def _face(
    canvas: Canvas, clock: _Clock, center: XY, radius: float, face: Color, rim: Color, rng: random.Random
) -> None:
    width = radius * rng.uniform(0.05, 0.1)
    edge = blend(rim, (0, 0, 0), 0.45)
    if clock.shape == "round":
        canvas.ellipse(center, radius, rim, outline=edge, width=max(1.0, radius * 0.015))
        canvas.ellipse(center, radius - width, face)
    else:
        canvas.polygon(
            _corners(center, radius, clock.shape, clock.tilt), rim, outline=edge, width=max(1.0, radius * 0.015)
        )
        canvas.polygon(_corners(center, radius - width, clock.shape, clock.tilt), face)


def _dial(canvas: Canvas, clock: _Clock, center: XY, radius: float, face: Color, rng: random.Random) -> None:
    ink = ink_on(face)
    marks = "lines" if clock.numerals == "none" else rng.choice(("lines", "dots", "nothing"))
    for minute in range(60):
        angle = 6 * minute + clock.tilt
        hourly = minute % 5 == 0
        if marks == "lines" and (hourly or radius > 80):
            long = (0.16 if minute == 0 else 0.11) if clock.numerals == "none" else 0.06
            thick = radius * (0.035 if hourly else 0.01)
            inner = radius * (0.96 - (long if hourly else 0.03))
            canvas.line([_at(center, angle, inner), _at(center, angle, radius * 0.96)], ink, thick)
        elif marks == "dots" and hourly:
            canvas.ellipse(_at(center, angle, radius * 0.94), radius * 0.02, ink)
    if clock.numerals == "none":
        return
    text_size = radius * (0.19 if clock.numerals == "roman" else 0.23)
    for hour in range(12):
        if clock.numerals == "quarters" and hour % 3:
            continue
        angle = 30 * hour + clock.tilt
        text = _ROMAN[hour] if clock.numerals == "roman" else str(hour or 12)
        # Roman numerals stand with their feet to the centre, as on most dials.
        turn = angle if clock.numerals == "roman" else clock.tilt
        canvas.text(_at(center, angle, radius * 0.77), text, text_size, ink, turn=turn)


def _date_window(canvas: Canvas, clock: _Clock, center: XY, radius: float, rng: random.Random) -> XY:
    """The day in a window at 3, 6 or 9 o'clock, whichever is farthest from the hands; returns its middle."""
    angles = clock.angles()[: 2 if clock.second is None else 3]

    def free(angle: float) -> float:
        return min(abs((angle + clock.tilt - hand + 180) % 360 - 180) for hand in angles)

    angle = max((90.0, 180.0, 270.0), key=free) + clock.tilt
    middle = _at(center, angle, radius * 0.5)
    half = radius * 0.115
    corners = [(1.25, 1.0), (1.25, -1.0), (-1.25, -1.0), (-1.25, 1.0)]
    turn = math.radians(clock.tilt)
    outline = [
        (middle[0] + half * (x * math.cos(turn) - y * math.sin(turn)),
         middle[1] + half * (x * math.sin(turn) + y * math.cos(turn)))
        for x, y in corners
    ]  # fmt: skip
    paper = rng.choice(((250, 250, 248), (24, 24, 27)))
    canvas.polygon(outline, paper, outline=(128, 128, 130), width=max(1.0, radius * 0.012))
    canvas.text(middle, str(clock.day), half * 1.75, ink_on(paper), turn=clock.tilt)
    return middle


def _hands(
    canvas: Canvas, clock: _Clock, center: XY, radius: float, hands: Color, second_hand: Color, rng: random.Random
) -> list[XY]:
    """Draw the hands, the thinnest on top; returns their tips."""
    style = rng.choice(("bar", "taper", "leaf"))
    hour, minute, second = clock.angles()
    tips = []
    for angle, length, width in ((hour, HOUR_LENGTH, 0.042), (minute, MINUTE_LENGTH, 0.028)):
        canvas.polygon(_hand(center, angle, radius * length, max(1.2, radius * width), style), hands)
        tips.append(_at(center, angle, radius * length))
    canvas.ellipse(center, radius * 0.065, hands)
    if clock.second is not None:
        tip = _at(center, second, radius * SECOND_LENGTH)
        canvas.line([_at(center, second + 180, radius * 0.16), tip], second_hand, max(1.0, radius * 0.016))
        canvas.ellipse(center, radius * 0.04, second_hand)
        tips.append(tip)
    return tips


def _hand(center: XY, angle: float, length: float, half: float, style: str) -> list[XY]:
    """The outline of a hand, in (distance along, offset across) pairs turned to the angle."""
    outlines = {
        "bar": ((-0.12, 1), (1, 1), (1, -1), (-0.12, -1)),
        "taper": ((-0.14, 1.3), (1, 0.3), (1, -0.3), (-0.14, -1.3)),
        "leaf": ((-0.05, 0.6), (0.55, 1.6), (1, 0), (0.55, -1.6), (-0.05, -0.6)),
    }
    return [_at(_at(center, angle, along * length), angle + 90, across * half) for along, across in outlines[style]]


def time_in_words(hour: int, minute: int) -> str:
    """`quarter past three`, `twenty-five to nine`, `five o'clock`; minutes in fives.

    Raises `ValueError` for other minutes.
    """
    if minute % 5:
        raise ValueError(f"minute {minute} is not a multiple of five")
    if minute == 0:
        return f"{number(hour)} o'clock"
    amount = min(minute, 60 - minute)
    share = {15: "quarter", 30: "half", 25: "twenty-five"}.get(amount, number(amount))
    return f"{share} past {number(hour)}" if minute <= 30 else f"{share} to {number(hour % 12 + 1)}"


def _captions(clock: _Clock) -> list[str]:
    look = f"{clock.shape} {clock.face} {clock.body}"
    captions = [
        f"{capital(article(clock.body))} showing {clock.time}.",
        f"The {look} shows {clock.time}.",
        f"{capital(article(look))} on {article(clock.background)} background reads {clock.time}.",
    ]
    if clock.minute % 5 == 0:
        captions.append(f"It is {time_in_words(clock.hour, clock.minute)} on the {clock.face} {clock.body}.")
    at = f"at the {clock.hour}" if clock.minute == 0 else f"between the {clock.hour} and the {clock.hour % 12 + 1}"
    minutes = f"{clock.minute} minutes" if clock.minute != 1 else "1 minute"
    captions.append(
        f"The hour hand of the {clock.face} {clock.body} is {at} and the minute hand is at {minutes}: {clock.time}."
    )
    numerals = {
        "arabic": "numbers", "quarters": "four numbers", "roman": "Roman numerals", "none": "no numbers",
    }[clock.numerals]  # fmt: skip
    detailed = (
        f"{capital(article(clock.body))} with {article(clock.shape)} {clock.face} face, {numerals} and "
        f"{clock.hands} hands on {article(clock.background)} background. The time is {clock.time}"
    )
    if clock.second is not None:
        unit = "second" if clock.second == 1 else "seconds"
        detailed += f" and the {clock.second_hand} second hand is at {clock.second} {unit}"
    captions.append(detailed + (f", and the window shows the {ordinal(clock.day)}" if clock.day else "") + ".")
    return captions


def _questions(clock: _Clock) -> list[tuple[str, str]]:
    questions = [
        ("What time is it?", clock.time),
        ("What color is the face?", clock.face),
        ("What shape is the face?", clock.shape),
        ("What color is the background?", clock.background),
        ("What color are the hour and minute hands?", clock.hands),
        ("Does the face have Roman numerals?", "yes" if clock.numerals == "roman" else "no"),
        ("Is there a second hand?", "no" if clock.second is None else "yes"),
    ]
    if clock.second is not None:
        questions.append(("How many seconds does the second hand show?", str(clock.second)))
    if clock.day:
        questions.append(("Which day of the month does the clock show?", str(clock.day)))
    return questions
