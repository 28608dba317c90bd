"""Features of transformers' decoders beyond a plain one: scaled or capped logits, layers with a sliding window.

All of it is told by their configs, under the same names in every architecture that has it; `certificate.check_decoder`
compares the outcome with transformers' own forward pass before a run, so that what is not known here is refused.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Final

import torch

FULL: Final = "full_attention"
SLIDING: Final = "sliding_attention"
"""Kinds of layers, by transformers' names."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitShape:
    """What becomes of the LM head's product: `scale` times it, then capped smoothly to ±`cap` (cap·tanh(logit/cap))."""

    scale: float = 1.0
    cap: float | None = None

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> "LogitShape":
        """By a causal language model's config as JSON has it: Granite and MiniCPM 3 divide by `logits_scaling`, Cohere
        multiplies by `logit_scale`, Falcon-H1 by `lm_head_multiplier`; Gemma 2 has a `final_logit_softcapping`."""
        divided, *multiplied = (
            float(config.get(name) or 1.0) for name in ("logits_scaling", "logit_scale", "lm_head_multiplier")
        )
        cap = config.get("final_logit_softcapping")
        return cls(scale=multiplied[0] * multiplied[1] / divided, cap=float(cap) if cap else None)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        """The model's logits of the head's product, any shape."""
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.cap is None else self.cap * torch.tanh(logits / self.cap)


def masks(config: Any, length: int, make: Callable[[int | None], Any]) -> Any:
    """The attention mask of a decoder with this config over `length` positions, as its forward takes it: one, or one
    for each kind of layer. `make` gives the mask for a sliding window of so many positions, None for no window."""
    window: int | None = getattr(config, "sliding_window", None)
    kinds = getattr(config, "layer_types", None)
    if window is None or window >= length or (kinds and SLIDING not in kinds):
        return make(None)
    return {FULL: make(None), SLIDING: make(window)} if kinds else make(window)


def check_layers(config: Any) -> None:
    """Raise ValueError for a decoder whose layers the masks of packed samples, or PyTorch's kernels, do not reach."""
    others = sorted(set(getattr(config, "layer_types", None) or ()) - {FULL, SLIDING})
    if others:
        raise ValueError(
            f"the language model ({config.model_type}) has layers of the kind {', '.join(others)}, which know no mask "
            "of packed samples; take a decoder whose layers are full or sliding attention"
        )
    cap = getattr(config, "attn_logit_softcapping", None)
    if cap:
        raise ValueError(
            f"the language model ({config.model_type}) caps its attention scores (attn_logit_softcapping {cap}), which "
            "PyTorch's attention does not: take another decoder"
        )
