"""Lengths, plan and packs from end to end, each beside a plain loop over the same shards.

Of lengths and plan: a loop that reads each shard's captions and hands them to the same tokenizer, a shard at a time,
and does nothing with the ids. Of packs: a loop that tokenizes likewise, and copies every member of every tar with
tarfile into new tars. Processor seconds in one process; at 1.0 all the rest - uids, verdicts, packing, checks, CRCs,
indexes, hashes - would cost nothing.
"""

import random
import tarfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.packing_loader import photograph
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.packing import PackConfig, PlanConfig, PlanSource, make_plan, write_packs
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.packing.vocabulary import train_tokenizer

PER_SHARD = 10_000


def write_shards(root: str, captions: list[str], images: list[bytes]) -> pa.Table:
    """Shards of pairs, the images by turns; returns their selection."""
    uids = []
    for first in range(0, len(captions), PER_SHARD):
        with ShardWriter(Shard(root=f"{root}/shards", name=f"{first // PER_SHARD:05d}")) as writer:
            for number, caption in enumerate(captions[first : first + PER_SHARD], start=first):
                uids.append(pair_uid(str(number), caption))
                image = EncodedImage(extension="jpg", data=images[number % len(images)])
                meta = {"url": str(number)}
                writer.write(Sample(key=f"{number:09d}", uid=uids[-1], caption=caption, images=(image,), meta=meta))
    return pa.table({"uid": uids, "count": pa.array([1] * len(uids), pa.int32())})


def drawn_captions(count: int) -> list[str]:
    """Captions of made words, 8 to 60 of them."""
    rng = random.Random(0)
    parts = ["ka", "lo", "mi", "ter", "sun", "ver", "da", "quen", "ro", "stil"]
    words = ["".join(rng.choices(parts, k=rng.randint(1, 4))) for _ in range(4000)]
    return [" ".join(rng.choices(words, k=rng.randint(8, 60))) for _ in range(count)]


def _processor(work: Callable[[], Any]) -> float:
    before = time.process_time()
    work()
    return time.process_time() - before


def measure_whole(root: str, pairs: int, captions: list[str] | None = None, side: int = 128) -> list[dict[str, Any]]:
    """Rows of plan and packs of so many pairs: samples a processor second, ours and the plain loop's."""
    texts = (captions or drawn_captions(pairs))[:pairs]
    rng = np.random.default_rng(0)
    selection = write_shards(root, texts, [photograph(side, side, rng) for _ in range(200)])
    folder = train_tokenizer(texts[:20_000], 8000, f"{root}/tokenizer")
    loaded = load_tokenizer(folder)
    shards = sorted(Path(root, "shards").glob("*.parquet"))

    def tokenize() -> None:
        for path in shards:
            captions = pq.read_table(path, columns=["caption"])["caption"].to_pylist()
            loaded(captions, add_special_tokens=False)

    def copy() -> None:
        tokenize()
        Path(root, "copy").mkdir(exist_ok=True)
        for path in shards:
            with (
                tarfile.open(path.with_suffix(".tar")) as old,
                tarfile.open(f"{root}/copy/{path.stem}.tar", "w") as new,
            ):
                for member in old:
                    new.addfile(member, old.extractfile(member))

    config, plan = PlanConfig(), f"{root}/plan.parquet"
    source = PlanSource(shards=f"{root}/shards", selection=selection, kind="pair")
    whole = {
        "lengths and plan": (
            lambda: make_plan(config, tokenizer=folder, sources={"web": source}, out=plan),
            tokenize,
        ),
        "packs": (
            lambda: write_packs(
                PackConfig(), plan=plan, tokenizer=folder, shards={"web": f"{root}/shards"}, out=f"{root}/packs"
            ),
            copy,
        ),
    }
    rows = []
    for step, (ours, plain) in whole.items():
        tokenize()  # the tokenizer's cache is warm for both
        theirs, own = _processor(plain), _processor(ours)
        rates = {"samples/s": len(texts) / own, "plain loop": len(texts) / theirs}
        rows.append({"step": step, **rates, "of the plain loop": theirs / own})
    return rows
