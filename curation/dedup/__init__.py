"""Repeats over a whole source, written as score columns: near-duplicate images, copied captions, copied URLs.

from curation.dedup import RepeatsConfig, find_repeats
report = find_repeats("run/shards/web", "run/scores/web", RepeatsConfig(among="caption.words > 2"))
"""

from curation.dedup.config import COLUMNS, INPUTS, RepeatsConfig
from curation.dedup.repeats import RepeatsReport, find_repeats

__all__ = ["COLUMNS", "INPUTS", "RepeatsConfig", "RepeatsReport", "find_repeats"]
