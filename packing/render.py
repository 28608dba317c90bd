"""Annotations of images as turns: prompts, style tags, length hints, points and their order, rendered for each copy.

A row's `conversations` may be an object with `annotations`, each of which becomes a conversation of its own, a branch:

    {"annotations": [{"style": "long_caption", "text": "A red clock on …"},
                     {"style": "vqa2", "question": "What is it?", "answer": "a clock"},
                     {"style": "user_qa", "messages": [{"role": "user", "content": …}, …]},
                     {"style": "pointing", "label": "hands", "points": [[48.0, 20.5], [70.0, 51.0]]}]}

What is drawn depends on uid, copy and seed alone, so that epochs differ and stay the same on every machine. Source:
Molmo (arXiv 2409.17146, §3 and appendix), allenai/molmo's `data_formatter.py`.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, ClassVar, Final, Literal

from mmcorpus.packing import numbers
from mmcorpus.packing.chat import ANSWERS, Turns
from mmcorpus.packing.draws import Draws
from mmcorpus.packing.turns import IMAGE_MARK, parse_conversation

Points = tuple[tuple[float, float], ...]

_OPENING: Final = re.compile(rf"\A(?:{re.escape(IMAGE_MARK)}\n)+")
_HOW_MANY: Final = re.compile(r"how many", re.IGNORECASE)
COUNTS: Final = "point_count"
"""The style whose answer counts while it points."""
POINTING: Final = "pointing"
PROMPTS: Final[Mapping[str, tuple[str, ...]]] = {
    POINTING: ("Point to {label}.", "Where are the {label}?", "Point: {label}", "Show me the {label}."),
    COUNTS: ("How many {label} are there?", "Count the {label}.", "How many {label}?"),
}
"""What asks for points where a recipe says nothing else."""


@dataclass(frozen=True, kw_only=True)
class RenderConfig:
    """Settings by which annotations become turns."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    variants: int = 4
    """Renderings of a sample: its copy c is rendered as copy c modulo this, so that lengths are measured once."""
    prompts: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By style, what asks for an annotation without a question, one of which is drawn: `{long_caption: ["Describe
    this."]}`; `{label}` stands for that of points. A style without any is asked for by its tag."""
    style_tags: dict[str, float] = field(default_factory=dict)
    """By style, how often `style:` opens a question or a prompt; 1 where nothing is said. Molmo: 0.1 for `user_qa`,
    `pointing`, `point_count` and `long_caption` in SFT."""
    length_hint: float = 0.9
    """How often the tag that asks for a text has a hint at its length, `long_caption 83:`; else `long_caption :`."""
    hint_characters: int = 15
    """Characters of the text that the hint counts as one."""
    hint_noise: float = 25.0
    """Standard deviation of what is added to the text's characters before that."""
    point_order: Literal["xy", "reading"] = "xy"
    """Points from left to right, as Molmo's code has them, or from the top down, as its paper says."""
    draw: dict[str, int] = field(default_factory=dict)
    """By style, how many of a sample's annotations are drawn for each copy, where there are more; 0 leaves a style out.
    Molmo has one transcript beside the caption in pretraining, `{transcript: 1}`, and none in SFT."""
    restyle: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By style, the styles of which one is drawn in its place, each as often: `{pointing: [pointing, point_count]}` has
    half of the points counted."""
    openings: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By style, what opens a question that begins with `how many`, one of which is drawn; Molmo's answers without
    points are asked so, `{user_qa: ["No pointing: "]}`, so that all other counting is pointed."""
    shuffle: bool = True
    """Whether branches come in another order in each copy; those that a sequence has no room for are the last."""

    def __post_init__(self) -> None:
        for name in ("variants", "hint_characters"):
            numbers.whole(f"render.{name}", getattr(self, name))
        shares = {"length_hint": self.length_hint, **{f"style_tags.{k}": v for k, v in self.style_tags.items()}}
        for name, share in shares.items():
            numbers.within(f"render.{name}", share, 0, 1)
        numbers.within("render.hint_noise", self.hint_noise, 0, 1e6)
        if self.point_order not in ("xy", "reading"):
            raise ValueError(f"pack.render.point_order is {self.point_order!r}; give 'xy' or 'reading'")
        for name in ("prompts", "restyle", "openings"):
            for style, given in getattr(self, name).items():
                if not given or isinstance(given, str):
                    raise ValueError(f"pack.render.{name} gives {style!r} {given!r}; give a list of {name}")
        for style, most in self.draw.items():
            numbers.whole(f"render.draw.{style}", most, 0, 10**6)

    def as_dict(self) -> dict[str, Any]:
        """As JSON has it, without what came after others had packed, where it is not said."""
        later = {"draw", "restyle", "openings"}
        return {name: value for name, value in asdict(self).items() if value or name not in later}


@dataclass(frozen=True, kw_only=True, slots=True)
class Annotation:
    """One annotation of a row's images."""

    style: str
    turns: Turns
    """Of `messages`, or a question and its answer; for a text or points the answer alone, of points empty."""
    points: Points | None = None
    """x and y from 0 to 100."""
    label: str = ""
    """What is pointed to."""
    masks: tuple[Any, ...] = ()
    """Of points, where the thing of each is, as evaluations read it; nothing that is trained on."""
    weight: float = 1.0
    """What its targets' losses are multiplied by."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Branch:
    """A rendered annotation."""

    style: str
    turns: Turns
    weight: float


def parse_annotations(text: str) -> list[Annotation] | None:
    """The annotations of a row; None where its text is a conversation. Raises ValueError for what cannot be read."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        return None  # parse_conversation says what is wrong with it
    if not isinstance(given, dict) or "annotations" not in given:
        return None
    listed = given["annotations"]
    if not isinstance(listed, list) or not listed:
        raise ValueError("annotations is not a list of at least one")
    return [_annotation(number, one) for number, one in enumerate(listed)]


def _annotation(number: int, given: Any) -> Annotation:
    where = f"annotation {number}"
    if not isinstance(given, dict) or not isinstance(given.get("style", ""), str):
        raise ValueError(f"{where} is not an object with a style")
    weight = given.get("weight", 1.0)
    if isinstance(weight, bool) or not isinstance(weight, int | float) or not 0 <= weight < math.inf:
        raise ValueError(f"{where} has the weight {weight!r}; a weight is a number of at least 0")
    common: dict[str, Any] = {"style": given.get("style", ""), "weight": float(weight)}
    if "points" in given:
        masks = given.get("masks", [])
        if not isinstance(masks, list):
            raise ValueError(f"{where} has masks that are no list, one of each point")
        return Annotation(
            turns=[], points=_points(where, given["points"]), label=_words(where, given, "label"), masks=tuple(masks),
            **common,
        )  # fmt: skip
    if "text" in given:
        return Annotation(turns=[(ANSWERS, _words(where, given, "text"))], **common)
    if "question" in given:
        asked, answer = (_words(where, given, name) for name in ("question", "answer"))
        return Annotation(turns=[("user", asked), (ANSWERS, answer)], **common)
    try:
        return Annotation(turns=_unmarked(parse_conversation(given)), **common)
    except ValueError as error:
        raise ValueError(f"{where} has no text, no question with an answer, no points, no messages: {error}") from None


def _unmarked(turns: Turns) -> Turns:
    """The turns without the marks, a line each, that open them where somebody has put them there: images come first."""
    for number, (role, text) in enumerate(turns):
        if role == "user":
            return [*turns[:number], (role, _OPENING.sub("", text)), *turns[number + 1 :]]
    return turns


def _words(where: str, given: Mapping[str, Any], name: str) -> str:
    words = given.get(name)
    if not isinstance(words, str) or not words.strip():
        raise ValueError(f"{where} says nothing: its {name!r} is no text")
    return words


def _points(where: str, given: Any) -> Points:
    points = []
    for point in given if isinstance(given, list) else [given]:
        pair = point if isinstance(point, list) else []
        inside = [float(part) for part in pair if type(part) in (int, float) and 0 <= part <= 100]
        if not len(pair) == len(inside) == 2:
            raise ValueError(f"{where} has the point {point!r}; a point is [x, y], both from 0 to 100")
        points.append((inside[0], inside[1]))
    return tuple(points)


class _Dice:
    """Draws for one rendering."""

    def __init__(self, word: int) -> None:
        self._draws = Draws(word)

    def chance(self) -> float:
        """From 0 to 1, 1 excluded."""
        return int(self._draws.words(1)[0] >> 11) / 2**53

    def choice(self, options: Sequence[str]) -> str:
        return options[int(self._draws.below(len(options), 1)[0])]

    def normal(self) -> float:
        """About normal: the sum of twelve numbers, which is the same on every machine, as logarithms are not."""
        return sum(int(word >> 11) for word in self._draws.words(12).tolist()) / 2**53 - 6

    def order(self, count: int) -> list[int]:
        words = self._draws.words(count).tolist()
        return sorted(range(count), key=words.__getitem__)


def render(annotations: Sequence[Annotation], config: RenderConfig, word: int) -> list[Branch]:
    """The branches of a copy; `word` are its 64 bits, from uid, copy and seed. Raises ValueError if there is none."""
    dice = _Dice(word)
    order = dice.order(len(annotations)) if config.shuffle else range(len(annotations))
    chosen = set(_drawn(annotations, config, dice))
    if not chosen:
        raise ValueError(f"none of its annotations is wanted: {', '.join(sorted({own.style for own in annotations}))}")
    kept = [_restyled(annotations[number], config, dice) for number in order if number in chosen]
    return [Branch(style=own.style, turns=_turns(own, config, dice), weight=own.weight) for own in kept]


def _drawn(annotations: Sequence[Annotation], config: RenderConfig, dice: _Dice) -> list[int]:
    """The numbers of the annotations of a copy: of the styles in `draw` so many of each, of others all."""
    found = list(range(len(annotations)))
    for style, most in sorted(config.draw.items()):  # settings come back from JSON in another order
        own = [number for number in found if annotations[number].style == style]
        if len(own) > most:
            left_out = {own[place] for place in dice.order(len(own))[most:]}
            found = [number for number in found if number not in left_out]
    return found


def _restyled(annotation: Annotation, config: RenderConfig, dice: _Dice) -> Annotation:
    styles = config.restyle.get(annotation.style)
    return annotation if styles is None else replace(annotation, style=dice.choice(styles))


def _turns(annotation: Annotation, config: RenderConfig, dice: _Dice) -> Turns:
    turns, style = annotation.turns, annotation.style
    if annotation.points is not None:
        label = annotation.label
        asked = dice.choice(config.prompts.get(style) or PROMPTS.get(style) or PROMPTS[POINTING])
        answer = pointed(annotation.points, label, config.point_order, counted=style == COUNTS)
        turns = [("user", asked.replace("{label}", label)), (ANSWERS, answer)]
    elif len(turns) == 1 and turns[0][0] == ANSWERS:
        prompts = config.prompts.get(style)
        if not prompts:
            return [("user", _hint(style, turns[0][1], config, dice)), *turns]
        turns = [("user", dice.choice(prompts)), *turns]
    openings = config.openings.get(style)
    if openings:
        turns = [
            (role, dice.choice(openings) + text if role == "user" and _HOW_MANY.match(text) else text)
            for role, text in turns
        ]
    if style and dice.chance() < config.style_tags.get(style, 1.0):
        place = next((number for number, (role, _) in enumerate(turns) if role == "user"), None)
        if place is not None:
            turns = [*turns[:place], ("user", f"{style}: {turns[place][1]}"), *turns[place + 1 :]]
    return turns


def _hint(style: str, text: str, config: RenderConfig, dice: _Dice) -> str:
    """The tag that asks for a text, mostly with how long it is."""
    if dice.chance() >= config.length_hint:
        return f"{style} :".lstrip()
    length = (len(text) + config.hint_noise * dice.normal()) // config.hint_characters
    return f"{style} {max(1, int(length))}:".lstrip()


def pointed(points: Points, label: str, order: str = "xy", *, counted: bool = False) -> str:
    """Points as Molmo writes them, to one decimal.

    >>> pointed(((48.0, 20.5),), "hand")
    '<point x="48.0" y="20.5" alt="hand">hand</point>'
    """
    if not points:
        return "There are none."
    placed = sorted(points, key=lambda point: point if order == "xy" else (point[1], point[0]))
    alt = label.replace('"', "&quot;")
    if len(placed) == 1:
        written = f'<point x="{placed[0][0]:.1f}" y="{placed[0][1]:.1f}" alt="{alt}">{label}</point>'
    else:
        places = " ".join(f'x{n}="{x:.1f}" y{n}="{y:.1f}"' for n, (x, y) in enumerate(placed, start=1))
        written = f'<points {places} alt="{alt}">{label}</points>'
    return f"Counting the {written} shows a total of {len(placed)}." if counted else written
