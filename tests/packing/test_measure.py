"""Lengths measured once: tables from which plans come out as they do from texts, whatever the limits."""

import dataclasses
import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.store import scores, storage
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.packing import (
    PackConfig,
    PlanConfig,
    PlanSource,
    load_tokenizer,
    make_plan,
    measure_lengths,
    train_tokenizer,
    write_packs,
)
from mmcorpus.packing.layout import MolmoLayout, NativeLayout
from mmcorpus.packing.measure import origin
from tests.packing.conftest import caption, image_bytes

KINDS: dict[str, Any] = {"web": "pair", "talk": "conversation", "pages": "document", "words": "text"}
NATIVE = NativeLayout(patch=4, merge=2, min_pixels=64, max_pixels=4096)
MOLMO = MolmoLayout(crop=56, patch=8, margins=(1, 2), max_crops=5)
SIZES = [(90, 60), (10, 200), (64, 64), (300, 20)]


def row(kind: str, rng: random.Random, place: int) -> dict[str, Any]:
    sizes = [rng.choice(SIZES) for _ in range(rng.randint(0, 3))]
    text = caption(rng, rng.choice([2, 8, 60]))
    if kind == "pair":
        width, height = rng.choice(SIZES) if place % 7 else (None, None)
        return {"caption": text if place % 9 else None, "width": width, "height": height}
    if kind == "conversation":
        sizes = sizes or SIZES[:1] if place % 3 == 0 else sizes
        turns = [("user", "<image>" * (len(sizes) + (place % 8 == 7)) + text), ("assistant", caption(rng, 9))]
        talk: Any = [{"role": role, "content": said} for role, said in turns * rng.randint(1, 2)][: 2 if sizes else 4]
        if place % 3 == 0:
            texts = [{"style": "long", "text": caption(rng, rng.randint(1, 30))} for _ in range(rng.randint(1, 4))]
            talk = {"annotations": [*texts, {"style": "vqa", "question": "what?", "answer": "noon"}]}
        widths, heights = [width for width, _ in sizes], [height for _, height in sizes]
        return {"conversations": json.dumps(talk), "widths": widths, "heights": heights}
    nodes: list[Any] = [{"text": caption(rng, rng.choice([3, 20, 90]))} for _ in range(rng.randint(1, 4))]
    for number, size in enumerate(sizes):
        nodes.insert(rng.randint(0, len(nodes)), {"image": number, "size": size if place % 6 else None})
    return {"nodes": json.dumps(nodes)}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, pa.Table]]:
    root, rng, selections = str(tmp_path_factory.mktemp("measured")), random.Random(5), {}
    for source, kind in KINDS.items():
        uids = []
        for shard in range(2):
            with ShardWriter(Shard(root=f"{root}/{source}", name=f"{shard:05d}")) as writer:
                for place in range(24):
                    meta = row(kind, rng, place)
                    uids.append(f"{rng.getrandbits(128):032x}")
                    files = (EncodedImage(extension="jpg", data=image_bytes(rng)),)
                    said = meta.pop("caption", None)
                    writer.write(Sample(key=f"{place}", uid=uids[-1], caption=said, images=files, meta=meta))
        chosen = sorted(uids[::2] + uids[1::4])
        counts = pa.array([1 + (number % 7 == 0) * 6 for number in range(len(chosen))], pa.int32())
        selections[source] = pa.table({"uid": chosen, "count": counts})
    return root, selections


def plan(
    corpus: tuple[str, dict[str, pa.Table]], config: PlanConfig, tokenizer: str, out: Path, *, measured: bool
) -> Any:
    root, selections = corpus
    sources = {}
    for source, kind in KINDS.items():
        lengths = f"{out}/lengths/{source}" if measured else None
        if lengths is not None:
            measure_lengths(f"{root}/{source}", kind, tokenizer=tokenizer, config=config, out=lengths)
        sources[source] = PlanSource(
            shards=f"{root}/{source}", selection=selections[source], kind=kind, lengths=lengths
        )
    name = "arrays" if measured else "texts"
    report = make_plan(
        config, tokenizer=tokenizer, sources=sources, out=f"{out}/{name}.parquet", ledger_root=f"{out}/{name}"
    )
    ledgers = {source: storage.read_table(f"{out}/{name}/{source}/pack.parquet") for source in KINDS}
    return report, storage.read_table(f"{out}/{name}.parquet"), ledgers


@pytest.mark.parametrize(
    "settings",
    [
        {"tokens_per_image": 16, "context_length": 90},
        {"tokens_per_image": 16, "context_length": 64, "too_long": "split", "max_images": 2},
        {"layout": NATIVE, "context_length": 150, "too_long": "truncate", "target_weights": ("branches",)},
        {"layout": MOLMO, "context_length": 330, "too_long": "split", "max_crops": 9},
        {"tokens_per_image": 16, "context_length": 90, "mix": {"web": 1, "talk": 3, "pages": 2, "words": 0.5}},
    ],
    ids=lambda settings: "-".join(map(str, settings)),
)
def test_a_plan_from_tables_is_the_plan_from_texts(
    corpus: Any, tmp_path: Path, tokenizer_folder: str, settings: dict[str, Any]
) -> None:
    config = PlanConfig(window_shards=3, **settings)
    report, rows, ledgers = plan(corpus, config, tokenizer_folder, tmp_path, measured=False)
    again, same, verdicts = plan(corpus, config, tokenizer_folder, tmp_path, measured=True)
    assert again == report
    assert same.equals(rows, check_metadata=True)
    assert all(verdicts[source].equals(ledgers[source]) for source in KINDS)
    assert len(report.verdicts["talk"]) > 1


def test_tables_are_kept_for_other_limits_and_made_again_for_another_measure(
    corpus: Any, tmp_path: Path, tokenizer_folder: str
) -> None:
    root, _ = corpus
    config, out = PlanConfig(tokens_per_image=16, context_length=90), f"{tmp_path}/lengths"

    def measure(tokenizer: str = tokenizer_folder, **changes: Any) -> tuple[int, int]:
        own = dataclasses.replace(config, **changes)
        found = measure_lengths(f"{root}/talk", "conversation", tokenizer=tokenizer, config=own, out=out)
        assert (found["shards"], found["rows"] > 48, found["unmeasured"] > 0) == (2, True, True)
        return found["kept"], len(storage.list_names(out))

    assert measure() == (0, 1)
    assert measure(context_length=64, too_long="split", max_images=1, max_crops=3, window_shards=1) == (2, 1)
    assert measure(target_weights=("lengths",)) == (2, 1)
    other = train_tokenizer(["another red clock"] * 9, 280, f"{tmp_path}/other")
    for number, changes in enumerate(
        ({"tokens_per_image": 9}, {"tokens_per_image": 144, "layout": NATIVE}, {"seed": 1}, {"tokenizer": other}),
        start=2,
    ):
        assert measure(**changes) == (0, number)
    assert measure() == (2, 5), "the first are still there"
    made_by = origin("conversation", load_tokenizer(tokenizer_folder), config)
    storage.remove(scores.table_path(out, made_by.scorer, "00001"))
    assert measure() == (1, 5), "a shard that is missing is measured alone"
    source = PlanSource(
        shards=f"{root}/talk", selection=corpus[1]["talk"], kind="conversation", lengths=f"{tmp_path}/nothing"
    )
    with pytest.raises(ValueError, match=r"00000.parquet is missing, or of another tokenizer, layout or shard"):
        make_plan(config, tokenizer=tokenizer_folder, sources={"talk": source}, out=f"{tmp_path}/plan.parquet")


def rewritten(parquet: str, table: pa.Table, size: int) -> None:
    """Write a parquet of exactly so many bytes: its metadata fills it up."""
    for spare in range(size):
        with pq.ParquetWriter(parquet, table.schema, store_schema=False) as writer:
            writer.write_table(table)
            writer.add_key_value_metadata({"spare": "x" * spare})
        if Path(parquet).stat().st_size >= size:
            break
    assert Path(parquet).stat().st_size == size


def test_a_table_is_of_its_shards_rows_and_not_of_their_size(tmp_path: Path, tokenizer_folder: str) -> None:
    """Other captions in as many bytes are measured, and packed, anew; so are those of a tar without a parquet."""
    config, shard = PlanConfig(tokens_per_image=16, context_length=90), Shard(root=f"{tmp_path}/web", name="00000")

    def write(captions: list[str]) -> None:
        with ShardWriter(shard) as writer:
            for place, said in enumerate(captions):
                image = EncodedImage(extension="jpg", data=image_bytes(random.Random(place)))
                writer.write(Sample(key=f"{place}", uid=f"{place:032x}", caption=said, images=(image,)))

    def measure() -> int:
        out = f"{tmp_path}/lengths"
        return measure_lengths(shard.root, "pair", tokenizer=tokenizer_folder, config=config, out=out)["kept"]

    def pack() -> Any:
        chosen = pa.table({"uid": [f"{place:032x}" for place in range(4)], "count": pa.array([1] * 4, pa.int32())})
        source = PlanSource(shards=shard.root, selection=chosen, kind="pair", lengths=f"{tmp_path}/lengths")
        plan = f"{tmp_path}/plan.parquet"
        make_plan(config, tokenizer=tokenizer_folder, sources={"web": source}, out=plan)
        shards, out = {"web": shard.root}, f"{tmp_path}/packs"
        return write_packs(PackConfig(), plan=plan, tokenizer=tokenizer_folder, shards=shards, out=out)

    write(["a red clock at noon under the chart, a photo, a blue square and a circle"] * 4)
    assert (measure(), measure()) == (0, 1)
    pack()
    size, tar = Path(shard.parquet).stat().st_size, Path(shard.tar).stat().st_size
    write(["a blue clock"] * 4)
    rewritten(shard.parquet, storage.read_table(shard.parquet), size)
    assert Path(shard.tar).stat().st_size == tar
    with pytest.raises(ValueError, match="measure the lengths again"):
        pack()
    assert (measure(), measure()) == (0, 1)
    assert pack().written == 1

    Path(shard.parquet).unlink()
    assert (measure(), measure()) == (0, 1)
    write(["a green clock"] * 4)
    Path(shard.parquet).unlink()
    assert Path(shard.tar).stat().st_size == tar
    assert measure() == 0


def test_a_source_has_lengths_or_annotations() -> None:
    empty = pa.table({"uid": [""]})
    with pytest.raises(ValueError, match="give a source lengths or annotations"):
        PlanSource(shards="x", selection=empty, kind="pair", annotations=empty, lengths="y")
