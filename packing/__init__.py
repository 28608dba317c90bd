"""Packing: how long a sample is, which samples share a sequence, and how a packed sequence is stored.

A plan is made from lengths alone, packs are written from the plan, a trainer reads packs. Nothing here needs Ray or
torch (the pickles of mmcorpus.packing.pickles excepted); transformers is imported where text becomes tokens.
"""

from mmcorpus.packing.binpack import Bins, first_fit_decreasing
from mmcorpus.packing.config import PlanConfig
from mmcorpus.packing.conversations import encode_conversation
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.lengths import IMAGE_TOKEN, expanded_length, expanded_offsets, expanded_spans
from mmcorpus.packing.materialise import PackConfig, PackReport, write_packs
from mmcorpus.packing.measure import measure_lengths
from mmcorpus.packing.packs import PackReader
from mmcorpus.packing.plan import PlanReport, PlanSource, make_plan
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import SpecialIds, encode_pair, load_tokenizer, special_ids
from mmcorpus.packing.vocabulary import train_tokenizer

__all__ = [
    "IMAGE_TOKEN",
    "Bins",
    "PackConfig",
    "PackError",
    "PackReader",
    "PackReport",
    "PackedSequence",
    "PlanConfig",
    "PlanReport",
    "PlanSource",
    "SpecialIds",
    "encode_conversation",
    "encode_pair",
    "expanded_length",
    "expanded_offsets",
    "expanded_spans",
    "first_fit_decreasing",
    "load_tokenizer",
    "make_plan",
    "measure_lengths",
    "special_ids",
    "train_tokenizer",
    "write_packs",
]
