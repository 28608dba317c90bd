"""Charts by Vega-Lite: the specification that draws one is kept beside it."""

import json
import random
from typing import Any, Final

from mmcorpus.curation.synthetic.render.canvas import COLORS, blend, hex_color, ink_on, jittered, luminance
from mmcorpus.curation.synthetic.render.engines import draw_vega
from mmcorpus.curation.synthetic.render.people import draw_persona
from mmcorpus.curation.synthetic.render.placing import laid
from mmcorpus.curation.synthetic.render.plot_data import ROUND, Plot, describe, draw_plot_data, questions, written
from mmcorpus.curation.synthetic.render.rendered import Drawing, make_point

_FONTS: Final = ("DejaVu Sans", "DejaVu Serif", "STIXGeneral", "DejaVu Sans Mono", "Liberation Sans")
_SCHEMA: Final = "https://vega.github.io/schema/vega-lite/v5.json"


def draw_vega_chart(rng: random.Random) -> Drawing:
    """A chart."""
    who = draw_persona(rng)
    plot = draw_plot_data(rng, who)
    spec = _spec(rng, plot)
    picture, marks = draw_vega(spec, rng.uniform(0.8, 1.6))
    picture, marks, _ = laid(rng, picture, marks, desk=rng.random() < 0.3)
    names = {_key(n, i): plot.label(row, c) for n, row in enumerate(plot.series) for i, c in enumerate(plot.categories)}
    points = [make_point(names[mark.name], *mark.center, picture.size) for mark in marks]
    facts = {
        **plot.facts(),
        "persona": who.facts(),
        "topic": who.topic,
        "text": written(plot),
        "language": "vega-lite",
        "code": json.dumps(spec, ensure_ascii=False, indent=1),
    }
    return Drawing(picture, describe(plot), questions(rng, plot), points, facts)


def _key(series: int, category: int) -> str:
    return f"{series} {category}"


def _spec(rng: random.Random, plot: Plot) -> dict[str, Any]:
    ground = jittered(rng, rng.choice(("white", "white", "white", "beige", "gray", "black")), 4)
    if rng.random() < 0.5:
        ground = blend(
            ground, COLORS[rng.choice(("blue", "green", "pink", "yellow", "purple"))], rng.uniform(0.05, 0.3)
        )
    ink = hex_color(blend(ink_on(ground), ground, rng.uniform(0, 0.25)))
    rows = [
        {"category": category, "series": row.name, "value": value, "key": f"mark {_key(n, i)}"}
        for n, row in enumerate(plot.series)
        for i, (category, value) in enumerate(zip(plot.categories, row.values, strict=True))
    ]
    width, height = rng.randint(200, 460), rng.randint(150, 330)
    spec: dict[str, Any] = {
        "$schema": _SCHEMA,
        "background": hex_color(ground),
        "padding": rng.randint(6, 30),
        "width": width,
        "height": height,
        "title": {
            "text": plot.title,
            "anchor": rng.choice(("start", "middle", "end")),
            "fontSize": rng.randint(12, 20),
            "limit": 0,
            "offset": 14,
        },
        "data": {"values": rows},
        "config": {
            "font": rng.choice(_FONTS),
            "view": {"stroke": rng.choice(("transparent", ink))},
            "title": {"color": ink},
            "axis": {
                "labelColor": ink,
                "titleColor": ink,
                "tickColor": ink,
                "domainColor": ink,
                "gridColor": hex_color(blend(ink_on(ground), ground, 0.8)),
                "labelFontSize": rng.randint(9, 13),
            },
            "legend": {"labelColor": ink, "titleColor": ink, "orient": rng.choice(("right", "top", "bottom"))},
        },
    }
    spec |= _round(plot, ink, rng, min(width, height)) if plot.form in ROUND else _on_axes(plot, ink, rng, width)
    return spec


def _on_axes(plot: Plot, ink: str, rng: random.Random, width: int) -> dict[str, Any]:
    lying = plot.form == "horizontal bar"
    along, across = ("y", "x") if lying else ("x", "y")
    tight = 9 * max(map(len, plot.categories)) * len(plot.categories) > width
    angle = rng.choice((-45, -90) if tight else (0, -45, -90))
    category: dict[str, Any] = {
        "field": "category", "type": "ordinal", "sort": None, "title": None,
        "axis": {} if lying else {"labelAngle": angle},
    }  # fmt: skip
    value: dict[str, Any] = {
        "field": "value",
        "type": "quantitative",
        "title": plot.axis,
        "scale": {"domain": [0, plot.top], "nice": False},
        "axis": {
            "values": [plot.top // 5 * step for step in range(6)],
            "grid": not plot.labelled or rng.random() < 0.5,
        },
    }
    color: dict[str, Any] = {
        "field": "series", "type": "nominal", "title": None, "sort": None,
        "scale": {"domain": [row.name for row in plot.series], "range": [row.hex for row in plot.series]},
    }  # fmt: skip
    if len(plot.series) == 1:
        color["legend"] = None
    key = {"field": "key", "type": "nominal"}
    if plot.form == "heatmap":
        return _heatmap(plot, ink, rng)
    encoding: dict[str, Any] = {along: category, across: value, "color": color, "description": key}
    if plot.form in ("bar", "horizontal bar", "grouped bar", "stacked bar"):
        mark = {"type": "bar", "cornerRadius": 0, "opacity": 1}
        if plot.form == "grouped bar":
            encoding["xOffset"] = {"field": "series", "type": "nominal", "sort": None}
        if plot.form == "stacked bar":
            encoding["order"] = {"field": "key", "type": "nominal", "sort": "ascending"}
        else:
            value["stack"] = None
        layers: list[dict[str, Any]] = [{"mark": mark, "encoding": {}}]
        shift: dict[str, Any] = (
            {"align": "left", "dx": 3, "baseline": "middle"} if lying else {"baseline": "bottom", "dy": -3}
        )
    else:
        dot = {"type": "point", "filled": True, "size": rng.randint(40, 130), "opacity": 1,
               "shape": rng.choice(("circle", "square")) if plot.form == "dot" else "circle"}  # fmt: skip
        lines = {"line": {"type": "line", "strokeWidth": rng.uniform(1, 4)}, "dot": {"type": "rule"},
                 "area": {"type": "area", "opacity": 0.45, "line": True}}  # fmt: skip
        value["stack"] = None
        layers = [
            {"mark": lines[plot.form], "encoding": {"description": {"value": "line"}}},
            {"mark": dot, "encoding": {}},
        ]
        shift = {"baseline": "bottom", "dy": -8}
    if plot.labelled:
        texts = {
            "mark": {"type": "text", "color": ink, "fontSize": rng.randint(8, 11), **shift},
            "encoding": {"text": {"field": "value"}, "color": {"value": ink}, "description": {"value": "text"}},
        }
        layers.append(texts)
    return {"encoding": encoding, "layer": layers}


def _heatmap(plot: Plot, ink: str, rng: random.Random) -> dict[str, Any]:
    """Cells coloured by their values, which are written on them."""
    deep = plot.series[0].rgb
    dark_at_top = luminance(deep) < 140
    return {
        "encoding": {
            "x": {
                "field": "category",
                "type": "ordinal",
                "sort": None,
                "title": None,
                "axis": {"labelAngle": rng.choice((-30, -90))},
            },
            "y": {"field": "series", "type": "ordinal", "sort": None, "title": None},
        },
        "layer": [
            {
                "mark": {"type": "rect"},
                "encoding": {
                    "color": {
                        "field": "value",
                        "type": "quantitative",
                        "legend": None,
                        "scale": {"domain": [0, plot.top], "range": ["#ffffff", hex_color(deep)]},
                    },
                    "description": {"field": "key", "type": "nominal"},
                },
            },
            {
                "mark": {"type": "text", "fontSize": rng.randint(9, 14)},
                "encoding": {
                    "text": {"field": "value"},
                    "description": {"value": "text"},
                    "color": {
                        "condition": {
                            "test": f"datum.value > {plot.top * 0.7:g}",
                            "value": "white" if dark_at_top else "black",
                        },
                        "value": "black",
                    },
                },
            },
        ],
    }


def _round(plot: Plot, ink: str, rng: random.Random, side: int) -> dict[str, Any]:
    """Slices with their shares beside them; a text in each slice says where it is."""
    outer = side / 2 - 14
    inner = outer * rng.uniform(0.4, 0.65) if plot.form == "donut" else 0
    colors = {"domain": list(plot.categories), "range": [hex_color(rgb) for _, rgb in plot.colors]}
    return {
        "encoding": {
            "theta": {"field": "value", "type": "quantitative", "stack": True},
            "order": {"field": "key", "type": "nominal"},
        },
        "layer": [
            {
                "mark": {"type": "arc", "outerRadius": outer, "innerRadius": inner, "stroke": "white"},
                "encoding": {
                    "color": {"field": "category", "type": "nominal", "sort": None, "title": None, "scale": colors},
                    "description": {"value": "slice"},
                },
            },
            {
                "mark": {"type": "text", "radius": (outer + inner) / 2 + 4, "opacity": 0},
                "encoding": {"text": {"value": "."}, "description": {"field": "key", "type": "nominal"}},
            },
            {
                "mark": {"type": "text", "radius": outer + 14, "color": ink, "fontSize": 10},
                "encoding": {"text": {"field": "value"}, "description": {"value": "text"}},
            },
        ],
    }
