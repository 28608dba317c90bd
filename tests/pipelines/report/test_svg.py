import re
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from mmcorpus.pipelines.report import svg


def rectangles(chart: str, css: str) -> list[dict[str, str]]:
    root = ElementTree.fromstring(chart)
    return [element.attrib for element in root.iter("rect") if element.attrib["class"] == css]


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (7, "7"), (0.1234, "0.123"), (1500, "1500"), (25_000, "25k"), (2_500_000, "2.5M"), (999_700, "1M")],
)
def test_numbers_are_written_short(value: float, text: str) -> None:
    assert svg.number(value) == text


@pytest.mark.parametrize(("low", "high"), [(0, 1), (3, 512), (-2, 2), (0.001, 0.0042), (5, 5)])
def test_ticks_are_round_and_inside(low: float, high: float) -> None:
    found = svg.ticks(low, high)
    assert found
    assert all(low - 1e-9 <= tick <= high + 1e-9 for tick in found)
    assert len(found) <= 9


def test_histogram_bars_are_proportional_to_counts() -> None:
    values = np.array([0.0] * 30 + [1.0] * 60)
    bars = rectangles(svg.histogram(values, np.ones(90, bool), "x"), "bar-kept")
    heights = [float(bar["height"]) for bar in bars]
    assert len(heights) == 2
    assert heights[1] == pytest.approx(2 * heights[0], rel=0.01)


def test_histogram_shows_kept_within_all_and_skips_unscored() -> None:
    values = np.array([1.0, 2.0, 2.0, np.nan])
    chart = svg.histogram(values, np.array([False, True, False, True]), "x")
    assert len(rectangles(chart, "bar-dropped")) == 2
    (kept,) = rectangles(chart, "bar-kept")
    tallest = max(float(bar["height"]) for bar in rectangles(chart, "bar-dropped"))
    assert float(kept["height"]) == pytest.approx(tallest / 2, rel=0.01)


def test_threshold_line_stands_at_its_value_even_outside_the_data() -> None:
    chart = svg.histogram(np.array([0.0, 10.0]), np.ones(2, bool), "x", [svg.Threshold(operator=">=", value=20.0)])
    (x,) = re.findall(r'class="threshold" x1="([\d.]+)"', chart)
    assert float(x) == pytest.approx(svg.WIDTH - svg.RIGHT, abs=0.1)
    assert "&gt;= 20" in chart


def test_hostile_titles_are_escaped_and_charts_are_xml() -> None:
    for chart in (
        svg.histogram(np.array([1.0]), np.ones(1, bool), "<script>alert(1)</script>"),
        svg.histogram(np.zeros(0), np.zeros(0, bool), "empty"),
        svg.line_chart([], "none", "step"),
        svg.line_chart([svg.Line(label="a", xs=[1], ys=[float("nan")])], "nan", "step"),
    ):
        ElementTree.fromstring(chart)
        assert "<script" not in chart


def test_line_chart_places_extremes_on_the_frame() -> None:
    chart = svg.line_chart([svg.Line(label="loss", xs=[0, 10], ys=[4.0, 2.0], dots=True)], "loss", "step")
    points = re.search(r'points="([^"]+)"', chart)
    assert points
    first, last = (tuple(map(float, p.split(","))) for p in points[1].split())
    assert first[0] == pytest.approx(svg.LEFT)
    assert last[0] == pytest.approx(svg.WIDTH - svg.RIGHT)
    assert first[1] < last[1], "a higher loss stands higher on the page"
