"""Results of an evaluation: metrics with intervals, over all questions and by category."""

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa

from mmcorpus.training.evaluation.asking import read
from mmcorpus.training.evaluation.config import EvaluationConfig
from mmcorpus.training.evaluation.intervals import Estimate, estimate
from mmcorpus.training.evaluation.judge import Statements
from mmcorpus.training.evaluation.metrics import METRICS, Array, CapF1, Metric
from mmcorpus.training.evaluation.question import Question

ALL: Final = ""
"""The category of all questions."""
BLANK: Final = -1
"""In place of a demonstration seed: the questions asked with grey images."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Result:
    """One line of a table: a metric over the questions of a category that were answered."""

    metric: str
    title: str
    """The metric as a table calls it."""
    fractions: bool
    """Whether the value is to be shown in per cent."""
    category: str
    """Empty for all questions of the metric."""
    found: Estimate
    by_seed: tuple[float, ...]
    """The values of each demonstration seed, where there are several."""
    blank: Estimate | None
    """The same with grey images, if asked for."""
    constant: float
    """The same for who says always the same: the most frequent of the right answers. Chance, at its best."""

    def shown(self, value: float) -> str:
        """A value of this metric for people: `71.3 %`, `0.85`, `–`."""
        if math.isnan(value):
            return "–"
        return f"{value:.1%}".replace("%", " %") if self.fractions else f"{value:.2f}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """An evaluation that is done."""

    model: str
    questions: int
    unanswered: dict[str, int]
    """Questions that were not answered each time that they were asked (at every seed of the demonstrations, with grey
    images), by the first reason; they are in no result."""
    results: list[Result]

    def as_dict(self) -> dict[str, Any]:
        """JSON-able; what is not a number is null."""
        found: dict[str, Any] = _without_nan(dataclasses.asdict(self))
        return found


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value


def summarise(
    model: str,
    config: EvaluationConfig,
    questions: Sequence[Question],
    answers: pa.Table,
    judged: Mapping[tuple[str, str], Statements] | None = None,
) -> EvaluationReport:
    """The results of answers, as `run.py` commits them: the mean over seeds, a line a metric and one a category.

    `judged`: what a judge found of captions, by what is judged of an answer, and the question; those that it could not
    judge are unanswered.
    """
    kinds: dict[str, Metric] = {**METRICS, "cap_f1": CapF1(judged=judged or {})}
    by_id = {question.id: question for question in questions}
    rows = [row for row in answers.to_pylist() if row["id"] in by_id]
    # A question counts in every column or in none, so that columns can be compared: the first reason counts.
    lost: dict[str, str] = {}
    for row in rows:
        if row["answer"] is None:
            lost.setdefault(row["id"], row["reason"])
        elif judged and (why := judged.get((read(row["answer"], config), row["id"]), Statements()).reason):
            lost.setdefault(row["id"], f"judge: {why}")
    numbers: dict[int, dict[str, Array]] = {}
    for seed in sorted({row["seed"] for row in rows}):
        own = [row for row in rows if row["seed"] == seed and row["id"] not in lost]
        numbers[seed] = _judged(config, by_id, own, kinds)
    results = []
    for metric in dict.fromkeys(question.metric for question in questions):
        asked = [question for question in questions if question.metric == metric]
        named = dict.fromkeys(question.category for question in asked if question.category)
        for category in (ALL, *(named if len(named) > 1 else ())):
            results += [_result(config, line, category, asked, numbers) for line in _lines(metric, kinds[metric])]
    unanswered = dict(Counter(lost.values()))
    return EvaluationReport(model=model, questions=len(questions), unanswered=unanswered, results=results)


def _lines(name: str, kind: Metric) -> list[tuple[str, Metric]]:
    """What a metric is shown as: itself; of captions also the precision and recall that it is made of."""
    if not isinstance(kind, CapF1):
        return [(name, kind)]
    parts: list[tuple[str, Metric]] = [
        ("cap_precision", dataclasses.replace(kind, title="cap precision", of="precision")),
        ("cap_recall", dataclasses.replace(kind, title="cap recall", of="recall")),
    ]
    return [(name, kind), *parts]


def _judged(
    config: EvaluationConfig, by_id: Mapping[str, Question], rows: Sequence[Any], kinds: Mapping[str, Metric]
) -> dict[str, Array]:
    """The numbers of each question, by id, from its answers at one seed."""
    found: dict[str, Array] = {}
    for metric in kinds:
        own = [row for row in rows if by_id[row["id"]].metric == metric]
        said = [read(row["answer"], config) for row in own]
        numbers = kinds[metric].judge(said, [by_id[row["id"]] for row in own])
        found |= {row["id"]: number for row, number in zip(own, numbers, strict=True)}
    return found


def _result(
    config: EvaluationConfig,
    line: tuple[str, Metric],
    category: str,
    asked: Sequence[Question],
    judged: Mapping[int, Mapping[str, Array]],
) -> Result:
    own = [question for question in asked if category in (ALL, question.category)]
    answered = [question for question in own if all(question.id in numbers for numbers in judged.values())]
    clusters = [question.cluster for question in answered]
    metric, kind = line
    columns = len(kind.judge(["0"], own[:1])[0])
    of_seed = {seed: _rows([judged[seed][question.id] for question in answered], columns) for seed in judged}
    grey = of_seed.pop(BLANK, None)
    # A question counts once, with its mean over the seeds.
    rows = np.mean(list(of_seed.values()), axis=0) if of_seed else np.zeros((0, columns))
    return Result(
        metric=metric, title=kind.title, fractions=kind.fractions, category=category,
        found=estimate(kind, rows, clusters, config.seed),
        by_seed=tuple(float(kind.value(one.sum(0, keepdims=True))[0]) for one in of_seed.values())
        if len(of_seed) > 1 else (),
        blank=None if grey is None else estimate(kind, grey, clusters, config.seed),
        constant=_constant(kind, own),
    )  # fmt: skip


def _constant(kind: Metric, asked: Sequence[Question]) -> float:
    said = Counter(answer for question in asked for answer in set(question.answers)).most_common(1)[0][0]
    return float(kind.value(kind.judge([said] * len(asked), asked).sum(0, keepdims=True))[0])


def _rows(rows: Sequence[Array], columns: int) -> Array:
    return np.array(rows, dtype=np.float64).reshape(-1, columns)
