"""Charts by Vega-Lite and Matplotlib: the data read from the pixels, the answers computed again, the code run again."""

import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from mmcorpus.curation.synthetic.common import stream
from mmcorpus.curation.synthetic.render import Rendered, render
from mmcorpus.curation.synthetic.render.canvas import COLORS
from mmcorpus.curation.synthetic.render.matplotlib_charts import run_script
from mmcorpus.curation.synthetic.render.people import draw_persona
from mmcorpus.curation.synthetic.render.plot_data import FORMS, Plot, draw_plot_data, questions

KINDS = ("vega_chart", "matplotlib_chart")


@pytest.fixture(scope="module")
def charts() -> dict[str, list[Rendered]]:
    return {kind: [render(kind, seed) for seed in range(16)] for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_every_value_has_a_point_on_its_mark(kind: str, charts: dict[str, list[Rendered]]) -> None:
    for rendered in charts[kind]:
        facts = rendered.facts
        values = [(row, value) for row in facts["series"] for value in row["values"]]
        assert len(rendered.points) == len(values), facts["chart"]
        if "bar" not in facts["chart"] or "hatch" in facts["code"]:
            continue
        pixels = np.asarray(rendered.image).astype(int)
        height, width = pixels.shape[:2]
        for row in facts["series"]:
            for category in facts["categories"]:
                label = f"{row['name']}, {category}" if row["name"] else category
                (point,) = [point for point in rendered.points if point.label == label]
                pixel = pixels[round(point.y * height / 100), round(point.x * width / 100)]
                assert np.abs(pixel - COLORS[row["color"]]).max() < 24, (facts["seed"], label)


@pytest.mark.parametrize("kind", KINDS)
def test_marks_stand_at_their_values(kind: str, charts: dict[str, list[Rendered]]) -> None:
    """Of marks along one axis, places are a straight line over values: bars by their middles, dots by themselves."""
    fitted = 0
    for rendered in charts[kind]:
        facts = rendered.facts
        if facts["chart"] in ("pie", "donut", "heatmap", "stacked bar"):
            continue
        lying = facts["chart"] == "horizontal bar"
        values, places = [], []
        for row in facts["series"]:
            for category, value in zip(facts["categories"], row["values"], strict=True):
                label = f"{row['name']}, {category}" if row["name"] else category
                (point,) = [point for point in rendered.points if point.label == label]
                values.append(value)
                places.append(point.x if lying else point.y)
        if len(set(values)) < 3:
            continue
        slope, start = np.polyfit(values, places, 1)
        assert np.abs(np.polyval([slope, start], values) - places).max() < 0.35, facts["seed"]
        assert slope > 0 if lying else slope < 0
        fitted += 1
    assert fitted > 5


def data(seed: int) -> tuple[Plot, Mapping[str, str]]:
    rng = stream("test plot", seed)
    plot = draw_plot_data(rng, draw_persona(rng))
    return plot, dict(questions(rng, plot))


def of_row(plot: Plot, named: str | None) -> dict[str, int]:
    row = next(row for row in plot.series if row.name == (named or ""))
    return dict(zip(plot.categories, row.values, strict=True))


def _difference(values: dict[str, int], a: str, b: str) -> int:
    return abs(values[a] - values[b])


def _larger(values: dict[str, int], a: str, b: str) -> str:
    return max((a, b), key=values.__getitem__)


def _second(values: dict[str, int], a: None, b: None) -> str:
    return sorted(values, key=values.__getitem__)[-2]


def _above(values: dict[str, int], a: str, b: None) -> int:
    return sum(value > int(a) for value in values.values())


def test_answers_are_computed_from_the_data() -> None:
    checks: dict[str, Any] = {
        r"What is the value of (?P<a>.+?)(?: for (?P<row>.+))?\?": lambda v, a, b: v[a],
        r"What is the difference between (?P<a>.+?) and (?P<b>.+?)(?: for (?P<row>.+))?\?": _difference,
        r"What is the sum of (?P<a>.+?) and (?P<b>.+?)(?: for (?P<row>.+))?\?": lambda v, a, b: v[a] + v[b],
        r"Which is larger(?: for (?P<row>.+?))?, (?P<a>.+?) or (?P<b>.+?)\?": _larger,
        r"Which category has the highest value(?: for (?P<row>.+))?\?": lambda v, a, b: max(v, key=v.__getitem__),
        r"Which category has the lowest value(?: for (?P<row>.+))?\?": lambda v, a, b: min(v, key=v.__getitem__),
        r"Which category has the second highest value(?: for (?P<row>.+))?\?": _second,
        r"What is the total of all values(?: for (?P<row>.+))?\?": lambda v, a, b: sum(v.values()),
        r"How many categories are above (?P<a>\d+)(?: for (?P<row>.+))?\?": _above,
    }  # fmt: skip
    numeric: dict[str, Any] = {
        r"What is the average of all values(?: for (?P<row>.+))?\?": lambda v, a, b: sum(v.values()) / len(v),
        r"What is the ratio of (?P<a>.+?) to (?P<b>.+?)(?: for (?P<row>.+))?\?": lambda v, a, b: v[a] / v[b],
    }
    seen = dict.fromkeys([*checks, *numeric], 0)
    forms = set()
    for seed in range(250):
        plot, answers = data(seed)
        forms.add(plot.form)
        for question, answer in answers.items():
            for pattern, compute in {**checks, **numeric}.items():
                if found := re.fullmatch(pattern, question):
                    parts = found.groupdict()
                    right = compute(of_row(plot, parts.get("row")), parts.get("a"), parts.get("b"))
                    if pattern in numeric:
                        assert float(answer) == pytest.approx(right, abs=0.0051)
                    else:
                        assert answer == str(right), (seed, question)
                    seen[pattern] += 1
    assert forms == set(FORMS)
    assert min(seen.values()) > 40, seen


def test_values_can_be_read_off_the_axis_where_they_are_not_written() -> None:
    for seed in range(250):
        plot, _ = data(seed)
        values = [value for row in plot.series for value in row.values]
        if plot.form in ("pie", "donut"):
            assert sum(values) == 100
            continue
        assert all(0 < value <= plot.top for value in values)
        if not plot.labelled:
            assert all(value * 10 % plot.top == 0 for value in values)  # a tick, or halfway
        if plot.form == "stacked bar":
            assert all(sum(row.values[n] for row in plot.series) <= plot.top for n in range(len(plot.categories)))


def test_the_code_beside_a_picture_draws_it() -> None:
    """Matplotlib's script by itself, whatever the user's settings; Vega-Lite's specification holds the data."""
    import matplotlib

    rng = stream("matplotlib_chart", 4, "")
    rendered = render("matplotlib_chart", 4)
    plot = draw_plot_data(rng, draw_persona(rng))
    assert plot.facts()["title"] == rendered.facts["title"]
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "red"}):
        first, _ = run_script(rendered.facts["code"], plot)
        assert matplotlib.rcParams["font.size"] == 30  # a script leaves nothing behind
    second, _ = run_script(rendered.facts["code"], plot)
    assert first.tobytes() == second.tobytes()
    vega = render("vega_chart", 4)
    rows = json.loads(vega.facts["code"])["data"]["values"]
    told = [value for row in vega.facts["series"] for value in row["values"]]
    assert [row["value"] for row in rows] == told
