"""Annotations rendered: reproducible, another for each copy, in Molmo's formats."""

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.render import POINTING, PROMPTS, RenderConfig, parse_annotations, pointed, render

TEXT = "A red clock hangs on a white wall, and its hands say noon. " * 6
GIVEN = {
    "annotations": [
        {"style": "long_caption", "text": TEXT},
        {"style": "vqa2", "question": "What is it?", "answer": "a clock"},
        {"style": "user_qa", "messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]},
        {"style": "pointing", "label": "hands", "points": [[70, 51], [48.04, 20.5]]},
        {"style": "point_count", "label": 'a "6"', "points": [[1, 2]], "weight": 0.2},
    ]
}


def rendered(word: int, **settings: Any) -> dict[str, list[tuple[str, str]]]:
    annotations = parse_annotations(json.dumps(GIVEN))
    assert annotations is not None
    return {branch.style: branch.turns for branch in render(annotations, RenderConfig(**settings), word)}


def test_every_copy_is_rendered_anew_and_each_the_same_again() -> None:
    copies = [rendered(word) for word in range(40)]
    assert copies == [rendered(word) for word in range(40)]
    assert len({str(copy) for copy in copies}) == 40
    assert len({tuple(copy) for copy in copies}) > 20, "branches come in another order"
    assert {tuple(rendered(word, shuffle=False)) for word in range(9)} == {
        ("long_caption", "vqa2", "user_qa", "pointing", "point_count")
    }
    for copy in copies:
        assert copy["vqa2"] == [("user", "vqa2: What is it?"), ("assistant", "a clock")]
        assert copy["user_qa"] == [("user", "user_qa: Hi"), ("assistant", "Ho")]
        assert copy["pointing"][1][1] == '<points x1="48.0" y1="20.5" x2="70.0" y2="51.0" alt="hands">hands</points>'
        assert copy["point_count"][1][1] == (
            'Counting the <point x="1.0" y="2.0" alt="a &quot;6&quot;">a "6"</point> shows a total of 1.'
        )
    asked = {copy["pointing"][0][1] for copy in copies}
    assert asked == {f"pointing: {prompt.replace('{label}', 'hands')}" for prompt in PROMPTS[POINTING]}


def test_length_hints_are_characters_over_fifteen_with_noise_nine_times_in_ten() -> None:
    prompts = [rendered(word)["long_caption"][0][1] for word in range(3000)]
    hints = [int(found[1]) for prompt in prompts if (found := re.fullmatch(r"long_caption (\d+):", prompt))]
    assert {prompt for prompt in prompts if not re.search(r"\d", prompt)} == {"long_caption :"}
    assert 0.88 < len(hints) / len(prompts) < 0.92
    mean = sum(hints) / len(hints)
    spread = (sum((hint - mean) ** 2 for hint in hints) / len(hints)) ** 0.5
    assert abs(mean - (len(TEXT) / 15 - 0.5)) < 0.15
    assert 25 / 15 - 0.1 < spread < 25 / 15 + 0.2
    exact = rendered(1, length_hint=1.0, hint_noise=0.0)["long_caption"][0][1]
    assert exact == f"long_caption {len(TEXT) // 15}:"


def test_style_tags_and_prompts_are_drawn_as_the_recipe_says() -> None:
    settings: dict[str, Any] = {
        "style_tags": {"user_qa": 0.1, "vqa2": 0.0},
        "prompts": {"long_caption": ("Describe this.", "What is here?"), "pointing": ("{label}!",)},
    }
    copies = [rendered(word, **settings) for word in range(1000)]
    assert 60 < sum(copy["user_qa"][0][1] == "user_qa: Hi" for copy in copies) < 140
    assert {copy["vqa2"][0][1] for copy in copies} == {"What is it?"}
    assert {copy["long_caption"][0][1] for copy in copies} == {
        "long_caption: Describe this.", "long_caption: What is here?"
    }  # fmt: skip
    assert copies[0]["pointing"][0][1] == "pointing: hands!"


def test_of_transcripts_one_is_drawn_points_are_counted_at_times_and_how_many_is_opened() -> None:
    """Molmo's caption with one transcript, its points as pointing and counting alike, its answers without points."""
    spoken = [{"style": "transcript", "text": f"so number {number}"} for number in range(3)]
    asked = [
        {"style": "user_qa", "question": "How many cats?", "answer": "2"},
        {"style": "user_qa", "question": "And how many dogs?", "answer": "1"},
        {"style": "vqa2", "question": "How many?", "answer": "1"},
        {"style": "pointing", "label": "cats", "points": [[1, 2], [3, 4]]},
    ]
    annotations = parse_annotations(json.dumps({"annotations": spoken + asked}))
    assert annotations is not None
    config = RenderConfig(
        draw={"transcript": 1, "user_qa": 5}, restyle={"pointing": ("pointing", "point_count")},
        openings={"user_qa": ("No pointing: ", "no points\n")}, style_tags={"user_qa": 0.0},
    )  # fmt: skip
    copies = [render(annotations, config, word) for word in range(300)]
    assert copies == [render(annotations, config, word) for word in range(300)]
    other = replace(config, draw=dict(reversed(config.draw.items())))
    more = [*annotations, *annotations[3:4] * 5]
    assert [render(more, other, word) for word in range(40)] == [render(more, config, word) for word in range(40)]
    told = [branch.turns[1][1] for copy in copies for branch in copy if branch.style == "transcript"]
    assert len(told) == 300
    assert all(70 < told.count(f"so number {number}") < 130 for number in range(3))
    styles = [branch.style for copy in copies for branch in copy]
    assert styles.count("pointing") + styles.count("point_count") == 300
    assert 120 < styles.count("point_count") < 180
    questions = {b.turns[0][1] for copy in copies for b in copy if b.style in ("user_qa", "vqa2")}
    assert questions == {
        "No pointing: How many cats?", "no points\nHow many cats?", "And how many dogs?", "vqa2: How many?"
    }  # fmt: skip
    assert not {"draw", "restyle", "openings"} & set(RenderConfig().as_dict()), "records of before stay as they were"
    plan = PlanConfig(context_length=64, tokens_per_image=4, render=config)
    assert PlanConfig.read(json.loads(json.dumps(plan.settings()))) == plan


def test_points_are_ordered_as_the_code_or_as_the_paper_has_them() -> None:
    points = ((10.0, 90.0), (80.0, 5.0))
    assert pointed(points, "a").index("90.0") < pointed(points, "a").index("5.0")
    assert pointed(points, "a", "reading").startswith('<points x1="80.0" y1="5.0" x2="10.0"')
    assert pointed((), "a", counted=True) == "There are none."


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "not a list of at least one"),
        ("x", "not a list of at least one"),
        (["x"], "annotation 0 is not an object"),
        ([{"style": 3, "text": "x"}], "annotation 0 is not an object with a style"),
        ([{"text": " "}], "annotation 0 says nothing: its 'text'"),
        ([{"question": "what?"}], "its 'answer' is no text"),
        ([{"label": "x", "points": [[1, 101]]}], r"the point \[1, 101\]; a point is"),
        ([{"label": "x", "points": [[True, 1]]}], "a point is"),
        ([{"label": "x", "points": 4}], "a point is"),
        ([{"points": [[1, 1]]}], "its 'label' is no text"),
        ([{"text": "x", "weight": -1}], "the weight -1"),
        ([{"text": "x", "weight": "2"}], "the weight '2'"),
        ([{"text": "ok"}, {"style": "x"}], "annotation 1 has no text"),
    ],
)
def test_what_is_no_annotation(given: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parse_annotations(json.dumps({"annotations": given}))


def test_conversations_are_none_and_settings_are_checked() -> None:
    with pytest.raises(ValueError, match=r"pack\.render\.draw\.transcript is -1"):
        RenderConfig(draw={"transcript": -1})
    annotations = parse_annotations(json.dumps(GIVEN)) or []
    assert "vqa2" not in {branch.style for branch in render(annotations, RenderConfig(draw={"vqa2": 0}), 0)}
    with pytest.raises(ValueError, match="none of its annotations is wanted: vqa2"):
        render(annotations[1:2], RenderConfig(draw={"vqa2": 0}), 0)
    with pytest.raises(ValueError, match=r"pack\.render\.openings gives 'user_qa' 'No'; give a list"):
        RenderConfig(openings={"user_qa": "No"})  # type: ignore[dict-item]
    for text in ('[{"from": "human"}]', '{"messages": []}', "no json", "{no json", "[" * 99_999):
        assert parse_annotations(text) is None
    for wrong in (
        {"variants": 0}, {"length_hint": 1.1}, {"style_tags": {"a": -1}}, {"hint_noise": float("nan")},
        {"point_order": "x"}, {"prompts": {"a": ()}}, {"hint_characters": 0},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=r"pack\.render\."):
            RenderConfig(**wrong)  # type: ignore[arg-type]
