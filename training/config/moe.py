"""Settings of a mixture of experts, made of a dense decoder by upcycling (`training/moe.py`)."""

import dataclasses

from mmcorpus.training.settings import Settings, require


@dataclasses.dataclass(frozen=True, kw_only=True)
class MoEConfig(Settings):
    """Feed-forward networks as experts, of which a router picks some for each token.

    Sources: MM1 (arXiv 2403.09611, §3.4): top-2, 64 experts in every second layer of its 3B model, 32 in every fourth
    of 7B, balance 0.01, z-loss 0.001, the dense model's own hyperparameters; sparse upcycling (arXiv 2212.05055).
    """

    experts: int = 8
    """Experts of a sparse layer, each a copy of the dense network at first."""
    top_k: int = 2
    """Experts that see a token; their gates add up to 1. None has a capacity: no token is dropped."""
    every: int = 2
    """Every so many layers is sparse, the last of each such group: of 2 the second, the fourth, …"""
    load_balance: float = 0.01
    """Weight of the load-balance loss, added up over the sparse layers (Switch Transformer, arXiv 2101.03961, eq. 4).
    It is 1 in a layer whose experts share tokens evenly."""
    z_loss: float = 0.001
    """Weight of the router z-loss, log²Z of a router's logits, added up likewise (ST-MoE, arXiv 2202.08906, eq. 5)."""

    def __post_init__(self) -> None:
        self._require_positive("top_k", "every")
        self._require_not_negative("load_balance", "z_loss")
        require(self.experts >= 2, f"moe.experts is {self.experts}; give 2 or more")
        require(
            self.top_k <= self.experts,
            f"moe.top_k is {self.top_k}, more than the {self.experts} experts; give at most as many",
        )

    def same_shape(self, other: "MoEConfig") -> bool:
        """Whether both have the same weights; the weights of losses may differ."""
        return (self.experts, self.top_k, self.every) == (other.experts, other.top_k, other.every)
