"""Duplicates over whole sources, written as score columns: exact, near-duplicate texts and images, semantic.

    from curation.dedup import METHODS, Source, deduplicate

    web = Source(name="web", shards="run/shards/web", scores="run/scores/web")
    deduplicate("same_image", METHODS["image"](max_distance=6), [web], "run/dedup/same_image")

Nothing is deleted: `same_image.copies`, `same_image.rank` (0 survives) and `same_image.cluster` are for selection to
read.
"""

from curation.dedup.annotations import write_annotations
from curation.dedup.lsh import match_probability
from curation.dedup.method import Keys, Method
from curation.dedup.passes import COLUMNS, METHODS, DedupConfig, DedupPass
from curation.dedup.recall import RecallPoint, measure_recall
from curation.dedup.run import DedupReport, deduplicate
from curation.dedup.sources import Source

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
