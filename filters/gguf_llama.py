"""Llama models in GGUF files, read by transformers' quick reader, which itself knows few other architectures.

Its older reader, the one for Llama, goes over the vocabulary three times, string by string: 19 s of processor time for
SmolLM2 (135 M weights, 49,152 words), where 4 s are enough. Config, weights and tokenizer are the same. What a plain
Llama does not have (experts, scaled rotary positions, biases, a SentencePiece vocabulary) is left to transformers.
"""

import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import torch

_CONFIG: Final = {
    "context_length": "max_position_embeddings",
    "block_count": "num_hidden_layers",
    "feed_forward_length": "intermediate_size",
    "embedding_length": "hidden_size",
    "rope.dimension_count": "head_dim",
    "rope.freq_base": "rope_theta",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.layer_norm_rms_epsilon": "rms_norm_eps",
    "vocab_size": "vocab_size",
}
"""llama.cpp's names of what a config holds, and transformers'."""
_OUTSIDE: Final = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
_IN_BLOCK: Final = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_TENSOR: Final = re.compile(r"(?:blk\.(\d+)\.)?(\w+)\.weight")


def read_config(path: str) -> dict[str, Any] | None:
    """The keywords of transformers' LlamaConfig for a file; None where it holds something else than a plain Llama.

    Raises:
        ValueError: it is no GGUF file.
    """
    from transformers.integrations.gguf import read_gguf_metadata

    metadata, tensors = read_gguf_metadata(path)
    keys = {key.removeprefix("llama.") for key in metadata if key.startswith("llama.")}
    plain = (
        metadata.get("general.architecture") == "llama"
        and keys <= _CONFIG.keys()
        and keys >= _CONFIG.keys() - {"rope.dimension_count", "rope.freq_base", "vocab_size"}
        and metadata.get("tokenizer.ggml.model") == "gpt2"
        and "mistral" not in str(metadata.get("general.name", "")).lower()
        and all(_name(tensor) for tensor in tensors)
    )
    if not plain:
        return None
    return _config(metadata, tensors)


def _config(metadata: Mapping[str, Any], tensors: Sequence[str]) -> dict[str, Any]:
    found = {name: metadata[f"llama.{key}"] for key, name in _CONFIG.items() if f"llama.{key}" in metadata}
    ids = {f"{name}_token_id": metadata.get(f"tokenizer.ggml.{name}_token_id") for name in ("bos", "eos")}
    return {
        "vocab_size": metadata.get("tokenizer.ggml.tokens"),  # of arrays, the reader keeps the length
        **found,
        **ids,
        "pad_token_id": metadata.get("tokenizer.ggml.padding_token_id"),
        "tie_word_embeddings": "output.weight" not in tensors,
    }


def load_model(path: str, config: Mapping[str, Any], dtype: "torch.dtype") -> Any:
    """The causal language model of a file for which `read_config` gave a config.

    Weights are unpacked in fp32 and rounded to `dtype` once, as transformers' older reader does.
    """
    from transformers import LlamaConfig, LlamaForCausalLM

    settings = LlamaConfig(**config)
    state = _weights(path, settings, dtype)
    return LlamaForCausalLM.from_pretrained(None, config=settings, state_dict=state, dtype=dtype)


def load_tokenizer(path: str) -> Any:
    """The tokenizer of such a file."""
    from transformers import PreTrainedTokenizerFast

    folder, file = os.path.split(path)
    return PreTrainedTokenizerFast.from_pretrained(folder, gguf_file=file)


def _weights(path: str, config: Any, dtype: "torch.dtype") -> dict[str, "torch.Tensor"]:
    import torch
    from transformers.integrations.gguf.dequant import dequantize
    from transformers.integrations.gguf.reader import GgufHeader, load_gguf_state_dict

    header = GgufHeader.from_file(path)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    found = {}
    stored = load_gguf_state_dict(header)
    for tensor in header.tensors:
        values = stored[tensor.name][...]
        if values.dtype == torch.uint8:
            values = dequantize(values, tensor.ggml_type)
        values = values.reshape(tensor.shape)
        leaf = tensor.name.split(".")[-2]
        if leaf in heads:
            values = _halves(values, heads[leaf])
        found[_name(tensor.name)] = values.to(dtype)
    return found


def _halves(weight: "torch.Tensor", heads: int) -> "torch.Tensor":
    """A projection's rows as transformers' rotation wants them: of each head the even ones first, which llama.cpp has
    in turn with the odd ones."""
    rows, *rest = weight.shape
    return weight.reshape(heads, rows // heads // 2, 2, *rest).transpose(1, 2).reshape(rows, *rest)


def _name(tensor: str) -> str:
    """transformers' name of a tensor; empty for what a plain Llama has not."""
    found = _TENSOR.fullmatch(tensor)
    name = found and (_OUTSIDE if found[1] is None else _IN_BLOCK).get(found[2])
    if not found or not name:
        return ""
    return f"{name}.weight" if found[1] is None else f"model.layers.{found[1]}.{name}.weight"
