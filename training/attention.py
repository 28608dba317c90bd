"""The attention mask of packed samples: causal inside a sample, nothing across samples.

Of a sample with several annotations (branches), each sees what stands before them all, and itself (Molmo, arXiv
2409.17146 §3): the mask is `same sample ∧ not later ∧ (key in branch 0 ∨ key in the same branch)`, branch 0 being what
all see. Batches without such samples have no branches, and no more work. In layers with a sliding window of w positions
(Mistral, Gemma 3, Cohere 2) a position sees those less than w before it, counted in its sample's own positions.

Three kernels, one rule. `sdpa`: Molmo-style dense masks, which cost B·L², right for short packs and CPUs. `flex`:
flex_attention skips the blocks that are empty, which is most of a long pack. `varlen`: every sample is a sequence of
its own to PyTorch's flash kernel, which has no mask at all (and no branches); on a CPU, one product a sample.

Padding carries the sample id -1 and attends to padding alone, so that no row of the softmax is empty: an empty row
would be NaN, and NaN times a zero weight is still NaN.

Shape legend: B sequences, L positions.
"""

import functools
from typing import Any, Final, Literal

import torch
import torch.nn.functional as F

Attention = Literal["sdpa", "flex", "varlen"]
NAMES: Final[dict[Attention, str]] = {"sdpa": "sdpa", "flex": "flex_attention", "varlen": "mmcorpus_varlen"}
"""What transformers calls each."""
PADDING = -1
"""The sample id of padding."""


def block_causal_mask(
    sample_ids_BL: torch.Tensor,
    branch_ids_BL: torch.Tensor | None = None,
    position_ids_BL: torch.Tensor | None = None,
    window: int | None = None,
) -> torch.Tensor:
    """B×1×L×L bool, True where the row may see the column: same sample, not later, not of another branch, and with a
    `window` less than so many positions before."""
    length = sample_ids_BL.shape[1]
    same_BLL = sample_ids_BL[:, :, None] == sample_ids_BL[:, None, :]
    causal_LL = torch.ones(length, length, dtype=torch.bool, device=sample_ids_BL.device).tril()
    seen_BLL = same_BLL & causal_LL
    if branch_ids_BL is not None:
        key_B1L = branch_ids_BL[:, None, :]
        seen_BLL &= (key_B1L == 0) | (key_B1L == branch_ids_BL[:, :, None])
    if window is not None and position_ids_BL is not None:
        seen_BLL &= position_ids_BL[:, :, None] - position_ids_BL[:, None, :] < window
    return seen_BLL[:, None]


def block_causal_flex(
    sample_ids_BL: torch.Tensor,
    branch_ids_BL: torch.Tensor | None = None,
    position_ids_BL: torch.Tensor | None = None,
    window: int | None = None,
) -> Any:
    """The same rule as a flex_attention BlockMask (CUDA)."""
    from torch.nn.attention.flex_attention import create_block_mask

    def rule(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        seen = (sample_ids_BL[b, q] == sample_ids_BL[b, k]) & (q >= k)
        if window is not None and position_ids_BL is not None:
            seen = seen & (position_ids_BL[b, q] - position_ids_BL[b, k] < window)
        if branch_ids_BL is None:
            return seen
        key = branch_ids_BL[b, k]
        return seen & ((key == 0) | (key == branch_ids_BL[b, q]))

    batch, length = sample_ids_BL.shape
    if sample_ids_BL.device.type == "cuda":
        create_block_mask = _compiled_block_mask()
    return create_block_mask(rule, batch, None, length, length, device=str(sample_ids_BL.device))


@functools.cache
def _compiled_block_mask() -> Any:
    """Evaluated as it is, the rule would be a dense B·L² tensor on its way to the blocks."""
    from torch.nn.attention.flex_attention import create_block_mask

    return torch.compile(create_block_mask)


def segments(sample_ids_BL: torch.Tensor) -> torch.Tensor:
    """Where samples begin in the flat B·L positions, and their end, int32; a row's padding is a sample of its own. In
    the shape 1×1×1×S+1, which transformers hands on as it is."""
    starts_BL = torch.ones_like(sample_ids_BL, dtype=torch.bool)
    starts_BL[:, 1:] = sample_ids_BL[:, 1:] != sample_ids_BL[:, :-1]
    starts = starts_BL.flatten().nonzero().flatten()
    return F.pad(starts, (0, 1), value=sample_ids_BL.numel()).to(torch.int32)[None, None, None]


def varlen_attention(
    module: torch.nn.Module,
    query_BHLD: torch.Tensor,
    key_BGLD: torch.Tensor,
    value_BGLD: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """An attention function of transformers: causal within each of `segments`, B×L×H×D; G of H heads have keys.

    Layers with a `sliding_window` see so many positions, their own among them. Without segments, as in generation, it
    is transformers' own SDPA.
    """
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    if attention_mask is None or attention_mask.dtype != torch.int32:
        found, _ = sdpa_attention_forward(
            module, query_BHLD, key_BGLD, value_BGLD, attention_mask, dropout=dropout, scaling=scaling, **more
        )
        return found, None
    batch, heads, length, width = query_BHLD.shape
    kind = query_BHLD.device.type
    # Rotary embeddings are fp32 under autocast, and queries and keys with them: this kernel does not cast by itself.
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else value_BGLD.dtype
    query, key, value = (each.to(dtype).transpose(1, 2).flatten(0, 1) for each in (query_BHLD, key_BGLD, value_BGLD))
    edges = attention_mask.flatten()
    if kind == "cuda":
        from torch.nn.attention.varlen import varlen_attn

        # A bound will do for the longest sample: to ask for it would wait for the device in each layer.
        out: Any = varlen_attn(
            query, key, value, edges, edges, length, length, scale=scaling, enable_gqa=True,
            window_size=(-1 if sliding_window is None else sliding_window - 1, 0),
        )  # fmt: skip
    else:
        lengths = edges.diff().tolist()
        out = torch.cat(
            [
                F.scaled_dot_product_attention(
                    q.transpose(0, 1)[None],
                    k.transpose(0, 1)[None],
                    v.transpose(0, 1)[None],
                    is_causal=within is None,
                    attn_mask=within,
                    scale=scaling,
                    enable_gqa=True,
                )[0].transpose(0, 1)
                for q, k, v in zip(query.split(lengths), key.split(lengths), value.split(lengths), strict=True)
                for within in [_band(len(q), sliding_window)]
            ]
        )
    return out.view(batch, length, heads, width), None


def _band(length: int, window: int | None) -> torch.Tensor | None:
    """Which of the positions before each a sliding window lets it see, L×L bool; None where it sees all of them."""
    if window is None or window >= length:
        return None
    return torch.ones(length, length, dtype=torch.bool).tril().triu(1 - window)


@functools.cache
def register_varlen() -> None:
    """Make `varlen` known to transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(NAMES["varlen"], varlen_attention)
    AttentionMaskInterface.register(NAMES["varlen"], sdpa_mask)


def attention_mask(
    sample_ids_BL: torch.Tensor,
    branch_ids_BL: torch.Tensor | None,
    implementation: Attention,
    position_ids_BL: torch.Tensor,
    window: int | None = None,
) -> Any:
    """The `attention_mask` that transformers' models pass on as it is: a 4-D mask, a BlockMask, or `segments`, whose
    kernel is told of windows by the layers. Raises ValueError for branches where the kernel has no mask."""
    if implementation == "varlen":
        if branch_ids_BL is not None:
            raise ValueError(
                "compute.attention varlen has no mask, which several captions of one image need; set sdpa or flex"
            )
        return segments(sample_ids_BL)
    make = block_causal_flex if implementation == "flex" else block_causal_mask
    return make(sample_ids_BL, branch_ids_BL, position_ids_BL, window)
