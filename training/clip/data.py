"""From pairs to batches: a fixed order, random crops that belong to a pair's place in it, decoded ahead of the trainer.

Step s of an epoch holds the s-th batch of that epoch's permutation; what is left of an epoch after its last whole batch
is left out, so that no batch holds a pair twice. Order and crops are functions of (seed, epoch, place), so a run's
cursor is its step alone, and neither threads nor devices are seen in what a step learns from.
"""

import dataclasses
import itertools
import math
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import torch

from mmcorpus.filters.decode import DecodeFailure, decode_rgb
from mmcorpus.training.clip.config import ContrastiveConfig
from mmcorpus.training.clip.pairs import Pairs
from mmcorpus.training.data import ahead
from mmcorpus.training.images import square

RATIOS: Final = (3 / 4, 4 / 3)
"""Width over height of a crop, as torchvision's RandomResizedCrop and open_clip have it."""
_TRIES: Final = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class PairBatch:
    """Pairs as the model takes them; B pairs, S pixels a side, T tokens a caption."""

    images_B3SS: torch.Tensor
    """fp32, normalised."""
    tokens_BT: torch.Tensor
    """int64."""
    valid_B: torch.Tensor
    """bool; False where the image could not be decoded (it is all zeros then)."""

    def to(self, device: torch.device) -> "PairBatch":
        """The batch on a device."""
        tensors = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return PairBatch(**{name: tensor.to(device, non_blocking=True) for name, tensor in tensors.items()})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Preprocess:
    """A model's preprocessing of images: open_clip's `PreprocessCfg`, for square images."""

    size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    resize_mode: str
    evaluate: Callable[[Any], torch.Tensor]
    """open_clip's own transform at inference: what the scorer uses."""

    def train(self, image: Any, smallest: float, generator: np.random.Generator) -> torch.Tensor:
        """A random crop of an RGB Pillow image, squashed to the square; uint8 3×S×S, not `normalised` yet."""
        box = crop_box(image.size, smallest, generator, keep_aspect=self.resize_mode != "shortest")
        return torch.from_numpy(square(image.crop(box), self.size))

    def normalised(self, pixels_B3SS: torch.Tensor) -> torch.Tensor:
        """uint8 pixels as fp32, normalised."""
        mean, std = (torch.tensor(values).view(3, 1, 1) for values in (self.mean, self.std))
        return pixels_B3SS.float().div_(255).sub_(mean).div_(std)


def crop_box(
    size: tuple[int, int], smallest: float, generator: np.random.Generator, *, keep_aspect: bool
) -> tuple[int, int, int, int]:
    """A random part of an image of at least the share `smallest` of its area: (left, top, right, bottom) in pixels.

    With `keep_aspect` it has the image's own proportions, for models that see whole images squashed. Otherwise it is
    open_clip's RandomResizedCrop: proportions from 3:4 to 4:3, and, where such a part is not found in ten tries, the
    largest one in the middle.
    """
    width, height = size
    if keep_aspect:
        side = math.sqrt(generator.uniform(smallest, 1.0))
        across, down = max(1, round(width * side)), max(1, round(height * side))
        return _place(width, height, across, down, generator)
    for _ in range(_TRIES):
        area = width * height * generator.uniform(smallest, 1.0)
        ratio = math.exp(generator.uniform(math.log(RATIOS[0]), math.log(RATIOS[1])))
        across, down = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < across <= width and 0 < down <= height:
            return _place(width, height, across, down, generator)
    ratio = min(max(width / height, RATIOS[0]), RATIOS[1])
    across, down = min(width, round(height * ratio)), min(height, round(width / ratio))
    left, top = (width - across) // 2, (height - down) // 2
    return left, top, left + across, top + down


def _place(
    width: int, height: int, across: int, down: int, generator: np.random.Generator
) -> tuple[int, int, int, int]:
    left, top = int(generator.integers(0, width - across + 1)), int(generator.integers(0, height - down + 1))
    return left, top, left + across, top + down


class PairLoader:
    """Reads, decodes and collates pairs in the order it is asked to."""

    def __init__(
        self, pairs: Pairs, preprocess: Preprocess, tokenize: Callable[[list[str]], torch.Tensor], *, threads: int
    ) -> None:
        self.pairs, self.preprocess, self.tokenize, self.threads = pairs, preprocess, tokenize, threads

    def training_batches(
        self, steps: Iterable[Sequence[tuple[int, int]]], config: ContrastiveConfig
    ) -> Generator[PairBatch]:
        """A batch for each list of (epoch, row), each image cropped as its seed, epoch and row say."""

        def load(place: tuple[int, int]) -> tuple[torch.Tensor | None, str]:
            generator = np.random.default_rng([config.seed, *place])
            return self._pair(place[1], lambda image: self.preprocess.train(image, config.data.crop, generator))

        yield from self._batches(load, steps, self.preprocess.normalised)

    def evaluation_batches(self, steps: Iterable[Sequence[int]]) -> Generator[PairBatch]:
        """A batch for each list of rows, prepared as at inference."""
        yield from self._batches(lambda row: self._pair(row, self.preprocess.evaluate), steps, lambda images: images)

    def _pair(self, row: int, prepare: Callable[[Any], torch.Tensor]) -> tuple[torch.Tensor | None, str]:
        """The prepared image of a row, or None if it cannot be decoded, and its caption."""
        decoded = decode_rgb(self.pairs.image(row))
        image = None if isinstance(decoded, DecodeFailure) else prepare(decoded)
        return image, self.pairs.caption(row)

    def _batches(
        self,
        load: Callable[[Any], tuple[torch.Tensor | None, str]],
        steps: Iterable[Sequence[Any]],
        normalised: Callable[[torch.Tensor], torch.Tensor],
    ) -> Generator[PairBatch]:
        mine, counted = itertools.tee(steps)
        first = next(counted, None)
        if first is None:
            return
        sizes = (len(step) for step in itertools.chain([first], counted))
        places = (place for step in mine for place in step)
        # Two batches are under way: one that the trainer waits for, one behind it.
        loaded = ahead(load, places, self.threads, waiting=2 * len(first) if self.threads else 0)
        try:
            for size in sizes:
                yield self._collate(itertools.islice(loaded, size), normalised)
        finally:
            loaded.close()

    def _collate(
        self, loaded: Iterator[tuple[torch.Tensor | None, str]], normalised: Callable[[torch.Tensor], torch.Tensor]
    ) -> PairBatch:
        images, captions = zip(*loaded, strict=True)
        there = [image for image in images if image is not None]
        valid_B = torch.tensor([image is not None for image in images])
        images_B3SS = torch.zeros(len(images), 3, self.preprocess.size, self.preprocess.size)
        if there:
            images_B3SS[valid_B] = normalised(torch.stack(there))
        return PairBatch(images_B3SS=images_B3SS, tokens_BT=self.tokenize(list(captions)), valid_B=valid_B)
