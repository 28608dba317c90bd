"""Packs in a notebook: sequences drawn."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from IPython.display import HTML


def draw_pack(packs: str, sequences: Sequence[int] = (0,)) -> "HTML":
    """Draw sequences of the packs in a folder, as `mmcorpus inspect PACKS --draw` does.

    Raises PackError for packs that cannot be read, ValueError for a sequence that is not there.
    """
    from IPython.display import HTML

    from mmcorpus.pipelines.report.packs import PackPage

    return HTML(PackPage(packs).fragment(sequences))
