"""Connectors that make tokens of a whole crop's grid of patches.

Shape legend: N images or crops, P patches of one, Q patches of all crops, E the encoders' width, T tokens (of a crop,
or of all where a layout has several an image), G tokens along a side, D the language model's width, W a hidden width.
"""

import abc
import math
from functools import partial

import numpy as np
import torch
from torch import nn

from mmcorpus.packing.layout import PerImage
from mmcorpus.training.config import ConnectorConfig
from mmcorpus.training.connector.base import PROBE, Connector, require_heads


class CropConnector(Connector):
    """What makes tokens of a whole crop's grid of patches, so that each crop must have tokens of its own."""

    def __init__(self, vision_width: int, language_width: int, layout: PerImage, patches: int) -> None:
        """`patches`: of a square image, if `layout` is a number of tokens."""
        self._square_patches = patches
        super().__init__(language_width, vision_width, layout)

    def set_layout(self, layout: PerImage) -> None:
        """As `Connector.set_layout`; raises ValueError for layouts whose tokens are of several crops or of parts of
        them, or whose crops are no squares."""
        super().set_layout(layout)
        self.patches, self.tokens = self._needs(layout)

    def _needs(self, layout: PerImage) -> tuple[int, int]:
        """Patches and tokens of a crop."""
        if isinstance(layout, int):
            return self._square_patches, layout
        probe = layout.layout(*PROBE)
        patches, tokens = len(probe.padding) // len(probe.crops), len(probe.pool) // len(probe.crops)
        crops = np.repeat(np.arange(len(probe.crops)), tokens)
        own = len(crops) == len(probe.pool) and (probe.pool.max(1) // patches == crops).all()
        if not own or len({crop.size for crop in probe.crops}) > 1 or math.isqrt(patches) ** 2 != patches:
            raise ValueError(
                f"this connector makes tokens of a crop as a whole, and the layout {layout.kind!r} makes them of "
                "parts of crops: take one that pools a token's patches, such as average_mlp or attention_mlp"
            )
        return patches, tokens

    def forward(
        self, features: torch.Tensor, pool_TK: torch.Tensor | None = None, padding_Q: torch.Tensor | None = None
    ) -> torch.Tensor:
        """N×P×E → N×T×D; with `pool_TK`, Q×E → T×D: of each crop its tokens in reading order."""
        if pool_TK is None:
            return self._crops(features)
        return self._crops(features.unflatten(0, (-1, self.patches))).flatten(0, 1)

    def sample(self, features_NPE: torch.Tensor) -> torch.Tensor:
        tokens: torch.Tensor = self(features_NPE)
        return tokens

    @abc.abstractmethod
    def _crops(self, patches_NPE: torch.Tensor) -> torch.Tensor:
        """…to N×T×D."""


class AttentionPool(CropConnector):
    """A learned query a token attends to all patches of its crop → Linear (MM1, arXiv 2403.09611, §3.1, "attention
    pooling"; norms and widths as in CoCa's pooler, arXiv 2205.01917, §3.2)."""

    def __init__(
        self, vision_width: int, language_width: int, layout: PerImage, patches: int, config: ConnectorConfig
    ) -> None:
        super().__init__(vision_width, language_width, layout, patches)
        heads = require_heads(vision_width, config.heads)
        self.queries = nn.Parameter(torch.randn(self.tokens, vision_width) * vision_width**-0.5)
        self.norm_queries, self.norm = nn.LayerNorm(vision_width), nn.LayerNorm(vision_width)
        self.attention = nn.MultiheadAttention(vision_width, heads, batch_first=True)
        self.fc = nn.Linear(vision_width, language_width)

    def set_layout(self, layout: PerImage) -> None:
        super().set_layout(layout)
        queries: torch.Tensor | None = getattr(self, "queries", None)
        if queries is not None and len(queries) != self.tokens:
            raise ValueError(
                f"the connector attention_pool has {len(queries)} queries, one a token of a crop, and the layout wants "
                f"{self.tokens}; keep the layout, or begin with another connector"
            )

    def _crops(self, patches_NPE: torch.Tensor) -> torch.Tensor:
        patches = self.norm(patches_NPE)
        queries = self.norm_queries(self.queries).to(patches.dtype).expand(len(patches), -1, -1)
        tokens: torch.Tensor = self.fc(self.attention(queries, patches, patches, need_weights=False)[0])
        return tokens


class CAbstractor(CropConnector):
    """RegNet blocks over the grid → adaptive average pool → RegNet blocks → Linear, SiLU, Linear (C-Abstractor of
    Honeybee, arXiv 2312.06742, §3.2, which MM1 takes; kakaobrain/honeybee's `CAbstractor`, blocks from timm)."""

    def __init__(
        self, vision_width: int, language_width: int, layout: PerImage, patches: int, config: ConnectorConfig
    ) -> None:
        from timm.layers import LayerNorm2d
        from timm.models.regnet import RegStage

        super().__init__(vision_width, language_width, layout, patches)
        width = config.hidden or language_width
        stage = partial(RegStage, config.depth, stride=1, dilation=1, act_layer=nn.SiLU, norm_layer=LayerNorm2d)
        self.before, self.after = stage(vision_width, width), stage(width, width)
        self.readout = nn.Sequential(
            nn.Linear(width, language_width), nn.SiLU(), nn.Linear(language_width, language_width)
        )

    def _crops(self, patches_NPE: torch.Tensor) -> torch.Tensor:
        side = math.isqrt(patches_NPE.shape[1])
        grid_NWSS = self.before(patches_NPE.transpose(1, 2).unflatten(-1, (side, side)))
        pooled_NWGG = nn.functional.adaptive_avg_pool2d(grid_NWSS, math.isqrt(self.tokens))
        tokens: torch.Tensor = self.readout(self.after(pooled_NWGG).flatten(2).transpose(1, 2))
        return tokens
