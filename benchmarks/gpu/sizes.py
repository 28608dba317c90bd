"""What is measured at which size: a GPU's, or tiny ones by which the same code is tried on a CPU."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
import torch

from benchmarks.training import MODELS, samples, write_pack
from mmcorpus.packing.binpack import first_fit_decreasing
from mmcorpus.packing.lengths import expanded_length
from mmcorpus.packing.packs import PackReader
from mmcorpus.training.config import ModelConfig, RandomLanguage, RandomVision
from mmcorpus.training.model import VisionLanguageModel, build_model


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sizes:
    """Sizes of everything; weights are random and cost what trained ones do."""

    device: str
    model: ModelConfig
    vocabulary: int
    context: int
    """Positions a packed sequence."""
    sequences: int
    """Packed sequences, which steps go through again and again."""
    short_layers: int
    """Blocks of encoder and decoder where the whole depth would only take longer: parity, kill and resume."""
    matmuls: tuple[int, ...]
    """Sides of the square matrices that the peak is measured with."""
    micro: int
    """Sequences a forward pass while attention kernels are compared."""
    grid: tuple[int, ...]
    """Those tried with and without activation checkpointing."""
    warm: int
    """Steps before measuring: the first compiles, and the second once more, for any number of images."""
    steps: int
    """Measured steps."""
    threads: int
    """Threads that decode for the trainer."""
    clip: str
    """The architecture of the CLIP stage, by open_clip's name (`benchmarks.clip`)."""
    causal: RandomLanguage
    """The language model of the perplexity stage."""
    causal_vocabulary: int
    images: int
    """Samples that the two stages score."""
    per_shard: int

    @property
    def short(self) -> ModelConfig:
        """The model with fewer blocks, as wide as the whole one."""
        vision, language = self.model.vision, self.model.language
        assert isinstance(vision, RandomVision)
        assert isinstance(language, RandomLanguage)
        return dataclasses.replace(
            self.model,
            vision=dataclasses.replace(vision, layers=self.short_layers),
            language=dataclasses.replace(language, layers=self.short_layers),
        )


_CONFIG, _VOCABULARY = MODELS["qwen2.5-1.5b-shape"]
FULL: Final = Sizes(
    device="cuda",
    model=_CONFIG,
    vocabulary=_VOCABULARY,
    context=4096,
    sequences=64,
    short_layers=4,
    matmuls=(4096, 8192, 16384),
    micro=4,
    grid=(4, 8, 16),
    warm=3,
    steps=6,
    threads=12,
    clip="ViT-L-14",
    causal=RandomLanguage(
        hidden_size=896, layers=24, heads=14, key_value_heads=2, intermediate_size=4864, rope_theta=1e6
    ),
    causal_vocabulary=_VOCABULARY,
    images=20_000,
    per_shard=500,
)
"""Open-Qwen2VL's sizes (Qwen2.5-1.5B, SigLIP-SO400M/14), CLIP ViT-L/14, and a language model of Qwen2.5-0.5B's."""

TINY: Final = Sizes(
    device="cpu",
    model=ModelConfig(
        vision=RandomVision(image_size=32, patch_size=8, hidden_size=32, layers=3, heads=2),
        language=RandomLanguage(hidden_size=32, layers=3, heads=2, key_value_heads=1, intermediate_size=64),
        tokens_per_image=4,
    ),
    vocabulary=512,
    context=128,
    sequences=8,
    short_layers=2,
    matmuls=(128,),
    micro=2,
    grid=(2, 4),
    warm=2,
    steps=2,
    threads=1,
    clip="tiny",
    causal=RandomLanguage(hidden_size=32, layers=2, heads=2, key_value_heads=1, intermediate_size=64),
    causal_vocabulary=512,
    images=24,
    per_shard=12,
)
"""Seconds on a CPU; the numbers mean nothing."""


class Emit(Protocol):
    """Takes a row of the table as soon as it is measured, so that a part that is stopped keeps those before."""

    def __call__(self, row: dict[str, Any]) -> None: ...


def make_packs(sizes: Sizes, folder: Path) -> None:
    """Packs of captions with an image each, at `folder/packs`, filled by first fit decreasing."""
    per_image = sizes.model.tokens_per_image
    tokenizer = str(folder / "packs" / "tokenizer")
    texts, images = samples(sizes.sequences * (sizes.context // (per_image + 26) + 1), tokenizer)
    lengths = np.array([expanded_length(len(sample.input_ids), 1, per_image) for sample in texts])
    bins = first_fit_decreasing(lengths, sizes.context).bin
    groups: list[list[Any]] = [[] for _ in range(int(bins.max()) + 1)]
    for item, place in zip(zip(texts, images, strict=True), bins, strict=True):
        groups[int(place)].append(item)
    write_pack(str(folder / "packs"), groups[: sizes.sequences], tokenizer, per_image, sizes.context)


def open_packs(folder: Path) -> PackReader:
    """What `make_packs` wrote."""
    return PackReader(str(folder / "packs"))


def on_device(config: ModelConfig, sizes: Sizes) -> VisionLanguageModel:
    """A model of random weights, drawn where it will run: two billion of them take a CPU half a minute."""
    with torch.device(sizes.device):
        model = build_model(config, sizes.vocabulary)
    model.to(sizes.device).freeze(vision=True, projector=False, language=False)
    return model


def rows_of(folder: Path, part: str) -> list[dict[str, Any]]:
    """The rows that a part has emitted so far; a last line that was cut off is left out."""
    path = folder / f"{part}.jsonl"
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text().splitlines(keepends=True) if line.endswith("\n")]
