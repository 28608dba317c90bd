"""Conversations: LLaVA's turns, Molmo's points."""

import json
import re

from mmcorpus.curation.synthetic.render import BASIC_KINDS, Point, annotations, conversations, render
from mmcorpus.curation.synthetic.render.conversations import DESCRIBE, counting_answer, pointing_answer
from mmcorpus.packing.render import RenderConfig as PackRenderConfig
from mmcorpus.packing.render import parse_annotations
from mmcorpus.packing.render import render as render_branches

ONE = re.compile(r'<point x="([\d.]+)" y="([\d.]+)" alt="([^"]*)">([^<]*)</point>')
MANY = re.compile(r'<points ((?:[xy]\d+="[\d.]+" ?)+) alt="([^"]*)">([^<]*)</points>')


def parse(answer: str) -> list[tuple[float, float]]:
    """The points of an answer, as Molmo's users read them."""
    if found := ONE.search(answer):
        assert found[3] == found[4]
        return [(float(found[1]), float(found[2]))]
    if found := MANY.search(answer):
        assert found[2] == found[3]
        numbers = dict(re.findall(r'([xy]\d+)="([\d.]+)"', found[1]))
        return [(float(numbers[f"x{n}"]), float(numbers[f"y{n}"])) for n in range(1, len(numbers) // 2 + 1)]
    assert answer == "There are none."
    return []


def test_turns_alternate_and_the_image_comes_first() -> None:
    for kind in (*BASIC_KINDS, "objects"):
        for seed in range(40):
            rendered = render(kind, seed)
            turns = conversations(rendered)
            assert turns == conversations(rendered)
            assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
            assert all(turn.keys() == {"from", "value"} and turn["value"] for turn in turns)
            assert turns[0]["value"] == f"<image>\n{rendered.qa[0][0]}"
            assert sum("<image>" in turn["value"] for turn in turns) == 1
            told = [
                (h["value"].removeprefix("<image>\n"), g["value"]) for h, g in zip(turns[::2], turns[1::2], strict=True)
            ]
            assert tuple(told[: len(rendered.qa)]) == rendered.qa


def test_scenes_point_and_count() -> None:
    absent = 0
    for seed in range(120):
        rendered = render("scene", seed)
        turns = conversations(rendered)
        answers = [turn["value"] for turn in turns if turn["from"] == "gpt"][len(rendered.qa) :]
        by_label: dict[str, list[tuple[float, float]]] = {}
        for point in rendered.points:
            by_label.setdefault(point.label, []).append((point.x, point.y))
        assert parse(answers[0]) in by_label.values()
        total = re.fullmatch(r"Counting the <.*> shows a total of (\d)\.", answers[1])
        assert total
        assert parse(answers[1]) in by_label.values()
        assert len(parse(answers[1])) == int(total[1])
        if len(answers) == 3:
            assert answers[2] == "There are none."
            absent += 1
            asked = turns[-2]["value"].removeprefix("Point to the ").removesuffix(".")
            assert asked not in by_label
    assert 20 < absent < 80


def test_syntax() -> None:
    first, second = Point("red stars", 10.0, 20.5), Point("red stars", 7.25, 100.0)
    assert pointing_answer([first], "red star") == '<point x="10.0" y="20.5" alt="red star">red star</point>'
    assert pointing_answer([first, second], "red stars") == (
        '<points x1="10.0" y1="20.5" x2="7.2" y2="100.0" alt="red stars">red stars</points>'
    )
    assert pointing_answer([], "red stars") == counting_answer([], "red stars") == "There are none."
    assert counting_answer([first], "red stars") == (
        'Counting the <point x="10.0" y="20.5" alt="red stars">red stars</point> shows a total of 1.'
    )
    assert pointing_answer([first], 'a "<b>"').count("&lt;b&gt;") == 2


def test_short_questions_are_drawn_for_each_picture_and_a_description_comes_last() -> None:
    """Every question comes first for some picture, and nothing that is said gives an answer away."""
    firsts = set()
    for seed in range(60):
        rendered = render("clock", seed)
        turns = conversations(rendered, short=3)
        assert turns == conversations(rendered, short=3)
        asked = [
            (q["value"].removeprefix("<image>\n"), a["value"]) for q, a in zip(turns[::2], turns[1::2], strict=True)
        ]
        assert len(asked) == 4
        assert asked[-1] == (DESCRIBE, rendered.captions[0])
        assert set(asked[:-1]) <= set(rendered.qa)
        assert len(set(asked)) == 4
        firsts.add(asked[0][0])
    assert firsts == {question for seed in range(60) for question, _ in render("clock", seed).qa}
    assert len(conversations(render("clock", 1), short=100)) == 2 * (len(render("clock", 1).qa) + 1)


def test_annotations_are_branches_that_packing_renders_as_we_say_them() -> None:
    """Every group of things to point at and to count, nothing where nothing is, each text and each question."""
    for kind in ("objects", "scene", "clock"):
        for seed in range(20):
            rendered = render(kind, seed)
            parsed = parse_annotations(json.dumps(annotations(rendered)))
            assert parsed is not None
            styles = [one.style for one in parsed]
            assert styles.count("transcript") == len(rendered.transcripts) == (0 if kind == "clock" else 3)
            assert styles.count("point_qa") == len(rendered.explained)
            labels = {point.label for point in rendered.points}
            pointed = {one.label: one.points for one in parsed if one.style == "pointing"}
            countable = kind != "clock"
            assert len(pointed) == len(labels) + countable
            assert sum(len(points or ()) for points in pointed.values()) == len(rendered.points)
            assert styles.count("point_count") == (len(labels) if countable else 0)
            branches = render_branches(parsed, PackRenderConfig(point_order="reading"), seed)
            said = {branch.turns[-1][1] for branch in branches}
            for label in labels:
                points = [point for point in rendered.points if point.label == label]
                assert pointing_answer(points, label) in said
                assert counting_answer(points, label) in said or not countable
            assert ("There are none." in said) == countable
            assert {answer for _, answer in rendered.explained} <= said
            assert rendered.captions[-1] in said


def test_seen_questions_need_no_print_and_every_clock_is_asked_for_the_time() -> None:
    asked: set[str] = set()
    for kind in ("clock", "dial", "chart", "scene"):
        for seed in range(40):
            rendered = render(kind, seed, size=(128, 128))
            turns = conversations(rendered, short=3, seen=True)
            told = [
                (q["value"].removeprefix("<image>\n"), a["value"]) for q, a in zip(turns[::2], turns[1::2], strict=True)
            ]
            assert told[-1] == (DESCRIBE, rendered.captions[0])
            assert 2 <= len(told) == len(set(told)) <= 4
            if kind in ("clock", "dial"):
                assert ("What time is it?", rendered.facts["time"]) in told[:-1]
            if kind == "chart":
                names = {*rendered.facts["categories"], rendered.facts["title"]}
                assert not any(name in text for pair in told[:-1] for text in pair for name in names)
            asked |= {question for question, _ in told[:1]}
    assert {"What time is it?", "What kind of chart is this?", "How many shapes are there?"} <= asked, "in any order"
