"""One packed sequence: whole samples one after the other, whose tokens are whose, and what must fit together."""

import itertools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from mmcorpus.curation.store.shards import EncodedImage
from mmcorpus.packing.layout import PerImage
from mmcorpus.packing.layout.base import Size
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.tokens import Spans

PER_SAMPLE: Final = ("uids", "sources", "lengths", "token_counts", "image_counts", "loss_spans")
"""The fields of a PackedSequence that have an entry a sample."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PackedSequence:
    """Whole samples that share one sequence."""

    sequence: int
    """Its number in the pack."""
    input_ids: npt.NDArray[np.int32]
    """Shape (tokens,): the samples one after the other, unpadded, each image one IMAGE_TOKEN."""
    uids: tuple[str, ...]
    sources: tuple[str, ...]
    lengths: tuple[int, ...]
    """Positions of each sample once its images are expanded."""
    token_counts: tuple[int, ...]
    """Input ids of each sample."""
    image_counts: tuple[int, ...]
    loss_spans: tuple[Spans, ...]
    """Per sample, `[start, end)` over this sequence's `input_ids` of the tokens that are targets."""
    images: tuple[EncodedImage, ...]
    """In the order of their placeholders; encoded, not yet decoded by anybody."""
    sizes: tuple[Size, ...] = ()
    """Width and height of each image, by which its layout was planned; empty where every image is as long."""
    branches: tuple[tuple[int, ...], ...] = ()
    """Per sample, where in `input_ids` each of its annotations begins, if it has several; empty if no sample has."""
    weights: tuple[tuple[float, ...], ...] = ()
    """Per sample and loss span, what its targets' losses are multiplied by, none where all are 1; empty if all are."""
    tags: tuple[tuple[str, ...], ...] = ()
    """Per sample and loss span, what kind of target it is; none, or empty, where nobody says."""

    @property
    def length(self) -> int:
        """Positions of the whole sequence."""
        return sum(self.lengths)

    def check(self, per_image: PerImage) -> None:
        """Raise ValueError, saying which numbers disagree, unless ids, counts, spans and images fit together."""
        if len({len(getattr(self, name)) for name in PER_SAMPLE}) != 1:
            raise ValueError("its lists differ in the number of samples")
        if min(self.token_counts, default=0) < 0 or sum(self.token_counts) != len(self.input_ids):
            raise ValueError(f"token_counts add up to {sum(self.token_counts)}, input_ids has {len(self.input_ids)}")
        branches = self.branches or ((),) * len(self.uids)
        if len(branches) != len(self.uids):
            raise ValueError(f"branches are of {len(branches)} samples, there are {len(self.uids)}")
        for name, least in (("weights", 0.0), ("tags", "")):
            self._check_targets(name, least)
        image_lengths = self._image_lengths(per_image)
        start = first_image = 0
        for tokens, images, length, spans, begins in zip(
            self.token_counts, self.image_counts, self.lengths, self.loss_spans, branches, strict=True
        ):
            end = start + tokens
            placeholders = int((self.input_ids[start:end] == IMAGE_TOKEN).sum())
            positions = sum(image_lengths[first_image : first_image + images])
            if placeholders != images or length != tokens - images + positions:
                raise ValueError(
                    f"a sample of {tokens} tokens, {placeholders} of them images, says {images} images, length {length}"
                )
            if any(not start <= first < last <= end for first, last in spans):
                raise ValueError(f"loss span outside its sample [{start}, {end}): {list(spans)}")
            _check_branches(begins, start, end, spans, self.input_ids)
            start, first_image = end, first_image + images
        if sum(self.image_counts) != len(self.images):
            raise ValueError(f"image_counts add up to {sum(self.image_counts)}, there are {len(self.images)} images")

    def _check_targets(self, name: str, least: float | str) -> None:
        """Raise ValueError unless what is said of targets is said of each span of a sample, or of none."""
        told = getattr(self, name)
        if not told:
            return
        if len(told) != len(self.loss_spans):
            raise ValueError(f"{name} are of {len(told)} samples, there are {len(self.loss_spans)}")
        for own, spans in zip(told, self.loss_spans, strict=True):
            if own and len(own) != len(spans):
                raise ValueError(f"{name} {list(own)} are not one for each of the loss spans {list(spans)}")
            if not all(least <= value and value != math.inf for value in own):
                raise ValueError(f"{name} {list(own)} hold a number that is negative or not finite")

    def _image_lengths(self, per_image: PerImage) -> list[int]:
        """Positions of each image."""
        if isinstance(per_image, int):
            return [per_image] * sum(self.image_counts)
        if len(self.sizes) != sum(self.image_counts):
            raise ValueError(f"sizes are of {len(self.sizes)} images, image_counts of {sum(self.image_counts)}")
        sizes = np.array(self.sizes, dtype=np.int64).reshape(-1, 2)
        lengths: list[int] = per_image.lengths(sizes[:, 0], sizes[:, 1]).tolist()
        return lengths


def _check_branches(
    begins: tuple[int, ...], start: int, end: int, spans: Spans, input_ids: npt.NDArray[np.int32]
) -> None:
    """Raise ValueError unless annotations follow each other, after what all see, which holds the sample's images."""
    if not begins:
        return
    edges = [start, *begins, end]
    if len(begins) < 2 or any(first >= last for first, last in itertools.pairwise(edges)):
        raise ValueError(f"branches {list(begins)} are not two or more, in order, inside their sample [{start}, {end})")
    if any(first < edge < last for first, last in spans for edge in begins):
        raise ValueError(f"a loss span crosses the beginning of a branch: {list(spans)}, branches {list(begins)}")
    if (input_ids[begins[0] : end] == IMAGE_TOKEN).any():
        raise ValueError(f"an image stands in one of the branches {list(begins)}, which the others do not see")
