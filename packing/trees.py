"""Several annotations of a row's images as one sample: the images once, then a branch for each (arXiv 2409.17146).

Each branch, with what stands before the first, is token for token the conversation that its annotation is alone. A
branch begins after the last image; what the template writes before that is the same for all.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mmcorpus.packing.chat import ChatTemplate, Claim
from mmcorpus.packing.conversations import LaidOut, encode_conversations, lay_out
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.render import Branch
from mmcorpus.packing.tokens import TokenizedSample
from mmcorpus.packing.turns import count_marks

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, kw_only=True, slots=True)
class Tree:
    """Branches in order, each laid out as a conversation of its own."""

    laid_out: tuple[LaidOut, ...]
    styles: tuple[str, ...]
    weights: tuple[float, ...]


def lay_out_tree(
    branches: Sequence[Branch], image_count: int, template: ChatTemplate, claims: list[Claim] | None = None
) -> Tree:
    """Branches laid out as `lay_out` does it, all images before the first.

    Raises ValueError where the template refuses one, where there is no image to annotate, and where a branch's system
    turn is not the others'.
    """
    if not image_count and len(branches) > 1:
        raise ValueError("it has several annotations and no image")
    if marked := max(count_marks(branch.turns) for branch in branches):
        raise ValueError(f"an annotation marks {marked} images within its text; images stand before all annotations")
    laid_out = tuple(lay_out(branch.turns, image_count, template, claims=claims) for branch in branches)
    for number, branch in enumerate(laid_out):
        if _shared(branch) != _shared(laid_out[0]):
            raise ValueError(f"what stands before the images differs between annotation 0 and {number}")
    return Tree(
        laid_out=laid_out,
        styles=tuple(branch.style for branch in branches),
        weights=tuple(branch.weight for branch in branches),
    )


def _shared(branch: LaidOut) -> LaidOut:
    """What of a branch all branches have: up to its last image."""
    places = [number for number, piece in enumerate(branch) if piece == IMAGE_TOKEN]
    return branch[: places[-1] + 1] if places else []


def encode_trees(tokenizer: "PreTrainedTokenizerFast", rows: Sequence[LaidOut | Tree]) -> list[TokenizedSample]:
    """Conversations and trees, encoded in one batch."""
    alone = [laid_out for row in rows for laid_out in (row.laid_out if isinstance(row, Tree) else (row,))]
    encoded = iter(encode_conversations(tokenizer, alone))
    return [
        _joined(row, [next(encoded) for _ in row.laid_out]) if isinstance(row, Tree) else next(encoded) for row in rows
    ]


def _joined(tree: Tree, branches: Sequence[TokenizedSample]) -> TokenizedSample:
    first = branches[0].input_ids
    head = int(np.flatnonzero(first == IMAGE_TOKEN)[-1]) + 1 if branches[0].image_count else 0
    ids, begins, spans = [first[:head]], [], []
    weights: list[float] = []
    tags: list[str] = []
    end = head
    for branch, style, weight in zip(branches, tree.styles, tree.weights, strict=True):
        begins.append(end)
        spans += [(start + end - head, last + end - head) for start, last in branch.loss_spans]
        weights += [weight] * len(branch.loss_spans)
        tags += [style] * len(branch.loss_spans)
        ids.append(branch.input_ids[head:])
        end += len(ids[-1])
    return TokenizedSample(
        input_ids=np.concatenate(ids),
        loss_spans=tuple(spans),
        image_count=branches[0].image_count,
        images=branches[0].images,
        branches=tuple(begins) if len(begins) > 1 else (),
        weights=tuple(weights) if set(weights) != {1.0} else (),
        tags=tuple(tags) if any(tags) else (),
    )
