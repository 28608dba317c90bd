"""Packing: how long a sample is, which samples share a sequence, and how a packed sequence is stored.

A plan is made from lengths alone, packs are written from the plan, a trainer reads packs. Nothing here needs Ray or
torch (the pickles of packing.pickles excepted); transformers is imported where text becomes tokens.
"""

from packing.lengths import IMAGE_TOKEN, expanded_length, expanded_offsets, expanded_spans
from packing.manifest import PackError
from packing.packs import PackedSequence, PackReader
from packing.tokens import SpecialIds, encode_conversation, encode_pair, load_tokenizer, special_ids
from packing.vocabulary import train_tokenizer

__all__ = [
    "IMAGE_TOKEN",
    "PackError",
    "PackReader",
    "PackedSequence",
    "SpecialIds",
    "encode_conversation",
    "encode_pair",
    "expanded_length",
    "expanded_offsets",
    "expanded_spans",
    "load_tokenizer",
    "special_ids",
    "train_tokenizer",
]
