"""Metrics: how an answer is judged, and what the numbers of many questions come to.

Each judges one answer into a row of numbers that add up over questions; `value` makes the metric of their sums (a mean,
an F1), so that clustered bootstraps need nothing but sums.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

from mmcorpus.training.evaluation.cider import cider
from mmcorpus.training.evaluation.judge import Statements
from mmcorpus.training.evaluation.points import NO_POINTS, Mask, Point, inside, matched, read_points
from mmcorpus.training.evaluation.question import Question
from mmcorpus.training.evaluation.words import first_number, plain, time_of_day, vqa_words
from mmcorpus.training.settings import require

Array = npt.NDArray[np.float64]
_ANLS_LEAST: Final = 0.5
_RELAXED: Final = 0.05
_MOST_POINTS: Final = 400
"""More are not looked at: an answer is a model's, and may never end."""
_ANSWER: Final = re.compile(r"\b(?:answer|option|choice)(?: is)? ?:? ?\(?([A-Z])\b", re.IGNORECASE)
_OPENING: Final = re.compile(r"[(\[]?([A-Z])(?: ?[).:\],]|$)")
_BRACKETED: Final = re.compile(r"\(([A-Z])\)")
_ALONE: Final = re.compile(r"\b([A-Z])\b")


class Metric(Protocol):
    """A way to judge answers."""

    @property
    def title(self) -> str:
        """The metric's name in tables."""

    @property
    def fractions(self) -> bool:
        """Whether its value lies between 0 and 1, to be shown in per cent."""

    def judge(self, answers: Sequence[str], questions: Sequence[Question]) -> Array:
        """A row of numbers an answer, shape (answers, k), that are summed over questions."""

    def value(self, sums_NK: Array) -> Array:
        """The metric of each row of sums; NaN where there is nothing to judge by."""


@dataclasses.dataclass(frozen=True)
class Mean:
    """The mean of a number an answer."""

    title: str
    of: Callable[[str, Question], float]
    fractions: bool = True

    def judge(self, answers: Sequence[str], questions: Sequence[Question]) -> Array:
        """Score and 1."""
        scores = [self.of(answer, question) for answer, question in zip(answers, questions, strict=True)]
        return np.array([[score, 1.0] for score in scores]).reshape(-1, 2)

    def value(self, sums_NK: Array) -> Array:
        """Scores over numbers."""
        return _ratio(sums_NK[:, 0], sums_NK[:, 1])


@dataclasses.dataclass(frozen=True)
class Pope:
    """F1 of "yes", as POPE has it (Li et al. 2023): an answer that says no, not or nothing of it is a no or a yes."""

    title: str = "F1"
    fractions: bool = True

    def judge(self, answers: Sequence[str], questions: Sequence[Question]) -> Array:
        """True positives, false positives, false negatives."""
        rows = []
        for answer, question in zip(answers, questions, strict=True):
            said, right = says_yes(answer), plain(question.answers[0]) == "yes"
            rows.append([said and right, said and not right, right and not said])
        return np.array(rows, dtype=np.float64).reshape(-1, 3)

    def value(self, sums_NK: Array) -> Array:
        """2 TP / (2 TP + FP + FN)."""
        hits, false, missed = sums_NK.T
        return _ratio(2 * hits, 2 * hits + false + missed)


@dataclasses.dataclass(frozen=True)
class Cider:
    """CIDEr-D over the corpus of all questions judged together."""

    title: str = "CIDEr"
    fractions: bool = False

    def judge(self, answers: Sequence[str], questions: Sequence[Question]) -> Array:
        """Score and 1."""
        scores = cider(answers, [question.answers for question in questions])
        return np.array([[score, 1.0] for score in scores]).reshape(-1, 2)

    def value(self, sums_NK: Array) -> Array:
        """Scores over numbers."""
        return _ratio(sums_NK[:, 0], sums_NK[:, 1])


@dataclasses.dataclass(frozen=True)
class CapF1:
    """cap F1 of captions by what a judge found of their statements (`judge.py`), or its precision or recall."""

    title: str = "cap F1"
    of: Literal["precision", "recall", "F1"] = "F1"
    judged: Mapping[tuple[str, str], Statements] = dataclasses.field(default_factory=dict)
    """By what is judged of an answer, and the question."""
    fractions: bool = True

    def judge(self, answers: Sequence[str], questions: Sequence[Question]) -> Array:
        """Precision, whether it has one, recall, whether it has one; zeros where nothing was judged."""
        found = [self.judged.get((said, one.id), Statements()) for said, one in zip(answers, questions, strict=True)]
        rows = [(own.precision or 0.0, own.precision is not None, own.recall or 0.0, own.recall is not None)
                for own in found]  # fmt: skip
        return np.array(rows, dtype=np.float64).reshape(-1, 4)

    def value(self, sums_NK: Array) -> Array:
        """The mean precision, the mean recall, or their harmonic mean."""
        precision, recall = _ratio(sums_NK[:, 0], sums_NK[:, 1]), _ratio(sums_NK[:, 2], sums_NK[:, 3])
        if self.of != "F1":
            return precision if self.of == "precision" else recall
        # Of models that say nothing the precision is not defined; they find nothing.
        return np.where(recall == 0, 0.0, _ratio(2 * precision * recall, precision + recall))


def _ratio(above: Array, below: Array) -> Array:
    return np.divide(above, below, out=np.full_like(below, math.nan), where=below > 0)


def exact(answer: str, question: Question) -> float:
    """1 if it is one of the answers, whatever its case, spacing and final full stop."""
    return float(plain(answer) in {plain(right) for right in question.answers})


def vqa_accuracy(answer: str, question: Question) -> float:
    """The mean over the humans of min(1, how many of the others said so / 3) (Antol et al. 2015).

    Answers are normalised always, as EvalAI's server does. Ten humans are asked; questions with fewer than four answers
    are refused when they are read (`check`), since nothing could reach 1.
    """
    given = vqa_words(answer)
    right = [vqa_words(human) for human in question.answers]
    agreeing = right.count(given)
    scores = [min(1.0, (agreeing - (human == given)) / 3) for human in right]
    return sum(scores) / len(scores)


def relaxed_accuracy(answer: str, question: Question) -> float:
    """1 if within 5 % of a number that is right, or the same text (Masry et al. 2022, ChartQA, § 5.1).

    A percentage is its share, as in pix2struct; units or words around a number make it a text.
    """
    return float(any(_relaxed(answer.strip().removesuffix("."), right.strip()) for right in question.answers))


def _relaxed(answer: str, right: str) -> bool:
    said, true = _share(answer), _share(right)
    if said is not None and true:
        return abs(said - true) <= _RELAXED * abs(true)
    return answer.lower() == right.lower()


def _share(text: str) -> float | None:
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def anls(answer: str, question: Question) -> float:
    """Average normalised Levenshtein similarity: of the nearest answer, 0 below one half (Biten et al. 2019, eq. 1)."""
    said = " ".join(answer.lower().split())
    best = 0.0
    for right in (" ".join(one.lower().split()) for one in question.answers):
        longest = max(len(said), len(right))
        best = max(best, 1.0 - (edit_distance(said, right) / longest if longest else 0.0))
    return best if best >= _ANLS_LEAST else 0.0


def edit_distance(first: str, second: str) -> int:
    """Levenshtein's distance, in time of the product of the lengths."""
    row = list(range(len(second) + 1))
    for at, one in enumerate(first, start=1):
        before, row[0] = row[0], at
        for place, other in enumerate(second, start=1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (one != other))
    return row[-1]


def choice(answer: str, question: Question) -> float:
    """1 if the letter that an answer gives, or the choice whose text it is, is right."""
    return float(chosen(answer, question) in question.answers)


def chosen(answer: str, question: Question) -> str | None:
    """The letter that an answer gives; None if it gives none.

    In order: `B`, `(B)`, `B. a cat`; "the answer is B"; the only one in brackets; a choice's own text; the only letter
    of a choice that stands alone, but "A" and "I", which are words.
    """
    letters = question.letters
    opening = _OPENING.match(" ".join(answer.strip().partition("\n")[0].split()))
    if opening and opening[1] in letters:
        return opening[1]
    answer = " ".join(answer.split())  # so that no run of spaces is looked through again and again
    named = [found.upper() for found in _ANSWER.findall(answer) if found.upper() in letters]
    if named:
        return str(named[-1])
    bracketed = {found for found in _BRACKETED.findall(answer) if found in letters}
    if len(bracketed) == 1:
        return bracketed.pop()
    for letter, text in zip(letters, question.choices, strict=True):
        if plain(answer) == plain(text):
            return letter
    alone = {found for found in _ALONE.findall(answer) if found in letters and found not in "AI"}
    return alone.pop() if len(alone) == 1 else None


def counting(answer: str, question: Question) -> float:
    """1 if the number that it says is right (`count_of`)."""
    said = count_of(answer)
    return float(said is not None and said in {count_of(right) for right in question.answers})


def count_of(text: str) -> float | None:
    """The first number in a text, in digits or as a word. Of one that points what it says behind its points, else how
    many there are (Molmo's `Counting the <points …> shows a total of 3.`); None where there is no number."""
    pointed = read_points(text)
    if not pointed:
        return first_number(text)
    said = first_number(text.rpartition(">")[2])
    return float(len(pointed)) if said is None else said


def clock_time(answer: str, question: Question) -> float:
    """1 if the time of day that it says is within a minute of one that is right, on a dial of twelve hours."""
    said = time_of_day(answer)
    right = [time_of_day(one) for one in question.answers]
    return float(said is not None and any(min((said - one) % 720, (one - said) % 720) <= 1 for one in right if one))


def clock_hour(answer: str, question: Question) -> float:
    """1 if the hour that it says is right, whatever its minutes."""
    said = time_of_day(answer)
    return float(said is not None and said // 60 in {one // 60 for one in map(time_of_day, question.answers) if one})


def points(answer: str, question: Question, which: Literal["precision", "recall", "F1"] = "F1") -> float:
    """How many of the points said lie at right ones, how many of the right ones were said, or their F1: each question's
    own, so that the mean over questions is allenai/molmo's (evaluators.py). A point lies at a right one in its mask, or
    without masks within a radius. Where there is nothing to point at, only no point is right.
    """
    said = read_points(answer)[:_MOST_POINTS]
    return max(_points(said, read_points(right), question.masks, which) for right in question.answers)


def _points(said: Sequence[Point], right: Sequence[Point], masks: Sequence[Mask], which: str) -> float:
    if not said or not right:
        return float(not said and not right)
    hits = inside(said, masks) if masks else matched(said, right)
    return {"precision": hits / len(said), "recall": hits / len(right), "F1": 2 * hits / (len(said) + len(right))}[
        which
    ]


def says_yes(answer: str) -> bool:
    """POPE's reading: a no if its first sentence has the word no or not, else a yes."""
    words = answer.partition(".")[0].replace(",", "").lower().split()
    return not {"no", "not"} & set(words)


METRICS: Final[dict[str, Metric]] = {
    "exact": Mean("accuracy", exact),
    "vqa": Mean("VQA accuracy", vqa_accuracy),
    "choice": Mean("accuracy", choice),
    "relaxed": Mean("relaxed accuracy", relaxed_accuracy),
    "anls": Mean("ANLS", anls),
    "count": Mean("accuracy of counts", counting),
    "clock": Mean("times within a minute", clock_time),
    "clock_hour": Mean("hours", clock_hour),
    "points": Mean("point F1", points),
    "point_precision": Mean("point precision", functools.partial(points, which="precision")),
    "point_recall": Mean("point recall", functools.partial(points, which="recall")),
    "pope": Pope(),
    "cider": Cider(),
    "cap_f1": CapF1(),
}
"""By the name that questions give them."""


def check(question: Question) -> None:
    """Raise ValueError if the question cannot be judged by its metric."""
    require(question.metric in METRICS, f"the metric is {question.metric!r}; there are {', '.join(METRICS)}")
    if question.metric == "vqa":
        told = f"the metric vqa compares with what several humans said, and it has {len(question.answers)} answers; "
        require(len(question.answers) >= 4, told + "give the ten, or the metric exact")
    if question.metric == "choice":
        require(bool(question.choices), "the metric choice needs `choices`")
    if question.metric == "pope":
        require(plain(question.answers[0]) in ("yes", "no"), f"POPE asks for yes or no, not {question.answers[0]!r}")
    if question.metric in ("points", "point_precision", "point_recall"):
        placed = all(read_points(answer) or plain(answer) == NO_POINTS for answer in question.answers)
        syntax = "points in Molmo's syntax or 'There are none.'"
        require(placed, f"the metric {question.metric} needs {syntax}, not {question.answers}")
        own, masks = [len(read_points(answer)) for answer in question.answers], len(question.masks)
        require(not masks or own == [masks], f"it has {masks} masks, and answers of {own} points: give one a point")
    if question.metric in ("clock", "clock_hour"):
        times = all(time_of_day(answer) is not None for answer in question.answers)
        require(times, f"the metric {question.metric} needs times such as 4:04, not {question.answers}")
    if question.metric == "count":
        numbers = all(count_of(answer) is not None for answer in question.answers)
        require(numbers, f"the metric count needs numbers, not {question.answers}")
