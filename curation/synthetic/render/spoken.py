"""What people say of a picture when they speak instead of writing: transcripts, of which Molmo has several an image.

A speaker goes through the things in an order of their own, hesitates, says a word twice, and at times corrects
themselves; what they have said in the end is true (Molmo, §3 "PixMo-Cap").
"""

import random
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from mmcorpus.curation.synthetic.render.words import article, capital, counted, number

_FILLERS: Final = ("um", "uh", "let's see", "well", "you know", "I mean", "hmm", "okay")
_OPENINGS: Final = (
    "Okay, so", "So", "Alright,", "In this picture", "So here", "Let's see,", "Right, so", "Well,", "Okay,",
)  # fmt: skip
_LINKS: Final = ("And then", "Then", "Also,", "And", "Next,", "Besides that,", "Oh, and", "Now,", "Moving on,")
_ENDINGS: Final = (
    "That's about it.",
    "And that's everything I can see.",
    "I think that's all.",
    "Yeah, that's it.",
    "Nothing else really.",
)
CORRECTIONS: Final = ("no", "sorry", "no wait", "I mean", "actually")
"""What stands between what was wrong and what is right: `two, no wait, three`."""


class Thing(NamedTuple):
    """Like things of a picture."""

    many: int
    color: str
    shape: str
    where: str
    """`on the left`, `all over the picture`."""


def transcripts(
    rng: random.Random, things: Sequence[Thing], ground: str, asides: Sequence[str] = (), count: int = 3
) -> list[str]:
    """So many transcripts of a picture.

    Args:
        things: from the most to the least salient.
        ground: what the background is: `shaded black`.
        asides: true sentences without capital and full stop, which some speakers say and others do not.
    """
    told: list[str] = []
    while len(told) < count:
        text = _transcript(rng, things, ground, asides)
        if text not in told:
            told.append(text)
    return told


def _transcript(rng: random.Random, things: Sequence[Thing], ground: str, asides: Sequence[str]) -> str:
    order = list(things)
    kind = rng.random()
    if kind < 0.35:  # a neighbour first; then it goes on as one would
        place = rng.randrange(len(order))
        order.insert(0, order.pop(place))
    elif kind < 0.6:
        rng.shuffle(order)
    said = [_of_thing(rng, thing) for thing in order]
    said += rng.sample(asides, rng.randint(0, len(asides)))
    scene = rng.choice(
        (
            f"it's all on {article(ground)} background",
            f"the background is {ground}",
            f"this is on {article(ground)} background",
        )
    )
    said.insert(0 if rng.random() < 0.45 else len(said), scene)
    sentences = []
    for place, clause in enumerate(said):
        opening = rng.choice(_OPENINGS) if place == 0 else rng.choice(_LINKS) if rng.random() < 0.6 else ""
        clause = _hesitant(rng, clause)
        sentences.append(f"{opening} {clause}." if opening else f"{capital(clause)}.")
    if rng.random() < 0.4:
        sentences.append(rng.choice(_ENDINGS))
    return " ".join(sentences)


def _of_thing(rng: random.Random, thing: Thing) -> str:
    """`there are two, no wait, three red stars on the left`."""
    words = counted(thing.many, thing.color, thing.shape)
    slip = rng.random()
    if slip < 0.12 and thing.many > 1:
        wrong = thing.many + rng.choice((-1, 1)) if thing.many > 2 else thing.many + 1
        words = f"{number(wrong)}, {rng.choice(CORRECTIONS)}, {words}"
    elif slip < 0.2:
        wrong_color = rng.choice(
            [color for color in ("red", "orange", "blue", "green", "pink") if color != thing.color]
        )
        lead = article(wrong_color) if thing.many == 1 else f"{number(thing.many)} {wrong_color}"
        words = f"{lead}, {rng.choice(CORRECTIONS)}, {words}"
    verb = "is" if thing.many == 1 else "are"
    forms: tuple[Callable[[], str], ...] = (
        lambda: f"there {verb} {words} {thing.where}",
        lambda: f"{thing.where} there {verb} {words}",
        lambda: f"I can see {words} {thing.where}",
        lambda: f"we have {words}, {thing.where}",
    )
    return rng.choice(forms)()


def _hesitant(rng: random.Random, clause: str) -> str:
    """The clause with a filler or a word said twice in it, at times."""
    words = clause.split(" ")
    draw = rng.random()
    place = rng.randrange(1, len(words)) if len(words) > 1 else 0
    if words[place - 1].endswith(",") or words[place].endswith(","):
        return clause  # within a correction it would take that apart
    if draw < 0.25 and place:
        filler = rng.choice(_FILLERS)
        before = words[place - 1] + ("" if filler in ("um", "uh") else ",")
        return " ".join([*words[: place - 1], before, f"{filler},", *words[place:]])
    if draw < 0.35 and place and words[place] in ("the", "there", "I", "a", "on"):
        return " ".join([*words[:place], words[place], *words[place:]])
    return clause
