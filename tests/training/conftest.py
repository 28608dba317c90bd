"""A tiny model, tokenizer and packs for the trainer's tests."""

import dataclasses
import hashlib
import io
import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pytest
import torch
from PIL import Image

from mmcorpus.curation.store.shards import EncodedImage
from mmcorpus.packing.conversations import encode_conversation
from mmcorpus.packing.lengths import expanded_length
from mmcorpus.packing.manifest import describe_tokenizer, write_manifest
from mmcorpus.packing.packs import PackShardWriter
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import TokenizedSample, encode_captions, load_tokenizer
from mmcorpus.packing.vocabulary import train_tokenizer
from mmcorpus.training.attention import block_causal_mask
from mmcorpus.training.config import ModelConfig, RandomLanguage, RandomVision, StageConfig, TrainingConfig
from mmcorpus.training.model import VisionLanguageModel, build_model

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Item = tuple[TokenizedSample, list[bytes]]
Config = TypeVar("Config", bound=TrainingConfig)


def open_mask(samples: torch.Tensor, *_: Any) -> torch.Tensor:
    """A mask through which the samples of a sequence see each other, in place of `attention_mask`."""
    return block_causal_mask(samples.clamp(max=0))


def configured(kind: type[Config], **settings: Any) -> Config:
    """A config with these settings, by the flat names of `moved` (`heldout_every` for `heldout.every`)."""
    config = kind()
    for name, value in settings.items():
        group, _, field = kind.moved().get(name, name).partition(".")
        changed = dataclasses.replace(getattr(config, group), **{field: value}) if field else value
        config = dataclasses.replace(config, **{group: changed})
    return config


def png(color: tuple[int, int, int], size: int = 20) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size + 4), color).save(file, "PNG")
    return file.getvalue()


def noise(seed: int, size: int = 24) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def sequence_of(number: int, items: Sequence[Item], tokens_per_image: int) -> PackedSequence:
    """The items side by side as one packed sequence."""
    starts = np.cumsum([0, *(len(sample.input_ids) for sample, _ in items)])
    branches = tuple(
        tuple(int(start + first) for first in sample.branches)
        for start, (sample, _) in zip(starts[:-1], items, strict=True)
    )
    return PackedSequence(
        sequence=number,
        input_ids=np.concatenate([sample.input_ids for sample, _ in items]).astype(np.int32),
        uids=tuple(hashlib.md5(f"{number}.{place}".encode()).hexdigest() for place in range(len(items))),
        sources=tuple("pairs" if sample.image_count == 1 else "others" for sample, _ in items),
        lengths=tuple(expanded_length(len(s.input_ids), s.image_count, tokens_per_image) for s, _ in items),
        token_counts=tuple(len(sample.input_ids) for sample, _ in items),
        image_counts=tuple(sample.image_count for sample, _ in items),
        loss_spans=tuple(
            tuple((int(start + first), int(start + last)) for first, last in sample.loss_spans)
            for start, (sample, _) in zip(starts[:-1], items, strict=True)
        ),
        images=tuple(EncodedImage(extension="png", data=data) for _, images in items for data in images),
        branches=branches if any(branches) else (),
        weights=tuple(s.weights for s, _ in items) if any(s.weights for s, _ in items) else (),
        tags=tuple(s.tags for s, _ in items) if any(s.tags for s, _ in items) else (),
    )


def write_packs(
    root: str, groups: Sequence[Sequence[Item]], tokenizer_folder: str, *, tokens_per_image: int, context: int
) -> str:
    """A pack with one sequence a group."""
    tokenizer = load_tokenizer(tokenizer_folder)
    with PackShardWriter(root, "00000", tokens_per_image=tokens_per_image) as writer:
        for number, items in enumerate(groups):
            writer.write(sequence_of(number, items, tokens_per_image))
    tokenizer.save_pretrained(f"{root}/tokenizer")
    write_manifest(
        root,
        tokenizer=describe_tokenizer(tokenizer, tokenizer_folder),
        tokens_per_image=tokens_per_image,
        context_length=context,
        shards=[writer.record],
        parameters={"sources": {"others": "conversation", "pairs": "pair"}},
    )
    return root


def first_fit(items: Sequence[Item], tokens_per_image: int, context: int) -> list[list[Item]]:
    """Items into groups of at most `context` positions, in order."""
    groups: list[list[Item]] = []
    room: list[int] = []
    for item in items:
        length = expanded_length(len(item[0].input_ids), item[0].image_count, tokens_per_image)
        place = next((place for place, left in enumerate(room) if length <= left), len(groups))
        if place == len(groups):
            groups.append([])
            room.append(context)
        groups[place].append(item)
        room[place] -= length
    return groups


COLORS = {"red": (220, 20, 20), "green": (20, 200, 20), "blue": (20, 20, 220), "white": (250, 250, 250)}
TINY = ModelConfig(
    vision=RandomVision(image_size=16, patch_size=4, hidden_size=32, layers=2, heads=2, intermediate_size=64),
    language=RandomLanguage(hidden_size=32, layers=2, heads=4, key_value_heads=2, intermediate_size=64),
    tokens_per_image=4,
)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def captions(count: int) -> list[tuple[str, bytes]]:
    """Pairs whose caption names the image's colour."""
    rng = random.Random(0)
    names = sorted(COLORS)
    return [(f"a {name} square number {n}", png(COLORS[name])) for n in range(count) for name in [rng.choice(names)]]


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    texts = [caption for caption, _ in captions(40)] + ["What color is it?", "user assistant system"]
    return train_tokenizer(texts, 300, str(tmp_path_factory.mktemp("tokenizer")))


@pytest.fixture(scope="session")
def tokenizer(tokenizer_folder: str) -> "PreTrainedTokenizerFast":
    return load_tokenizer(tokenizer_folder)


@pytest.fixture(scope="session")
def pairs(tokenizer: "PreTrainedTokenizerFast") -> list[Item]:
    found = captions(40)
    samples = encode_captions(tokenizer, [caption for caption, _ in found])
    return [(sample, [image]) for sample, (_, image) in zip(samples, found, strict=True)]


@pytest.fixture(scope="session")
def chats(tokenizer: "PreTrainedTokenizerFast") -> list[Item]:
    items: list[Item] = []
    for number, (name, color) in enumerate(sorted(COLORS.items())):
        turns = [
            {"from": "human", "value": "<image>\nWhat color is it?"},
            {"from": "gpt", "value": f"It is {name}."},
            {"from": "human", "value": f"Say {number}."},
            {"from": "gpt", "value": str(number)},
        ]
        items.append((encode_conversation(tokenizer, turns, 1), [png(color)]))
    return items


@pytest.fixture(scope="session")
def mixed(pairs: list[Item], chats: list[Item], tokenizer: "PreTrainedTokenizerFast") -> list[Item]:
    """Samples with one image, with none, and with two; images of noise, so that each differs."""
    one = encode_captions(tokenizer, ["a red square"])[0]
    two = TokenizedSample(
        input_ids=np.concatenate([one.input_ids[:1], one.input_ids]),
        loss_spans=tuple((start + 1, end + 1) for start, end in one.loss_spans),
        image_count=2,
    )
    none = encode_conversation(
        tokenizer, [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "a blue square"}], 0
    )
    noisy = [(sample, [noise(number)]) for number, (sample, _) in enumerate([*pairs[:3], *chats[:2]])]
    return [*noisy, (none, []), (two, [noise(100), noise(101)])]


@pytest.fixture(scope="session")
def make_packs(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: str) -> Callable[..., str]:
    """Writes a pack with one sequence a group of items, at 4 tokens an image, and returns its folder."""

    def make(groups: Sequence[Sequence[Item]], *, context: int = 128) -> str:
        root = str(tmp_path_factory.mktemp("packs"))
        return write_packs(root, groups, tokenizer_folder, tokens_per_image=4, context=context)

    return make


@pytest.fixture(scope="session")
def packs(pairs: list[Item], make_packs: Callable[..., str]) -> str:
    return make_packs(first_fit(pairs, 4, 64), context=64)


@pytest.fixture
def model(tokenizer: "PreTrainedTokenizerFast") -> VisionLanguageModel:
    return build_model(TINY, len(tokenizer)).eval()


@pytest.fixture(scope="session")
def stage() -> Callable[..., StageConfig]:
    """A stage for tests: fp32, everything trained, no threads."""

    def make(**changes: object) -> StageConfig:
        settings = {
            "precision": "fp32", "freeze_vision": False, "learning_rate": 3e-3, "batch_sequences": 4,
            "micro_batch_sequences": 2, "num_workers": 0, "warmup": 0.1, "steps": 6, "checkpoint_every": 3,
            "certify": 0,
        }  # fmt: skip
        return configured(StageConfig, **{**settings, **changes})

    return make


@pytest.fixture(scope="session")
def sequence() -> Callable[..., PackedSequence]:
    """A packed sequence of items at 4 tokens an image."""
    return lambda items: sequence_of(0, items, 4)


@pytest.fixture(scope="session")
def tiny() -> ModelConfig:
    return TINY


@pytest.fixture
def png_file(tmp_path: Path) -> str:
    path = tmp_path / "image.png"
    path.write_bytes(png((10, 20, 30)))
    return str(path)
