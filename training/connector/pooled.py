"""Connectors that pool or join the patches of each token, then project them.

Which patches make a token is said by the layout (`ImageLayout.pool`): for squares a grid of equal or overlapping
windows, kept as torch's own average pool; for all others one gather.

Shape legend: N images, P patches an image, Q patches of all crops, E the encoders' width, G tokens along a side,
T tokens, K patches a token, D the language model's width.
"""

import abc
import math
from typing import Any

import numpy as np
import torch
from torch import nn

from mmcorpus.packing.layout import PerImage
from mmcorpus.packing.layout.grids import adaptive_windows
from mmcorpus.training.config import ConnectorConfig
from mmcorpus.training.connector.base import PROBE, Connector, require_heads


def _gather(features_QE: torch.Tensor, pool_TK: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Each token's patches T×K×E, zero where there is none, and whether there is one, T×K×1."""
    there_TK1 = (pool_TK >= 0).unsqueeze(-1)
    return features_QE[pool_TK.clamp(min=0)] * there_TK1.to(features_QE.dtype), there_TK1


class TokenConnector(Connector):
    """What makes a token of its own patches."""

    def set_layout(self, layout: PerImage) -> None:
        super().set_layout(layout)
        self.pool = nn.AdaptiveAvgPool2d(math.isqrt(layout) if isinstance(layout, int) else 1)
        self._patches_a_token = 1 if isinstance(layout, int) else layout.layout(*PROBE).pool.shape[1]

    def sample(self, features_NPE: torch.Tensor) -> torch.Tensor:
        if isinstance(self.layout, int):
            return self(features_NPE)
        features_QE = features_NPE.flatten(0, 1)
        pool_TK = torch.zeros(1, self._patches_a_token, dtype=torch.int64, device=features_QE.device)
        tokens: torch.Tensor = self(features_QE, pool_TK, torch.zeros_like(features_QE[:, 0]))
        return tokens

    def forward(
        self, features: torch.Tensor, pool_TK: torch.Tensor | None = None, padding_Q: torch.Tensor | None = None
    ) -> torch.Tensor:
        if pool_TK is None:
            n, p, e = features.shape
            side = math.isqrt(p)
            if side * side != p:
                raise ValueError(f"the encoder gives {p} patches an image, which is not a square grid")
            return self._project(self._square(features.transpose(1, 2).reshape(n, e, side, side)))
        if self.padded is not None and padding_Q is not None:
            kinds_Q2 = torch.stack([padding_Q == 1, padding_Q == 2], dim=-1)
            features = features + (kinds_Q2.to(features.dtype) @ self.padded.to(features.dtype))
        return self._project(self._gathered(*_gather(features, pool_TK)))

    @abc.abstractmethod
    def _square(self, grid_NESS: torch.Tensor) -> torch.Tensor:
        """A square grid of patches to N×T×E', each token's features."""

    @abc.abstractmethod
    def _gathered(self, patches_TKE: torch.Tensor, there_TK1: torch.Tensor) -> torch.Tensor:
        """Each token's patches, zero where there is none, and whether there is one, to T×E'."""

    @abc.abstractmethod
    def _project(self, pooled: torch.Tensor) -> torch.Tensor:
        """…×E' → …×D."""


class _Averaging(TokenConnector):
    def _square(self, grid_NESS: torch.Tensor) -> torch.Tensor:
        return self.pool(grid_NESS).flatten(2).transpose(1, 2)

    def _gathered(self, patches_TKE: torch.Tensor, there_TK1: torch.Tensor) -> torch.Tensor:
        return patches_TKE.sum(1) / there_TK1.sum(1).clamp(min=1).to(patches_TKE.dtype)


class PoolingProjector(_Averaging):
    """Mean → Linear → GELU → Linear (Open-Qwen2VL §2.1)."""

    def __init__(self, vision_width: int, hidden: int, language_width: int, layout: PerImage) -> None:
        super().__init__(language_width, vision_width, layout)
        self.fc1 = nn.Linear(vision_width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, language_width)

    def _project(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(pooled)))


class LinearProjector(_Averaging):
    """Mean → Linear (LLaVA, arXiv 2304.08485)."""

    def __init__(self, vision_width: int, language_width: int, layout: PerImage) -> None:
        super().__init__(language_width, vision_width, layout)
        self.fc = nn.Linear(vision_width, language_width)

    def _project(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.fc(pooled)


class ShuffleProjector(TokenConnector):
    """A token's patches side by side → LayerNorm → Linear → GELU → Linear (InternVL's `mlp1`, arXiv 2404.16821)."""

    def __init__(self, vision_width: int, hidden: int, language_width: int, layout: PerImage, patches: int) -> None:
        """`patches`: of a square image, if `layout` is a number of tokens."""
        self._patches = patches
        super().__init__(language_width, vision_width, layout)
        joined = vision_width * self._joined(layout)
        self.norm = nn.LayerNorm(joined)
        self.fc1 = nn.Linear(joined, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, language_width)

    def _joined(self, layout: PerImage) -> int:
        """Patches of a token. Raises ValueError where they are not as many for each."""
        if not isinstance(layout, int):
            pool = layout.layout(*PROBE).pool
            if (pool < 0).any() and layout.kind in ("square", "mm1"):
                raise ValueError(
                    f"the layout {layout.kind!r} pools overlapping windows, which cannot be joined: average them"
                )
            return int(pool.shape[1])
        grid, side = math.isqrt(self._patches), math.isqrt(layout)
        if grid % side:
            raise ValueError(
                f"pixel shuffle makes {layout} tokens of {self._patches} patches only where {side} divides {grid}; "
                "give another number of tokens, or the connector average_mlp"
            )
        return (grid // side) ** 2

    def _needs(self, layout: PerImage) -> Any:
        return self._joined(layout)

    def set_layout(self, layout: PerImage) -> None:
        joined = self._joined(layout)
        weights: Any = getattr(self, "norm", None)
        if weights is not None and weights.normalized_shape[0] != joined * self._widths[1]:
            raise ValueError(
                "the connector shuffle_mlp joins as many patches a token as it was begun with; keep the layout, or "
                "begin with the connector average_mlp, whose weights do not depend on it"
            )
        super().set_layout(layout)

    def _square(self, grid_NESS: torch.Tensor) -> torch.Tensor:
        n, e, s, _ = grid_NESS.shape
        output: Any = self.pool.output_size
        side = s // output
        cut = grid_NESS.reshape(n, e, output, side, output, side).permute(0, 2, 4, 3, 5, 1)
        return cut.reshape(n, output * output, side * side * e)

    def _gathered(self, patches_TKE: torch.Tensor, there_TK1: torch.Tensor) -> torch.Tensor:
        return patches_TKE.flatten(1)

    def _project(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(self.norm(pooled))))


class AttentionProjector(TokenConnector):
    """The mean of a token's patches attends to them → SwiGLU without biases, added to a learned vector (Molmo, arXiv
    2409.17146, §2; allenai/molmo's `attention_meanq`, where the vector is the embedding of `<im_patch>`).

    Patches that are not there are not attended to. Molmo's own crops have an even number of patches a side, so that
    all four of a token are there.
    """

    def __init__(self, vision_width: int, language_width: int, layout: PerImage, config: ConnectorConfig) -> None:
        super().__init__(language_width, vision_width, layout)
        width, hidden = config.width or vision_width, config.hidden or language_width
        self.heads = require_heads(width, config.heads)
        self.query, self.key, self.value = (nn.Linear(vision_width, width) for _ in range(3))
        self.out = nn.Linear(width, width)
        self.gate, self.up = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.down = nn.Linear(hidden, language_width, bias=False)
        self.image = nn.Parameter(torch.randn(language_width) * 0.02)

    def _square(self, grid_NESS: torch.Tensor) -> torch.Tensor:
        n, e, s, _ = grid_NESS.shape
        output: Any = self.pool.output_size
        pool = torch.from_numpy(adaptive_windows(np.arange(s * s, dtype=np.int32).reshape(s, s), output)).to(
            grid_NESS.device
        )
        of_image = torch.arange(n, device=pool.device)[:, None, None] * s * s
        pool_TK = torch.where(pool >= 0, pool + of_image, -1).flatten(0, 1)
        return self._gathered(*_gather(grid_NESS.flatten(2).transpose(1, 2).reshape(-1, e), pool_TK)).unflatten(
            0, (n, -1)
        )

    def _gathered(self, patches_TKE: torch.Tensor, there_TK1: torch.Tensor) -> torch.Tensor:
        mean_T1E = patches_TKE.sum(1, keepdim=True) / there_TK1.sum(1, keepdim=True).clamp(min=1).to(patches_TKE.dtype)
        query, key, value = (
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.query(mean_T1E), self.key(patches_TKE), self.value(patches_TKE))
        )
        seen_T11K = there_TK1.squeeze(-1)[:, None, None, :]
        found = nn.functional.scaled_dot_product_attention(query, key, value, attn_mask=seen_T11K)
        mixed: torch.Tensor = self.out(found.transpose(1, 2).flatten(2).squeeze(1))
        return mixed

    def _project(self, pooled: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self.down(nn.functional.silu(self.gate(pooled)) * self.up(pooled)) + self.image
        return tokens
