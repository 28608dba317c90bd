from pathlib import Path

import numpy as np
import pytest
import torch
from gguf import GGUFWriter
from gguf.constants import GGMLQuantizationType
from gguf.quants import quantize

from mmcorpus.filters import gguf_llama
from mmcorpus.filters.perplexity import load_causal, load_tokenizer

WIDTH, FEED_FORWARD, HEADS, KEYS, BLOCKS = 64, 96, 4, 2, 2
WORDS = [*"abcdefgh", "\u0120", "ab", "<|end|>"]


def write_gguf(path: Path, *, more: dict[str, float] | None = None, vocabulary: str = "gpt2") -> str:
    """A Llama of random weights: most of 4 bits, norms and embeddings of 32, as llama.cpp writes them."""
    random, writer = np.random.default_rng(0), GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_context_length(128)
    writer.add_block_count(BLOCKS)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEYS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(50_000.0)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(len(WORDS))
    for key, value in (more or {}).items():
        writer.add_float32(key, value)
    writer.add_tokenizer_model(vocabulary)
    writer.add_token_list(WORDS)
    writer.add_token_types([1] * (len(WORDS) - 1) + [3])
    writer.add_token_merges(["a b"])
    writer.add_bos_token_id(len(WORDS) - 1)
    writer.add_eos_token_id(len(WORDS) - 1)

    def add(name: str, *shape: int, packed: bool = True) -> None:
        values = random.normal(size=shape).astype(np.float32)
        kind = GGMLQuantizationType.Q4_1 if packed else GGMLQuantizationType.F32
        writer.add_tensor(f"{name}.weight", quantize(values, kind), raw_dtype=kind)

    add("token_embd", len(WORDS), WIDTH, packed=False)
    add("output_norm", WIDTH, packed=False)
    for block in range(BLOCKS):
        for norm in ("attn_norm", "ffn_norm"):
            add(f"blk.{block}.{norm}", WIDTH, packed=False)
        for name, rows in (("attn_q", WIDTH), ("attn_output", WIDTH), ("attn_k", WIDTH // 2), ("attn_v", WIDTH // 2)):
            add(f"blk.{block}.{name}", rows, WIDTH)
        add(f"blk.{block}.ffn_gate", FEED_FORWARD, WIDTH)
        add(f"blk.{block}.ffn_up", FEED_FORWARD, WIDTH)
        add(f"blk.{block}.ffn_down", WIDTH, FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return str(path)


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_weights_config_and_tokenizer_are_those_of_transformers_older_reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: str
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf")
    assert gguf_llama.read_config(path) is not None
    model, tokenizer = load_causal(path, None, dtype), load_tokenizer(path, None)
    monkeypatch.setattr(gguf_llama, "read_config", lambda path: None)
    theirs, their_tokenizer = load_causal(path, None, dtype), load_tokenizer(path, None)
    weights, their_weights = model.state_dict(), theirs.state_dict()
    assert weights.keys() == their_weights.keys()
    assert all(torch.equal(weights[name], their_weights[name]) for name in weights)
    named = {"_name_or_path", "_model_name_or_path", "unk_token_id"}
    config, their_config = (
        {k: v for k, v in one.config.to_dict().items() if k not in named} for one in (model, theirs)
    )
    assert config == their_config
    ids = torch.arange(len(WORDS))[None]
    assert torch.equal(model(ids).logits, theirs(ids).logits)
    assert type(tokenizer) is type(their_tokenizer)
    assert tokenizer("abba head<|end|>").data == their_tokenizer("abba head<|end|>").data


@pytest.mark.parametrize("other", [{"more": {"llama.rope.scaling.factor": 2.0}}, {"vocabulary": "llama"}])
def test_what_is_no_plain_llama_is_left_to_transformers(tmp_path: Path, other: dict[str, object]) -> None:
    assert gguf_llama.read_config(write_gguf(tmp_path / "other.gguf", **other)) is None  # type: ignore[arg-type]
