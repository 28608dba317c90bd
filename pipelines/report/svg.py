"""Charts as small inline SVG: no scripts, sharp in print, legible on a phone, colours from the page's style sheet.

Not matplotlib's SVG, which takes 70-140 ms and 15-21 kB a histogram where this takes 1 ms and 6 kB (the demo's report
has 121), knows no dark theme, and is not installed where one only trains. Notebooks have matplotlib: their figures have
several axes, and are the reader's to change.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final, NamedTuple

import numpy as np
import numpy.typing as npt

WIDTH: Final = 360
"""User units of every chart: about a phone's width, so that text is never scaled below reading size."""
HEIGHT: Final = 190
LEFT, RIGHT, TOP, BOTTOM = 44, 10, 12, 30
_BASE: Final = HEIGHT - BOTTOM
"""The y of the x axis."""
_SPAN: Final = WIDTH - LEFT - RIGHT
_BINS: Final = 40


class Threshold(NamedTuple):
    """A vertical line in a histogram: what the selection asks of the column."""

    operator: str
    value: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Line:
    """One curve of a line chart."""

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    dots: bool = False
    """Marks on the points: for few values, such as held-out losses."""


def number(value: float) -> str:
    """A number as a person writes it in a chart: 3 significant digits, k and M for thousands and millions."""
    size = abs(value)
    if size >= 999_500:
        return f"{value / 1e6:.3g}M"
    if size >= 9_995:
        return f"{value / 1e3:.3g}k"
    if size >= 1000 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.3g}"


def ticks(low: float, high: float, count: int = 4) -> list[float]:
    """Round numbers between low and high, about `count` of them."""
    if not high > low:
        return [low]
    step = (high - low) / count
    magnitude = 10.0 ** math.floor(math.log10(step))
    nice = min((1, 2, 2.5, 5, 10), key=lambda m: abs(m * magnitude - step)) * magnitude
    first = math.ceil(low / nice - 1e-9)
    last = math.floor(high / nice + 1e-9)
    return [i * nice for i in range(first, last + 1)]


def _frame(title: str, body: str) -> str:
    return (
        f'<svg class="chart" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">'
        f"<title>{escape(title)}</title>{body}</svg>"
    )


def _empty(title: str) -> str:
    return _frame(title, f'<text class="label" x="{WIDTH / 2}" y="90" text-anchor="middle">no values</text>')


def _axes(x_ticks: Sequence[tuple[float, str]], y_ticks: Sequence[tuple[float, str]], x_label: str) -> str:
    parts = []
    for y, text in y_ticks:
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 5}" y="{y + 3.5:.1f}" text-anchor="end">{escape(text)}</text>')
    for x, text in x_ticks:
        anchor = "start" if x < LEFT + 12 else "end" if x > WIDTH - RIGHT - 12 else "middle"
        parts.append(f'<text class="tick" x="{x:.1f}" y="{_BASE + 13}" text-anchor="{anchor}">{escape(text)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{_BASE}" y2="{_BASE}"/>')
    if x_label:
        middle = LEFT + _SPAN / 2
        parts.append(f'<text class="label" x="{middle}" y="{_BASE + 26}" text-anchor="middle">{escape(x_label)}</text>')
    return "".join(parts)


def _bar(css: str, x: float, y: float, width: float) -> str:
    return f'<rect class="{css}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_BASE - y:.1f}"/>'


def histogram(
    values: npt.NDArray[np.float64], kept: npt.NDArray[np.bool_], title: str, thresholds: Sequence[Threshold] = ()
) -> str:
    """Values of one score, those of selected samples filled on top of all; thresholds as lines.

    Heavy-tailed positive values get a logarithmic axis. NaN (unscored) is left out; no values give an empty frame.
    """
    finite = np.isfinite(values)
    values, kept = values[finite], kept[finite]
    if not len(values):
        return _empty(title)
    marks = [t.value for t in thresholds if math.isfinite(t.value)]
    low, high = float(min([values.min(), *marks])), float(max([values.max(), *marks]))
    logarithmic = low > 0 and high / max(float(np.median(values)), 1e-300) > 30
    if high <= low:
        low, high = low - 0.5, high + 0.5
    scale = np.log10 if logarithmic else np.asarray
    edges = np.linspace(float(scale(low)), float(scale(high)), _BINS + 1)
    all_counts, _ = np.histogram(scale(values), bins=edges)
    kept_counts, _ = np.histogram(scale(values[kept]), bins=edges)
    top = max(1, int(all_counts.max()))

    def x_of(value: float) -> float:
        return LEFT + (float(scale(value)) - edges[0]) / (edges[-1] - edges[0]) * _SPAN

    def y_of(count: float) -> float:
        return _BASE - count / top * (_BASE - TOP)

    bars = []
    width = _SPAN / _BINS
    for i, counts in enumerate(zip(all_counts, kept_counts, strict=True)):
        for css, count in zip(("bar-dropped", "bar-kept"), counts, strict=True):
            if count:
                bars.append(_bar(css, LEFT + i * width + 0.5, y_of(float(count)), width - 1))
    if logarithmic:
        exponents = range(math.ceil(edges[0] - 1e-9), math.floor(edges[-1] + 1e-9) + 1)
        x_values = [10.0**e for e in exponents] or [low, high]
        x_values = x_values[:: max(1, len(x_values) // 5)]
    else:
        x_values = ticks(low, high)
    x_ticks = [(x_of(v), number(v)) for v in x_values]
    y_ticks = [(y_of(v), number(v)) for v in ticks(0, top, 3)]
    lines = []
    for threshold in thresholds:
        x = x_of(threshold.value)
        end = x > WIDTH * 0.7
        lines.append(f'<line class="threshold" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP - 4}" y2="{_BASE}"/>')
        lines.append(
            f'<text class="threshold-text" x="{x + (-4 if end else 4):.1f}" y="{TOP + 4}" '
            f'text-anchor="{"end" if end else "start"}">{escape(threshold.operator)} {number(threshold.value)}</text>'
        )
    return _frame(title, _axes(x_ticks, y_ticks, "log scale" if logarithmic else "") + "".join(bars) + "".join(lines))


def bars(labels: Sequence[str], counts: Sequence[int], title: str, x_label: str) -> str:
    """A bar for each label with its count on top; heights on a logarithmic scale where they differ a hundredfold."""
    top = max([*counts, 1])
    logarithmic = top > 100 * min([count for count in counts if count] or [1])
    scale = (lambda count: math.log10(1 + 9 * count)) if logarithmic else float
    width = _SPAN / max(len(labels), 6)
    body, x_ticks = [], []
    for number_, (label, count) in enumerate(zip(labels, counts, strict=True)):
        x = LEFT + number_ * width
        y = _BASE - scale(count) / scale(top) * (_BASE - TOP - 8)
        middle = x + width / 2
        x_ticks.append((middle, label))
        if count:
            body.append(_bar("bar-kept", x + width * 0.12, y, width * 0.76))
            body.append(
                f'<text class="tick" x="{middle:.1f}" y="{y - 3:.1f}" text-anchor="middle">{number(count)}</text>'
            )
    label = f"{x_label} (heights: log scale)" if logarithmic else x_label
    return _frame(title, _axes(x_ticks, [], label) + "".join(body))


def line_chart(lines: Sequence[Line], title: str, x_label: str) -> str:
    """Curves over a common x, coloured by order; the legend is the caller's."""
    points = [(x, y) for line in lines for x, y in zip(line.xs, line.ys, strict=True) if math.isfinite(y)]
    if not points:
        return _empty(title)
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    x_low, x_high = min(xs), max(max(xs), min(xs) + 1e-9)
    y_low, y_high = min(ys), max(ys)
    pad = (y_high - y_low) * 0.05 or 0.5
    y_low, y_high = (0.0 if 0 <= y_low < y_high * 0.3 else y_low - pad), y_high + pad

    def place(x: float, y: float) -> tuple[float, float]:
        return (
            LEFT + (x - x_low) / (x_high - x_low) * _SPAN,
            _BASE - (y - y_low) / (y_high - y_low) * (_BASE - TOP),
        )

    body = []
    for i, line in enumerate(lines):
        placed = [place(x, y) for x, y in zip(line.xs, line.ys, strict=True) if math.isfinite(y)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in placed)
        body.append(f'<polyline class="line line-{i}" points="{path}"/>')
        if line.dots:
            body.extend(f'<circle class="dot line-{i}" cx="{x:.1f}" cy="{y:.1f}" r="2.6"/>' for x, y in placed)
    x_ticks = [(place(v, y_low)[0], number(v)) for v in ticks(x_low, x_high)]
    y_ticks = [(place(x_low, v)[1], number(v)) for v in ticks(y_low, y_high)]
    return _frame(title, _axes(x_ticks, y_ticks, x_label) + "".join(body))
