"""A small tokenizer and small shards for the packing tests."""

import io
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.packing import train_tokenizer

WORDS = [
    "a",
    "red",
    "blue",
    "green",
    "square",
    "circle",
    "clock",
    "chart",
    "shows",
    "three",
    "of",
    "the",
    "at",
    "noon",
    "left",
    "right",
    "under",
    "photo",
]


def caption(rng: random.Random, words: int) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(words))


def image_bytes(rng: random.Random, size: int = 12) -> bytes:
    file = io.BytesIO()
    Image.frombytes("RGB", (size, size), rng.randbytes(size * size * 3)).save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> str:
    rng = random.Random(0)
    return train_tokenizer(
        [caption(rng, 12) for _ in range(300)], 400, str(tmp_path_factory.mktemp("tokenizer") / "small")
    )


@pytest.fixture(scope="session")
def make_shards() -> Callable[..., list[Sample]]:
    """make_shards(root, shards, samples_each, conversations=…) writes shards and returns their samples."""

    def make(root: str | Path, shards: int, each: int, *, conversations: bool = False, seed: int = 0) -> list[Sample]:
        rng = random.Random(seed)
        made = []
        for number in range(shards):
            with ShardWriter(Shard(root=str(root), name=f"{number:05d}")) as writer:
                for index in range(each):
                    text = caption(rng, rng.randint(2, 30))
                    meta: dict[str, Any] = {"url": f"http://example.com/{seed}/{number}/{index}.jpg"}
                    if conversations:
                        turns = [
                            {"from": "human", "value": f"<image>\n{text}?"},
                            {"from": "gpt", "value": caption(rng, rng.randint(1, 20))},
                        ]
                        meta["conversations"] = json.dumps(turns)
                    sample = Sample(
                        key=f"{number:05d}{index:04d}",
                        uid=pair_uid(meta["url"], text),
                        caption=text,
                        images=(EncodedImage(extension=rng.choice(["jpg", "png"]), data=image_bytes(rng)),),
                        meta=meta,
                    )
                    sample.meta["uid"] = sample.uid
                    writer.write(sample)
                    made.append(sample)
        return made

    return make


@pytest.fixture(scope="session")
def select() -> Callable[..., pa.Table]:
    """select(samples, counts={uid: n}) is the selection of the samples, once each unless counted."""

    def make(samples: list[Sample], counts: dict[str, int] | None = None) -> pa.Table:
        uids = sorted({sample.uid for sample in samples})
        return pa.table({"uid": uids, "count": pa.array([(counts or {}).get(uid, 1) for uid in uids], pa.int32())})

    return make
