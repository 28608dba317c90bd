"""Figures of scores: distributions by source, rank correlations, two scores against each other, losses."""

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, ParamSpec

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS: Final = ("#1f7a6d", "#c4682b", "#4a63b5", "#8a4f9e", "#7b7b2e", "#59656f")
"""The report's, in its order."""
INK: Final = "#1d2733"
FAINT: Final = "#8b98a6"
MARK: Final = "#b3261e"
STYLE: Any = {
    "figure.dpi": 110, "figure.facecolor": "white", "savefig.bbox": "tight",
    "font.size": 9, "font.family": "sans-serif", "text.color": INK,
    "axes.edgecolor": FAINT, "axes.labelcolor": INK, "axes.titlesize": 10, "axes.titleweight": "bold",
    "axes.titlelocation": "left", "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.axisbelow": True, "grid.color": "#e9ecef", "grid.linewidth": 0.8,
    "xtick.color": INK, "ytick.color": INK, "legend.frameon": False,
}  # fmt: skip
_BINS: Final = 48
_TAIL: Final = 99.5
"""Percentile beyond which a long tail is drawn into the last bin."""
_FILLED: Any = {"alpha": 0.55, "histtype": "stepfilled"}
Drawing = ParamSpec("Drawing")
Values = npt.NDArray[np.float64]


def styled(draw: "Callable[Drawing, Figure]") -> "Callable[Drawing, Figure]":
    """A function whose figure has this module's style, and is shown once: by the cell that returns it."""

    @functools.wraps(draw)
    def drawn(*args: Drawing.args, **kwargs: Drawing.kwargs) -> "Figure":
        import matplotlib.pyplot as plt

        with plt.rc_context(STYLE):
            figure = draw(*args, **kwargs)
        plt.close(figure)  # out of pyplot's hands, which would show it once more
        return figure

    return drawn


_HEAVY: Final = 30.0
"""The largest value over the median beyond which positive scores get a logarithmic axis."""


@styled
def distribution(
    scores: "pd.DataFrame",
    column: str,
    *,
    by: str | None = "source",
    thresholds: Sequence[tuple[str, float]] = (),
) -> "Figure":
    """A score's histogram (shares of each group) beside its empirical distribution function.

    Args:
        by: a column to split by (`source`, `image.format`, …), most frequent values first; None for all together.
        thresholds: lines to draw, as `run.thresholds(source)` has them; the title says what share of all passes.

    Sources that were not asked for this score do not count as unscored.
    """
    figure, (left, right) = _figure(1, 2, (9.5, 3.0))
    values = _numbers(scores, column)
    known = values[np.isfinite(values)]
    groups = _groups(scores, by, np.isfinite(values))
    edges, logarithmic = _edges(drawn_in(known))
    for colour, (name, mask) in zip(COLOURS, groups.items(), strict=False):
        own = values[mask & np.isfinite(values)]
        label = f"{name} ({len(own):,})"
        shares = np.full(len(own), 1 / len(own))
        left.hist(np.minimum(own, edges[-1]), list(edges), weights=shares, color=colour, label=label, **_FILLED)
        right.step(np.sort(own), np.arange(1, len(own) + 1) / len(own), color=colour, lw=1.6, where="post")
    for axes in (left, right):
        if logarithmic:
            axes.set_xscale("log")
        axes.set_xlabel(_axis_label(column, known))
        if len(known):
            axes.set_xlim(edges[0], edges[-1])
        for _, value in thresholds:
            axes.axvline(value, color=MARK, lw=1.2, ls=(0, (4, 3)))
    if len(known):
        passed = [(operator, value, _passes(known, operator, value).mean()) for operator, value in thresholds]
        told = ", ".join(f"{operator} {value:g}: {share:.1%} pass" for operator, value, share in passed)
        right.set_title(told, color=MARK, fontsize=9, fontweight="normal")
    missing = _asked(scores, values) - len(known)
    left.set(title=column + (f"  ({missing:,} unscored)" if missing else ""), ylabel="share of samples")
    right.set(ylabel="share at or below", ylim=(0, 1.02))
    if len(groups) > 1:
        left.legend(fontsize=8)
    return figure


@styled
def correlations(scores: "pd.DataFrame", columns: Sequence[str] | None = None) -> "Figure":
    """Spearman's rank correlations of scores, as a map: the order of values matters, not their scale.

    columns: all numeric ones that vary, if None.
    """
    chosen = list(columns) if columns is not None else _varying(scores)
    table = scores[chosen].astype(float).corr(method="spearman").to_numpy(float)
    side = 1.6 + 0.34 * len(chosen)
    figure, (axes,) = _figure(1, 1, (side + 1.6, side))
    image = axes.imshow(table, cmap="RdBu_r", vmin=-1, vmax=1)
    axes.set_xticks(range(len(chosen)), chosen, rotation=60, ha="right", rotation_mode="anchor", fontsize=8)
    axes.set_yticks(range(len(chosen)), chosen, fontsize=8)
    axes.grid(False)
    axes.set_title("rank correlation")
    if len(chosen) <= 14:
        for (row, place), value in np.ndenumerate(table):
            if row != place and math.isfinite(value):
                colour = "white" if abs(value) > 0.6 else INK
                shown = f"{round(value, 2) + 0.0:.2f}"  # no -0.00
                axes.text(place, row, shown, ha="center", va="center", fontsize=6.5, color=colour)
    figure.colorbar(image, ax=axes, shrink=0.7, pad=0.02)
    return figure


@styled
def joint(
    scores: "pd.DataFrame",
    x: str,
    y: str,
    *,
    by: str | None = "source",
    thresholds: Mapping[str, Sequence[tuple[str, float]]] | None = None,
) -> "Figure":
    """Two scores of each sample against each other, their own histograms at the edges."""
    import matplotlib.pyplot as plt

    figure = plt.figure(figsize=(5.6, 5.2))
    grid = figure.add_gridspec(2, 2, width_ratios=(5, 1), height_ratios=(1, 5), wspace=0.05, hspace=0.05)
    middle = figure.add_subplot(grid[1, 0])
    top, side = figure.add_subplot(grid[0, 0], sharex=middle), figure.add_subplot(grid[1, 1], sharey=middle)
    first, second = drawn_in(_numbers(scores, x)), drawn_in(_numbers(scores, y))
    known = np.isfinite(first) & np.isfinite(second)
    size = float(np.clip(16_000 / max(1, known.sum()), 2, 18))
    groups = _groups(scores, by, known)
    (x_edges, x_log), (y_edges, y_log) = _edges(first[known]), _edges(second[known])
    middle.set(xscale="log" if x_log else "linear", yscale="log" if y_log else "linear")
    for colour, (name, mask) in zip(COLOURS, groups.items(), strict=False):
        own = mask & known
        middle.scatter(first[own], second[own], s=size, color=colour, alpha=0.45, linewidths=0, label=name)
        top.hist(first[own], list(x_edges), color=colour, **_FILLED)
        side.hist(second[own], list(y_edges), color=colour, orientation="horizontal", **_FILLED)
    if len(groups) > 1:
        named = middle.get_legend_handles_labels()
        side.legend(*named, fontsize=8, markerscale=2, loc="upper left", bbox_to_anchor=(1, 1))
    for name, line in ((x, middle.axvline), (y, middle.axhline)):
        for _, value in (thresholds or {}).get(name, ()):
            line(value, color=MARK, lw=1.1, ls=(0, (4, 3)))
    for axes in (top, side):
        axes.axis("off")
    middle.set(xlabel=_axis_label(x, _numbers(scores, x)), ylabel=_axis_label(y, _numbers(scores, y)))
    if known.sum() > 2:
        rank = float(scores.loc[known, [x, y]].astype(float).corr(method="spearman").to_numpy(float)[0, 1])
        top.set_title(f"{int(known.sum()):,} samples, rank correlation {rank:.2f}")
    return figure


@styled
def learning(metrics: Mapping[str, Sequence[Mapping[str, Any]]]) -> "Figure":
    """Loss by step of training stages (`training.read_metrics` of each): lines, with held-out losses as dots."""
    figure, (axes,) = _figure(1, 1, (7.0, 3.2))
    for colour, (name, lines) in zip(COLOURS, metrics.items(), strict=False):
        losses = [(line["step"], line["loss"]) for line in lines if "loss" in line]
        axes.plot(*zip(*losses, strict=True), color=colour, alpha=0.35, lw=1)
        for key, line_style, told in (
            ("heldout_loss", "o-", "held out"),
            ("heldout_loss_blank", "o:", "held out, blank images"),
        ):
            points = [(line["step"], line[key]) for line in lines if line.get(key) is not None]
            if points:
                label = f"{name}: {told} {points[-1][1]:.3f}"
                axes.plot(*zip(*points, strict=True), line_style, color=colour, ms=4, lw=1.4, label=label)
    axes.set(xlabel="step", ylabel="loss per target token")
    axes.legend(fontsize=8)
    return figure


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple["Figure", list["Axes"]]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    return figure, list(axes.ravel())


def _numbers(scores: "pd.DataFrame", column: str) -> Values:
    import pandas as pd

    if column not in scores.columns:
        from mmcorpus.pipelines.recipe.problems import suggestion

        raise ValueError(f"there is no score {column!r}; {suggestion(column, map(str, scores.columns))}")
    return pd.to_numeric(scores[column], errors="coerce").to_numpy(float, na_value=math.nan)


def _groups(scores: "pd.DataFrame", by: str | None, known: Any) -> dict[str, npt.NDArray[np.bool_]]:
    """The rows of each group that has any that are known, largest first."""
    if by is None or by not in scores.columns:
        return {"all": np.ones(len(scores), bool)}
    names = scores.loc[known, by].value_counts().index[: len(COLOURS)]
    return {str(name): (scores[by] == name).to_numpy(bool) for name in names}


def _asked(scores: "pd.DataFrame", values: Values) -> int:
    """The number of samples in sources that have this score at all."""
    if "source" not in scores.columns:
        return len(values)
    has = scores.loc[np.isfinite(values), "source"].unique()
    return int(scores["source"].isin(has).sum())


def _axis_label(name: str, values: Values) -> str:
    known = values[np.isfinite(values)]
    last = drawn_in(known).max(initial=-math.inf)
    return f"{name} (up to {known.max():,.4g}, drawn in to {last:,.4g})" if len(known) and last < known.max() else name


def _edges(known: Values) -> tuple[Values, bool]:
    """Bin edges, and whether they are spaced logarithmically; whole numbers of a small range get a bin each."""
    known = known[np.isfinite(known)]
    if not len(known):
        return np.linspace(0, 1, 3), False
    low, high = float(known.min()), float(known.max())
    if low > 0 and high / max(float(np.median(known)), 1e-300) > _HEAVY:
        return np.geomspace(low, high, _BINS + 1), True
    if np.array_equal(known, np.round(known)) and high > low:
        step = math.ceil((high - low) / _BINS)
        return np.arange(low - 0.5, high + step, step), False
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, _BINS + 1), False


def drawn_in(values: Values) -> Values:
    """Values with a tail that would flatten all the rest drawn in to its beginning."""
    known = values[np.isfinite(values)]
    if not len(known) or (known.min() > 0 and known.max() / max(float(np.median(known)), 1e-300) > _HEAVY):
        return values  # a logarithmic axis shows it
    limit = float(np.percentile(known, _TAIL))
    return np.minimum(values, limit) if known.max() > known.min() + 1.5 * (limit - known.min()) else values


def _varying(scores: "pd.DataFrame") -> list[str]:
    numeric = scores.select_dtypes(["number", "bool"])
    return [str(name) for name in numeric.columns if numeric[name].nunique() > 1]


def _passes(values: Any, operator: str, value: float) -> Any:
    compare = {">=": np.greater_equal, ">": np.greater, "<=": np.less_equal, "<": np.less, "==": np.equal}
    return compare.get(operator, np.not_equal)(values, value)
