"""From patches to tokens: pool or join the patches of each token, then project them to the language model's width.

Which patches make a token is said by the layout (`ImageLayout.pool`): for squares a grid of equal or overlapping
windows, kept as torch's own average pool; for all others one gather.

Shape legend: N images, P patches an image, Q patches of all crops, E the encoders' width, G tokens along a side,
T tokens, K patches a token, D the language model's width.
"""

import abc
import math
from typing import Any

import torch
from torch import nn

from mmcorpus.packing.layout import PerImage
from mmcorpus.packing.layout.base import Token
from mmcorpus.training.config import ConnectorConfig

_PROBE = (640, 480)
"""An image's size, to ask a layout which marks it sets and how many patches make a token: the same for all sizes."""


class Connector(nn.Module, abc.ABC):
    """Patches of the encoders to tokens of the language model."""

    def __init__(self, language_width: int, vision_width: int, layout: PerImage) -> None:
        super().__init__()
        self.marks: nn.Embedding | None = None
        self.padded: nn.Parameter | None = None
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.patches_a_token = 1
        """K, of layouts other than squares."""
        self._widths = (language_width, vision_width)
        self.set_layout(layout)

    def set_layout(self, layout: PerImage) -> None:
        """Take this layout from now on. What it needs and is not there is added, what it does not need goes: marks
        (START, END, COLUMN and NEWLINE, vectors of their own beside the tokenizer's), and Molmo's padding."""
        if isinstance(layout, int):
            self.pool = nn.AdaptiveAvgPool2d(math.isqrt(layout))
            self.marks = self.padded = None
            return
        width, vision_width = self._widths
        probe = layout.layout(*_PROBE)
        self.patches_a_token = probe.pool.shape[1]
        if not any(kind != Token.IMAGE for kind, _ in probe.tokens):
            self.marks = None
        elif self.marks is None:
            self.marks = nn.Embedding(len(Token) - 1, width)
            nn.init.normal_(self.marks.weight, std=0.02)
        if layout.kind != "molmo":
            self.padded = None
        elif self.padded is None:
            self.padded = nn.Parameter(torch.zeros(2, vision_width))

    def mark(self, kinds: torch.Tensor) -> torch.Tensor:
        """The vectors of Tokens other than IMAGE: [n] → [n]×D."""
        if self.marks is None:
            raise ValueError("the batch has marks around its images, and the model's layout none")
        return self.marks(kinds - 1)

    def forward(
        self, features: torch.Tensor, pool_TK: torch.Tensor | None = None, padding_Q: torch.Tensor | None = None
    ) -> torch.Tensor:
        """N×P×E → N×T×D, tokens in reading order, for squares (P must be one); with `pool_TK`, Q×E → T×D.

        `padding_Q` says of each patch how much of it is padding (0 none, 1 some, 2 all).
        """
        if pool_TK is None:
            n, p, e = features.shape
            side = math.isqrt(p)
            if side * side != p:
                raise ValueError(f"the encoder gives {p} patches an image, which is not a square grid")
            return self._project(self._square(features.transpose(1, 2).reshape(n, e, side, side)))
        if self.padded is not None and padding_Q is not None:
            kinds_Q2 = torch.stack([padding_Q == 1, padding_Q == 2], dim=-1)
            features = features + (kinds_Q2.to(features.dtype) @ self.padded.to(features.dtype))
        there_TK1 = (pool_TK >= 0).unsqueeze(-1)
        taken_TKE = features[pool_TK.clamp(min=0)] * there_TK1.to(features.dtype)
        return self._project(self._gathered(taken_TKE, there_TK1.sum(1)))

    @abc.abstractmethod
    def _square(self, grid_NESS: torch.Tensor) -> torch.Tensor:
        """A square grid of patches to N×T×E', each token's features."""

    @abc.abstractmethod
    def _gathered(self, patches_TKE: torch.Tensor, count_T1: torch.Tensor) -> torch.Tensor:
        """Each token's patches, zero where there is none, and how many there are, to T×E'."""

    @abc.abstractmethod
    def _project(self, pooled: torch.Tensor) -> torch.Tensor:
        """…×E' → …×D."""


class _Averaging(Connector):
    def _square(self, grid_NESS: torch.Tensor) -> torch.Tensor:
        return self.pool(grid_NESS).flatten(2).transpose(1, 2)

    def _gathered(self, patches_TKE: torch.Tensor, count_T1: torch.Tensor) -> torch.Tensor:
        return patches_TKE.sum(1) / count_T1.clamp(min=1).to(patches_TKE.dtype)


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


class ShuffleProjector(Connector):
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
            pool = layout.layout(*_PROBE).pool
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

    def _gathered(self, patches_TKE: torch.Tensor, count_T1: torch.Tensor) -> torch.Tensor:
        return patches_TKE.flatten(1)

    def _project(self, pooled: torch.Tensor) -> torch.Tensor:
        return self.fc2(self.act(self.fc1(self.norm(pooled))))


def build_connector(
    config: ConnectorConfig, vision_width: int, language_width: int, layout: PerImage, patches: int
) -> Connector:
    """The connector that `config` names, with random weights; `patches` are those of a square image."""
    hidden = config.hidden or language_width
    if config.kind == "linear":
        return LinearProjector(vision_width, language_width, layout)
    if config.kind == "shuffle_mlp":
        return ShuffleProjector(vision_width, hidden, language_width, layout, patches)
    return PoolingProjector(vision_width, hidden, language_width, layout)
