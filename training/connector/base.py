"""From patches to tokens: make tokens of the encoders' patches, in the language model's width.

Shape legend: N images or crops, P patches of one, Q patches of all crops, E the encoders' width, G tokens along a side,
T tokens, K patches a token, D the language model's width.
"""

import abc
from typing import Any, Final

import torch
from torch import nn

from mmcorpus.packing.layout import PerImage
from mmcorpus.packing.layout.base import Token

PROBE: Final = (640, 480)
"""An image's size, to ask a layout which marks it sets and how many patches make a token: the same for all sizes."""


class Connector(nn.Module, abc.ABC):
    """Patches of the encoders to tokens of the language model."""

    def __init__(self, language_width: int, vision_width: int, layout: PerImage) -> None:
        super().__init__()
        self.marks: nn.Embedding | None = None
        self.padded: nn.Parameter | None = None
        self._widths = (language_width, vision_width)
        self.set_layout(layout)

    def set_layout(self, layout: PerImage) -> None:
        """Take this layout from now on. What it needs and is not there is added, what it does not need goes: marks
        (START, END, COLUMN and NEWLINE, vectors of their own beside the tokenizer's), and Molmo's padding."""
        self.layout = layout
        if isinstance(layout, int):
            self.marks = self.padded = None
            return
        width, vision_width = self._widths
        probe = layout.layout(*PROBE)
        if not any(kind != Token.IMAGE for kind, _ in probe.tokens):
            self.marks = None
        elif self.marks is None:
            self.marks = nn.Embedding(len(Token) - 1, width)
            nn.init.normal_(self.marks.weight, std=0.02)
        if layout.kind != "molmo":
            self.padded = None
        elif self.padded is None:
            self.padded = nn.Parameter(torch.zeros(2, vision_width))

    def check_beside(self, layout: PerImage) -> None:
        """Raise ValueError unless an image may have this layout beside images of the connector's own."""
        has_marks = not isinstance(layout, int) and any(k != Token.IMAGE for k, _ in layout.layout(*PROBE).tokens)
        if (has_marks and self.marks is None) or self._needs(layout) != self._needs(self.layout):
            raise ValueError(
                f"the model's connector was not made for images of {_name(layout)} beside those of "
                f"{_name(self.layout)}: give a layout of the same marks and crops, and of as many patches a token"
            )

    def _needs(self, layout: PerImage) -> Any:
        """What must be the same in all layouts of a batch."""
        return None

    def mark(self, kinds: torch.Tensor) -> torch.Tensor:
        """The vectors of Tokens other than IMAGE: [n] → [n]×D."""
        if self.marks is None:
            raise ValueError("the batch has marks around its images, and the model's layout none")
        return self.marks(kinds - 1)

    @abc.abstractmethod
    def forward(
        self, features: torch.Tensor, pool_TK: torch.Tensor | None = None, padding_Q: torch.Tensor | None = None
    ) -> torch.Tensor:
        """N×P×E → N×T×D, tokens in reading order, for squares (P must be one); with `pool_TK`, Q×E → T×D.

        `padding_Q` says of each patch how much of it is padding (0 none, 1 some, 2 all).
        """

    @abc.abstractmethod
    def sample(self, features_NPE: torch.Tensor) -> torch.Tensor:
        """Some tokens of these images, in which every weight but the marks' has a hand."""


def _name(layout: PerImage) -> str:
    return f"{layout} tokens" if isinstance(layout, int) else f"the layout {layout.as_dict()}"


def require_heads(width: int, heads: int) -> int:
    """`heads`; raises ValueError unless they divide the width."""
    if width % heads:
        raise ValueError(f"the connector's {heads} heads do not divide its width {width}: set model.connector.heads")
    return heads
