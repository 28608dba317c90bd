"""The attention mask of packed samples: causal inside a sample, nothing across samples.

Of a sample with several annotations (branches), each sees what stands before them all, and itself (Molmo, arXiv
2409.17146 §3): the mask is `same sample ∧ not later ∧ (key in branch 0 ∨ key in the same branch)`, branch 0 being what
all see. Batches without such samples have no branches, and no more work.

Molmo-style dense masks cost B·L², which is right for short packs and CPUs; flex_attention skips the blocks that are
empty, which is most of a long pack. Padding carries the sample id -1 and attends to padding alone, so that no row of
the softmax is empty: an empty row would be NaN, and NaN times a zero weight is still NaN.

Shape legend: B sequences, L positions.
"""

from typing import Any, Literal

import torch

PADDING = -1
"""The sample id of padding."""


def block_causal_mask(sample_ids_BL: torch.Tensor, branch_ids_BL: torch.Tensor | None = None) -> torch.Tensor:
    """B×1×L×L bool, True where the row may see the column: same sample, not later, not of another branch."""
    length = sample_ids_BL.shape[1]
    same_BLL = sample_ids_BL[:, :, None] == sample_ids_BL[:, None, :]
    causal_LL = torch.ones(length, length, dtype=torch.bool, device=sample_ids_BL.device).tril()
    seen_BLL = same_BLL & causal_LL
    if branch_ids_BL is not None:
        key_B1L = branch_ids_BL[:, None, :]
        seen_BLL &= (key_B1L == 0) | (key_B1L == branch_ids_BL[:, :, None])
    return seen_BLL[:, None]


def block_causal_flex(sample_ids_BL: torch.Tensor, branch_ids_BL: torch.Tensor | None = None) -> Any:
    """The same rule as a flex_attention BlockMask (CUDA)."""
    from torch.nn.attention.flex_attention import create_block_mask

    def rule(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        seen = (sample_ids_BL[b, q] == sample_ids_BL[b, k]) & (q >= k)
        if branch_ids_BL is None:
            return seen
        key = branch_ids_BL[b, k]
        return seen & ((key == 0) | (key == branch_ids_BL[b, q]))

    batch, length = sample_ids_BL.shape
    return create_block_mask(rule, batch, None, length, length, device=str(sample_ids_BL.device))


def attention_mask(
    sample_ids_BL: torch.Tensor, branch_ids_BL: torch.Tensor | None, implementation: Literal["sdpa", "flex"]
) -> Any:
    """The `attention_mask` that transformers' models pass on as it is: a 4-D mask or a BlockMask."""
    make = block_causal_flex if implementation == "flex" else block_causal_mask
    return make(sample_ids_BL, branch_ids_BL)
