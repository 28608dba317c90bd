"""Upcycled decoders as transformers' own sparse architectures, which compute the same.

Qwen3 has one of its shape (Qwen3-MoE). Qwen2, Llama and Mistral become Qwen2-MoE, with a shared expert, and biases of
queries, keys and values, that are zero where the decoder has none. Its sparse layers stand where ours do
(`decoder_sparse_step`), where all of Mixtral's are sparse.
"""

import dataclasses
import functools
import itertools
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

from mmcorpus.training.config import MoEConfig
from mmcorpus.training.exchange.checkpoint import LANGUAGE, Parts
from mmcorpus.training.tensors import Read, Tensors

NATIVE: Final = {"qwen3": "qwen3_moe", "qwen2": "qwen2_moe", "llama": "qwen2_moe", "mistral": "qwen2_moe"}
"""By the type of a dense decoder, that of transformers that has its experts."""
_SHARED: Final = 16
"""Width of the shared expert that does nothing."""
_KEPT: Final = (
    "attention_bias", "attention_dropout", "bos_token_id", "eos_token_id", "head_dim", "hidden_act", "hidden_size",
    "initializer_range", "intermediate_size", "layer_types", "max_position_embeddings", "max_window_layers",
    "num_attention_heads", "num_hidden_layers", "num_key_value_heads", "pad_token_id", "rms_norm_eps",
    "rope_parameters", "tie_word_embeddings", "use_cache", "vocab_size",
)  # fmt: skip
"""Settings that a dense and a sparse decoder have in common, by transformers' names."""


def as_native(parts: Parts) -> Parts:
    """A checkpoint's parts with the decoder as transformers has it; dense ones as they are.

    Raises ValueError for one with experts that no architecture of transformers computes.
    """
    moe = parts.config.moe
    if moe is None:
        return parts
    language = parts.language
    dense = language["model_type"]
    why = f"decoders of the type {dense!r} have no sparse kin in transformers (those of {', '.join(NATIVE)} have)"
    if dense in NATIVE:
        why = _unlike(language)
    if why:
        raise ValueError(
            f"this model's experts cannot be exported: {why}. It answers, is evaluated and trained on here"
        )
    kind = NATIVE[dense]
    sparse = {name: language[name] for name in _KEPT if name in language} | {
        "model_type": kind,
        "num_experts": moe.experts,
        "num_experts_per_tok": moe.top_k,
        "decoder_sparse_step": moe.every,
        "mlp_only_layers": [],
        "norm_topk_prob": True,
        "moe_intermediate_size": language["intermediate_size"],
        "router_aux_loss_coef": moe.load_balance,
    }
    if kind == "qwen2_moe":
        sparse |= {"qkv_bias": True, "shared_expert_intermediate_size": _SHARED}
    readers = dict(_tensors(parts.weights, moe, kind))
    weights = Tensors({name: read for name, (_, read) in readers.items()}, {n: s for n, (s, _) in readers.items()})
    config = dataclasses.replace(parts.config, moe=None)
    return dataclasses.replace(parts, config=config, language=sparse, weights=weights)


def _unlike(language: Mapping[str, Any]) -> str:
    """What a decoder has that its sparse kin has not; empty if there is nothing."""
    if "sliding_attention" in (language.get("layer_types") or ()) or (
        language["model_type"] == "mistral" and language.get("sliding_window")
    ):
        return "its layers have a sliding window"
    if language["model_type"] == "llama" and language.get("attention_bias"):
        return "its attention's output has a bias (attention_bias)"
    return ""


def _tensors(weights: Tensors, moe: MoEConfig, kind: str) -> Iterator[tuple[str, tuple[tuple[int, ...], Read]]]:
    """Weights by the names on the hub, where each expert has its own, with those that are zero."""

    @functools.lru_cache(maxsize=1)  # experts follow each other, so that what they are stacked in is read once
    def stacked(name: str) -> torch.Tensor:
        return weights[name]()

    def of_expert(name: str, expert: int, rows: slice) -> Read:
        return lambda: stacked(name)[expert, rows]

    for name, read in weights.items():
        shape, (before, _, part) = weights.shapes[name], name.rpartition(".experts.")
        if before:
            kinds = ("down_proj",) if part == "down_proj" else ("gate_proj", "up_proj")
            height = shape[1] // len(kinds)
            for expert, (number, one) in itertools.product(range(moe.experts), enumerate(kinds)):
                rows = slice(number * height, (number + 1) * height)
                yield f"{before}.experts.{expert}.{one}.weight", ((height, shape[2]), of_expert(name, expert, rows))
            continue
        yield name, (shape, read)
        if kind != "qwen2_moe" or not name.startswith(LANGUAGE):
            continue
        if name.endswith(("q_proj.weight", "k_proj.weight", "v_proj.weight")):
            bias = name.removesuffix("weight") + "bias"
            if bias not in weights:
                yield bias, _zeros(shape[0])
        if name.endswith(".mlp.gate.weight"):
            mlp, width = name.removesuffix("gate.weight"), shape[1]
            yield f"{mlp}shared_expert_gate.weight", _zeros(1, width)
            for one in ("gate_proj", "up_proj"):
                yield f"{mlp}shared_expert.{one}.weight", _zeros(_SHARED, width)
            yield f"{mlp}shared_expert.down_proj.weight", _zeros(width, _SHARED)


def _zeros(*shape: int) -> tuple[tuple[int, ...], Read]:
    return shape, functools.partial(torch.zeros, shape)
