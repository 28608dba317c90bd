"""Bar, line and pie charts, with their captions and questions (after PixMo-Docs; Molmo, §3)."""

import random
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from mmcorpus.curation.synthetic.render.canvas import BRIGHT, jittered
from mmcorpus.curation.synthetic.render.plots import Chart, Series, draw_plot
from mmcorpus.curation.synthetic.render.rendered import Drawing, make_point
from mmcorpus.curation.synthetic.render.words import article, listed, number, sentence
from mmcorpus.filters.yaml_data import read_data

CHARTS: Final = {"bar": 35, "horizontal bar": 20, "line": 22, "pie": 23}
_BACKGROUNDS: Final = ("white", "white", "white", "beige", "gray", "black")
_DATA: Final[dict[str, Any]] = read_data(__package__, "charts.yaml")
_MARKS: Final = {"bar": "bar", "horizontal bar": "bar", "line": "point", "pie": "slice"}


def draw_chart(rng: random.Random, size: tuple[int, int]) -> Drawing:
    """A chart."""
    chart = _draw_facts(rng, size)
    image, marks = draw_plot(chart, size, rng)
    points = [
        make_point(f"{series.name} {_MARKS[chart.form]} of {category}".strip(), *mark.center, size)
        for series, row in zip(chart.series, marks, strict=True)
        for category, mark in zip(chart.categories, row, strict=True)
    ]
    series = [
        {"name": series.name, "values": list(series.values), "colors": list(series.colors),
         "rgb": [list(color) for color in series.rgb], "extents": [list(mark.extent) for mark in row]}
        for series, row in zip(chart.series, marks, strict=True)
    ]  # fmt: skip
    facts = {
        "chart": chart.form, "title": chart.title, "categories": list(chart.categories), "top": chart.top,
        "labelled": chart.labelled, "background": chart.background, "series": series,
    }  # fmt: skip
    return Drawing(image, _captions(chart), _questions(rng, chart), points, facts)


def _draw_facts(rng: random.Random, size: tuple[int, int]) -> Chart:
    form = rng.choices(tuple(CHARTS), tuple(CHARTS.values()))[0]
    things = form != "line" and (form == "pie" or rng.random() < 0.7)
    themes = _DATA["things" if things else "times"]
    title = rng.choice(tuple(themes))
    along = size[1] if form == "horizontal bar" else size[0]
    paired = form != "pie" and rng.random() < 0.3
    most = 5 if form == "pie" else max(3, min(6, along // (70 if paired and form != "line" else 45)))
    count = rng.randint(3, most)
    start = rng.randint(0, 6 - count)
    names = themes[title]
    categories = tuple(rng.sample(names, count) if things else names[start : start + count])
    background = rng.choice(_BACKGROUNDS)
    palette = [color for color in BRIGHT if color != background]
    # Beside two lines, labels would run into the other line; there the grid alone has to do.
    labelled = rng.random() < 0.5 and not (paired and form == "line")
    top = rng.choice((10, 20, 50, 100))
    if form == "pie":
        top, labelled = 100, True
    rows: list[Series] = []
    for name in rng.choice(_DATA["pairs"]) if paired else ("",):
        other = rows[0].values if rows else ()
        values = _shares(rng, count) if form == "pie" else _values(rng, count, top, labelled, other)
        if form == "pie" or (not paired and form != "line" and rng.random() < 0.4):
            colors = tuple(rng.sample(palette, count))
            rgb = tuple(jittered(rng, color) for color in colors)
        else:
            color = rng.choice(palette)
            palette.remove(color)
            colors, rgb = (color,) * count, (jittered(rng, color),) * count
        rows.append(Series(name=name, values=values, colors=colors, rgb=rgb))
    return Chart(
        form=form, title=title, categories=categories, series=tuple(rows), top=top, labelled=labelled,
        background=background, ground=jittered(rng, background, 3),
    )  # fmt: skip


def _values(rng: random.Random, count: int, top: int, labelled: bool, other: tuple[int, ...]) -> tuple[int, ...]:
    """Distinct values of a tenth of the axis and more, none equal to the other series' in its place."""
    step = 1 if labelled else top // 10
    while True:
        values = rng.sample(range(top // 10, top + 1, step), count)
        if all(mine != theirs for mine, theirs in zip(values, other, strict=False)):
            return tuple(values)


def _shares(rng: random.Random, count: int) -> tuple[int, ...]:
    """Percentages in fives that sum to 100, each at least 10, with one largest and one smallest."""
    while True:
        cuts = sorted(rng.sample(range(1, 20), count - 1))
        parts = [5 * (end - start) for start, end in zip([0, *cuts], [*cuts, 20], strict=True)]
        if min(parts) >= 10 and parts.count(max(parts)) == 1 and parts.count(min(parts)) == 1:
            return tuple(parts)


def _look(chart: Chart) -> str:
    """The look of the marks: `four blue bars`, `a red line`, `three slices: red, blue and green`."""
    count, first = len(chart.categories), chart.series[0]
    if chart.form == "pie":
        return f"{number(count)} slices: {listed(first.colors)}"
    if chart.form == "line":
        return listed([f"{article(row.colors[0])} line{_of(row)}" for row in chart.series])
    if len(chart.series) == 2:
        return listed([f"{row.colors[0]} bars{_of(row)}" for row in chart.series])
    if chart.colorful:
        return f"{number(count)} bars: {listed(first.colors)}"
    return f"{number(count)} {first.colors[0]} bars"


def _of(row: Series) -> str:
    return f" for {row.name}" if row.name else ""


def _value(chart: Chart, value: int) -> str:
    return f"{value}%" if chart.form == "pie" else str(value)


def _extreme(chart: Chart, row: Series, pick: Callable[[Iterable[int]], int]) -> str:
    """The category of a row's highest (`pick` is `max`) or lowest (`min`) value."""
    return chart.categories[row.values.index(pick(row.values))]


def _captions(chart: Chart) -> list[str]:
    kind = f"{chart.form} chart"
    rows = [
        listed([f"{name} {_value(chart, value)}" for name, value in zip(chart.categories, row.values, strict=True)])
        for row in chart.series
    ]
    if len(chart.series) == 1:
        listing, row = rows[0], chart.series[0]
        high, low = _value(chart, max(row.values)), _value(chart, min(row.values))
        extremes = (
            f"{_extreme(chart, row, max)} is the highest at {high} and {_extreme(chart, row, min)} the lowest at {low}"
        )
    else:
        listing = "; ".join(f"{row.name}: {text}" for row, text in zip(chart.series, rows, strict=True))
        extremes = listed(
            [f"the highest{_of(row)} is {_extreme(chart, row, max)} at {max(row.values)}" for row in chart.series]
        )
    look, title = _look(chart), f'"{chart.title}"'
    ground = f"{article(chart.background)} background"
    return [
        sentence(f"{article(kind)} with {look}"),
        sentence(f"{article(kind)} titled {title} with {look}"),
        sentence(f"in this {kind} of {chart.title.lower()}, {extremes}"),
        sentence(f"{article(kind)} of {chart.title.lower()} with {look}. {sentence(extremes)}"),
        sentence(f"{article(kind)} titled {title} on {ground}, with {look}. {sentence(listing)}"),
    ]


def _questions(rng: random.Random, chart: Chart) -> list[tuple[str, str]]:
    row = rng.choice(chart.series)
    first, second = rng.sample(range(len(chart.categories)), 2)
    mark = _MARKS[chart.form]
    of_row = _of(row)
    questions = [
        (f"What is the value of {chart.categories[first]}{of_row}?", _value(chart, row.values[first])),
        (f"Which has the highest value{of_row}?", _extreme(chart, row, max)),
        (f"Which has the lowest value{of_row}?", _extreme(chart, row, min)),
        ("What kind of chart is this?", f"{chart.form} chart"),
        ("What is the title of the chart?", chart.title),
    ]
    if chart.form == "line":
        questions.append((f"What color is the line{of_row}?", row.colors[0]))
        questions.append(("How many lines are there?", str(len(chart.series))))
    else:
        one = (f"What color is the {mark} of {chart.categories[second]}?", row.colors[second])
        questions.append(one if chart.colorful else (f"What color are the bars{of_row}?", row.colors[0]))
        questions.append((f"How many {mark}s are there?", str(len(chart.categories) * len(chart.series))))
    more, less = sorted((first, second), key=lambda index: -row.values[index])
    if row.values[more] > row.values[less]:  # two slices may be equal
        difference = _value(chart, row.values[more] - row.values[less])
        questions.append(
            (f"By how much is {chart.categories[more]} above {chart.categories[less]}{of_row}?", difference)
        )
    return questions


def chart_questions_by_color(facts: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Questions about a chart, of its facts, whose answers are seen where its print cannot be read: its kind, how many
    marks it has, and of marks each of its own colour which is the largest and smallest, what share of a pie one is, and
    how many tenths of the axis one reaches, where that is clear by more than a fifth of a tenth."""
    form, rows, mark = facts["chart"], facts["series"], _MARKS[facts["chart"]]
    questions = [("What kind of chart is this?", f"{form} chart")]
    if form == "line":
        questions.append(("How many lines are there?", str(len(rows))))
        return [*questions, *([("What color is the line?", rows[0]["colors"][0])] if len(rows) == 1 else [])]
    questions.append((f"How many {mark}s are there?", str(sum(len(row["values"]) for row in rows))))
    values, colors = rows[0]["values"], rows[0]["colors"]
    if len(rows) > 1 or len(set(colors)) < len(colors):
        return questions if len(rows) > 1 else [*questions, ("What color are the bars?", colors[0])]
    largest, smallest = ("largest", "smallest") if form == "pie" else ("longest", "shortest")
    for word, value in ((largest, max(values)), (smallest, min(values))):
        questions.append((f"What color is the {word} {mark}?", colors[values.index(value)]))
    for color, value in zip(colors, values, strict=True):
        tenths = 10 * value / facts["top"]
        if form == "pie":
            questions.append((f"What is the value of the {color} slice?", f"{value}%"))
        elif abs(tenths - round(tenths)) < 0.3:
            questions.append((f"How many tenths of the axis is the {color} bar?", str(round(tenths))))
    return questions
