"""Mixtures of experts: equal to the dense decoder at first, to transformers' own classes afterwards."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import Qwen3MoeConfig
from transformers.models.qwen3_moe.modeling_qwen3_moe import Qwen3MoeMLP, Qwen3MoeSparseMoeBlock

from mmcorpus.curation.store import storage
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.training import StageConfig, generate, moe, read_metrics, train
from mmcorpus.training.certificate import check_decoder
from mmcorpus.training.checkpoint import load_model, read_tensors
from mmcorpus.training.config import ModelConfig, MoEConfig, model_config_from_dict
from mmcorpus.training.launch import launch
from mmcorpus.training.model import VisionLanguageModel, build_model
from mmcorpus.training.moe import MixtureOfExperts, Routed, by_turns, in_one, load_metrics
from mmcorpus.training.soup import soup
from tests.training.conftest import TINY
from tests.training.test_decoder import saved
from tests.training.test_model import batch_of

MOE = MoEConfig(experts=4, every=2)


def drawn(net: VisionLanguageModel, std: float = 0.3) -> VisionLanguageModel:
    """Experts that differ, as training leaves them."""
    torch.manual_seed(1)
    with torch.no_grad():
        for layer in net.sparse.values():
            for parameter in layer.parameters():
                parameter.add_(torch.randn_like(parameter) * std)
    return net


@pytest.mark.parametrize("kind", ["qwen2", "llama", "qwen3", "gemma3_text", "olmo2", "granite"])
@torch.no_grad()
def test_what_is_upcycled_computes_what_the_dense_decoder_does(
    kind: str, mixed: list[Any], sequence: Callable[..., PackedSequence], tmp_path: Path
) -> None:
    """To rounding, on packed samples, before the first step; and packed is alone also when experts differ."""
    dense = saved(kind, {}, tmp_path)
    batch = batch_of([sequence(mixed[:3])], 16)
    before = build_model(dense, 300).eval()
    net = build_model(dataclasses.replace(dense, moe=MoEConfig(experts=4, every=1)), 300).eval()
    assert list(net.sparse) == [0, 1]
    theirs = before.logits(batch)
    torch.testing.assert_close(net.logits(batch), theirs, rtol=1e-6, atol=1e-6 * float(theirs.abs().max()))
    drawn(net)
    check_decoder(net, 64)
    assert (net.logits(batch) - theirs).abs().max() > 1e-3
    logits, first = net.logits(batch)[0], 0
    for item in mixed[:3]:
        alone = batch_of([sequence([item])], 16)
        own = net.logits(alone)[0, : alone.positions]
        torch.testing.assert_close(logits[first : first + len(own)], own, rtol=1e-4, atol=1e-4)
        first += len(own)


@pytest.mark.parametrize("product", [by_turns, in_one])
def test_dispatch_is_transformers_own(product: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients, also where an expert gets no token; by the GPU's kernel, which runs on a CPU too."""
    monkeypatch.setattr(moe, "grouped_linear", product)
    width = 48
    torch.manual_seed(0)
    config = Qwen3MoeConfig(
        hidden_size=32, intermediate_size=width, moe_intermediate_size=width, num_experts=6, num_experts_per_tok=2,
        norm_topk_prob=True,
    )  # fmt: skip
    theirs = Qwen3MoeSparseMoeBlock(config)
    ours = MixtureOfExperts(Qwen3MoeMLP(config, intermediate_size=width), MoEConfig(experts=6, every=1))
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    ours.load_state_dict(theirs.state_dict())
    hidden = torch.randn(1, 5, 32)
    found, wanted = ours(hidden), theirs(hidden)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    for output in (found, wanted):
        output.square().sum().backward()
    for name, parameter in theirs.named_parameters():
        torch.testing.assert_close(ours.get_parameter(name).grad, parameter.grad, rtol=1e-4, atol=1e-4)
    assert (ours.experts.down_proj.grad.abs().amax((1, 2)) == 0).any()


def test_losses_are_the_papers_by_hand(mixed: list[Any], sequence: Callable[..., PackedSequence]) -> None:
    """Switch's load balance and ST-MoE's z-loss, over each sequence's positions without its padding, times its targets;
    1 and (log E)² where the router says nothing."""
    batch = batch_of([sequence(mixed[:2]), sequence(mixed[2:3])], 16)
    b, length = batch.input_ids_BL.shape
    torch.manual_seed(0)
    logits = torch.randn(b * length, 4)
    config = MoEConfig(experts=4, load_balance=0.5, z_loss=0.25)
    found = Routed({1: logits, 3: logits}).losses(batch, config)
    balance = z = 0.0
    for row in range(b):
        here = (batch.sample_ids_BL[row] >= 0).nonzero().flatten().tolist()
        assert len(here) < length or row == 0
        probs = [logits[row * length + place].softmax(-1) for place in here]
        loads, means = [0.0] * 4, [0.0] * 4
        for prob in probs:
            for expert in prob.topk(2).indices.tolist():
                loads[expert] += 1 / (2 * len(here))
            means = [mean + float(prob[e]) / len(here) for e, mean in enumerate(means)]
        targets = int((batch.predict_positions_M // length == row).sum())
        balance += targets * 4 * sum(f * p for f, p in zip(loads, means, strict=True))
        z += targets * sum(float(logits[row * length + place].logsumexp(-1)) ** 2 for place in here) / len(here)
    assert float(found["load_balance_loss"]) == pytest.approx(0.5 * 2 * balance, rel=1e-5)
    assert float(found["router_z_loss"]) == pytest.approx(0.25 * 2 * z, rel=1e-5)
    silent = Routed({1: torch.zeros(b * length, 4)}).losses(batch, config)
    assert float(silent["load_balance_loss"]) == pytest.approx(0.5 * batch.target_tokens, rel=1e-5)
    assert float(silent["router_z_loss"]) == pytest.approx(0.25 * batch.target_tokens * math.log(4) ** 2, rel=1e-5)
    doubled = dataclasses.replace(batch, weights_M=torch.full((batch.target_tokens,), 2.0))
    for name, value in Routed({1: logits, 3: logits}).losses(doubled, config).items():
        assert float(value) == pytest.approx(2 * float(found[name]), rel=1e-5)


def test_load_is_told_by_layer_and_expert() -> None:
    loads = torch.tensor([[4.0, 0, 0, 0], [1, 1, 1, 1]], dtype=torch.float64)
    found = load_metrics({1: None, 3: None}, loads)
    assert found["expert_load"] == {"1": [1.0, 0.0, 0.0, 0.0], "3": [0.25] * 4}
    assert found["expert_entropy"] == {"1": 0.0, "3": 1.0}
    assert load_metrics({}, torch.zeros(0, 0)) == {}


@pytest.fixture(scope="module")
def dense(packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], tmp_path_factory: Any) -> str:
    """A checkpoint of a dense model."""
    out = str(tmp_path_factory.mktemp("dense"))
    return train(stage(steps=1), packs, out, model=tiny, device="cpu").checkpoint


@pytest.fixture(scope="module")
def sparse(packs: str, dense: str, stage: Callable[..., StageConfig], tmp_path_factory: Any) -> str:
    """The folder of a stage that upcycles it."""
    out = str(tmp_path_factory.mktemp("sparse"))
    train(stage(steps=4, checkpoint_every=2, moe=MOE, certify=2), packs, out, init=dense, device="cpu")
    return out


def test_a_stage_upcycles_and_those_after_it_keep_the_experts(
    packs: str, dense: str, sparse: str, stage: Callable[..., StageConfig], png_file: str, tmp_path: Path
) -> None:
    lines = read_metrics(f"{sparse}/metrics.jsonl")
    first = train(stage(steps=1), packs, str(tmp_path / "dense"), init=dense, device="cpu").totals.loss
    assert lines[0]["loss"] == pytest.approx(first, rel=1e-6), "the dense model's"
    for line in lines:
        assert line["load_balance_loss"] >= 0.01 * 0.9
        assert line["router_z_loss"] > 0
        assert sum(line["expert_load"]["1"]) == pytest.approx(1, abs=1e-3)
        assert len(line["expert_load"]["1"]) == 4
        assert 0 < line["expert_entropy"]["1"] <= 1
    net, _, state = load_model(sparse)
    assert model_config_from_dict(state["model"]).moe == MOE
    experts = net.sparse[1].experts.down_proj
    assert (experts[0] - experts[1]).abs().max() > 1e-5, "they have learnt apart"
    assert isinstance(generate(sparse, png_file, max_new_tokens=3, device="cpu"), str)
    gentler = dataclasses.replace(MOE, load_balance=0.0)
    after = train(stage(steps=1, moe=gentler), packs, str(tmp_path / "next"), init=sparse, device="cpu")
    assert load_model(after.checkpoint)[0].config.moe == gentler
    assert read_metrics(f"{tmp_path}/next/metrics.jsonl")[0]["load_balance_loss"] == 0
    made = soup([sparse, after.checkpoint], str(tmp_path / "soup")).checkpoint
    mean = load_model(made)[0].sparse[1].experts.down_proj
    theirs = [load_model(one)[0].sparse[1].experts.down_proj for one in (sparse, after.checkpoint)]
    torch.testing.assert_close(mean, (theirs[0] + theirs[1]) / 2)
    with pytest.raises(ValueError, match="wants 8 experts, top-2, in every layer of 2, and the model has 4"):
        train(stage(moe=MoEConfig(experts=8)), packs, str(tmp_path / "x"), init=sparse, device="cpu")


def test_it_resumes_to_the_bit(
    packs: str, dense: str, sparse: str, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    out = str(tmp_path / "again")
    again = stage(steps=4, checkpoint_every=2, moe=MOE, certify=2)
    train(again, packs, out, init=dense, device="cpu")
    storage.remove(f"{out}/checkpoints/step-00000004")
    resumed = train(again, packs, out, init=dense, device="cpu").checkpoint
    for name, value in read_tensors(f"{sparse}/checkpoints/step-00000004", "model").items():
        assert torch.equal(read_tensors(resumed, "model")[name], value), name


def test_losses_are_added_once_however_a_step_is_cut(
    packs: str, tiny: ModelConfig, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    """Sequences of unlike numbers of targets, one or four at a time, with activations computed again or not."""
    config = dataclasses.replace(tiny, moe=dataclasses.replace(MOE, load_balance=1.0, z_loss=1.0))
    runs = {}
    for name, changes in (
        ("whole", {"micro_batch_sequences": 4}),
        ("cut", {"micro_batch_sequences": 1}),
        ("again", {"micro_batch_sequences": 4, "activation_checkpointing": True}),
    ):
        out = str(tmp_path / name)
        saved_at = train(stage(steps=2, **changes), packs, out, model=config, device="cpu").checkpoint
        runs[name] = read_metrics(f"{out}/metrics.jsonl"), read_tensors(saved_at, "model")
    whole, weights = runs.pop("whole")
    for name, (lines, tensors) in runs.items():
        for line, other in zip(whole, lines, strict=True):
            for key in ("loss", "load_balance_loss", "router_z_loss", "gradient_norm"):
                assert other[key] == pytest.approx(line[key], rel=1e-4), (name, key)
            assert other["expert_load"] == line["expert_load"]
        for parameter, value in weights.items():
            torch.testing.assert_close(tensors[parameter], value, rtol=2e-3, atol=2e-4, msg=parameter)


@pytest.mark.soak
def test_two_processes_that_share_the_experts_are_one(
    packs: str, dense: str, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    """Sharded by FSDP2, and gone on with by one process from the parts that both have written."""
    settings: dict[str, Any] = {"moe": dataclasses.replace(MOE, load_balance=0.5), "steps": 3, "checkpoint_every": 2}
    begun: dict[str, Any] = {"init": dense, "device": "cpu"}
    alone = read_tensors(launch(1, stage(**settings), packs, str(tmp_path / "one"), **begun).checkpoint, "model")
    one, out = read_metrics(f"{tmp_path}/one/metrics.jsonl"), str(tmp_path / "two")
    launch(2, stage(**settings, parallel="shard", certify=4), packs, out, **begun)
    for line, other in zip(one, read_metrics(f"{out}/metrics.jsonl"), strict=True):
        for key in ("loss", "load_balance_loss", "router_z_loss", "gradient_norm"):
            assert other[key] == pytest.approx(line[key], rel=1e-4), key
        assert other["expert_load"]["1"] == pytest.approx(line["expert_load"]["1"], abs=5e-3)
    for back in (False, True):
        if back:
            storage.remove(f"{out}/checkpoints/step-00000003")
            launch(1, stage(**settings), packs, out, **begun)
        found = load_model(out)[0].kept()
        for name, value in alone.items():
            torch.testing.assert_close(found[name], value, rtol=2e-3, atol=2e-4, msg=name)


def test_bf16_routes_in_fp32(mixed: list[Any], sequence: Callable[..., PackedSequence]) -> None:
    net = drawn(build_model(dataclasses.replace(TINY, moe=MOE), 300))
    batch = batch_of([sequence(mixed[:3])], 16)
    with torch.autocast("cpu", torch.bfloat16), Routed.of(net.sparse) as routed:
        losses = net(batch)
    assert routed.logits[1].dtype == torch.float32
    torch.testing.assert_close(losses, net(batch), rtol=0.05, atol=0.05)
    losses.sum().backward()
    assert net.sparse[1].gate.weight.grad is not None


@pytest.mark.parametrize(
    ("kind", "more", "experts", "message"),
    [
        ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4}, MOE, "GPT2MLP.* are not gated ones without biases"),
        ("llama", {"mlp_bias": True}, MOE, "LlamaMLP.* are not gated ones without biases"),
        ("phi3", {}, MOE, "Phi3MLP.* are not gated"),
        ("qwen2", {}, MoEConfig(every=4), "moe.every is 4, and the language model has 2 layers"),
    ],
)
def test_what_cannot_be_upcycled_is_refused(
    kind: str, more: dict[str, Any], experts: MoEConfig, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(dataclasses.replace(saved(kind, more, tmp_path), moe=experts), 300)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"experts": 1}, "moe.experts is 1"),
        ({"experts": 2, "top_k": 3}, "moe.top_k is 3, more than the 2 experts"),
        ({"every": 0}, "every is 0"),
        ({"z_loss": -1.0}, "z_loss is -1.0"),
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MoEConfig(**settings)


def test_the_work_of_a_token_is_that_of_its_experts() -> None:
    from mmcorpus.training.balance import Work

    dense = build_model(TINY, 300)
    net = build_model(dataclasses.replace(TINY, moe=MOE), 300)
    layer = net.sparse[1]
    expert = sum(weight.numel() for weight in layer.experts.parameters()) // 4
    assert layer.idle == 2 * expert
    grown = Work.of(net).position - Work.of(dense).position
    assert grown == 6.0 * (expert + layer.gate.weight.numel()), "one expert more than the dense network, and the router"
