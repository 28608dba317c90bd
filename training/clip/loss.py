"""The contrastive loss (InfoNCE) over the pairs of all devices.

Shape legend: B pairs on this device, G pairs on all, E the vectors' length.
"""

import torch
import torch.distributed as dist
from torch.nn import functional

from mmcorpus.training.parallel import World


def contrastive_loss(
    images_BE: torch.Tensor, texts_BE: torch.Tensor, scale: torch.Tensor, valid_B: torch.Tensor, world: World
) -> torch.Tensor:
    """The sum over this device's pairs of the mean of both cross-entropies: its text among all texts for an image, its
    image among all images for a text (CLIP, Radford et al. 2021, figure 3). In nats.

    Summed over the devices and divided by the number of valid pairs it is open_clip's `ClipLoss`, and so are its
    gradients when they are summed over the devices.

    Args:
        images_BE, texts_BE: unit vectors, fp32.
        scale: the factor of the cosines (not its logarithm).
        valid_B: bool. The others (broken images) neither learn nor are told apart from.
    """
    images_GE, texts_GE, valid_G = gather(images_BE, world), gather(texts_BE, world), gather(valid_B, world)
    own = torch.arange(len(images_BE), device=images_BE.device) + world.rank * len(images_BE)
    loss = images_BE.new_zeros(())
    for mine_BE, others_GE in ((images_BE, texts_GE), (texts_BE, images_GE)):
        logits_BG = (scale * mine_BE @ others_GE.T).masked_fill(~valid_G, -torch.inf)
        # A broken pair's own column is masked, so its row is left out before the cross-entropy, not after.
        loss = loss + functional.cross_entropy(logits_BG[valid_B], own[valid_B], reduction="sum")
    return loss / 2


def gather(values_B: torch.Tensor, world: World) -> torch.Tensor:
    """The values of all devices by rank, B… → G…; gradients flow back to where each came from."""
    if world.size == 1:
        return values_B
    if values_B.dtype == torch.bool:
        return gather(values_B.to(torch.uint8), world).bool()
    return _Gather.apply(values_B, world.rank)


class _Gather(torch.autograd.Function):
    """All-gather whose backward pass sums the gradients of every device for a part; works with gloo and NCCL alike."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, values: torch.Tensor, rank: int) -> torch.Tensor:
        ctx.rank, ctx.count = rank, len(values)  # type: ignore[attr-defined]  # a place of torch's for just this
        parts = [torch.empty_like(values) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, values.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        start = ctx.rank * ctx.count  # type: ignore[attr-defined]
        return total[start : start + ctx.count], None  # type: ignore[attr-defined]
