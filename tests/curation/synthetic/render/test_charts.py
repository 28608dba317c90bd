"""Charts: the values read from the pixels."""

import numpy as np
import pytest

from mmcorpus.curation.synthetic.render import Rendered, render
from mmcorpus.curation.synthetic.render.canvas import ink_on
from mmcorpus.curation.synthetic.render.charts import chart_questions_by_color


def same(pixels: np.ndarray, rgb: list[int] | list[float], tolerance: int = 6) -> np.ndarray:
    return np.abs(pixels.astype(int) - rgb).max(axis=-1) <= tolerance


def charts(forms: set[str], seeds: int, size: tuple[int, int] | None = None) -> list[Rendered]:
    return [r for r in (render("chart", seed, size=size) for seed in range(seeds)) if r.facts["chart"] in forms]


@pytest.mark.parametrize("size", [None, (400, 300)])
def test_bars_are_as_long_as_their_values(size: tuple[int, int] | None) -> None:
    seen = 0
    for rendered in charts({"bar", "horizontal bar"}, 120, size):
        pixels, facts = np.asarray(rendered.image), rendered.facts
        lying = facts["chart"] == "horizontal bar"
        ground = pixels[0, 0].astype(float)
        axis = list(ground + 0.6 * (np.array(ink_on(tuple(ground))) - ground))
        per_unit = []
        for series in facts["series"]:
            for value, rgb, (left, top, right, bottom) in zip(
                series["values"], series["rgb"], series["extents"], strict=True
            ):
                line = pixels[round((top + bottom) / 2), :] if lying else pixels[:, round((left + right) / 2)]
                start, end = (left, right) if lying else (top, bottom)
                inside = same(line[round(start) : round(end)], rgb)
                # The axis line covers the bar's foot.
                assert inside.sum() >= len(inside) - 3, (facts["seed"], value)
                beyond = line[round(end) + 2] if lying else line[round(start) - 2]
                assert not same(beyond, rgb), (facts["seed"], value)
                foot = round(start if lying else end)
                assert same(line[foot - 2 : foot + 2], axis, 25).any(), (facts["seed"], "no axis under the bar")
                per_unit.append(((end - start) / value, 1.0 / value))
                seen += 1
        # Every bar's length over its value is the one scale, to a pixel.
        scale = np.median([unit for unit, _ in per_unit])
        assert all(abs(unit - scale) <= slack for unit, slack in per_unit), facts["seed"]
    assert seen > 150


def test_line_markers_lie_at_their_values() -> None:
    seen = 0
    for rendered in charts({"line"}, 200):
        pixels, facts = np.asarray(rendered.image), rendered.facts
        values, heights = [], []
        for series in facts["series"]:
            for value, rgb, (x, y) in zip(series["values"], series["rgb"], series["extents"], strict=True):
                spot = pixels[round(y) - 1 : round(y) + 1, round(x) - 1 : round(x) + 1]
                assert same(spot, rgb, 8).all(), (facts["seed"], value)
                values.append(value)
                heights.append(y)
        slope, base = np.polyfit(values, heights, 1)
        assert slope < 0
        assert np.abs(np.array(values) * slope + base - heights).max() < 0.2
        seen += 1
    assert seen > 20


def test_pie_slices_cover_their_share() -> None:
    seen = 0
    for rendered in charts({"pie"}, 200, (300, 260)):
        pixels, series = np.asarray(rendered.image), rendered.facts["series"][0]
        areas = np.array([same(pixels, rgb).sum() for rgb in series["rgb"]], float)
        shares = 100 * areas / areas.sum()
        assert sum(series["values"]) == 100
        turns = [end - start for start, end in series["extents"]]
        assert turns == pytest.approx([3.6 * value for value in series["values"]], abs=0.11)
        # Texts in the slices and swatches in the legend shift the shares a little.
        assert np.abs(shares - series["values"]).max() < 4.0, rendered.facts["seed"]
        seen += 1
    assert seen > 25


def test_points_lie_on_their_marks() -> None:
    for rendered in (render("chart", seed) for seed in range(80)):
        pixels, facts = np.asarray(rendered.image), rendered.facts
        height, width = pixels.shape[:2]
        ground = pixels[0, 0].astype(int)
        assert len(rendered.points) == sum(len(series["values"]) for series in facts["series"])
        assert len({point.label for point in rendered.points}) == len(rendered.points)
        for point in rendered.points:
            x, y = round(point.x * width / 100), round(point.y * height / 100)
            assert (np.abs(pixels[y - 3 : y + 3, x - 3 : x + 3] - ground).max(axis=2) > 30).any(), (
                facts["seed"],
                point,
            )


def test_unlabelled_values_lie_on_the_grid_or_halfway() -> None:
    for rendered in charts({"bar", "horizontal bar", "line"}, 150):
        facts = rendered.facts
        for series in facts["series"]:
            assert max(series["values"]) <= facts["top"]
            if not facts["labelled"]:
                assert all(value % (facts["top"] // 10) == 0 for value in series["values"])


def test_answers_agree_with_the_facts() -> None:
    for rendered in (render("chart", seed) for seed in range(200)):
        facts, answers = rendered.facts, dict(rendered.qa)
        percent = "%" if facts["chart"] == "pie" else ""
        for series in facts["series"]:
            of_row = f" for {series['name']}" if series["name"] else ""
            best = answers.get(f"Which has the highest value{of_row}?")
            values = dict(zip(facts["categories"], series["values"], strict=True))
            if best is not None:
                assert [name for name, value in values.items() if value == max(values.values())] == [best]
                worst = answers[f"Which has the lowest value{of_row}?"]
                assert [name for name, value in values.items() if value == min(values.values())] == [worst]
            for name, value in values.items():
                answer = answers.get(f"What is the value of {name}{of_row}?", f"{value}{percent}")
                assert answer == f"{value}{percent}"
            assert all(f"{name} {value}{percent}" in rendered.captions[-1] for name, value in values.items())
            for color in series["colors"]:
                assert all(color in caption for caption in (rendered.captions[0], rendered.captions[-1]))
        if len(facts["series"]) == 2:
            assert all(a != b for a, b in zip(*(series["values"] for series in facts["series"]), strict=True))
            assert len({series["colors"][0] for series in facts["series"]}) == 2


def test_nothing_is_cut_at_the_edges() -> None:
    for rendered in (render("chart", seed) for seed in range(150)):
        pixels = np.asarray(rendered.image).astype(int)
        edge = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3), pixels[:, 0], pixels[:, -1]])
        assert np.abs(edge - pixels[0, 0]).max() <= 2, rendered.facts["seed"]


def test_questions_by_color_are_answered_by_the_lengths_of_the_marks() -> None:
    tenths = shares = 0
    for rendered in charts({"bar", "horizontal bar", "pie"}, 150, (128, 128)):
        facts, asked = rendered.facts, dict(chart_questions_by_color(rendered.facts))
        row = facts["series"][0]
        if len(facts["series"]) > 1 or len(set(row["colors"])) < len(row["colors"]):
            assert not any(question.startswith(("What is the value", "How many tenths")) for question in asked)
            continue
        value = dict(zip(row["colors"], row["values"], strict=True))
        if facts["chart"] == "pie":
            assert asked["What color is the largest slice?"] == max(value, key=lambda color: value[color])
            assert asked.items() >= {f"What is the value of the {c} slice?": f"{v}%" for c, v in value.items()}.items()
            shares += len(value)
            continue
        lying = facts["chart"] == "horizontal bar"
        length = {
            color: right - left if lying else bottom - top
            for color, (left, top, right, bottom) in zip(row["colors"], row["extents"], strict=True)
        }
        assert asked["What color is the longest bar?"] == max(length, key=lambda color: length[color])
        assert asked["What color is the shortest bar?"] == min(length, key=lambda color: length[color])
        for color, one in value.items():
            said = asked.get(f"How many tenths of the axis is the {color} bar?")
            assert (said is None) == (abs(10 * one / facts["top"] - round(10 * one / facts["top"])) >= 0.3)
            if said is not None:
                assert abs(int(said) / 10 - one / facts["top"]) < 0.03
                tenths += 1
    assert tenths > 30
    assert shares > 50


def test_lines_are_asked_for_by_kind_and_number() -> None:
    for rendered in charts({"line"}, 60, (128, 128)):
        asked = dict(chart_questions_by_color(rendered.facts))
        assert asked["What kind of chart is this?"] == "line chart"
        assert asked["How many lines are there?"] == str(len(rendered.facts["series"]))
