"""Cross-entropy over the target tokens alone, in fp32, without ever holding all logits.

Two facts make it cheap. Only positions that predict a target pass through the LM head: in a pack of captions four
positions in five are image tokens and predict nothing. And those that do pass go through in chunks, whose logits are
computed again in the backward pass: at Qwen2's 151,936 tokens, 4096 positions of fp32 logits are 2.5 GB.

The loss is a sum. Whoever trains divides by the number of target tokens in the whole optimiser step, over all
micro-batches and devices, so that packing, accumulation and the number of devices do not change it.

Shape legend: M target tokens, D width, V the vocabulary's size.
"""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

from mmcorpus.training.decoder import LogitShape

CHUNK = 2048
"""Target tokens whose logits are held at once: 1.2 GB of fp32 at Qwen2's vocabulary."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Head:
    """The LM head: makes logits of hidden states."""

    weight_VD: torch.Tensor
    bias_V: torch.Tensor | None = None
    shape: LogitShape = dataclasses.field(default_factory=LogitShape)

    def logits(self, hidden_MD: torch.Tensor) -> torch.Tensor:
        """M×D → M×V."""
        return self.shape.apply(F.linear(hidden_MD, self.weight_VD, self.bias_V))


def _chunk_losses(hidden_MD: torch.Tensor, head: Head, targets_M: torch.Tensor, z: bool) -> torch.Tensor:
    logits_MV = head.logits(hidden_MD).float()
    losses_M = F.cross_entropy(logits_MV, targets_M, reduction="none")
    return torch.stack([losses_M, logits_MV.logsumexp(-1).square()]) if z else losses_M


def token_losses(
    hidden_MD: torch.Tensor, head: Head, targets_M: torch.Tensor, chunk: int = CHUNK, *, z: bool = False
) -> torch.Tensor:
    """The fp32 loss of each target token, in nats; with `z` 2×M, below it log²Z of each, Z the sum of exp(logits).

    hidden_MD are the hidden states at the positions that predict; targets_M the tokens they should predict.
    """
    if targets_M.numel() <= chunk:
        return _chunk_losses(hidden_MD, head, targets_M, z)
    losses = [
        checkpoint(_chunk_losses, hidden_part, head, targets_part, z, use_reentrant=False)
        for hidden_part, targets_part in zip(hidden_MD.split(chunk), targets_M.split(chunk), strict=True)
    ]
    return torch.cat(losses, dim=-1)


def weighted_sum(losses_M: torch.Tensor, weights_M: torch.Tensor | None) -> torch.Tensor:
    """The sum of target tokens' losses, each times its weight (None: 1). Whoever trains divides by the sum of weights.

    An infinite loss with the weight 0 stays visible as NaN.
    """
    return losses_M.sum() if weights_M is None else (losses_M * weights_M).sum()


class LossBySource:
    """Sums of target tokens' losses and their numbers, by the source that the tokens come from."""

    def __init__(self, sources: Sequence[str], device: torch.device) -> None:
        self.sources = tuple(sources)
        self._sums_2S = torch.zeros(2, max(1, len(self.sources)), dtype=torch.float64, device=device)

    def add(self, losses_M: torch.Tensor, sources_M: torch.Tensor) -> None:
        """Count a batch's target tokens."""
        counted_2M = torch.stack([losses_M.detach().double(), torch.ones_like(losses_M, dtype=torch.float64)])
        self._sums_2S.index_add_(1, sources_M, counted_2M)

    def values(self) -> list[float]:
        """The sums, to be added to other devices'; they begin again at 0."""
        found: list[float] = self._sums_2S.flatten().tolist()
        self._sums_2S.zero_()
        return found

    def means(self, values: Sequence[float]) -> tuple[float, dict[str, float]]:
        """The mean loss, NaN without a target token, and that of each source that has some, if there are several."""
        half = len(values) // 2
        sums, counts = values[:half], values[half:]
        mean = sum(sums) / sum(counts) if sum(counts) else math.nan
        by_source = {
            name: total / count
            for name, total, count in zip(self.sources, sums, counts, strict=False)
            if count and math.isfinite(total)
        }
        return mean, by_source if len(self.sources) > 1 else {}


class LossByTag:
    """Sums of target tokens' losses and their numbers, by the tag of the targets; which there are shows as they come.

    Those without a tag are left out.
    """

    def __init__(self) -> None:
        self._sums: dict[str, torch.Tensor] = {}

    def add(self, losses_M: torch.Tensor, tags_M: torch.Tensor | None, names: Sequence[str]) -> None:
        """Count a batch's target tokens; `tags_M` are places in `names`, None where no target has a tag."""
        if tags_M is None:
            return
        counted_2M = torch.stack([losses_M.detach().double(), torch.ones_like(losses_M, dtype=torch.float64)])
        sums_2T = counted_2M.new_zeros(2, len(names)).index_add_(1, tags_M, counted_2M)
        for name, sums_2 in zip(names, sums_2T.unbind(1), strict=True):
            if name:
                self._sums[name] = self._sums[name] + sums_2 if name in self._sums else sums_2

    def __bool__(self) -> bool:
        return bool(self._sums)

    def values(self) -> dict[str, list[float]]:
        """Sum and number by tag, to be added to other devices'; they begin again at none."""
        found = {name: sums_2.tolist() for name, sums_2 in self._sums.items()}
        self._sums = {}
        return found


def tag_means(values: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The mean loss of each tag's target tokens, by name, of what `LossByTag.values` gave; infinite ones left out."""
    means = {name: total / count for name, (total, count) in sorted(values.items()) if count}
    return {name: mean for name, mean in means.items() if math.isfinite(mean)}
