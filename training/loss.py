"""Cross-entropy over the target tokens alone, in fp32, without ever holding all logits.

Two facts make it cheap. Only positions that predict a target pass through the LM head: in a pack of captions four
positions in five are image tokens and predict nothing. And those that do pass go through in chunks, whose logits are
computed again in the backward pass: at Qwen2's 151,936 tokens, 4096 positions of fp32 logits are 2.5 GB.

The loss is a sum. Whoever trains divides by the number of target tokens in the whole optimiser step, over all
micro-batches and devices, so that packing, accumulation and the number of devices do not change it.

Shape legend: M target tokens, D width, V the vocabulary's size.
"""

import torch
import torch.nn.functional as F
from torch.utils.checkpoint import checkpoint

CHUNK = 2048
"""Target tokens whose logits are held at once: 1.2 GB of fp32 at Qwen2's vocabulary."""


def _chunk_losses(hidden_MD: torch.Tensor, weight_VD: torch.Tensor, targets_M: torch.Tensor) -> torch.Tensor:
    logits_MV = F.linear(hidden_MD, weight_VD)
    return F.cross_entropy(logits_MV.float(), targets_M, reduction="none")


def token_losses(
    hidden_MD: torch.Tensor, weight_VD: torch.Tensor, targets_M: torch.Tensor, chunk: int = CHUNK
) -> torch.Tensor:
    """The fp32 loss of each target token, in nats.

    hidden_MD are the hidden states at the positions that predict; targets_M the tokens they should predict.
    """
    if targets_M.numel() <= chunk:
        return _chunk_losses(hidden_MD, weight_VD, targets_M)
    losses = [
        checkpoint(_chunk_losses, hidden_part, weight_VD, targets_part, use_reentrant=False)
        for hidden_part, targets_part in zip(hidden_MD.split(chunk), targets_M.split(chunk), strict=True)
    ]
    return torch.cat(losses)
