"""Decoders that do more than a plain one: computed as transformers does, or refused before a run."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.training import train
from mmcorpus.training.attention import Attention
from mmcorpus.training.certificate import check_decoder
from mmcorpus.training.config import ModelConfig, StageConfig
from mmcorpus.training.decoder import LogitShape
from mmcorpus.training.loss import Head, token_losses
from mmcorpus.training.model import build_model
from tests.training.conftest import TINY, open_mask
from tests.training.test_model import batch_of

SIZES: dict[str, Any] = {
    "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 320,
    "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
MIXED = ["sliding_attention", "full_attention"]
KNOWN: dict[str, dict[str, Any]] = {
    "granite": {"logits_scaling": 4.0, "embedding_multiplier": 3.0, "residual_multiplier": 0.5},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {"logit_scale": 0.25, "sliding_window": 5, "layer_types": MIXED},
    "gemma3_text": {"final_logit_softcapping": 0.5, "sliding_window": 5, "layer_types": MIXED},
    "mistral": {"sliding_window": 5},
    "qwen2": {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1},
}  # fmt: skip
"""By transformers' names: what each does, with windows that are shorter than the samples."""


def saved(kind: str, more: Mapping[str, Any], folder: Path) -> ModelConfig:
    """A model whose decoder is of this kind, in a folder."""
    torch.manual_seed(0)
    language = AutoModelForCausalLM.from_config(CONFIG_MAPPING[kind](**SIZES, **more))
    for name, parameter in language.named_parameters():
        if "norm" not in name:
            torch.nn.init.normal_(parameter, std=0.2)  # so that scores and logits are of some size
    language.save_pretrained(folder)
    return dataclasses.replace(TINY, language=str(folder))


@pytest.mark.parametrize("kind", KNOWN)
@torch.no_grad()
def test_packed_and_alone_it_computes_what_transformers_does(
    kind: str, mixed: list[Any], sequence: Callable[..., PackedSequence], tmp_path: Path
) -> None:
    net = build_model(saved(kind, KNOWN[kind], tmp_path), 300).eval()
    check_decoder(net, 64)
    packed = batch_of([sequence(mixed[:3])], 16)
    kernels: tuple[Attention, ...] = ("sdpa", "varlen")
    for kernel in kernels:
        first = 0
        net.set_attention(isolated=True, implementation=kernel)
        logits = net.logits(packed)[0]
        losses = net(packed)
        for item in mixed[:3]:
            net.set_attention(isolated=True, implementation="sdpa")
            alone = batch_of([sequence([item])], 16)
            assert alone.positions >= 12
            theirs = net.language(inputs_embeds=net.embed(alone)).logits[0, : alone.positions]
            torch.testing.assert_close(logits[first : first + alone.positions], theirs, rtol=1e-4, atol=1e-4)
            first += alone.positions
        found = torch.nn.functional.cross_entropy(
            logits[packed.predict_positions_M], packed.targets_M, reduction="none"
        )
        torch.testing.assert_close(losses, found, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("gemma2", {}, r"gemma2\) caps its attention scores \(attn_logit_softcapping 50\.0\)"),
        ("lfm2", {"layer_types": ["conv", "full_attention"]}, r"lfm2\) has layers of the kind conv"),
        ("hyperclovax", {"logits_scaling": 4.0}, "its logits differ by .* of the largest from what transformers"),
    ],
)
def test_what_is_not_computed_is_refused_before_a_run(
    kind: str,
    more: dict[str, Any],
    message: str,
    packs: str,
    tokenizer_folder: str,
    stage: Callable[..., StageConfig],
    tmp_path: Path,
) -> None:
    config = saved(kind, more, tmp_path / "language")
    load_tokenizer(tokenizer_folder).save_pretrained(tmp_path / "language")
    with pytest.raises(ValueError, match=message):
        train(stage(steps=1), packs, str(tmp_path / "out"), model=config)
    assert not (tmp_path / "out").exists()


def test_a_window_that_the_mask_does_not_have_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a decoder that takes windows in another way; but not where no sequence is as long."""
    net = build_model(saved("mistral", {"sliding_window": 40}, tmp_path), 300).eval()
    monkeypatch.setattr("mmcorpus.training.model.masks", lambda config, length, make: make(None))
    check_decoder(net, 32)
    with pytest.raises(ValueError, match="does more than is known here"):
        check_decoder(net, 41)
    assert net.decoder.config.sliding_window == 40


def test_two_texts_that_see_each_other_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of a decoder that makes a mask of its own."""
    net = build_model(saved("qwen2", {}, tmp_path), 300).eval()
    monkeypatch.setattr("mmcorpus.training.model.attention_mask", open_mask)
    with pytest.raises(ValueError, match="does more than is known here"):
        check_decoder(net, 64)
    assert net.attention == "sdpa"
    assert net.isolated


def test_a_decoder_that_does_not_take_the_kernel_is_refused_by_name(tmp_path: Path) -> None:
    """Doge has attention masks of its own making, which segments are none of."""
    net = build_model(saved("doge", {}, tmp_path), 300).eval()
    check_decoder(net, 64)
    with pytest.raises(
        ValueError, match=r"\(doge\) cannot be run on packed samples with compute.attention varlen .*sdpa"
    ):
        check_decoder(net, 64, "varlen")


def test_capped_logits_have_their_own_losses_and_gradients() -> None:
    torch.manual_seed(0)
    hidden, weight, targets = torch.randn(7, 8, requires_grad=True), torch.randn(9, 8), torch.randint(0, 9, (7,))
    head = Head(weight_VD=weight, shape=LogitShape.of({"logits_scaling": 2.0, "final_logit_softcapping": 3.0}))
    losses = token_losses(hidden, head, targets, chunk=4)
    (gradient,) = torch.autograd.grad(losses.sum(), hidden)
    logits = 3 * torch.tanh(hidden @ weight.T / 2 / 3)
    expected = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(gradient, torch.autograd.grad(expected.sum(), hidden)[0])
    assert LogitShape.of({"logit_scale": None, "final_logit_softcapping": None}) == LogitShape()
