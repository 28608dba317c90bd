"""A small byte-level BPE tokenizer in Qwen2's style, for runs without a network or a large model."""

import json
from collections.abc import Iterable
from typing import Final

from mmcorpus.curation.store import storage
from mmcorpus.packing.chat import CHATML

SPECIAL_TOKENS: Final = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>")
SMALLEST_VOCABULARY: Final = 256 + len(SPECIAL_TOKENS)
_SPLIT: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""Qwen2's pre-tokenizer: contractions, words, single digits, punctuation, line breaks, spaces."""


def train_tokenizer(texts: Iterable[str], vocab_size: int, out: str) -> str:
    """Train a tokenizer on texts and save it in the folder `out`, which AutoTokenizer reads; returns `out`.

    Each distinct text counts once and order does not matter: the same texts give the same bytes. Its `<|endoftext|>`
    ends a pair, `<|pad|>` pads, and its chat template is ChatML without a default system turn. Texts that are few give
    fewer ids than `vocab_size`. Raises ValueError for a vocabulary too small for the 256 bytes and 4 control tokens.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

    if vocab_size < SMALLEST_VOCABULARY:
        raise ValueError(
            f"vocab_size is {vocab_size}; a byte-level vocabulary needs at least {SMALLEST_VOCABULARY} "
            f"(256 bytes and {len(SPECIAL_TOKENS)} control tokens)"
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    clean = {text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in texts}
    tokenizer.train_from_iterator(sorted(clean), trainer)
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "<|endoftext|>",
        "pad_token": "<|pad|>",
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "chat_template": CHATML,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 1_000_000,
    }
    storage.write_bytes(storage.join(out, "tokenizer.json"), tokenizer.to_str(pretty=False).encode())
    storage.write_bytes(storage.join(out, "tokenizer_config.json"), json.dumps(config, indent=1).encode())
    return out
