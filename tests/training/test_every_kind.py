"""Every kind of sample under every layout, from rows to losses: the same bytes whoever plans and whatever is killed,
lengths on which all agree, and to each sample, packed, the losses that it has alone."""

import io
import json
import multiprocessing
import os
import pickle
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.packing import (
    PackConfig,
    PackReader,
    PlanConfig,
    PlanSource,
    load_tokenizer,
    make_plan,
    plan,
    write_packs,
)
from mmcorpus.packing.inputs import Kind
from mmcorpus.packing.layout import LayoutConfig, read_layout
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.packs import PackShardWriter
from mmcorpus.packing.sequence import PER_SAMPLE, PackedSequence
from mmcorpus.training.batch import collate
from mmcorpus.training.config import ModelConfig, RandomVision
from mmcorpus.training.data import PackLoader
from mmcorpus.training.model import build_model
from tests.training.conftest import TINY

LAYOUTS: list[dict[str, Any]] = [
    {"kind": "square", "side": 16, "patch": 4, "tokens": 4},
    {"kind": "molmo", "crop": 16, "patch": 4, "margins": [1, 1], "max_crops": 4},
    {"kind": "catty", "tile": 16, "patch": 4, "max_tiles": 3},
    {"kind": "internvl", "tile": 16, "patch": 4, "max_tiles": 4},
    {"kind": "mm1", "side": 16, "patch": 4, "tokens": 4},
    {"kind": "native", "patch": 4, "min_pixels": 256, "max_pixels": 1024},
]
VISION = RandomVision(image_size=16, patch_size=4, hidden_size=32, layers=2, heads=2, intermediate_size=64)
SIZES = [(24, 24), (40, 20), (18, 44)]
KINDS: dict[str, Kind] = {
    "pairs": "pair",
    "pages": "document",
    "texts": "text",
    "talks": "conversation",
    "trees": "conversation",
}
EACH = 4


def images_of(source: str, number: int) -> int:
    return {"pairs": 1, "pages": 2, "texts": 0, "talks": number % 3, "trees": 1}[source]


def content(source: str, number: int, sizes: list[tuple[int, int]]) -> dict[str, Any]:
    text = f"a red square number {number} " * (1 + number)
    turns = [{"role": "user", "content": text}, {"role": "assistant", "content": f"blue {number}"}]
    nodes = [{"text": text}, *({"image": place, "size": size} for place, size in enumerate(sizes)), {"text": "noon"}]
    annotations = [
        {"style": "vqa2", "question": "what?", "answer": text},
        {"style": "caption", "text": f"blue {number}"},
    ]
    told: dict[str, Any] = {"widths": [width for width, _ in sizes], "heights": [height for _, height in sizes]}
    if source == "pairs":
        return {"width": sizes[0][0], "height": sizes[0][1]}
    if source in ("pages", "texts"):
        return {"nodes": json.dumps(nodes)}
    return told | {"conversations": json.dumps(turns if source == "talks" else {"annotations": annotations})}


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> dict[str, PlanSource]:
    root, rng, made = tmp_path_factory.mktemp("kinds"), np.random.default_rng(0), {}
    for place, (source, kind) in enumerate(KINDS.items()):
        uids = [f"{place:016x}{number:016x}" for number in range(EACH)]
        with ShardWriter(Shard(root=f"{root}/{source}", name="00000")) as writer:
            for number, uid in enumerate(uids):
                sizes = [SIZES[(number + n) % 3] for n in range(images_of(source, number))]
                files = []
                for width, height in sizes:
                    file = io.BytesIO()
                    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file, "PNG")
                    files.append(EncodedImage(extension="png", data=file.getvalue()))
                caption = f"a red square {number}" if kind == "pair" else None
                meta = content(source, number, sizes)
                writer.write(Sample(key=f"{number:09d}", uid=uid, caption=caption, images=tuple(files), meta=meta))
        selection = pa.table(
            {"uid": uids, "count": pa.array([1 + (number == 1) for number in range(EACH)], pa.int32())}
        )
        made[source] = PlanSource(shards=f"{root}/{source}", selection=selection, kind=kind)
    return made


def elsewhere(work: Any, jobs: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Jobs as other processes see them, the last first."""
    sent = [pickle.dumps(job) for job in jobs]
    done = [pickle.dumps(work(pickle.loads(job))) for job in reversed(sent)]
    return (pickle.loads(result) for result in reversed(done))


def files_of(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def killed(write: Any) -> None:
    """Write packs in a process that ends as if it were killed at its third sequence."""

    def until_the_third() -> None:
        left, own = iter(range(2)), PackShardWriter.write
        PackShardWriter.write = lambda *given: own(*given) if next(left, None) is not None else os._exit(9)  # type: ignore[method-assign,assignment]
        write()

    process = multiprocessing.get_context("fork").Process(target=until_the_third)
    process.start()
    process.join()
    assert process.exitcode == 9


def alone(whole: PackedSequence) -> Iterator[PackedSequence]:
    """Each sample of a sequence as a sequence of its own."""
    start = image = 0
    for number, (tokens, images) in enumerate(zip(whole.token_counts, whole.image_counts, strict=True)):
        own: dict[str, Any] = {name: getattr(whole, name)[number : number + 1] for name in PER_SAMPLE}
        for name in ("branches", "weights", "tags"):
            own[name] = getattr(whole, name)[number : number + 1]
        own["loss_spans"] = tuple(tuple((a - start, b - start) for a, b in spans) for spans in own["loss_spans"])
        own["branches"] = tuple(tuple(begin - start for begin in begins) for begins in own["branches"])
        yield PackedSequence(
            sequence=0,
            input_ids=whole.input_ids[start : start + tokens],
            images=whole.images[image : image + images],
            sizes=whole.sizes[image : image + images],
            **own,
        )
        start, image = start + tokens, image + images


@pytest.mark.parametrize("layout", map(read_layout, LAYOUTS), ids=lambda layout: layout.kind)
def test_from_rows_to_losses(
    sources: dict[str, PlanSource],
    layout: LayoutConfig,
    tokenizer_folder: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plan, "SPREAD", 1)
    config = PlanConfig(context_length=300, layout=layout, window_shards=3, target_weights=("branches",))
    given = {"tokenizer": tokenizer_folder, "sources": sources}
    report = make_plan(config, out=f"{tmp_path}/a/plan.parquet", ledger_root=f"{tmp_path}/a/ledger", **given)
    make_plan(config, out=f"{tmp_path}/b/plan.parquet", ledger_root=f"{tmp_path}/b/ledger", map_fn=elsewhere, **given)
    assert files_of(tmp_path / "a") == files_of(tmp_path / "b")
    assert report.verdicts == {source: {"kept": EACH} for source in sorted(KINDS)}

    def write(out: str) -> None:
        shards = {name: source.shards for name, source in sources.items()}
        settings = PackConfig(sequences_per_shard=2)
        write_packs(settings, plan=f"{tmp_path}/a/plan.parquet", tokenizer=tokenizer_folder, shards=shards, out=out)

    write(f"{tmp_path}/whole")
    killed(lambda: write(f"{tmp_path}/killed"))
    assert not (tmp_path / "killed/manifest.json").exists()
    write(f"{tmp_path}/killed")
    assert {n: b for n, b in files_of(tmp_path / "killed").items() if not n.endswith(".partial")} == files_of(
        tmp_path / "whole"
    )

    reader, tokenizer = PackReader(f"{tmp_path}/whole"), load_tokenizer(tokenizer_folder)
    packed = list(reader)
    planned = sum(sequence.length for sequence in packed)
    assert planned == report.positions
    assert {source for sequence in packed for source in sequence.sources} == set(KINDS)
    loader = PackLoader(reader, image_size=16)
    model = build_model(ModelConfig(vision=VISION, language=TINY.language, layout=layout), len(tokenizer)).eval()
    for sequence in packed:
        sequence.check(reader.per_image)
        (together,), apart = [loader.piece(sequence)], [loader.piece(own) for own in alone(sequence)]
        padded = collate([together], length=config.context_length)
        assert padded.positions == sequence.length == sum(collate([one]).positions for one in apart)
        with torch.no_grad():
            own = torch.cat([model(collate([one])) for one in apart])
            torch.testing.assert_close(model(padded), own, rtol=1e-4, atol=1e-5)
        starts = set(np.cumsum([0, *sequence.token_counts]).tolist())
        targets = {token for spans in sequence.loss_spans for start, end in spans for token in range(start, end)}
        assert len(own) == len(targets - starts), "neither padding, nor images, nor what nothing predicts carry loss"
        assert int((sequence.input_ids == IMAGE_TOKEN).sum()) == len(sequence.images)
