"""Mixtures of experts, made of a dense decoder: its feed-forward networks become experts of which a router picks some.

Every expert of an upcycled layer is a copy of the dense network, and the gates of those that a token goes to add up
to 1: whatever the router says, the first forward pass is the dense model's. What makes experts differ is that they see
different tokens. No expert has a capacity, so no token is dropped, and what becomes of one does not depend on its
neighbours: packed is alone.

Sources: sparse upcycling (Komatsuzaki et al., arXiv 2212.05055: experts are copies, gates renormalised, routers drawn
with a small deviation); MM1 (arXiv 2403.09611, §3.4); the load-balance loss of Switch Transformer (arXiv 2101.03961,
eq. 4), the router z-loss of ST-MoE (arXiv 2202.08906, eq. 5).

Shape legend: N tokens, S of them times the experts of each (slots), D the decoder's width, I the width inside an
expert, E experts, K experts of a token; B sequences, L positions, Y sparse layers, M target tokens.
"""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

import torch
import torch.nn.functional as F
from torch import nn

from mmcorpus.training.attention import PADDING
from mmcorpus.training.batch import PackedBatch
from mmcorpus.training.config import MoEConfig

ROUTER_STD: Final = 0.02
"""Standard deviation of a router's weights at first. At 0 all tokens would go to the same experts."""
_SAME: Final = 1e-4
"""The share of its largest output by which a dense network may differ from what is computed here for it."""
_ALIGNED: Final = 16
"""Bytes of which torch's grouped product wants a row to be a multiple."""


class Router(nn.Module):
    """Scores every expert for every token, in fp32 whatever the rest is computed in (ST-MoE §3.3)."""

    def __init__(self, width: int, experts: int, like: torch.Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(experts, width, dtype=like.dtype, device=like.device))
        nn.init.normal_(self.weight, std=ROUTER_STD)

    def forward(self, hidden_ND: torch.Tensor) -> torch.Tensor:
        """N×D → N×E logits, fp32."""
        with torch.autocast(hidden_ND.device.type, enabled=False):
            return F.linear(hidden_ND.float(), self.weight.float())


class Experts(nn.Module):
    """Gated networks side by side: down(act(gate(x)) · up(x)). Weights are stacked as in transformers' own classes."""

    def __init__(self, dense: Any, experts: int) -> None:
        super().__init__()
        gate_up = torch.cat([dense.gate_proj.weight, dense.up_proj.weight]).detach()
        self.gate_up_proj = nn.Parameter(gate_up.expand(experts, -1, -1).clone())  # E×2I×D
        self.down_proj = nn.Parameter(dense.down_proj.weight.detach().expand(experts, -1, -1).clone())  # E×D×I
        self.act_fn = dense.act_fn

    def forward(self, slots_SD: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
        """Slots, those of each expert side by side, → S×D; an expert's end before `ends_E`."""
        gate_SI, up_SI = grouped_linear(slots_SD, self.gate_up_proj, ends_E).chunk(2, dim=-1)
        return grouped_linear(self.act_fn(gate_SI) * up_SI, self.down_proj, ends_E)


def grouped_linear(rows_SX: torch.Tensor, weights_EYX: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
    """Rows times the weight of the group that each stands in, S×X → S×Y; a group's rows end before `ends_E`.

    On a GPU one kernel, where torch has it (rows of a multiple of 16 bytes; bf16 in compiled code). Else a product a
    group, which is no slower on a CPU.
    """
    kind = rows_SX.device.type
    if torch.is_autocast_enabled(kind):
        rows_SX, weights_EYX = (one.to(torch.get_autocast_dtype(kind)) for one in (rows_SX, weights_EYX))
    dtype = rows_SX.dtype
    if (
        kind == "cuda"
        and torch.cuda.get_device_capability(rows_SX.device) >= (8, 0)
        and all(width * dtype.itemsize % _ALIGNED == 0 for width in weights_EYX.shape[1:])
        and (dtype == torch.bfloat16 or not torch.compiler.is_compiling())
    ):
        return in_one(rows_SX, weights_EYX, ends_E)
    return by_turns(rows_SX, weights_EYX, ends_E)


def in_one(rows_SX: torch.Tensor, weights_EYX: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
    """`grouped_linear` by one kernel."""
    found: torch.Tensor = F.grouped_mm(rows_SX, weights_EYX.transpose(1, 2), offs=ends_E.to(torch.int32))
    return found


def by_turns(rows_SX: torch.Tensor, weights_EYX: torch.Tensor, ends_E: torch.Tensor) -> torch.Tensor:
    """`grouped_linear` by a product a group."""
    edges = itertools.pairwise([0, *ends_E.tolist()])
    return torch.cat([F.linear(rows_SX[a:b], weight) for (a, b), weight in zip(edges, weights_EYX, strict=True)])


class MixtureOfExperts(nn.Module):
    """Stands in the place of a dense decoder's feed-forward network."""

    def __init__(self, dense: Any, config: MoEConfig) -> None:
        """`dense`: a gated network without biases, as Llama and Qwen have it; raises ValueError for another."""
        super().__init__()
        _check_gated(dense)
        self.top_k = config.top_k
        self.gate = Router(dense.gate_proj.in_features, config.experts, dense.gate_proj.weight)
        self.experts = Experts(dense, config.experts)
        self.recording = False
        self.logits: torch.Tensor | None = None

    @property
    def idle(self) -> int:
        """Weights that a token does not meet: those of the experts that it does not go to."""
        count = len(self.gate.weight)
        return sum(weight.numel() for weight in self.experts.parameters()) * (count - self.top_k) // count

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        """…×D → …×D."""
        hidden_ND = hidden.flatten(0, -2)
        logits_NE = self.gate(hidden_ND)
        self.logits = logits_NE if self.recording else None
        gates_NK, chosen_NK = route(logits_NE, self.top_k)
        chosen_S = chosen_NK.flatten()
        order_S = chosen_S.argsort(stable=True)
        counts_E = torch.zeros(logits_NE.shape[1], dtype=torch.int64, device=chosen_S.device)
        ends_E = counts_E.scatter_add(0, chosen_S, torch.ones_like(chosen_S)).cumsum(0)
        # A row a slot before the permutation: its gradient is then a permutation too, the same to the bit each time.
        slots_SD = hidden_ND.repeat_interleave(self.top_k, dim=0)[order_S]
        back_S = torch.empty_like(order_S).index_copy(0, order_S, torch.arange(len(order_S), device=order_S.device))
        made_NKD = self.experts(slots_SD, ends_E)[back_S].unflatten(0, (-1, self.top_k))
        return (made_NKD * gates_NK.unsqueeze(-1)).sum(1).to(hidden.dtype).view_as(hidden)


def route(logits_NE: torch.Tensor, top_k: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Each token's gates N×K, which add up to 1, and the experts that they are of, the likeliest first."""
    shares_NK, chosen_NK = logits_NE.softmax(-1).topk(top_k)
    return shares_NK / shares_NK.sum(-1, keepdim=True), chosen_NK


def upcycle(blocks: nn.ModuleList, config: MoEConfig) -> None:
    """Make the feed-forward networks of every `config.every`-th block mixtures of experts that compute the same.

    Routers are drawn from torch's generator. Raises ValueError where there is no such block, or a network that is not
    gated as Llama's is.
    """
    if len(blocks) < config.every:
        raise ValueError(f"moe.every is {config.every}, and the language model has {len(blocks)} layers; give less")
    for block in itertools.islice(blocks, config.every - 1, None, config.every):
        dense = getattr(block, "mlp", None)
        if isinstance(dense, MixtureOfExperts):
            raise ValueError("the language model has experts already")
        block.mlp = MixtureOfExperts(dense, config)


def sparse_layers(blocks: nn.ModuleList) -> dict[int, MixtureOfExperts]:
    """The mixtures of experts by the number of their block, from 0."""
    networks = ((number, getattr(block, "mlp", None)) for number, block in enumerate(blocks))
    return {number: network for number, network in networks if isinstance(network, MixtureOfExperts)}


@torch.no_grad()
def _check_gated(dense: Any) -> None:
    """Raise ValueError unless a network computes down(act(gate(x)) · up(x)): by its parts, and by what it gives."""
    parts = [getattr(dense, name, None) for name in ("gate_proj", "up_proj", "down_proj")]
    named = {f"{name}.weight" for name in ("gate_proj", "up_proj", "down_proj")}
    plain = all(isinstance(part, nn.Linear) for part in parts) and hasattr(dense, "act_fn")
    if plain and {name for name, _ in dense.named_parameters()} == named:
        weight = dense.gate_proj.weight
        if weight.device.type == "meta":
            return
        probe = torch.linspace(-1, 1, 2 * weight.shape[1], dtype=weight.dtype, device=weight.device).view(2, -1)
        theirs = dense(probe)
        ours = dense.down_proj(dense.act_fn(dense.gate_proj(probe)) * dense.up_proj(probe))
        if (theirs - ours).abs().max() <= _SAME * theirs.abs().max() or not theirs.isfinite().all():
            return
    raise ValueError(
        f"the language model's feed-forward networks ({type(dense).__name__}) are not gated ones without biases, as "
        "Llama's and Qwen's are, so they cannot be made experts; take another decoder, or leave moe out"
    )


@dataclass(frozen=True)
class Routed:
    """What the routers of a batch's forward pass said."""

    logits: Mapping[int, torch.Tensor]
    """By layer, (B·L)×E."""

    @classmethod
    @contextlib.contextmanager
    def of(cls, layers: Mapping[int, MixtureOfExperts]) -> Iterator[Self]:
        """Listen to a forward pass within this context; afterwards `logits` is filled.

        Not to the passes of activation checkpointing, which come with the backward pass.
        """
        found: dict[int, torch.Tensor] = {}
        for layer in layers.values():
            layer.recording = True
        try:
            yield cls(found)
            found.update({number: layer.logits for number, layer in layers.items() if layer.logits is not None})
        finally:
            for layer in layers.values():
                layer.recording, layer.logits = False, None

    def losses(self, batch: PackedBatch, config: MoEConfig) -> dict[str, torch.Tensor]:
        """What is added to the batch's loss: `load_balance_loss` and `router_z_loss`, fp32 scalars.

        Both are means over the positions of a sequence that are not padding, added up over layers; of a batch they are
        sums over sequences, each times the weight of its targets. Divided once by the weight of all targets, as the
        loss is, they are the same however sequences are spread over micro-batches and devices.
        """
        there_BL = batch.sample_ids_BL != PADDING
        rows_M = batch.predict_positions_M // there_BL.shape[1]
        own_BM = rows_M == torch.arange(len(there_BL), device=rows_M.device).unsqueeze(1)
        weights_M = torch.ones_like(rows_M, dtype=torch.float32) if batch.weights_M is None else batch.weights_M
        weights_B = own_BM.to(weights_M.dtype) @ weights_M
        balance_B = z_B = torch.zeros_like(weights_B)
        count_B = there_BL.sum(1).clamp(min=1)
        for logits in self.logits.values():
            logits_BLE = logits.view(*there_BL.shape, -1)
            shares_BE = (logits_BLE.softmax(-1) * there_BL.unsqueeze(-1)).sum(1) / count_B.unsqueeze(1)
            load_BE = self._chosen(logits_BLE, there_BL, config.top_k) / (config.top_k * count_B.unsqueeze(1))
            balance_B = balance_B + config.experts * (load_BE * shares_BE).sum(-1)
            z_B = z_B + (logits_BLE.logsumexp(-1).square() * there_BL).sum(1) / count_B
        return {
            "load_balance_loss": config.load_balance * (balance_B * weights_B).sum(),
            "router_z_loss": config.z_loss * (z_B * weights_B).sum(),
        }

    def loads(self, batch: PackedBatch, config: MoEConfig) -> torch.Tensor:
        """Y×E float64: how many of the batch's tokens go to each expert."""
        there_BL = batch.sample_ids_BL != PADDING
        layers = (logits.view(*there_BL.shape, -1) for logits in self.logits.values())
        return torch.stack([self._chosen(one, there_BL, config.top_k).sum(0).double() for one in layers])

    @staticmethod
    @torch.no_grad()
    def _chosen(logits_BLE: torch.Tensor, there_BL: torch.Tensor, top_k: int) -> torch.Tensor:
        """B×E: how many of a sequence's tokens go to each expert."""
        _, chosen_BLK = route(logits_BLE, top_k)
        picked_BLE = torch.zeros_like(logits_BLE).scatter(-1, chosen_BLK, 1.0)
        return (picked_BLE * there_BL.unsqueeze(-1)).sum(1)


def load_metrics(layers: Mapping[int, Any], loads_YE: torch.Tensor) -> dict[str, Any]:
    """For a line in metrics.jsonl, by layer: `expert_load`, each expert's share of the step's tokens, and
    `expert_entropy`, how even these are (1: each has the same; 0: one has all); nothing without experts."""
    if not loads_YE.numel():
        return {}
    shares_YE = loads_YE / loads_YE.sum(1, keepdim=True).clamp(min=1)
    entropy_Y = torch.special.entr(shares_YE).sum(1) / torch.tensor(float(shares_YE.shape[1])).log()
    rounded = [[round(share, 4) for share in row] for row in shares_YE.tolist()]
    names = [str(layer) for layer in layers]
    return {
        "expert_load": dict(zip(names, rounded, strict=True)),
        "expert_entropy": {name: round(one, 4) for name, one in zip(names, entropy_Y.tolist(), strict=True)},
    }
