"""A question of an evaluation: images, prompt, accepted answers, and how an answer to it is judged."""

import dataclasses
import string
from collections.abc import Sequence
from typing import Final

from mmcorpus.training.evaluation.points import Mask
from mmcorpus.training.settings import require

LETTERS: Final = string.ascii_uppercase
"""The names of choices."""

Picture = bytes | str
"""An encoded image, or the path or URL of one."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Question:
    """One question."""

    id: str
    """Names it in its set."""
    images: tuple[Picture, ...]
    """In the order of the `<image>` marks in the prompt; those without a mark stand before it."""
    prompt: str
    """What is asked; empty asks a pretrained model for a caption."""
    answers: tuple[str, ...]
    """All that are right; of a question with choices the letters of those that are."""
    metric: str
    """A name of `metrics.METRICS`."""
    choices: tuple[str, ...] = ()
    """Named A, B, C, … in the prompt."""
    category: str = ""
    """Results are also given for each."""
    cluster: str = ""
    """Questions of one image (or page) share it: they are not independent, and intervals know it. Empty: alone."""

    thoughts: str = ""
    """What leads to the answer: said before it where it is a demonstration of a chain of thought."""
    masks: tuple[Mask, ...] = ()
    """Of an answer with points, where the thing of each of them is; without any a radius stands for them."""

    def __post_init__(self) -> None:
        require(bool(self.answers), "it has no answers")
        require(len(self.choices) <= len(LETTERS), f"it has {len(self.choices)} choices; {len(LETTERS)} can be named")
        if self.choices:
            wrong = [answer for answer in self.answers if answer not in self.letters]
            require(not wrong, f"the answers {wrong} name none of its {len(self.choices)} choices")

    @property
    def letters(self) -> str:
        """The names of its choices."""
        return LETTERS[: len(self.choices)]


def as_letter(answer: str, choices: Sequence[str]) -> str:
    """The letter of a choice, given as its letter, its text or its number from 0; what is none of these as it is."""
    letters = LETTERS[: len(choices)]
    named = answer.strip().strip("().").upper()
    if len(named) == 1 and named in letters:
        return named
    if answer in choices:
        return letters[list(choices).index(answer)]
    return letters[int(answer)] if answer.isdecimal() and int(answer) < len(letters) else answer
