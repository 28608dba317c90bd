"""Data that people already have, as shards: read where it lies, and no image copied that has bytes of its own."""

from mmcorpus.curation.sources.config import IndexConfig
from mmcorpus.curation.sources.inputs import SourceError
from mmcorpus.curation.sources.run import IndexReport, index

__all__ = ["IndexConfig", "IndexReport", "SourceError", "index"]
