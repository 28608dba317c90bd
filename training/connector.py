"""The projector: average-pool the patch grid, then two linear layers (Open-Qwen2VL §2.1).

Shape legend: N images, P patches, E the encoder's width, G tokens along a side, T = G·G tokens an image, D the language
model's width.
"""

import torch
from torch import nn


class PoolingProjector(nn.Module):
    """AdaptiveAvgPool2d(G) → Linear → GELU → Linear: any patch grid becomes G×G tokens of the language model."""

    def __init__(self, vision_width: int, hidden: int, language_width: int, grid: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(grid)
        self.fc1 = nn.Linear(vision_width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, language_width)

    def forward(self, features_NPE: torch.Tensor) -> torch.Tensor:
        """N×P×E → N×T×D, tokens in reading order. P must be a square."""
        n, p, e = features_NPE.shape
        side = round(p**0.5)
        if side * side != p:
            raise ValueError(f"the encoder gives {p} patches an image, which is not a square grid")
        grid_NEGG = self.pool(features_NPE.transpose(1, 2).reshape(n, e, side, side))
        tokens_NTE = grid_NEGG.flatten(2).transpose(1, 2)
        return self.fc2(self.act(self.fc1(tokens_NTE)))
