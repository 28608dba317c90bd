"""Duplicates over whole sources, written as score columns: exact, near-duplicate texts and images, semantic.

    from mmcorpus.curation.dedup import METHODS, Source, deduplicate

    web = Source(name="web", shards="run/shards/web", scores="run/scores/web")
    deduplicate("same_image", METHODS["image"](max_distance=6), [web], "run/dedup/same_image")

Nothing is deleted: `same_image.copies`, `same_image.rank` (0 survives) and `same_image.cluster` are for selection to
read.
"""

from mmcorpus.curation.dedup.annotations import write_annotations
from mmcorpus.curation.dedup.lsh import match_probability
from mmcorpus.curation.dedup.method import Keys, Method
from mmcorpus.curation.dedup.passes import COLUMNS, METHODS, DedupConfig, DedupPass
from mmcorpus.curation.dedup.recall import RecallPoint, measure_recall
from mmcorpus.curation.dedup.run import DedupReport, deduplicate
from mmcorpus.curation.dedup.sources import Source

__all__ = [
    "COLUMNS",
    "METHODS",
    "DedupConfig",
    "DedupPass",
    "DedupReport",
    "Keys",
    "Method",
    "RecallPoint",
    "Source",
    "deduplicate",
    "match_probability",
    "measure_recall",
    "write_annotations",
]
