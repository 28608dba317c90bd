"""Charts by Matplotlib: the script that draws one is kept beside it, and is what is run."""

import json
import random
from typing import Any, Final

from PIL import Image

from mmcorpus.curation.synthetic.render.canvas import COLORS, blend, hex_color, jittered
from mmcorpus.curation.synthetic.render.engines import Mark
from mmcorpus.curation.synthetic.render.people import draw_persona
from mmcorpus.curation.synthetic.render.placing import laid
from mmcorpus.curation.synthetic.render.plot_data import ROUND, Plot, describe, draw_plot_data, questions, written
from mmcorpus.curation.synthetic.render.rendered import Drawing, make_point

_STYLES: Final = (
    "default", "default", "classic", "ggplot", "bmh", "fivethirtyeight", "dark_background", "grayscale",
    "seaborn-v0_8-whitegrid", "seaborn-v0_8-darkgrid", "seaborn-v0_8-ticks", "Solarize_Light2", "fast",
)  # fmt: skip
_FONTS: Final = ("DejaVu Sans", "DejaVu Sans", "DejaVu Serif", "STIXGeneral", "DejaVu Sans Mono")
_HATCHES: Final = ("/", "\\", "x", ".", "o", "-")
_SETTINGS: Final = {"figure.dpi": 100, "savefig.bbox": None, "text.usetex": False, "figure.autolayout": False}


def draw_matplotlib_chart(rng: random.Random) -> Drawing:
    """A chart."""
    who = draw_persona(rng)
    plot = draw_plot_data(rng, who)
    code = _script(rng, plot)
    picture, marks = run_script(code, plot)
    picture, marks, _ = laid(rng, picture, marks, desk=rng.random() < 0.3)
    points = [make_point(mark.name, *mark.center, picture.size) for mark in marks]
    facts = {**plot.facts(), "persona": who.facts(), "topic": who.topic, "text": written(plot), "language": "python",
             "code": code}  # fmt: skip
    return Drawing(picture, describe(plot), questions(rng, plot), points, facts)


def run_script(code: str, plot: Plot) -> tuple[Image.Image, list[Mark]]:
    """The picture of a script of ours, which makes `fig` and `ax`, and the places of the chart's marks."""
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # Matplotlib's own defaults, whatever the user's matplotlibrc says; `style.use` in a script ends with the script.
    settings: dict[Any, Any] = {**matplotlib.rcParamsDefault, **_SETTINGS}
    settings.pop("backend")  # which a context would not give back
    with matplotlib.rc_context(settings):
        made: dict[str, Any] = {}
        exec(compile(code, "chart.py", "exec"), made)
        canvas = FigureCanvasAgg(made["fig"])
        canvas.draw()
        picture = Image.fromarray(_rgb(canvas))
        marks = [Mark(name, x, picture.height - y, x, picture.height - y) for name, (x, y) in _places(made["ax"], plot)]
    return picture, marks


def _rgb(canvas: Any) -> Any:
    import numpy as np

    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _places(ax: Any, plot: Plot) -> list[tuple[str, tuple[float, float]]]:
    """Where the marks are, in pixels from the lower left; bars and cells by their middles."""
    found = []
    if plot.form in ROUND:
        import math

        for category, wedge in zip(plot.categories, ax.patches, strict=True):
            middle = math.radians((wedge.theta1 + wedge.theta2) / 2)
            reach = wedge.r - (wedge.width or 0.7 * wedge.r) / 2
            where = (wedge.center[0] + reach * math.cos(middle), wedge.center[1] + reach * math.sin(middle))
            found.append((category, tuple(ax.transData.transform(where))))
        return found
    bars = iter(ax.patches)
    for number, row in enumerate(plot.series):
        for index, (category, value) in enumerate(zip(plot.categories, row.values, strict=True)):
            if "bar" in plot.form:
                box = next(bars)
                where = (box.get_x() + box.get_width() / 2, box.get_y() + box.get_height() / 2)
            else:
                where = (index, number if plot.form == "heatmap" else value)
            found.append((plot.label(row, category), tuple(ax.transData.transform(where))))
    return found


def _script(rng: random.Random, plot: Plot) -> str:
    style = rng.choice(_STYLES)
    width, height = rng.uniform(3.4, 6.4), rng.uniform(2.8, 5.0)
    lines = [
        "import matplotlib.style",
        "from matplotlib.figure import Figure",
        "",
        f"matplotlib.style.use({style!r})",
        f"matplotlib.rcParams.update({{'font.family': {rng.choice(_FONTS)!r}, 'font.size': "
        f"{rng.uniform(7.5, 11):.1f}}})",
        f"fig = Figure(figsize=({width:.2f}, {height:.2f}), dpi={rng.randint(70, 120)}, layout='constrained')",
        "ax = fig.add_subplot()",
        f"categories = {list(plot.categories)!r}",
        f"values = {json.dumps({row.name: list(row.values) for row in plot.series}, ensure_ascii=False)}",
    ]
    if style not in ("dark_background", "grayscale") and rng.random() < 0.65:
        ground = hex_color(blend(jittered(rng, "white", 3), COLORS[rng.choice(tuple(COLORS))], rng.uniform(0, 0.35)))
        lines.append(f"fig.set_facecolor({ground!r})")
        lines.append(f"ax.set_facecolor({ground!r})")
    lines += _round(rng, plot) if plot.form in ROUND else _drawn(rng, plot)
    wrapped = f"ax.set_title({plot.title!r}, wrap=True, loc={rng.choice(('left', 'center', 'right'))!r})"
    return "\n".join([*lines, wrapped, ""])


def _drawn(rng: random.Random, plot: Plot) -> list[str]:
    """The lines that draw everything with axes."""
    lying, names = plot.form == "horizontal bar", len(plot.series) > 1
    lines: list[str] = []
    if plot.form == "heatmap":
        deep = plot.series[0].hex
        return [
            "from matplotlib.colors import LinearSegmentedColormap",
            f"colors = LinearSegmentedColormap.from_list('deep', ['#ffffff', {deep!r}])",
            f"ax.imshow(list(values.values()), cmap=colors, vmin=0, vmax={plot.top}, aspect='auto')",
            "ax.grid(False)",
            f"ax.set_xticks(range(len(categories)), categories, rotation={rng.choice((30, 60, 90))}, ha='right')",
            "ax.set_yticks(range(len(values)), list(values))",
            "for row, numbers in enumerate(values.values()):",
            "    for column, number in enumerate(numbers):",
            "        ax.text(column, row, str(number), ha='center', va='center', color='black')",
        ]
    if "bar" in plot.form:
        lines += _bars(rng, plot, lying)
    else:
        marker = rng.choice(("o", "s", "D", "^"))
        for row in plot.series:
            data, look = f"range(len(categories)), values[{row.name!r}]", f"color={row.hex!r}"
            named = f", label={row.name!r}" if names else ""
            if plot.form == "line":
                lines.append(f"ax.plot({data}, {look}, marker={marker!r}, linewidth={rng.uniform(1, 3.5):.1f}{named})")
            elif plot.form == "area":
                lines.append(f"ax.fill_between({data}, {look}, alpha=0.4)")
                lines.append(f"ax.plot({data}, {look}, marker={marker!r})")
            else:
                lines.append(f"ax.vlines(range(len(categories)), 0, values[{row.name!r}], {look})")
                lines.append(
                    f"ax.plot({data}, marker={marker!r}, linestyle='', markersize={rng.randint(5, 11)}, {look})"
                )
    if plot.labelled and "bar" not in plot.form:
        lines += [
            "for numbers in values.values():",
            "    for place, number in enumerate(numbers):",
            "        ax.annotate(str(number), (place, number), xytext=(0, 6), textcoords='offset points', ha='center')",
        ]
    value, category = ("x", "y") if lying else ("y", "x")
    top = plot.top * (1.12 if plot.labelled else 1.04)
    turned = "" if lying else f", rotation={rng.choice((0, 30, 45, 90) if len(plot.categories) < 5 else (45, 90))}"
    lines += [
        f"ax.set_{value}lim(0, {top:g})",
        f"ax.set_{value}ticks({[plot.top // 5 * step for step in range(6)]})",
        f"ax.set_{value}label({plot.axis!r})",
        f"ax.set_{category}ticks(range(len(categories)), categories{turned})",
    ]
    if "bar" not in plot.form:
        lines.append("ax.set_xlim(-0.5, len(categories) - 0.5)")
    if not plot.labelled:
        lines.append(f"ax.grid(True, axis={value!r}, alpha=0.6)")
        lines.append("ax.set_axisbelow(True)")
    if names:
        lines.append(f"fig.legend(loc={rng.choice(('outside upper right', 'outside lower center'))!r}, ncols=3)")
    return lines


def _bars(rng: random.Random, plot: Plot, lying: bool) -> list[str]:
    lines = []
    count = len(plot.series)
    width = rng.uniform(0.5, 0.85)
    call = "ax.barh" if lying else "ax.bar"
    size = "height" if lying else "width"
    edge = f", edgecolor={rng.choice(('black', 'white', 'none'))!r}"
    if rng.random() < 0.15:
        edge += f", hatch={rng.choice(_HATCHES)!r}"
    if plot.form == "stacked bar":
        lines.append("bottom = [0] * len(categories)")
    for number, row in enumerate(plot.series):
        named = f", label={row.name!r}" if count > 1 else ""
        places, more = "range(len(categories))", f", {size}={width:.2f}, color={row.hex!r}{edge}{named}"
        if plot.form == "grouped bar":
            each = width / count
            places = f"[place + {(number - (count - 1) / 2) * each:.3f} for place in range(len(categories))]"
            more = f", width={each:.3f}, color={row.hex!r}{edge}{named}"
        if plot.form == "stacked bar":
            more += ", bottom=bottom"
        lines.append(f"bars = {call}({places}, values[{row.name!r}]{more})")
        if plot.form == "stacked bar":
            lines.append(f"bottom = [low + high for low, high in zip(bottom, values[{row.name!r}])]")
        if plot.labelled:
            lines.append("ax.bar_label(bars, padding=2)")
    return lines


def _round(rng: random.Random, plot: Plot) -> list[str]:
    colors = [hex_color(rgb) for _, rgb in plot.colors]
    ring = ", 'width': 0.45" if plot.form == "donut" else ""
    named = rng.random() < 0.5
    lines = [
        "shares = next(iter(values.values()))",
        f"wedges, *_ = ax.pie(shares, colors={colors!r}, startangle={rng.choice((0, 90, rng.randint(0, 359)))}, "
        f"counterclock={rng.random() < 0.5}, autopct='%1.0f%%', pctdistance={0.78 if ring else 0.65}, "
        f"wedgeprops={{'edgecolor': 'white'{ring}}}, labels={'categories' if named else 'None'})",
    ]
    if not named:
        lines.append("ax.legend(wedges, categories, loc='center left', bbox_to_anchor=(1, 0.5))")
    return lines
