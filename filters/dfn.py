"""Data filtering networks: a CLIP trained on few good pairs, to judge many (DFN; Fang et al. 2023, arXiv:2309.17425).

dfn:      {model_name: "hf-hub:apple/DFN-public"}         the authors' network, trained on public data
dfn_mine: {uses: dfn, model_name: runs/mine/dfn/checkpoints/step-00010000/model}

The paper keeps the pairs of highest similarity, 15 % of DataComp's pool: `select: {keep: "top(dfn.similarity, 0.15)"}`.
"""

import os
from dataclasses import dataclass
from typing import Any, ClassVar, Final

from mmcorpus.filters.clip import ClipScorer

PUBLIC: Final = "hf-hub:apple/DFN-public"
"""The authors' ViT-B/32, trained on Conceptual Captions 3M and 12M and Shutterstock 15M (1.28 B pairs seen)."""


@dataclass(frozen=True, kw_only=True)
class DfnScorer(ClipScorer):
    """The columns of ClipScorer, by a data filtering network: `dfn.similarity` is what the paper ranks by.

    A folder of weights is known by its content alone, so that a network trained again to the same weights, in this
    folder or another, makes no scores stale.
    """

    model_name: str = PUBLIC
    """`hf-hub:organisation/name`, a folder with open_clip_config.json and weights, such as a recipe's `dfn:` section
    trains, or an architecture that open_clip lists."""

    name: ClassVar[str] = "dfn"

    def model(self) -> str:
        if not self._is_folder:
            return super().model()
        first, *heads = super().model().split("; ")
        return "; ".join([f"{os.path.basename(self._folder)}@{first.rpartition('@')[2]}", *heads])

    def parameters(self) -> dict[str, Any]:
        found = super().parameters()
        return {**found, "model_name": os.path.basename(self._folder)} if self._is_folder else found

    @property
    def _folder(self) -> str:
        return self.model_name.rstrip("/")

    @property
    def _is_folder(self) -> bool:
        return "://" in self.model_name or os.path.isdir(os.path.expanduser(self.model_name))
