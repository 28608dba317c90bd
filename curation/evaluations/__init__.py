"""Evaluation sets read into an index that the scorer `contamination` compares samples with, and what it matched.

    from mmcorpus.curation.evaluations import EvaluationSet, EvaluationsConfig, build_index, find_matches
    build_index(EvaluationsConfig(sets={"coco": EvaluationSet(path="eval/coco.jsonl")}), "eval/index")
    find_matches("run/scores/web")       # after scoring: which sample is which evaluation item

What to do about a match is for the selection to say, e.g. `contamination.text_overlap == 0`.
"""

from mmcorpus.curation.evaluations.config import EvaluationsConfig, EvaluationSet
from mmcorpus.curation.evaluations.index import IndexReport, build_index
from mmcorpus.curation.evaluations.matches import MatchedItem, find_matches, read_matched_items

__all__ = [
    "EvaluationSet",
    "EvaluationsConfig",
    "IndexReport",
    "MatchedItem",
    "build_index",
    "find_matches",
    "read_matched_items",
]
