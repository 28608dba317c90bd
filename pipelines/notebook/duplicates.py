"""Duplicates in a notebook: cluster sizes, the largest clusters, the S-curve of MinHash and its measured recall."""

from typing import TYPE_CHECKING, Final

import numpy as np

from mmcorpus.pipelines.notebook.gallery import STYLE, gallery
from mmcorpus.pipelines.notebook.plots import COLOURS, FAINT, styled
from mmcorpus.pipelines.notebook.runs import Run

if TYPE_CHECKING:
    import pandas as pd
    from IPython.display import HTML
    from matplotlib.figure import Figure

    from mmcorpus.curation.dedup.minhash import MinHash
    from mmcorpus.curation.dedup.recall import RecallPoint

_FEW: Final = 20
"""Fewer pairs than this say little, and are drawn pale."""


@styled
def cluster_sizes(scores: "pd.DataFrame", name: str) -> "Figure":
    """Histogram of cluster sizes of a pass, and the share of samples in clusters up to each size.

    Args:
        scores: of a run, with the pass's columns.
        name: the pass, as the recipe calls it.
    """
    import matplotlib.pyplot as plt

    copies = scores[f"{name}.copies"].dropna().astype(int)
    sizes, samples = np.unique(copies, return_counts=True)
    clusters = scores.loc[scores[f"{name}.rank"] == 0, f"{name}.copies"].astype(int).value_counts()
    figure, (left, right) = plt.subplots(1, 2, figsize=(9.5, 3.0), layout="constrained")
    repeated = clusters[clusters.index > 1].sort_index()
    bars = left.bar([str(size) for size in repeated.index], repeated.to_numpy(), color=COLOURS[0], width=0.7)
    left.bar_label(bars, fontsize=8)
    left.set(xlabel="samples in a cluster", ylabel="clusters", title=f"{name}: clusters of two or more")
    left.set_xlim(-0.6, max(len(repeated), 6) - 0.4)
    left.grid(axis="x", visible=False)
    right.step(sizes, np.cumsum(samples) / max(samples.sum(), 1), where="post", color=COLOURS[0], marker="o", ms=4)
    right.set(xlabel="size of the cluster that a sample is in", ylabel="share of samples at or below", ylim=(0, 1.02))
    right.set_xlim(0.8, max(int(sizes.max(initial=1)), 5) * 1.05)
    if sizes.max(initial=1) > 30:
        right.set_xscale("log")
    return figure


def clusters(run: Run, scores: "pd.DataFrame", name: str, *, most: int = 5, members: int = 7) -> "HTML":
    """The largest clusters of a pass as rows of pictures, the survivor first, each with its rank.

    Args:
        most: clusters shown.
        members: of each, at most.
    """
    from IPython.display import HTML

    own = scores[scores[f"{name}.copies"] > 1].sort_values(
        [f"{name}.copies", f"{name}.cluster"], ascending=[False, True]
    )
    rows = []
    for survivor in own[f"{name}.cluster"].unique()[:most]:
        ranks = own.loc[own[f"{name}.cluster"] == survivor, f"{name}.rank"].sort_values()
        notes = {uid: f"copy {rank:.0f}" if rank else "survivor" for uid, rank in ranks.items()}
        rows.append(gallery(run, ranks.index, note=notes, title=f"{len(ranks)} samples", most=members).data)
    return HTML("".join(rows) or f'{STYLE}<div class="mmc">no clusters of two or more</div>')


@styled
def s_curve(method: "MinHash", points: "list[RecallPoint]") -> "Figure":
    """The method's S-curve, and the recall that `measure_recall` found; areas grow with the pairs."""
    import matplotlib.pyplot as plt

    from mmcorpus.curation.dedup import match_probability

    used = method.bands_used
    grid = np.linspace(0, 1, 201)
    figure, axes = plt.subplots(figsize=(6.4, 3.6), layout="constrained")
    axes.plot(grid, match_probability(grid, used.bands, used.rows), color=COLOURS[0], lw=1.8, label="expected")
    similar = np.array([point.similarity for point in points])
    found = np.array([point.recall for point in points])
    pairs = np.array([point.pairs for point in points])
    sizes = 14 + 22 * np.log10(np.maximum(pairs, 1))
    colours = [COLOURS[1] if count >= _FEW else FAINT for count in pairs]
    axes.scatter(similar, found, s=sizes, c=colours, zorder=3, label=f"measured, of {pairs.sum():,} pairs")
    axes.set(
        xlabel="Jaccard similarity of the shingles",
        ylabel="share of pairs that agree in a band",
        title=f"{used.bands} bands × {used.rows} rows",
        xlim=(0, 1.02),
        ylim=(-0.03, 1.05),
    )
    axes.legend(loc="upper left", fontsize=8)
    return figure
