"""The optimiser (AdamW), its parameter groups, and the learning-rate schedule. Torch is imported where it is used.

MM1's law for both (arXiv 2403.09611, §3.3 and appendix): `mm1_learning_rate`, `mm1_weight_decay`.
"""

import dataclasses
import fnmatch
import math
import re
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

from mmcorpus.training.settings import Settings, require

if TYPE_CHECKING:
    import torch
    from torch import nn


_BLOCK: Final = re.compile(r"^(.*\.(?:layers|layer|h|blocks))\.(\d+)\.")
"""A parameter of a transformer block: the stack of blocks, and the block's number."""


def require_warmup(warmup: float | None) -> None:
    """Raise ValueError unless it is a share of the steps, or from 2 on a whole number of them: one is none."""
    fits = warmup is None or 0 <= warmup < 1 or (warmup >= 2 and float(warmup).is_integer())
    require(fits, f"warmup is {warmup}; give a share in [0, 1) of the steps, or a whole number of them from 2 on")


@dataclasses.dataclass(frozen=True, kw_only=True)
class GroupConfig(Settings):
    """Parameters that are trained alike. What is not said here is as in `optimizer` and `schedule`."""

    match: str
    """A component (`vision`, `projector`, `language`, `vision.dinov2`), or a pattern of parameters' names with * and ?
    (`language.*norm*`)."""
    last_blocks: int | None = None
    """Of these, the last so many transformer blocks alone, without embeddings and norms outside them."""
    learning_rate: float | None = None
    """Peak learning rate."""
    warmup: float | None = None
    """Share of the steps over which the rate rises; from 2 on their number."""
    weight_decay: float | None = None
    """Decay of matrices."""
    gradient_clip: float | None = None
    """Largest norm of this group's own gradient, which then does not count in the norm of the others."""

    def __post_init__(self) -> None:
        require(bool(self.match), "match is empty; give a component such as language, or a pattern of names")
        given = [name for name in ("last_blocks", "learning_rate", "gradient_clip") if getattr(self, name) is not None]
        self._require_positive(*given)
        self._require_not_negative(*(["weight_decay"] if self.weight_decay is not None else []))
        require_warmup(self.warmup)

    @property
    def label(self) -> str:
        """For metrics and messages."""
        return self.match if self.last_blocks is None else f"{self.match} (last {self.last_blocks})"

    def matches(self, name: str, blocks: dict[str, int]) -> bool:
        """Whether a parameter belongs here; `blocks` are the numbers of blocks of each stack."""
        wild = "*" in self.match or "?" in self.match
        pattern = self.match if wild else f"{self.match}.*"
        if not fnmatch.fnmatchcase(name, pattern) and name != self.match:
            return False
        if self.last_blocks is None:
            return True
        found = _BLOCK.match(name)
        return found is not None and int(found[2]) >= blocks[found[1]] - self.last_blocks


def grouped(names: Iterable[str], groups: Sequence[GroupConfig]) -> dict[str, int]:
    """The group of each parameter that has one, by their number: the first that matches.

    Raises ValueError for a group that gets none, which would be a misspelt one.
    """
    names = list(names)
    blocks: dict[str, int] = {}
    for name in names:
        if found := _BLOCK.match(name):
            blocks[found[1]] = max(blocks.get(found[1], 0), int(found[2]) + 1)
    chosen = {
        name: number
        for name in names
        for number in [next((n for n, group in enumerate(groups) if group.matches(name, blocks)), None)]
        if number is not None
    }
    for number, group in enumerate(groups):
        if number not in chosen.values():
            parts = sorted({name.partition(".")[0] for name in names})
            raise ValueError(
                f"train: the group {group.label!r} has no parameters that a group before it does not have; the model's "
                f"components are {', '.join(parts)}, and a parameter's name is such as {names[0]}"
            )
    return chosen


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

    def build(self, model: "nn.Module", groups: Sequence[GroupConfig] = ()) -> "torch.optim.AdamW":
        """AdamW over the parameters that are trained, in the model's order, fused where the device has it.

        Of each group of `groups`, or of all in one, matrices and the rest stand apart. Each carries its peak as
        `initial_lr`, from which the loop sets its rate at each step, its `warmup`, its own `clip` (or None) and, as
        `label`, whose it is.
        """
        import torch

        trained = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        groups = groups or (GroupConfig(match="*"),)
        place = grouped([name for name, _ in model.named_parameters()], groups)
        found: list[dict[str, Any]] = []
        for number, group in enumerate(groups):
            own = [(name, parameter) for name, parameter in trained if place.get(name) == number]
            rate = self.learning_rate if group.learning_rate is None else group.learning_rate
            decay = self.weight_decay if group.weight_decay is None else group.weight_decay
            shared = {"initial_lr": rate, "warmup": group.warmup, "clip": group.gradient_clip, "label": group.label}
            found += [
                {"params": [p for name, p in own if decays(name, p)], "weight_decay": decay, **shared},
                {"params": [p for name, p in own if not decays(name, p)], "weight_decay": 0.0, **shared},
            ]
        found = [group for group in found if group["params"]]
        return torch.optim.AdamW(found, lr=self.learning_rate, betas=self.betas, eps=self.epsilon, fused=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScheduleConfig(Settings):
    """The length of a run and its learning-rate schedule: linear warm-up, then a cosine to 0, or another shape."""

    steps: int | None = None
    """Optimiser steps; overrides `epochs`."""
    epochs: float = 1.0
    """Passes over the data. Not used when `steps` is given."""
    warmup: float = 0.03
    """Share of the steps over which the rate rises linearly from 0; from 2 on their number (Molmo: 2000)."""
    shape: Literal["cosine", "wsd", "constant"] = "cosine"
    """What follows: `cosine` to the floor; `wsd`, the peak and then a straight decay to the floor (warm-up, stable,
    decay; arXiv 2404.06395); `constant`, the peak."""
    floor: float = 0.0
    """What the rate ends at, as a share of the peak (Molmo, OLMo: 0.1)."""
    decay: float = 0.1
    """With `wsd`, the share of the steps that decays, the last."""

    def __post_init__(self) -> None:
        self._require_positive("epochs")
        require(0 <= self.floor <= 1, f"floor is {self.floor}; give a share of the peak in [0, 1]")
        require(0 < self.decay <= 1, f"decay is {self.decay}; give a share of the steps in (0, 1]")
        require(self.steps is None or self.steps > 0, f"steps is {self.steps}; give 1 or more, or null")
        require_warmup(self.warmup)

    def total_steps(self, items: int, batch: int) -> int:
        """Optimiser steps of a run over that many items, so many a step."""
        return self.steps or max(1, math.ceil(self.epochs * items / batch - 1e-9))

    def learning_rate(self, peak: float, step: int, steps: int, warmup: float | None = None) -> float:
        """The rate of step 0 … steps-1: linear warm-up to the peak, then what would reach the floor at `steps`.

        The first step has peak/warmup steps, not 0, so that no step is spent on moving nothing. `warmup`: another than
        the schedule's own, likewise a share of the steps or a number.
        """
        wanted = self.warmup if warmup is None else warmup
        rising = round(wanted * steps if wanted < 1 else wanted)
        if step < rising:
            return peak * (step + 1) / rising
        if self.shape == "cosine":
            progress = (step - rising) / max(1, steps - rising)
            left = 0.5 * (1.0 + math.cos(math.pi * progress))
        else:
            falling = round(self.decay * steps) if self.shape == "wsd" else 0
            left = min(1.0, (steps - step) / max(1, falling)) if falling else 1.0
        return peak * (self.floor + (1.0 - self.floor) * left)


def mm1_learning_rate(parameters: int) -> float:
    """MM1's optimal peak for a language model of so many parameters, embeddings aside: exp(-0.4214 ln N - 0.5535)."""
    require(parameters > 0, f"parameters are {parameters}; give the number of a model's weights without its embeddings")
    return math.exp(-0.4214 * math.log(parameters) - 0.5535)


def mm1_weight_decay(learning_rate: float) -> float:
    """MM1's weight decay for a peak learning rate: a tenth of it, as λ of AdamW's decoupled decay λ·w, where torch's
    `weight_decay` is multiplied by the rate once more: so it is 0.1 here whatever the rate."""
    return 0.1 * learning_rate


def decays(name: str, parameter: "nn.Parameter") -> bool:
    """Matrices decay; norms' scales and biases do not (Open-Qwen2VL: `ndim <= 1 or name.endswith(".bias")`)."""
    return parameter.ndim > 1 and not name.endswith(".bias")


def gradient_norm(parameters: Sequence["nn.Parameter"]) -> float:
    """The norm of these parameters' gradients together, over all shards."""
    import torch

    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.nn.utils.get_total_norm(gradients, foreach=None)
    return float(norm.full_tensor() if hasattr(norm, "full_tensor") else norm)


def scale_and_clip(parameters: Sequence["nn.Parameter"], count: float, largest: float) -> float:
    """Divide summed gradients by the step's count of targets, clip their norm, and return it unclipped.

    Both are one multiplication: gradients of sums stay sums until the whole step is in, because only then is the count
    known (a broken image takes its sample's tokens out of it).
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    mean_norm = gradient_norm(parameters) / count
    factor = 1.0 / count if mean_norm <= largest else largest / (mean_norm * count)
    for gradient in gradients:
        gradient.mul_(factor)
    return mean_norm
