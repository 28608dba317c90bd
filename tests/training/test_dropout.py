"""Residual dropout: Molmo's arithmetic at the places where it has it, and the same for any way of computing a step."""

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from mmcorpus.curation.store import storage
from mmcorpus.packing.packs import PackReader
from mmcorpus.training import StageConfig, read_metrics, train
from mmcorpus.training.batch import PackedBatch
from mmcorpus.training.checkpoint import list_checkpoints, read_tensors
from mmcorpus.training.config import DropoutConfig, ModelConfig
from mmcorpus.training.data import PackLoader
from mmcorpus.training.dropout import ResidualDropout
from mmcorpus.training.model import VisionLanguageModel
from tests.training.conftest import TINY
from tests.training.test_loop import curve

Stages = Callable[..., StageConfig]


def batch_of(packs: str, *sequences: int) -> PackedBatch:
    return PackLoader(PackReader(packs), image_size=16).batch(sequences)


def reference(
    given: torch.Tensor, drop_mask: torch.Tensor, p: float, mask_p: float, even: torch.Tensor
) -> torch.Tensor:
    """`Dropout.forward` of allenai/molmo's model.py in training; `even` decides what its bernoulli_ would draw."""
    keep_prob = drop_mask * (1.0 - mask_p) + (1 - drop_mask) * (1.0 - p)
    keep_prob = keep_prob.unsqueeze(-1).broadcast_to(given.shape)
    multiplier = (even < keep_prob).to(given.dtype)
    multiplier.div_(keep_prob)
    return given * multiplier


def test_the_arithmetic_is_molmos(model: VisionLanguageModel, packs: str) -> None:
    """On what a block adds: at positions that predict a target (of some weight) by the one rate, elsewhere by the
    other, at padding not at all; its mean stays, and a target of weight 0 is no target."""
    config = DropoutConfig(residual=0.05, response=0.4)
    dropout = ResidualDropout(model, config, seed=3)
    batch = batch_of(packs, 0, 1)
    weights = torch.ones(batch.target_tokens)
    weights[::3] = 0.0
    object.__setattr__(batch, "weights_M", weights)
    dropout.begin(batch, step=7)
    site = model.blocks[1].mlp
    seen: list[torch.Tensor] = []
    hooked = site.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model.train()
    added = site(torch.randn(*batch.input_ids_BL.shape, 32, generator=torch.Generator().manual_seed(0)))
    hooked.remove()
    model.eval()
    whole = site(seen[0])
    mask = torch.zeros(batch.input_ids_BL.numel())
    mask[batch.predict_positions_M[weights > 0]] = 1
    mask = mask.view_as(batch.input_ids_BL)
    there = batch.sample_ids_BL >= 0
    factors = dropout.factors(3, 32)  # the place of the second block's feed-forward
    even = torch.full((*mask.shape, 32), -1.0)
    even[there] = torch.where(factors > 0, 0.0, 1.0)
    wanted = reference(whole, mask, 0.05, 0.4, even)
    torch.testing.assert_close(added[there], wanted[there])
    torch.testing.assert_close(added[~there], whole[~there])
    kept = (added[there] != 0).float().mean(-1)
    of_targets = mask[there] > 0
    assert of_targets.sum() > 40
    assert kept[of_targets].mean() == pytest.approx(0.6, abs=0.04)
    assert kept[~of_targets].mean() == pytest.approx(0.95, abs=0.02)


def test_text_alone_is_dropped_and_nothing_in_evaluation(model: VisionLanguageModel, packs: str) -> None:
    dropout = ResidualDropout(model, DropoutConfig(response=0.5), seed=0)
    batch = batch_of(packs, 2)
    plain = model.hidden(batch)
    dropout.begin(batch, step=0)
    assert torch.equal(model.hidden(batch), plain)
    model.train()
    dropped = model.hidden(batch)
    changed = (dropped != plain).any(-1).flatten().nonzero().flatten()
    # Positions that predict, and those after them in the same sample, which see them: no image of any sample.
    assert set(batch.predict_positions_M.tolist()) <= set(changed.tolist())
    assert not set(batch.image_positions.tolist()) & set(changed.tolist())
    assert len(places := {tuple(p.tolist()) for p, _, _ in dropout._rows}) == 1
    assert list(next(iter(places))) == sorted(set(batch.predict_positions_M.tolist()))


def test_a_step_is_the_same_however_it_is_computed(
    packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    """For any micro-batches and with activations computed again; resumed to the bit; another seed or none differs."""
    settings: dict[str, Any] = {"dropout": DropoutConfig(residual=0.1, response=0.3), "steps": 4, "checkpoint_every": 2}
    ways: dict[str, dict[str, Any]] = {
        "one": {}, "four": {"micro_batch_sequences": 4}, "again": {"activation_checkpointing": True},
        "none": {"dropout": DropoutConfig()},
    }  # fmt: skip
    losses = {}
    for name, changes in ways.items():
        made = stage(**{**settings, "micro_batch_sequences": 1, **changes})
        train(made, packs, str(tmp_path / name), model=tiny)
        losses[name] = [line["loss"] for line in curve(tmp_path / name)]
    assert losses["four"] == pytest.approx(losses["one"], abs=1e-5)
    assert losses["again"] == pytest.approx(losses["one"], abs=1e-5)
    assert abs(losses["none"][0] - losses["one"][0]) > 1e-3
    out = str(tmp_path / "one")
    last = list_checkpoints(f"{out}/checkpoints")[-1]
    before = read_tensors(last, "model")
    storage.remove(last)
    report = train(stage(**settings, micro_batch_sequences=1), packs, out, model=tiny)
    assert [line["loss"] for line in curve(out)] == losses["one"]
    after = read_tensors(report.checkpoint, "model")
    assert all(torch.equal(value, after[name]) for name, value in before.items())


def test_steps_and_sequences_draw_apart(model: VisionLanguageModel, packs: str) -> None:
    dropout = ResidualDropout(model, DropoutConfig(residual=0.5), seed=1)

    def drawn(step: int, *sequences: int) -> torch.Tensor:
        dropout.begin(batch_of(packs, *sequences), step)
        return dropout.factors(0, 32)

    both, alone = drawn(0, 0, 1), drawn(0, 1)
    assert torch.equal(both[-len(alone) :], alone)
    short = min(len(alone), len(both) - len(alone))
    for other in (drawn(1, 1), both[:short]):
        share = (other[:short] == alone[:short]).float().mean()
        assert share == pytest.approx(0.5, abs=0.05)
    dropout.begin(batch_of(packs, 1), 0)
    assert not torch.equal(dropout.factors(1, 32), alone)


def tiny_decoder(kind: str) -> Any:
    import transformers

    sizes: dict[str, Any] = {
        "vocab_size": 320, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "pad_token_id": 0,
    }  # fmt: skip
    config = transformers.CONFIG_MAPPING[kind](**sizes)
    return transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")


@pytest.mark.parametrize("kind", ["gemma3_text", "olmo2", "cohere", "granite", "mixtral", "gpt_neox"])
def test_other_decoders_have_the_same_places(model: VisionLanguageModel, kind: str) -> None:
    """Norms after attention and feed-forward, both beside each other, scaled ones, experts."""
    model.language = tiny_decoder(kind).eval()
    ResidualDropout(model, DropoutConfig(residual=0.1), seed=0)
    assert not any(module.training for module in model.language.modules()), "it was tried, and is as it was"


def test_a_decoder_that_adds_more_is_refused(model: VisionLanguageModel) -> None:
    for block in model.blocks:
        block.mlp.register_forward_hook(lambda module, given, output: output + 1)
    ResidualDropout(model, DropoutConfig(residual=0.1), seed=0)  # what a place gives is dropped, whoever made it
    for block in model.blocks:
        block.register_forward_hook(lambda module, given, output: output + 1)
    with pytest.raises(ValueError, match=r"qwen2\) add more to the residual stream"):
        ResidualDropout(model, DropoutConfig(residual=0.1), seed=0)
    del model.blocks[0].mlp
    with pytest.raises(ValueError, match=r"are not known by their names; set dropout\.residual"):
        ResidualDropout(model, DropoutConfig(residual=0.1), seed=0)


@pytest.mark.parametrize("rate", [-0.1, 1.0, float("nan")])
def test_rates_are_shares(rate: float) -> None:
    with pytest.raises(ValueError, match=r"dropout\.response is"):
        DropoutConfig(response=rate)
    assert DropoutConfig(residual=np.float64(0.2)).at_targets == 0.2


@pytest.mark.slow
def test_compiled_stages_after_one_another_drop_what_each_says(
    packs: str, stage: Callable[..., StageConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one process, as a recipe's are: code compiled without dropout is not taken for one with it."""
    compiled = nn.Module.compile
    monkeypatch.setattr(nn.Module, "compile", functools.partialmethod(compiled, backend="eager"))
    losses: dict[tuple[float, bool], list[float]] = {}
    for number, (rate, compiles) in enumerate([(0.3, False), (0.0, False), (0.0, True), (0.3, True)]):
        out = str(tmp_path / str(number))
        settings = stage(steps=1, dropout=DropoutConfig(residual=rate), compile=compiles)
        train(settings, packs, out, model=TINY, device="cpu")
        losses.setdefault((rate, compiles), []).append(read_metrics(f"{out}/metrics.jsonl")[0]["loss"])
    for rate in (0.0, 0.3):
        assert losses[rate, True] == pytest.approx(losses[rate, False] * len(losses[rate, True]), rel=1e-5)
    assert abs(losses[0.3, False][0] - losses[0.0, False][0]) > 1e-3
