"""AdamW, its parameter groups, and the learning rate's path."""

import math
from typing import Protocol

import torch
from torch import nn


class Schedule(Protocol):
    """What the optimiser needs to know of a stage."""

    @property
    def learning_rate(self) -> float: ...
    @property
    def warmup(self) -> float: ...
    @property
    def weight_decay(self) -> float: ...
    @property
    def betas(self) -> tuple[float, float]: ...


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Matrices decay; norms' scales and biases do not (Open-Qwen2VL: `ndim <= 1 or name.endswith(".bias")`)."""
    return parameter.ndim > 1 and not name.endswith(".bias")


def build_optimizer(model: nn.Module, stage: Schedule, *, epsilon: float = 1e-8) -> torch.optim.AdamW:
    """AdamW over the parameters that are trained, in the model's order, fused where the device has it."""
    trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for name, p in trained if decays(name, p)], "weight_decay": stage.weight_decay},
        {"params": [p for name, p in trained if not decays(name, p)], "weight_decay": 0.0},
    ]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=stage.learning_rate, betas=stage.betas, eps=epsilon, fused=True)


def learning_rate(step: int, steps: int, stage: Schedule) -> float:
    """The rate of step 0 … steps-1: linear warm-up to the peak, then a cosine that would reach 0 at `steps`.

    The first step has peak/warmup steps, not 0, so that no step is spent on moving nothing.
    """
    warmup = round(stage.warmup * steps)
    if step < warmup:
        return stage.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, steps - warmup)
    return stage.learning_rate * 0.5 * (1.0 + math.cos(math.pi * progress))


def scale_and_clip(parameters: list[nn.Parameter], count: float, largest: float) -> float:
    """Divide summed gradients by the step's count of target tokens, clip their norm, and return it unclipped.

    Both are one multiplication: gradients of sums stay sums until the whole step is in, because only then is the count
    known (a broken image takes its sample's tokens out of it).
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, foreach=None)
    full = norm.full_tensor() if hasattr(norm, "full_tensor") else norm
    mean_norm = float(full) / count
    factor = 1.0 / count if mean_norm <= largest else largest / (mean_norm * count)
    for gradient in gradients:
        gradient.mul_(factor)
    return mean_norm


def take_step(
    optimizer: torch.optim.Optimizer, rate: float, norm: float, *, step: int, lower: str, saved: str | None
) -> None:
    """Move the weights at a learning rate and forget the gradients.

    Args:
        norm: of the gradients, before they were clipped.
        step: its number, `lower` the setting to lower and `saved` the last checkpoint, for the error.

    Raises:
        FloatingPointError: the gradients are not finite; the weights are as they were.
    """
    if not math.isfinite(norm):
        raise FloatingPointError(
            f"step {step}: the gradient's norm is {norm}, so the weights would be lost. Lower {lower}, "
            f"or use precision fp32; the last checkpoint is {saved or 'none'}"
        )
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
