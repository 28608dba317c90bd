"""Conversations in LLaVA's format, with pointing and counting answers in Molmo's syntax."""

import html
import random
from collections.abc import Sequence
from typing import Any, Final

from mmcorpus.curation.synthetic.common import stream
from mmcorpus.curation.synthetic.render.charts import chart_questions_by_color
from mmcorpus.curation.synthetic.render.rendered import Point, Rendered
from mmcorpus.curation.synthetic.render.words import plural

DESCRIBE: Final = "What is in the picture?"
"""Answered by the shortest caption."""
_ASK_POINTS = ("Point to the {}.", "Point at the {}.", "Where are the {}? Point to them.", "Show me the {}.")
_ASK_POINT = ("Point to the {}.", "Point at the {}.", "Where is the {}? Point to it.", "Show me the {}.")


def conversations(rendered: Rendered, short: int | None = None, *, seen: bool = False) -> list[dict[str, str]]:
    """The picture's questions and answers as LLaVA turns.

    With `short` at most so many of the questions with short answers, drawn and ordered by the seed, so that any of them
    may come first, as when it is asked alone; a description comes last, so that no answer can be read off it. With
    `seen` these are drawn from the questions that need no print to be read, and a clock's time is always among them.

    `[{"from": "human", "value": "<image>\\nQ"}, {"from": "gpt", "value": "A"}, …]`. A picture with points gets a turn
    that points to one of its labels. Scenes, whose points are countable things, also get a turn that counts by
    pointing and, for some seeds, one that asks for what is not there. What an explanation is known of is explained.
    """
    if short is not None:
        drawn = stream(rendered.kind, rendered.facts["seed"], "questions")
        asked = _seen(rendered, short, drawn) if seen else drawn.sample(rendered.qa, min(short, len(rendered.qa)))
        return _messages([*asked, (DESCRIBE, rendered.captions[0])])
    rng = stream(rendered.kind, rendered.facts["seed"], "conversation")
    turns = list(rendered.qa)

    def at(label: str) -> list[Point]:
        return [point for point in rendered.points if point.label == label]

    labels = list(dict.fromkeys(point.label for point in rendered.points))
    if labels:
        many, one, label = rng.choice(_ASK_POINTS), rng.choice(_ASK_POINT), rng.choice(labels)
        question = one if len(at(label)) == 1 else many
        turns.append((question.format(label), pointing_answer(at(label), label)))
    if rendered.kind == "scene":
        label = rng.choice(labels)
        group = next(g for g in rendered.facts["groups"] if label.startswith(g["color"]))
        many = f"{group['color']} {plural(group['shape'])}"
        turns.append((f"How many {many} are there? Count by pointing.", counting_answer(at(label), many)))
        if rng.random() < 0.4:
            absent = rendered.facts["absent"]
            many = f"{absent['color']} {plural(absent['shape'])}"
            turns.append((f"Point to the {many}.", pointing_answer((), many)))
    return _messages([*turns, *rendered.explained])


def annotations(rendered: Rendered) -> dict[str, list[dict[str, Any]]]:
    """The same as Molmo's annotations of an image, each of which becomes a branch of a pack (`packing/render.py`).

    `{"annotations": […]}`: the most detailed caption (`long_caption`) and the shortest, each transcript, the questions
    as one conversation (`clock_qa`, `document_qa`, …), for every label of points to point (`pointing`), of countable
    things to count by pointing (`point_count`), what is not there, and explanations that point (`point_qa`).
    """
    listing: list[dict[str, Any]] = [{"style": "long_caption", "text": rendered.captions[-1]}]
    listing.append({"style": "short_caption", "text": rendered.captions[0]})
    listing += [{"style": "transcript", "text": text} for text in rendered.transcripts]
    messages = [
        {"role": role, "content": text}
        for turn in rendered.qa
        for role, text in zip(("user", "assistant"), turn, strict=True)
    ]
    listing.append({"style": f"{rendered.kind}_qa", "messages": messages})
    by_label: dict[str, list[list[float]]] = {}
    for point in rendered.points:
        by_label.setdefault(point.label, []).append([point.x, point.y])
    if (absent := rendered.facts.get("absent")) is not None:
        by_label[f"{absent['color']} {plural(absent['shape'])}"] = []
    for label, points in by_label.items():
        listing.append({"style": "pointing", "label": label, "points": points})
        if absent is not None and points:
            listing.append({"style": "point_count", "label": label, "points": points})
    listing += [{"style": "point_qa", "question": asked, "answer": answer} for asked, answer in rendered.explained]
    return {"annotations": listing}


def _seen(rendered: Rendered, most: int, rng: random.Random) -> list[tuple[str, str]]:
    """At most so many of the questions that can be answered where print cannot be read, in an order drawn."""
    questions = chart_questions_by_color(rendered.facts) if rendered.kind == "chart" else list(rendered.qa)
    first = [questions.pop(0)] if rendered.kind in ("clock", "dial") else []
    asked = [*first, *rng.sample(questions, min(most - len(first), len(questions)))]
    return rng.sample(asked, len(asked))


def _messages(turns: Sequence[tuple[str, str]]) -> list[dict[str, str]]:
    messages = []
    for number, (question, answer) in enumerate(turns):
        messages.append({"from": "human", "value": question if number else f"<image>\n{question}"})
        messages.append({"from": "gpt", "value": answer})
    return messages


def pointing_answer(points: Sequence[Point], label: str) -> str:
    """Molmo's answer to a request to point (data_formatter.py, `format_points`).

    `<point x="10.0" y="20.0" alt="A">A</point>`, several as `<points x1=… y1=… x2=… y2=… alt=…>`, none as
    `There are none.`. The points keep their order, which in a `Rendered` is the paper's: top-down, then left to right.
    """
    if not points:
        return "There are none."
    text, alt = html.escape(label, quote=False), html.escape(label)
    if len(points) == 1:
        return f'<point x="{points[0].x:.1f}" y="{points[0].y:.1f}" alt="{alt}">{text}</point>'
    places = " ".join(f'x{n}="{point.x:.1f}" y{n}="{point.y:.1f}"' for n, point in enumerate(points, start=1))
    return f'<points {places} alt="{alt}">{text}</points>'


def counting_answer(points: Sequence[Point], label: str) -> str:
    """Molmo's answer to a request to count by pointing: `Counting the <points …> shows a total of 3.`"""
    if not points:
        return "There are none."
    return f"Counting the {pointing_answer(points, label)} shows a total of {len(points)}."
