"""The drawing of charts: title, legend, axes and marks, laid out so that no text is cut or overlaps."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from PIL import Image

from mmcorpus.curation.synthetic.render.canvas import XY, Canvas, Color, blend, fit_text, ink_on, text_width

Box: TypeAlias = tuple[float, float, float, float]
Along: TypeAlias = Callable[[float], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One row of numbers with its name and colours; a colour a category, all alike unless each has its own."""

    name: str
    """Empty when the chart has one series."""
    values: tuple[int, ...]
    colors: tuple[str, ...]
    rgb: tuple[Color, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Chart:
    """All that a chart shows."""

    form: str
    title: str
    categories: tuple[str, ...]
    series: tuple[Series, ...]
    top: int
    """The value at the end of the value axis."""
    labelled: bool
    """Whether each value is written beside its mark; if not, it lies on a grid line or halfway between two."""
    background: str
    ground: Color

    @property
    def colorful(self) -> bool:
        """Whether each category has a colour of its own."""
        return len(set(self.series[0].colors)) > 1


class Mark(NamedTuple):
    """The place of a value's mark."""

    center: XY
    """A place inside the bar or slice, or the line's marker; pixels."""
    extent: tuple[float, ...]
    """A bar's box (left, top, right, bottom) or a marker's x, y, in pixels; a slice's start and end in degrees."""


def draw_plot(chart: Chart, size: tuple[int, int], rng: random.Random) -> tuple[Image.Image, list[list[Mark]]]:
    """The chart's picture and the marks of each series."""
    canvas = Canvas(size, chart.ground)
    ink = ink_on(chart.ground)
    letter = min(17.0, max(min(size) / 19, min(9.0, min(size) / 13)))
    margin = letter * 0.8
    title_size = fit_text([chart.title], letter * 1.3, size[0] - 2 * margin)
    if rng.random() < 0.5:
        canvas.text((size[0] / 2, margin + title_size * 0.5), chart.title, title_size, ink)
    else:
        canvas.text((margin, margin + title_size * 0.5), chart.title, title_size, ink, "lm")
    box = (margin, margin + title_size * 1.5, size[0] - margin, size[1] - margin)
    if chart.form == "pie":
        marks = [_pie(canvas, chart, box, letter, ink, rng)]
    else:
        if len(chart.series) > 1:
            box = _legend_row(canvas, chart, box, letter, ink, at_bottom=rng.random() < 0.4)
        marks = _axes(canvas, chart, box, letter, ink, rng)
    return canvas.finish(), marks


def _legend_row(canvas: Canvas, chart: Chart, box: Box, letter: float, ink: Color, *, at_bottom: bool) -> Box:
    """Draw a one-line legend inside the box; returns what is left of the box."""
    left, top, right, bottom = box
    gap, swatch = letter * 1.1, letter * 0.8
    widths = [swatch * 1.5 + text_width(row.name, letter) for row in chart.series]
    x = left + max(0.0, (right - left - sum(widths) - gap * (len(widths) - 1)) / 2)
    y = bottom - letter * 0.6 if at_bottom else top + letter * 0.5
    for row, width in zip(chart.series, widths, strict=True):
        canvas.rectangle((x, y - swatch / 2, x + swatch, y + swatch / 2), row.rgb[0])
        canvas.text((x + swatch * 1.5, y), row.name, letter, ink, "lm")
        x += width + gap
    return (left, top, right, bottom - letter * 1.6) if at_bottom else (left, top + letter * 1.5, right, bottom)


def _axes(canvas: Canvas, chart: Chart, box: Box, letter: float, ink: Color, rng: random.Random) -> list[list[Mark]]:
    """Axes, grid and marks of a bar or line chart."""
    lying = chart.form == "horizontal bar"
    ticks = [chart.top * step // 5 for step in range(6)]
    numbers = max(text_width(str(tick), letter) for tick in ticks)
    names = max(text_width(name, letter) for name in chart.categories)
    left = box[0] + (names if lying else numbers) + letter * 0.5
    right = box[2] - (numbers / 2 if lying else 0)
    if lying and chart.labelled:
        right -= numbers * 0.5
    top = box[1] + letter * (0.2 if lying else 1.2 if chart.labelled else 0.6)
    bottom = box[3] - letter * 1.4
    grid, axis = blend(chart.ground, ink, 0.16), blend(chart.ground, ink, 0.6)
    gridded = not chart.labelled or rng.random() < 0.5

    def along(value: float) -> float:
        """The pixel of a value on its axis."""
        share = value / chart.top
        return left + share * (right - left) if lying else bottom - share * (bottom - top)

    for tick in ticks:
        place = along(tick)
        if gridded:
            canvas.line([(place, top), (place, bottom)] if lying else [(left, place), (right, place)], grid)
        if lying:
            canvas.text((place, bottom + letter * 0.8), str(tick), letter, ink)
        else:
            canvas.text((left - letter * 0.4, place), str(tick), letter, ink, "rm")
    slot = ((bottom - top) if lying else (right - left)) / len(chart.categories)
    centers = [(top if lying else left) + slot * (index + 0.5) for index in range(len(chart.categories))]
    name_size = letter if lying else fit_text(chart.categories, letter, slot * 0.94, 6.0)
    for center, name in zip(centers, chart.categories, strict=True):
        if lying:
            canvas.text((left - letter * 0.4, center), name, name_size, ink, "rm")
        else:
            canvas.text((center, bottom + letter * 0.8), name, name_size, ink)
    if chart.form == "line":
        marks = _lines(canvas, chart, centers, along, letter, ink)
    else:
        marks = _bars(canvas, chart, centers, slot * rng.uniform(0.55, 0.8), along, letter, ink)
    canvas.line([(left, top), (left, bottom)], axis, 1.5)
    canvas.line([(left, bottom), (right, bottom)], axis, 1.5)
    return marks


def _bars(
    canvas: Canvas, chart: Chart, centers: list[float], width: float, along: Along, letter: float, ink: Color
) -> list[list[Mark]]:
    lying = chart.form == "horizontal bar"
    each = width / len(chart.series)
    texts = [str(value) for row in chart.series for value in row.values]
    label_size = min(letter * 0.95, each)
    if not lying:
        label_size = min(fit_text(texts, letter * 0.95, each * 1.25, 6.0), each * 1.1)
    marks = []
    for position, row in enumerate(chart.series):
        placed = []
        for center, value, color in zip(centers, row.values, row.rgb, strict=True):
            start = center - width / 2 + position * each
            base, end = along(0), along(value)
            extent = (base, start, end, start + each) if lying else (start, end, start + each, base)
            canvas.rectangle(extent, color)
            if chart.labelled and lying:
                canvas.text((end + letter * 0.25, start + each / 2), str(value), label_size, ink, "lm")
            elif chart.labelled:
                canvas.text((start + each / 2, end - label_size * 0.65), str(value), label_size, ink)
            middle = ((extent[0] + extent[2]) / 2, (extent[1] + extent[3]) / 2)
            placed.append(Mark(middle, tuple(round(edge, 1) for edge in extent)))
        marks.append(placed)
    return marks


def _lines(
    canvas: Canvas, chart: Chart, centers: list[float], along: Along, letter: float, ink: Color
) -> list[list[Mark]]:
    thick = max(2.0, letter * 0.22)
    marks = []
    for row in chart.series:
        places = [(center, along(value)) for center, value in zip(centers, row.values, strict=True)]
        canvas.line(places, row.rgb[0], thick)
        for place in places:
            canvas.ellipse(place, thick * 1.7, row.rgb[0])
        marks.append([Mark(place, (round(place[0], 1), round(place[1], 1))) for place in places])
    if chart.labelled:
        for mark, value in zip(marks[0], chart.series[0].values, strict=True):
            canvas.text((mark.center[0], mark.center[1] - 0.95 * letter), str(value), letter * 0.9, ink)
    return marks


def _pie(canvas: Canvas, chart: Chart, box: Box, letter: float, ink: Color, rng: random.Random) -> list[Mark]:
    left, top, right, bottom = box
    row = chart.series[0]
    in_slices = rng.random() < 0.6
    entries = [
        name if in_slices else f"{name} {value}%" for name, value in zip(chart.categories, row.values, strict=True)
    ]
    width = letter * 1.3 + max(text_width(entry, letter) for entry in entries)
    line = letter * 1.45
    beside = right - left - width - letter >= bottom - top - line * len(entries)
    if beside:
        center = ((left + right - width - letter) / 2, (top + bottom) / 2)
        radius = min(right - left - width - letter, bottom - top) / 2
        legend = (min(center[0] + radius + letter, right - width), (top + bottom - line * len(entries)) / 2)
    else:
        below = bottom - line * len(entries)
        center = ((left + right) / 2, (top + below) / 2)
        radius = min(right - left, below - top - letter * 0.5) / 2
        legend = ((left + right - width) / 2, below)
    angle = rng.choice((0.0, 90.0, rng.uniform(0, 360)))
    marks = []
    for value, color in zip(row.values, row.rgb, strict=True):
        end = angle + 3.6 * value
        canvas.slice(center, radius, angle, end, color, chart.ground)
        turn = math.radians((angle + end) / 2)
        inside = (center[0] + 0.64 * radius * math.sin(turn), center[1] - 0.64 * radius * math.cos(turn))
        marks.append(Mark(inside, (round(angle, 1), round(end, 1))))
        angle = end
    if in_slices:
        for mark, value, color in zip(marks, row.values, row.rgb, strict=True):
            canvas.text(mark.center, f"{value}%", min(letter, radius * 0.24), ink_on(color))
    for index, (color, entry) in enumerate(zip(row.rgb, entries, strict=True)):
        y = legend[1] + line * (index + 0.5)
        canvas.rectangle((legend[0], y - letter * 0.4, legend[0] + letter * 0.8, y + letter * 0.4), color)
        canvas.text((legend[0] + letter * 1.3, y), entry, letter, ink, "lm")
    return marks
