"""A batch of packed sequences as tensors, and how sequences become one.

Worked example, with 4 tokens an image. A pack of two samples has input_ids [-200, 10, 11, 2,  -200, 12, 2] and
lengths [7, 6]. Expanded: [-200, -200, -200, -200, 10, 11, 2,  -200, -200, -200, -200, 12, 2]; positions
[0 1 2 3 4 5 6  0 1 2 3 4 5]; sample ids [0 0 0 0 0 0 0  1 1 1 1 1 1]. Loss on 11, 2 of the first and 12, 2 of the
second: they are predicted from flat positions 4, 5 and 10, 11.

And one of a sample with two annotations, [-200, 10, | 11, 2, | 12, 13, 2] (branches begin at 2 and 4): expanded
[-200, -200, -200, -200, 10, 11, 2, 12, 13, 2]; positions [0 1 2 3 4 5 6 5 6 7], each annotation going on where the
image and its line break end; branch ids [0 0 0 0 0 1 1 2 2 2]. 11 and 12 are both predicted from position 4.

Images of a layout with marks have START, END, COLUMN and NEWLINE at positions of their own, as ids below IMAGE_TOKEN
(`mark_id`). An image with 2 × 2 tokens of Molmo's is [-201, -200, -200, -203, -200, -200, -203, -202].

Shape legend: B sequences, L positions, S samples, M target tokens, N images (of tiled ones crops), T tokens of an
image or of all in a batch, K patches a token, Q patches of all crops, H pixels a side.
"""

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from mmcorpus.packing.layout.base import Size
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.training.attention import PADDING


@dataclasses.dataclass(frozen=True, kw_only=True)
class Piece:
    """One packed sequence, ready to be put into a batch. Arrays are over its expanded positions unless noted."""

    input_ids: npt.NDArray[np.int64]
    positions: npt.NDArray[np.int64]
    sample_ids: npt.NDArray[np.int64]
    branch_ids: npt.NDArray[np.int64]
    """1, 2, … in a sample's annotations, if it has several; else 0."""
    predicts: npt.NDArray[np.int64]
    """Positions that predict a target, each the one before its target in what the target sees."""
    targets: npt.NDArray[np.int64]
    """The targets."""
    samples: npt.NDArray[np.int64]
    """The sample that each target belongs to, by its place in the sequence."""
    weights: npt.NDArray[np.float32] | None
    """What each target's loss is multiplied by; None where that is 1."""
    uids: tuple[str, ...]
    """Of the samples, in order; empty if not known."""
    sources: npt.NDArray[np.int64]
    """Of the samples, in order: the number of the source that each comes from."""
    images: npt.NDArray[np.uint8]
    """N×3×H×H."""
    broken_images: int
    """Those of them that could not be decoded and are grey."""
    tiling: "Tiling | None" = None
    """How their crops are pooled; None for squares."""
    tags: npt.NDArray[np.int64] | None = None
    """Of each target, the place of its tag in `tag_names`; None where no target has one."""
    tag_names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiling:
    """The crops of images, and which of their patches make which token."""

    templates: tuple[npt.NDArray[np.int8], ...]
    """Of each image, the Token at each of its positions."""
    pool: npt.NDArray[np.int64]
    """T×K: the patches of each IMAGE token, numbered over all crops, -1 for none."""
    padding: npt.NDArray[np.uint8]
    """[Q]: of each patch, whether none (0), some (1) or all (2) of it is padding."""
    sizes: tuple[Size, ...] | None
    """Width and height of each crop, if they differ; the pixels beyond are nothing's."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Packed sequences, padded to one length on the right."""

    input_ids_BL: torch.Tensor
    """int64; images expanded, padding 0."""
    position_ids_BL: torch.Tensor
    """int64, restarting with each sample, and with each annotation of one where the first began."""
    sample_ids_BL: torch.Tensor
    """int64; 0, 1, … within a sequence, -1 for padding."""
    branch_ids_BL: torch.Tensor | None
    """int64; 1, 2, … in the annotations of a sample that has several, else 0. None if no sample has."""
    image_positions: torch.Tensor
    """int64 [N·T], flat over B·L: where the images' tokens go, in the images' order."""
    predict_positions_M: torch.Tensor
    """int64, flat over B·L: where targets are predicted."""
    targets_M: torch.Tensor
    """int64: what is to be predicted there."""
    weights_M: torch.Tensor | None
    """fp32: what each target's loss is multiplied by; None where that is 1."""
    samples_M: torch.Tensor
    """int64: the sample that each target belongs to, by its place among the batch's."""
    sources_S: torch.Tensor
    """int64: the source that each sample comes from, by its number among the packs'."""
    uids: tuple[str, ...]
    """Of the samples, in order; empty if not known."""
    images_NCHW: torch.Tensor
    """uint8."""
    broken_images: int
    """Images that could not be decoded: grey here, their samples without loss."""
    positions: int
    """Positions that are not padding."""
    pool_TK: torch.Tensor | None = None
    """int64: the patches that make each image position's token, numbered over all crops, -1 for none; None for squares,
    whose tokens are a grid."""
    padding_Q: torch.Tensor | None = None
    """uint8: how much of each patch is padding (0 none, 1 some, 2 all); None for squares."""
    crop_sizes: tuple[Size, ...] | None = None
    """Width and height of each of `images_NCHW`, if they differ."""
    mark_positions: torch.Tensor | None = None
    """int64, flat over B·L: where START, END, COLUMN and NEWLINE stand; None without marks."""
    marks: torch.Tensor | None = None
    """int64: which Token stands there."""
    squares: int = 0
    """Σ of the squares of the samples' lengths: twice the pairs of positions that see each other."""
    tags_M: torch.Tensor | None = None
    """int64: of each target, the place of its tag in `tag_names`; None where no target has one."""
    tag_names: tuple[str, ...] = ()
    """The tags of the batch's targets, each once; "" is that of those without."""
    sequences: tuple[int, ...] = ()
    """The rows' numbers among the packs; empty if not known."""
    corrupt: tuple[str, ...] = ()
    """Why sequences that should be here could not be read (`PackLoader.skip`)."""

    @property
    def target_tokens(self) -> int:
        """The number of tokens that carry loss."""
        return self.targets_M.numel()

    @property
    def target_weight(self) -> float:
        """The sum of the targets' weights, by which the weighted loss is divided: their number where all are 1."""
        return self.target_tokens if self.weights_M is None else float(self.weights_M.double().sum())

    def to(self, device: torch.device) -> "PackedBatch":
        """The batch on another device."""
        if device.type == "cpu":
            return self
        moved: dict[str, Any] = {
            field.name: value.pin_memory().to(device, non_blocking=True)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), torch.Tensor)
        }
        return dataclasses.replace(self, **moved)


def mark_id(kinds: Any) -> Any:
    """The id of a Token at an image's position: IMAGE_TOKEN for IMAGE, below it for the marks."""
    return IMAGE_TOKEN - kinds


def expand(
    input_ids: npt.NDArray[np.integer],
    lengths: Sequence[int],
    token_counts: Sequence[int],
    loss_spans: Sequence[Sequence[tuple[int, int]]],
    images: npt.NDArray[np.uint8],
    broken: Sequence[int],
    tokens_per_image: "int | Tiling",
    branches: Sequence[Sequence[int]] = (),
    uids: Sequence[str] = (),
    sources: Sequence[int] = (),
    weights: Sequence[Sequence[float]] = (),
    tags: Sequence[Sequence[str]] = (),
) -> Piece:
    """A packed sequence's tokens with each image expanded, and what predicts what.

    `lengths` (expanded) and `token_counts` (unexpanded) are per sample; `loss_spans` per sample are [start, end) over
    `input_ids`; `broken` are the images, by their order in the sequence, that could not be decoded: their samples carry
    no loss. `tokens_per_image` is a Tiling where images are no squares. `branches` are, per sample, where in
    `input_ids` its annotations begin, if it has several; empty if no sample has. `uids` and `sources` (numbers, 0 if
    not given) are per sample. `weights` are, per sample, one for each loss span, or none where they are 1; empty if no
    sample has any; `tags` likewise, where nobody says what kind of target it is. A sample's first token is never a
    target. Raises ValueError where pack and arithmetic disagree.
    """
    ids = np.asarray(input_ids, dtype=np.int64)
    is_image = ids == IMAGE_TOKEN
    counts = np.asarray(token_counts)
    tiling = tokens_per_image if isinstance(tokens_per_image, Tiling) else None
    count = len(images) if tiling is None else len(tiling.templates)
    if int(is_image.sum()) != count:
        raise ValueError(f"a packed sequence has {int(is_image.sum())} image placeholders and {count} images")
    repeats = np.ones(len(ids), dtype=np.int64)
    if isinstance(tokens_per_image, int):
        repeats[is_image] = tokens_per_image
    else:
        repeats[is_image] = [len(template) for template in tokens_per_image.templates]
    sample_of_token = np.repeat(np.arange(len(lengths)), counts)
    measured = np.bincount(sample_of_token, weights=repeats, minlength=len(lengths)).astype(np.int64)
    if len(sample_of_token) != len(ids) or not np.array_equal(measured, np.asarray(lengths)):
        raise ValueError(
            f"a packed sequence's samples measure {measured.tolist()} positions at "
            f"{'the layout' if tiling else tokens_per_image}'s tokens an image, but its lengths say {list(lengths)}; "
            "was it packed with another tokens_per_image or layout?"
        )
    has_loss = np.zeros(len(ids), dtype=bool)
    weight_of = np.ones(len(ids), dtype=np.float32) if len(weights) else None
    names = ("", *dict.fromkeys(tag for own in tags for tag in own if tag))
    tag_of = np.zeros(len(ids), dtype=np.int64) if len(names) > 1 else None
    for number, spans in enumerate(loss_spans):
        own = weights[number] if len(weights) else ()
        kinds = tags[number] if len(tags) else ()
        for place, (start, end) in enumerate(spans):
            has_loss[start:end] = True
            if weight_of is not None and len(own):
                weight_of[start:end] = own[place]
            if tag_of is not None and len(kinds):
                tag_of[start:end] = names.index(kinds[place])
    has_loss[(np.cumsum(counts) - counts)[counts > 0]] = False
    has_loss &= ~is_image
    if len(broken):
        without_loss = np.unique(sample_of_token[np.flatnonzero(is_image)[np.asarray(broken)]])
        has_loss &= ~np.isin(sample_of_token, without_loss)
    starts = np.cumsum(measured) - measured
    total = int(measured.sum())
    expanded = np.repeat(ids, repeats)
    if tiling is not None and tiling.templates:
        expanded[np.repeat(is_image, repeats)] = mark_id(np.concatenate(tiling.templates).astype(np.int64))
    target_positions = np.flatnonzero(np.repeat(has_loss, repeats))
    positions, before = np.arange(total) - np.repeat(starts, measured), np.arange(total) - 1
    branch_ids = np.zeros(total, dtype=np.int64)
    offsets = np.concatenate([[0], np.cumsum(repeats)])
    for begins, end in zip(branches, np.cumsum(counts).tolist(), strict=False):
        edges = offsets[[*begins, end]].tolist() if begins else []
        for number, (first, last) in enumerate(itertools.pairwise(edges), start=1):
            positions[first:last] += positions[edges[0]] - positions[first]
            before[first] = edges[0] - 1
            branch_ids[first:last] = number
    return Piece(
        input_ids=expanded,
        positions=positions,
        sample_ids=np.repeat(np.arange(len(lengths)), measured),
        branch_ids=branch_ids,
        predicts=before[target_positions],
        targets=expanded[target_positions],
        samples=sample_of_token[has_loss],
        weights=None if weight_of is None else weight_of[has_loss],
        uids=tuple(uids),
        sources=np.asarray(sources if len(sources) else np.zeros(len(lengths)), dtype=np.int64),
        images=images,
        broken_images=len(broken),
        tiling=tiling,
        tags=None if tag_of is None else tag_of[has_loss],
        tag_names=names if tag_of is not None else (),
    )


def collate(pieces: Sequence[Piece], *, length: int | None = None, multiple: int = 8) -> PackedBatch:
    """Sequences side by side, padded to `length`, or to the longest rounded up to `multiple`."""
    longest = max(len(piece.input_ids) for piece in pieces)
    width = length if length is not None else -(-longest // multiple) * multiple
    if width < longest:
        raise ValueError(f"a packed sequence has {longest} positions, more than the context length {width}")

    def table(name: str, padding: int) -> torch.Tensor:
        rows = np.full((len(pieces), width), padding, dtype=np.int64)
        for row, piece in zip(rows, pieces, strict=True):
            values = getattr(piece, name)
            row[: len(values)] = values
        return torch.from_numpy(rows)

    def flat(name: str) -> npt.NDArray[np.int64]:
        return np.concatenate([getattr(piece, name) + row * width for row, piece in enumerate(pieces)])

    weights_M = None
    if any(piece.weights is not None for piece in pieces):
        own = [np.ones(len(p.targets), dtype=np.float32) if p.weights is None else p.weights for p in pieces]
        weights_M = torch.from_numpy(np.concatenate(own))
    input_ids_BL = table("input_ids", 0)
    firsts = itertools.accumulate((len(piece.sources) for piece in pieces), initial=0)
    return PackedBatch(
        input_ids_BL=input_ids_BL,
        position_ids_BL=table("positions", 0),
        sample_ids_BL=table("sample_ids", PADDING),
        branch_ids_BL=table("branch_ids", 0) if any(piece.branch_ids.any() for piece in pieces) else None,
        image_positions=(input_ids_BL.flatten() == IMAGE_TOKEN).nonzero().flatten(),
        predict_positions_M=torch.from_numpy(flat("predicts")),
        targets_M=torch.from_numpy(np.concatenate([piece.targets for piece in pieces])),
        weights_M=weights_M,
        samples_M=torch.from_numpy(
            np.concatenate([piece.samples + first for piece, first in zip(pieces, firsts, strict=False)])
        ),
        sources_S=torch.from_numpy(np.concatenate([piece.sources for piece in pieces])),
        uids=tuple(itertools.chain.from_iterable(piece.uids for piece in pieces)),
        images_NCHW=torch.from_numpy(_side_by_side([piece.images for piece in pieces])),
        broken_images=sum(piece.broken_images for piece in pieces),
        positions=sum(len(piece.input_ids) for piece in pieces),
        squares=sum(int(np.square(np.bincount(piece.sample_ids)).sum()) for piece in pieces),
        **_tilings(pieces, input_ids_BL),
        **_tags(pieces),
    )


def _tags(pieces: Sequence[Piece]) -> dict[str, Any]:
    """The fields of a PackedBatch whose targets have tags."""
    names = ("", *dict.fromkeys(name for piece in pieces for name in piece.tag_names if name))
    if len(names) == 1:
        return {}
    places = {name: place for place, name in enumerate(names)}
    of_targets = [
        np.zeros(len(piece.targets), dtype=np.int64)
        if piece.tags is None
        else np.array([places[name] for name in piece.tag_names])[piece.tags]
        for piece in pieces
    ]
    return {"tags_M": torch.from_numpy(np.concatenate(of_targets)), "tag_names": names}


def _side_by_side(images: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
    """Images of several sequences; those of a smaller size in the upper left corner of the largest."""
    if len({one.shape[2:] for one in images}) == 1:
        return np.concatenate(images)
    height, width = (max(one.shape[axis] for one in images) for axis in (2, 3))
    padded = np.zeros((sum(map(len, images)), 3, height, width), dtype=np.uint8)
    first = 0
    for one in images:
        padded[first : first + len(one), :, : one.shape[2], : one.shape[3]] = one
        first += len(one)
    return padded


def widened(pool_TK: npt.NDArray[np.int64], patches: int) -> npt.NDArray[np.int64]:
    """A pool with so many patches a token, the added ones -1."""
    return np.pad(pool_TK, ((0, 0), (0, patches - pool_TK.shape[1])), constant_values=-1)


def _tilings(pieces: Sequence[Piece], input_ids_BL: torch.Tensor) -> dict[str, Any]:
    """The fields of a PackedBatch that squares do not have."""
    tilings = [piece.tiling for piece in pieces if piece.tiling is not None]
    if not tilings:
        return {}
    most = max(tiling.pool.shape[1] for tiling in tilings)
    firsts = itertools.accumulate((len(tiling.padding) for tiling in tilings), initial=0)
    pool = [
        widened(np.where(tiling.pool >= 0, tiling.pool + first, -1), most)
        for tiling, first in zip(tilings, firsts, strict=False)
    ]
    sizes: list[Size] = []
    for piece, tiling in zip(pieces, tilings, strict=True):
        height, width = piece.images.shape[2:]
        sizes += tiling.sizes if tiling.sizes is not None else [(width, height)] * len(piece.images)
    mark_positions = (input_ids_BL.flatten() < IMAGE_TOKEN).nonzero().flatten()
    marked = {
        "mark_positions": mark_positions,
        "marks": IMAGE_TOKEN - input_ids_BL.flatten()[mark_positions],
    }
    return {
        "pool_TK": torch.from_numpy(np.concatenate(pool)),
        "padding_Q": torch.from_numpy(np.concatenate([tiling.padding for tiling in tilings])),
        "crop_sizes": tuple(sizes) if len(set(sizes)) > 1 else None,
        **(marked if len(mark_positions) else {}),
    }
