"""Looking at runs from a notebook: scores as data frames, samples as pictures, thresholds as sliders.

    from pipelines.notebook import Run, gallery, distribution, threshold_slider
    run = Run("runs/demo")
    scores = run.scores("pairs")
    gallery(run, scores.nlargest(12, "image.entropy").index, note=scores["image.entropy"])

Everything is read from the run's folder, local or remote; nothing is written. Figures are matplotlib's, galleries are
HTML, sliders are ipywidgets; `notebooks/` shows them all.
"""

from pipelines.notebook.duplicates import cluster_sizes, clusters, s_curve
from pipelines.notebook.gallery import gallery
from pipelines.notebook.overlap import jaccard, plot_overlap, regions
from pipelines.notebook.plots import correlations, distribution, joint, learning
from pipelines.notebook.runs import Run
from pipelines.notebook.thresholds import disagreement, threshold_slider

__all__ = [
    "Run",
    "cluster_sizes",
    "clusters",
    "correlations",
    "disagreement",
    "distribution",
    "gallery",
    "jaccard",
    "joint",
    "learning",
    "plot_overlap",
    "regions",
    "s_curve",
    "threshold_slider",
]
