"""A threshold as a slider: what it keeps, and the samples just above and just below it; two scores that disagree."""

from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from mmcorpus.pipelines.notebook.gallery import STYLE, gallery, shown
from mmcorpus.pipelines.notebook.plots import drawn_in
from mmcorpus.pipelines.notebook.runs import Run

if TYPE_CHECKING:
    import ipywidgets
    import pandas as pd
    from IPython.display import HTML

_CHART = """<style>
.mmc-chart svg { width: 460px; max-width: 100%; height: auto; display: block; }
.mmc-chart text { font: 11px system-ui, sans-serif; fill: var(--jp-ui-font-color2, #5d6b7a); }
.mmc-chart .grid { stroke: var(--jp-border-color2, #e3e6ea); } .mmc-chart .axis { stroke: #8b98a6; }
.mmc-chart .bar-dropped { fill: #c8ccd2; } .mmc-chart .bar-kept { fill: #1f7a6d; }
.mmc-chart .threshold { stroke: #b3261e; stroke-width: 1.4; stroke-dasharray: 4 3; }
.mmc-chart .threshold-text { fill: #b3261e; font-weight: 600; }
</style>"""


def threshold_slider(
    run: Run,
    scores: "pd.DataFrame",
    column: str,
    *,
    keep: Literal["above", "below"] = "above",
    start: float | None = None,
    each: int = 6,
) -> "ipywidgets.VBox":
    """A slider over a score's values that updates the histogram, the kept count and two galleries.

    Args:
        keep: `above` keeps samples at or above the threshold, `below` those at or below.
        start: where it stands first; the value that keeps half by default.
        each: samples shown on either side of the threshold.

    The slider moves along the sorted values, so that every step changes what is kept, whatever the score's scale.
    Unscored samples are never kept.
    """
    import ipywidgets

    explorer = _Explorer(run, scores, column, keep, each)
    positions = np.unique(np.linspace(0, len(explorer.values) - 1, 201).round().astype(int))
    options = list(dict.fromkeys(float(explorer.values[position]) for position in positions))
    first = float(np.median(explorer.values)) if start is None else start
    nearest = min(options, key=lambda value: abs(value - first))
    slider = ipywidgets.SelectionSlider(
        options=[(shown(value), value) for value in options],
        value=nearest,
        description="≥" if keep == "above" else "≤",
        continuous_update=False,
        layout=ipywidgets.Layout(width="480px"),
    )
    view = ipywidgets.HTML(explorer.html(nearest))

    def moved(change: dict[str, Any]) -> None:
        view.value = explorer.html(change["new"])

    slider.observe(moved, names="value")
    return ipywidgets.VBox([slider, view])


class _Explorer:
    def __init__(self, run: Run, scores: "pd.DataFrame", column: str, keep: str, each: int) -> None:
        known = scores[column].dropna().astype(float).sort_values(kind="stable")
        if known.empty:
            raise ValueError(f"no sample has the score {column!r}")
        self.run, self.column, self.above, self.each = run, column, keep == "above", each
        self.scores, self.all = known, len(scores)
        self.values = np.asarray(known, np.float64)
        self.uids = known.index.to_list()

    def html(self, threshold: float) -> str:
        """The effect of a threshold, as HTML."""
        from mmcorpus.pipelines.report import svg

        kept = self.values >= threshold if self.above else self.values <= threshold
        operator = ">=" if self.above else "<="
        marks = [svg.Threshold(operator=operator, value=threshold)]
        chart = svg.histogram(drawn_in(self.values), kept, self.column, marks)
        text = f"keeps <b>{kept.sum():,}</b> of {self.all:,} ({kept.sum() / self.all:.1%})"
        head = f'<div class="mmc"><code>{self.column} {operator} {shown(threshold)}</code> {text}</div>'
        place = int(np.searchsorted(self.values, threshold, side="left" if self.above else "right"))
        lower, upper = self.uids[max(0, place - self.each) : place][::-1], self.uids[place : place + self.each]
        inside, outside = (upper, lower) if self.above else (lower, upper)
        just = [("just kept", inside), ("just dropped", outside)]
        pictures = "".join(
            gallery(self.run, uids, note=self.scores, title=title, side=104).data for title, uids in just
        )
        return f'{STYLE}{_CHART}{head}<div class="mmc-chart">{chart}</div>{pictures}'


def disagreement(run: Run, scores: "pd.DataFrame", first: str, second: str, *, each: int = 8) -> "HTML":
    """The samples on which two scores disagree most by rank: high by one and low by the other, both ways round.

    Shown with their percentiles: what each score sees and the other does not.
    """
    from IPython.display import HTML

    both = scores[[first, second]].dropna().astype(float)
    ranks = both.rank(pct=True)
    gap = (ranks[first] - ranks[second]).sort_values(kind="stable")
    texts = {uid: " / ".join(f"{100 * share:.0f} %" for share in row) for uid, *row in ranks.itertuples(name=None)}
    parts = [
        (f"high {first}, low {second}", gap.index[::-1][:each]),
        (f"low {first}, high {second}", gap.index[:each]),
    ]
    return HTML("".join(gallery(run, uids, note=texts, title=title).data for title, uids in parts))
