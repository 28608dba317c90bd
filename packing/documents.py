"""Documents as tokens: texts and images in page order, and where one that is too long may be cut.

Texts are joined by blank lines; an image stands on a line of its own, `-200` and a line break, as in a pair. The nodes
`[text A, text B, image, text C]` are

    A \\n\\n | B \\n | -200 \\n | C | eos

with loss on every text and the end token, and none on an image and the line break after it. What stands between two
bars is encoded on its own, so that a document may be cut there and its parts are, joined, the document's tokens. A
Qwen2-style pre-tokenizer, which ends a piece at line breaks, gives the same ids for the whole text at once.
"""

import itertools
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np
import numpy.typing as npt

from mmcorpus.packing.layout.base import Size
from mmcorpus.packing.lengths import IMAGE_TOKEN, Each, expanded_offsets
from mmcorpus.packing.tokens import Spans, TokenizedSample, encode_texts, special_ids

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

BREAK: Final = "\n\n"
"""Between two texts."""


class NodeImage(NamedTuple):
    """An image where it stands in a document."""

    number: int
    """Among the images stored with the document."""
    size: Size | None = None
    """Its width and height as stored; None where the node does not say them."""


Nodes = list[str | NodeImage]
"""A document in page order."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TokenizedDocument:
    """A document before it is cut to a sequence's length."""

    input_ids: npt.NDArray[np.int32]
    """Shape (tokens,); each image is one IMAGE_TOKEN."""
    targets: npt.NDArray[np.bool_]
    """Shape (tokens,): which of them carry loss."""
    images: tuple[NodeImage, ...]
    """Its images, in order."""
    nodes: npt.NDArray[np.int64]
    """Where each node begins."""
    groups: npt.NDArray[np.int64]
    """Where a node begins that follows no image: cut there, an image stays with the text after it."""

    def part(self, start: int, end: int) -> TokenizedSample:
        """The tokens from `start` up to `end` as a sample."""
        ids = self.input_ids[start:end]
        before = int((self.input_ids[:start] == IMAGE_TOKEN).sum())
        images = self.images[before : before + int((ids == IMAGE_TOKEN).sum())]
        return TokenizedSample(
            input_ids=ids,
            loss_spans=_spans(self.targets[start:end]),
            image_count=len(images),
            images=tuple(image.number for image in images),
        )


def parse_nodes(text: str, *, images: bool = True) -> Nodes:
    """The nodes in a shard's column `nodes`: a JSON list of `{"text": …}` and `{"image": number, "size": [width,
    height]}`, the size if it is known.

    Texts that are blank are left out, and images too where `images` is false. Raises ValueError for anything else.
    """
    try:
        listed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"nodes is not JSON: {error}") from None
    if not isinstance(listed, list):
        raise ValueError("nodes is not a list")
    nodes: Nodes = []
    for number, node in enumerate(listed):
        words: Any = node.get("text") if isinstance(node, dict) else None
        image: Any = node.get("image") if isinstance(node, dict) else None
        if isinstance(words, str):
            nodes += [words] if words.strip() else []
        elif isinstance(image, int) and not isinstance(image, bool) and image >= 0:
            nodes += [NodeImage(image, _size(node.get("size")))] if images else []
        else:
            raise ValueError(f"node {number} has neither a text nor an image's number")
    return nodes


def _size(told: Any) -> Size | None:
    """What a node says of its image's size; what is no size is none."""
    whole = isinstance(told, list) and len(told) == 2 and all(type(side) is int and side > 0 for side in told)
    return (told[0], told[1]) if whole else None


def encode_documents(
    tokenizer: "PreTrainedTokenizerFast", documents: Sequence[Sequence[str | NodeImage]]
) -> list[TokenizedDocument]:
    """Documents (nodes as `parse_nodes` gives them), encoded in one batch."""
    special = special_ids(tokenizer)
    image_ids = [IMAGE_TOKEN, *special.newline]
    encoded = iter(encode_texts(tokenizer, [piece for nodes in documents for piece in _pieces(nodes)]))
    found = []
    for nodes in documents:
        parts = [next(encoded) if isinstance(node, str) else image_ids for node in nodes] + [[special.eos]]
        is_text = [*(isinstance(node, str) for node in nodes), True]
        lengths = [len(part) for part in parts]
        starts = np.cumsum([0, *lengths[:-1]])[: len(nodes)]
        follows_text = np.array([True, *is_text[:-1]][: len(nodes)], dtype=bool)
        found.append(
            TokenizedDocument(
                input_ids=np.fromiter(itertools.chain.from_iterable(parts), dtype=np.int32),
                targets=np.repeat(is_text, lengths),
                images=tuple(node for node in nodes if isinstance(node, NodeImage)),
                nodes=starts,
                groups=starts[follows_text],
            )
        )
    return found


def _pieces(nodes: Sequence[str | NodeImage]) -> list[str]:
    """The texts, each with what separates it from the node after it."""
    pieces = []
    for node, after in itertools.zip_longest(nodes, nodes[1:]):
        if isinstance(node, str):
            pieces.append(node if after is None else node + (BREAK if isinstance(after, str) else "\n"))
    return pieces


def cuts(
    document: TokenizedDocument, *, context_length: int, tokens_per_image: Each, most: Sequence[tuple[Each, int]] = ()
) -> list[int]:
    """Where to cut a document so that no part exceeds `context_length` positions, or what else a sequence may have:
    `most` is what images count for (1 each, or their crops), and how much of it there may be.

    Each part takes as much as it can and ends before a group; before a node, where even one group is too much for its
    images; within a text, where that alone is too long. Shape: [0, …, tokens]; two entries for one that fits. Every
    image must fit into a part.
    """
    ids = document.input_ids
    limits = [(expanded_offsets(ids, tokens_per_image), context_length)]
    limits += [(expanded_offsets(ids, each, per_text_token=0), limit) for each, limit in most]
    found = [0]
    while found[-1] < len(document.input_ids):
        start = found[-1]
        end = min(int(np.searchsorted(used, used[start] + limit, side="right")) - 1 for used, limit in limits)
        if end < len(document.input_ids):
            end = _border(document.groups, start, end) or _before_image(document, start, end) or end
        found.append(end)
    return found


def _border(borders: npt.NDArray[np.int64], start: int, end: int) -> int | None:
    """The last border after `start` and not after `end`."""
    place = int(np.searchsorted(borders, end, side="right")) - 1
    return int(borders[place]) if place >= 0 and borders[place] > start else None


def _before_image(document: TokenizedDocument, start: int, end: int) -> int | None:
    """The node's border to cut at if `end` lies among images; None within a text."""
    return (
        None
        if end > start and document.targets[end - 1] and document.targets[end]
        else _border(document.nodes, start, end)
    )


def _spans(targets: npt.NDArray[np.bool_]) -> Spans:
    """The runs of True as `[start, end)`."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], targets, [False]]).astype(np.int8))).tolist()
    return tuple(zip(edges[::2], edges[1::2], strict=True))
