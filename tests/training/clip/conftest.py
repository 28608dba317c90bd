"""Shards of coloured squares, and a CLIP that learns them in seconds."""

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.training.clip.config import ContrastiveConfig, SmallClip
from mmcorpus.training.clip.pairs import PairSource
from tests.training.conftest import configured

COLORS = {
    "red": (220, 30, 30), "green": (30, 180, 40), "blue": (40, 60, 220), "yellow": (230, 220, 40),
    "black": (10, 10, 10), "white": (250, 250, 250), "pink": (250, 150, 200), "brown": (120, 70, 30),
}  # fmt: skip

MakePairs = Callable[..., PairSource]


def picture(color: str, number: int) -> bytes:
    """A square of the colour on a grey ground; no two numbers give the same bytes."""
    image = Image.new("RGB", (40, 30), (128 + number % 60, 128, 128 + number // 60))
    ImageDraw.Draw(image).rectangle((8, 4, 32, 26), COLORS[color])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def samples(count: int, first: int = 0) -> list[Sample]:
    found = []
    for number in range(first, first + count):
        color = list(COLORS)[number % len(COLORS)]
        caption, url = f"A {color} square.", f"http://a.test/{number}.png"
        image = EncodedImage(extension="png", data=picture(color, number))
        uid = pair_uid(url, caption)
        found.append(Sample(key=f"{number:09d}", uid=uid, caption=caption, images=(image,), meta={"url": url}))
    return found


def write_source(root: Path | str, shards: list[list[Sample]], chosen: list[Sample] | None = None) -> PairSource:
    """Shards of these samples and a selection of those chosen (all)."""
    for number, part in enumerate(shards):
        with ShardWriter(Shard(root=str(root), name=f"{number:05d}")) as writer:
            for sample in part:
                writer.write(sample)
    listed = [sample.uid for sample in (chosen if chosen is not None else itertools.chain(*shards))]
    selection = f"{root}.selection.txt"
    storage.write_bytes(selection, "".join(f"{uid}\n" for uid in listed).encode())
    return PairSource(shards=str(root), selection=selection)


@pytest.fixture
def squares(tmp_path: Path) -> MakePairs:
    """Makes a source of `count` squares, the first of which has the number `first`."""

    def make(name: str, count: int, first: int = 0) -> PairSource:
        made = samples(count, first)
        return write_source(tmp_path / name, [made[: count // 2], made[count // 2 :]])

    return make


TINY = SmallClip(
    embed_dim=32, image_size=16, patch_size=4, vision_width=32, vision_layers=1, text_width=32, text_layers=1,
    context_length=12,
)  # fmt: skip


def tiny(**changes: Any) -> ContrastiveConfig:
    settings: dict[str, Any] = {
        "model": TINY, "steps": 6, "batch_size": 8, "learning_rate": 3e-3, "precision": "fp32", "num_workers": 0,
        "checkpoint_every": 100,
    }  # fmt: skip
    return configured(ContrastiveConfig, **{**settings, **changes})
