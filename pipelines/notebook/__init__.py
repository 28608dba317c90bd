"""Looking at runs from a notebook: scores as data frames, samples as pictures, thresholds as sliders.

    from mmcorpus.pipelines.notebook import Run, gallery, distribution, threshold_slider
    run = Run("runs/demo")
    scores = run.scores("pairs")
    gallery(run, scores.nlargest(12, "image.entropy").index, note=scores["image.entropy"])

Everything is read from the run's folder, local or remote; nothing is written. Figures are matplotlib's, galleries are
HTML, sliders are ipywidgets; `notebooks/` shows them all.
"""

from mmcorpus.pipelines.notebook.duplicates import cluster_sizes, clusters, s_curve
from mmcorpus.pipelines.notebook.gallery import gallery
from mmcorpus.pipelines.notebook.overlap import jaccard, plot_overlap, regions
from mmcorpus.pipelines.notebook.packed import draw_pack
from mmcorpus.pipelines.notebook.plots import correlations, distribution, joint, learning
from mmcorpus.pipelines.notebook.runs import Run
from mmcorpus.pipelines.notebook.thresholds import disagreement, threshold_slider

__all__ = [
    "Run",
    "cluster_sizes",
    "clusters",
    "correlations",
    "disagreement",
    "distribution",
    "draw_pack",
    "gallery",
    "jaccard",
    "joint",
    "learning",
    "plot_overlap",
    "regions",
    "s_curve",
    "threshold_slider",
]
