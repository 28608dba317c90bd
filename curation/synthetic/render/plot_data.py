"""The data of a chart by somebody, what is said of it and what can be asked: values, sums, differences, comparisons.

The questions are ChartQA's kinds (Masry et al. 2022), numbers being answered without units, so that relaxed accuracy
can judge them. A value that is not written beside its mark lies on a tick of the axis or halfway between two.
"""

import random
from dataclasses import dataclass
from typing import Any, Final

from mmcorpus.curation.synthetic.render.canvas import BRIGHT, Color, hex_color, jittered
from mmcorpus.curation.synthetic.render.people import Persona, draw_month
from mmcorpus.curation.synthetic.render.words import article, listed, number, sentence

FORMS: Final = {
    "bar": 18, "horizontal bar": 14, "grouped bar": 12, "stacked bar": 10, "line": 14, "area": 6, "dot": 8, "pie": 9,
    "donut": 9, "heatmap": 10,
}  # fmt: skip
ROUND: Final = ("pie", "donut")
_PAIRS: Final = (
    ("North", "South"),
    ("Plan", "Result"),
    ("Weekdays", "Weekends"),
    ("Online", "On site"),
    ("Adults", "Children"),
)
_TRIPLES: Final = (("Spring", "Summer", "Autumn"), ("Hall A", "Hall B", "Hall C"), ("Early", "Midday", "Late"))
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


@dataclass(frozen=True, kw_only=True, slots=True)
class Series:
    """One row of numbers, with a colour of its own."""

    name: str
    """Empty where there is but one."""
    values: tuple[int, ...]
    color: str
    rgb: Color

    @property
    def hex(self) -> str:
        return hex_color(self.rgb)


@dataclass(frozen=True, kw_only=True, slots=True)
class Plot:
    """All that a chart shows."""

    form: str
    title: str
    axis: str
    """The title of the value axis."""
    unit: str
    categories: tuple[str, ...]
    series: tuple[Series, ...]
    colors: tuple[tuple[str, Color], ...]
    """Of the categories, where each has its own (pies); else none."""
    top: int
    """The end of the value axis, which has five steps."""
    labelled: bool
    times: bool
    """Whether the categories are months or years."""

    def facts(self) -> dict[str, Any]:
        rows = [{"name": row.name, "values": list(row.values), "color": row.color} for row in self.series]
        return {
            "chart": self.form, "title": self.title, "axis": self.axis, "unit": self.unit,
            "categories": list(self.categories), "series": rows, "top": self.top, "labelled": self.labelled,
        }  # fmt: skip

    def label(self, row: Series, category: str) -> str:
        """What a mark is called: `Plan, Tea`."""
        return f"{row.name}, {category}" if row.name else category


def draw_plot_data(rng: random.Random, who: Persona) -> Plot:
    form = rng.choices(tuple(FORMS), tuple(FORMS.values()))[0]
    words = who.words
    measure, (unit, low, high) = rng.choice(tuple(words["measures"].items()))
    times = form in ("line", "area") or (form not in ROUND and rng.random() < 0.3)
    count = rng.randint(3, 5 if form in ROUND else 8 if form in ("line", "area", "horizontal bar") else 6)
    categories, over = _categories(rng, words, count, times)
    names: tuple[str, ...] = ("",)
    if form in ("grouped bar", "stacked bar", "heatmap"):
        names = rng.choice((*_PAIRS, *_TRIPLES))
    elif form == "line" and rng.random() < 0.5:
        names = rng.choice(_PAIRS)
    roomy = form not in ("stacked bar", "area") and len(names) < (2 if form == "line" else 3)
    labelled = form in (*ROUND, "heatmap") or (roomy and rng.random() < 0.5)
    top = next((top for top in (10, 20, 50, 100, 200, 500, 1000) if top >= min(high, rng.randint(low, high))), 1000)
    palette = rng.sample(BRIGHT[:7], 7)
    series: list[Series] = []
    for name, color in zip(names, palette, strict=False):
        if form in ROUND:
            values = _shares(rng, count)
        else:
            values = _values(rng, count, top, labelled, stacked=len(names) if form == "stacked bar" else 1)
        series.append(Series(name=name, values=values, color=color, rgb=jittered(rng, color)))
    colored = form in ROUND
    colors = tuple((color, jittered(rng, color)) for color in palette[:count]) if colored else ()
    title = rng.choice((
        f"{measure} {over}", f"{measure} at {who.firm}", f"{who.firm}: {measure.lower()}",
        f"{measure}, {draw_month(rng)} {rng.randint(2000, 2026)}",
    ))  # fmt: skip
    return Plot(
        form=form, title=title, axis=measure if rng.random() < 0.5 else f"{measure} ({unit})",
        unit="%" if form in ROUND else unit, categories=categories, series=tuple(series), colors=colors, top=top,
        labelled=labelled, times=times,
    )  # fmt: skip


def _categories(rng: random.Random, words: dict[str, Any], count: int, times: bool) -> tuple[tuple[str, ...], str]:
    if not times:
        return tuple(rng.sample(words["things"], count)), "by kind"
    if rng.random() < 0.5:
        first = rng.randint(1990, 2018)
        return tuple(str(first + step) for step in range(count)), "by year"
    first = rng.randint(0, 12 - count)
    return _MONTHS[first : first + count], "by month"


def _values(rng: random.Random, count: int, top: int, labelled: bool, *, stacked: int) -> tuple[int, ...]:
    """Distinct values from a tenth of the axis; of stacked ones each so low that all together stay on it."""
    step = 1 if labelled else top // 10
    most = top // stacked
    choices = range(max(1, top // 10), most + 1, step)
    if len(choices) < count:
        return tuple(rng.choices(choices, k=count))
    return tuple(rng.sample(choices, count))


def _shares(rng: random.Random, count: int) -> tuple[int, ...]:
    """Different percentages of 6 and more that add up to 100."""
    while True:
        cuts = sorted(rng.sample(range(6, 95), count - 1))
        parts = [end - start for start, end in zip([0, *cuts], [*cuts, 100], strict=True)]
        if min(parts) >= 6 and len(set(parts)) == count:
            return tuple(parts)


def describe(plot: Plot) -> list[str]:
    """Captions, the shortest first."""
    kind, title = article(f"{plot.form} chart") if plot.form != "heatmap" else "a heatmap", f'"{plot.title}"'
    first = plot.series[0]
    high = plot.categories[first.values.index(max(first.values))]
    low = plot.categories[first.values.index(min(first.values))]
    of = f" of {first.name}" if first.name else ""
    unit = plot.unit if plot.unit == "%" else f" {plot.unit}"
    extremes = f"{high} is highest{of} at {max(first.values)}{unit} and {low} lowest at {min(first.values)}{unit}"
    if plot.colors:
        look = f"slices in {listed([color for color, _ in plot.colors])}"
    elif plot.form == "heatmap":
        look = f"a cell for each of {listed([row.name for row in plot.series])} and {listed(plot.categories)}"
    else:
        look = listed([f"{row.name or plot.axis.split(' (')[0].lower()} in {row.color}" for row in plot.series])
    rows = "; ".join(
        (f"{row.name}: " if row.name else "")
        + listed([f"{category} {value}" for category, value in zip(plot.categories, row.values, strict=True)])
        for row in plot.series
    )
    return [
        sentence(kind),
        sentence(f"{kind} titled {title}"),
        sentence(f"{kind} titled {title}, with {look}"),
        sentence(
            f"{kind} titled {title} of {number(len(plot.categories))} "
            f"{'periods' if plot.times else 'kinds'}, with {look}. {extremes}"
        ),
        sentence(f"{kind} titled {title}, with {look}. In {plot.unit}: {rows}"),
    ]


def questions(rng: random.Random, plot: Plot) -> list[tuple[str, str]]:
    """Questions of every kind that the chart allows, in the data's terms."""
    row = rng.choice(plot.series)
    of = f" for {row.name}" if row.name else ""
    first, second = rng.sample(range(len(plot.categories)), 2)
    a, b = plot.categories[first], plot.categories[second]
    x, y = row.values[first], row.values[second]
    asked = [
        (f"What is the value of {a}{of}?", str(x)),
        (f"What is the difference between {a} and {b}{of}?", str(abs(x - y))),
        (f"What is the sum of {a} and {b}{of}?", str(x + y)),
        ("What is the title of the chart?", plot.title),
        ("What type of chart is this?", "heatmap" if plot.form == "heatmap" else f"{plot.form} chart"),
    ]
    if x != y:
        asked.append((f"Which is larger{of}, {a} or {b}?", a if x > y else b))
        low, high = sorted((x, y))
        asked.append((f"What is the ratio of {a if x > y else b} to {b if x > y else a}{of}?", f"{high / low:.2f}"))
    ranked = sorted(row.values)
    for question, value in (("highest", ranked[-1]), ("lowest", ranked[0]), ("second highest", ranked[-2])):
        if ranked.count(value) == 1:
            asked.append((f"Which category has the {question} value{of}?", plot.categories[row.values.index(value)]))
    if plot.form not in ROUND:
        mean = sum(row.values) / len(row.values)
        asked.append((f"What is the average of all values{of}?", f"{mean:.2f}".rstrip("0").rstrip(".")))
        limit = plot.top // 5 * rng.randint(1, 4)
        above = sum(value > limit for value in row.values)
        asked.append((f"How many categories are above {limit}{of}?", str(above)))
        asked.append((f"What is the total of all values{of}?", str(sum(row.values))))
    if plot.form not in (*ROUND, "heatmap"):
        asked.append(("What is the label of the value axis?", plot.axis))
        asked.append((f"What color stands for {row.name}?" if row.name else "What color are the marks?", row.color))
    if plot.colors:
        asked.append((f"What color is the slice of {a}?", plot.colors[first][0]))
    if plot.form in ("line", "area"):
        early, late = sorted((first, second))
        if row.values[early] != row.values[late]:
            rising = "rises" if row.values[late] > row.values[early] else "falls"
            asked.append(
                (
                    f"Is the value{of} higher or lower in {plot.categories[late]} than in {plot.categories[early]}?",
                    "higher" if rising == "rises" else "lower",
                )
            )
    if len(plot.series) > 1:
        asked.append(("How many series are shown?", str(len(plot.series))))
        in_a = [one.values[first] for one in plot.series]
        if in_a.count(max(in_a)) == 1:
            asked.append((f"Which series is highest in {a}?", plot.series[in_a.index(max(in_a))].name))
        one, other = plot.series[:2]
        wins = sum(p > q for p, q in zip(one.values, other.values, strict=True))
        asked.append((f"In how many categories is {one.name} above {other.name}?", str(wins)))
    asked.append(("How many categories are there?", str(len(plot.categories))))
    return asked


def written(plot: Plot) -> str:
    """The texts that surely stand in a chart: title, categories, names of series."""
    return "\n".join([plot.title, *plot.categories, *(row.name for row in plot.series if row.name)])
