"""Selections side by side: how much they share, and what each has that the others lack."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mmcorpus.pipelines.notebook.plots import COLOURS, FAINT, INK, styled

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Selections = Mapping[str, "pd.Index[Any]"]
"""Uids by the selection's name, as `run.keep` and `run.selected` give them."""


def regions(selections: Selections) -> "dict[tuple[str, ...], pd.Index[Any]]":
    """The uids of every combination: by the names of exactly those selections that have them, largest first.

    {"a": [1, 2], "b": [2, 3, 4]} gives {("b",): [3, 4], ("a",): [1], ("a", "b"): [2]}.
    """
    import pandas as pd

    members = pd.DataFrame({name: pd.Series(True, index=uids.unique()) for name, uids in selections.items()})
    members = members.notna()
    found = {
        tuple(name for name, inside in zip(members.columns, key, strict=True) if inside): part.index
        for key, part in members.groupby(list(members.columns), sort=False)  # a list's keys are tuples, of one name too
    }
    return dict(sorted(found.items(), key=lambda item: (-len(item[1]), len(item[0]), item[0])))


def jaccard(selections: Selections) -> "pd.DataFrame":
    """Of each two selections, the share of their union that both have (0 apart, 1 the same)."""
    import pandas as pd

    sets = {name: set(uids) for name, uids in selections.items()}
    rows = {a: {b: len(x & y) / max(1, len(x | y)) for b, y in sets.items()} for a, x in sets.items()}
    return pd.DataFrame(rows).loc[list(sets), list(sets)]


@styled
def plot_overlap(selections: Selections, *, most: int = 15) -> "Figure":
    """An UpSet plot: a bar a combination of selections, its dots below saying which, set sizes at the left."""
    import matplotlib.pyplot as plt

    found = list(regions(selections).items())[:most]
    names = list(selections)
    figure = plt.figure(figsize=(3.4 + 0.5 * len(found), 2.6 + 0.3 * len(names)))
    grid = figure.add_gridspec(
        2, 2, width_ratios=(1.4, max(2.0, 0.5 * len(found))), height_ratios=(2.2, 0.32 * len(names) + 0.2),
        wspace=0.06, hspace=0.06,
    )  # fmt: skip
    bars = figure.add_subplot(grid[0, 1])
    dots = figure.add_subplot(grid[1, 1], sharex=bars)
    sizes = figure.add_subplot(grid[1, 0], sharey=dots)
    counts = [len(uids) for _, uids in found]
    drawn = bars.bar(range(len(found)), counts, color=COLOURS[0], width=0.62)
    bars.bar_label(drawn, [f"{count:,}" for count in counts], fontsize=8, padding=2)
    bars.set_ylabel("samples")
    bars.grid(axis="x", visible=False)
    bars.tick_params(bottom=False, labelbottom=False)
    for column, (inside, _) in enumerate(found):
        rows = [names.index(name) for name in inside]
        dots.plot([column] * len(names), range(len(names)), "o", color="#e3e6ea", ms=7, zorder=1)
        dots.plot([column] * len(rows), rows, "o-", color=INK, ms=7, lw=1.6, zorder=2)
    dots.set_ylim(len(names) - 0.5, -0.5)
    dots.set_xlim(-0.6, len(found) - 0.4)
    dots.axis("off")
    totals = [len(selections[name].unique()) for name in names]
    drawn = sizes.barh(range(len(names)), totals, color=FAINT, height=0.5)
    sizes.bar_label(drawn, [f"{total:,}" for total in totals], fontsize=8, padding=3)
    sizes.margins(x=0.4)
    sizes.set_yticks(range(len(names)), names)
    sizes.tick_params(left=False, bottom=False, labelbottom=False)
    for side in ("bottom", "left"):
        sizes.spines[side].set_visible(False)
    sizes.grid(False)
    return figure
