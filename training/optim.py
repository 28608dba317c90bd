"""The optimiser (AdamW), its parameter groups, and the learning-rate schedule. Torch is imported where it is used."""

import dataclasses
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mmcorpus.training.settings import Settings, require

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig(Settings):
    """AdamW and the clipping of its gradients. The defaults are those of Open-Qwen2VL's pretraining."""

    learning_rate: float = 5e-5
    """Peak learning rate of every trained part."""
    weight_decay: float = 0.01
    """Decay of matrices; vectors (norms, biases, a temperature) have none."""
    betas: tuple[float, float] = (0.9, 0.999)
    """Decays of the two moments."""
    epsilon: float = 1e-8
    """Added to the root of the second moment."""
    gradient_clip: float = 1.0
    """Largest norm of the whole gradient."""

    def __post_init__(self) -> None:
        self._require_positive("learning_rate", "epsilon", "gradient_clip")
        self._require_not_negative("weight_decay")
        require(all(0 <= beta < 1 for beta in self.betas), f"betas are {self.betas}; give two numbers in [0, 1)")

    def build(self, model: "nn.Module") -> "torch.optim.AdamW":
        """AdamW over the parameters that are trained, in the model's order, fused where the device has it.

        Each group carries its peak as `initial_lr`, from which the loop sets its rate at each step: a learning rate per
        component is a group of its own here.
        """
        import torch

        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        groups: list[dict[str, Any]] = [
            {"params": [p for name, p in trained if decays(name, p)], "weight_decay": self.weight_decay},
            {"params": [p for name, p in trained if not decays(name, p)], "weight_decay": 0.0},
        ]
        groups = [{**group, "initial_lr": self.learning_rate} for group in groups if group["params"]]
        return torch.optim.AdamW(groups, lr=self.learning_rate, betas=self.betas, eps=self.epsilon, fused=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Settings):
    """The length of a run and its learning-rate schedule: linear warm-up, then a cosine to 0."""

    steps: int | None = None
    """Optimiser steps; overrides `epochs`."""
    epochs: float = 1.0
    """Passes over the data. Not used when `steps` is given."""
    warmup: float = 0.03
    """Share of the steps over which the rate rises linearly from 0; after it follows a cosine to 0."""

    def __post_init__(self) -> None:
        self._require_positive("epochs")
        require(self.steps is None or self.steps > 0, f"steps is {self.steps}; give 1 or more, or null")
        require(0 <= self.warmup < 1, f"warmup is {self.warmup}; give a share in [0, 1)")

    def total_steps(self, items: int, batch: int) -> int:
        """Optimiser steps of a run over that many items, so many a step."""
        return self.steps or max(1, math.ceil(self.epochs * items / batch - 1e-9))

    def learning_rate(self, peak: float, step: int, steps: int) -> float:
        """The rate of step 0 … steps-1: linear warm-up to the peak, then a cosine that would reach 0 at `steps`.

        The first step has peak/warmup steps, not 0, so that no step is spent on moving nothing.
        """
        warmup = round(self.warmup * steps)
        if step < warmup:
            return peak * (step + 1) / warmup
        progress = (step - warmup) / max(1, steps - warmup)
        return peak * 0.5 * (1.0 + math.cos(math.pi * progress))


def decays(name: str, parameter: "nn.Parameter") -> bool:
    """Matrices decay; norms' scales and biases do not (Open-Qwen2VL: `ndim <= 1 or name.endswith(".bias")`)."""
    return parameter.ndim > 1 and not name.endswith(".bias")


def scale_and_clip(parameters: Sequence["nn.Parameter"], count: float, largest: float) -> float:
    """Divide summed gradients by the step's count of targets, clip their norm, and return it unclipped.

    Both are one multiplication: gradients of sums stay sums until the whole step is in, because only then is the count
    known (a broken image takes its sample's tokens out of it).
    """
    import torch

    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, foreach=None)
    full = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    mean_norm = float(full) / count
    factor = 1.0 / count if mean_norm <= largest else largest / (mean_norm * count)
    for gradient in gradients:
        gradient.mul_(factor)
    return mean_norm
