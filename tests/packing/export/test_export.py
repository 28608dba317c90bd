"""Exports: what other programs find in them, and that what goes out comes in again under the same uids."""

import importlib
import io
import itertools
import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset
from PIL import Image

from mmcorpus.curation.download import DownloadConfig
from mmcorpus.curation.download.lists import normalise
from mmcorpus.curation.selection.tables import read_selection
from mmcorpus.curation.sources.config import IndexConfig
from mmcorpus.curation.sources.run import index
from mmcorpus.curation.store import row_tables, storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.places import MISSING_IMAGE
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import (
    EncodedImage,
    Sample,
    Shard,
    ShardWriter,
    list_shards,
    read_rows,
    read_samples,
)
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.packing.export import Exporter, ExportReport, export_samples
from mmcorpus.packing.export.datacomp import DatacompExporter
from mmcorpus.packing.export.energon import EnergonExporter
from mmcorpus.packing.export.huggingface import ParquetExporter
from mmcorpus.packing.export.llava import LlavaExporter
from mmcorpus.packing.export.mds import MdsExporter
from mmcorpus.packing.export.webdataset import WebdatasetExporter
from mmcorpus.packing.turns import parse_conversation
from tests.curation.documents.test_export_obelics import build
from tests.curation.sources.conftest import as_tar, pairs, picture, write_tar
from tests.packing.conftest import image_bytes


def write(root: Path, *, images: Callable[[int], int] = lambda _: 1, chat: bool = False) -> list[Sample]:
    """Two shards of three samples; their columns differ as writers' do: what is null in one has a type in the other."""
    rng, made = random.Random(7), []
    for number in range(2):
        with ShardWriter(Shard(root=str(root), name=f"{number:05d}")) as writer:
            for index in range(3):
                count = images(index)
                meta: dict[str, Any] = {
                    "url": f"http://a.test/{number}/{index}",
                    "width": 12,
                    "license": "CC0" if number else None,
                }
                if chat:
                    turns = [
                        {"role": "system", "content": "Be brief."},
                        {"role": "user", "content": "<image>\n" * count + "Was ist das? 😀"},
                        {"role": "assistant", "content": f"Nummer {index}"},
                    ]
                    meta["conversations"] = json.dumps(turns)
                sample = Sample(
                    key=f"{number:05d}{index:04d}",
                    uid=pair_uid(meta["url"], ""),
                    caption=None if chat else f"Bild {index}\nist grün",
                    images=tuple(
                        EncodedImage(extension=rng.choice(["jpg", "webp"]), data=image_bytes(rng)) for _ in range(count)
                    ),
                    meta=meta,
                )
                writer.write(sample)
                made.append(sample)
    return made


def export(exporter: Exporter, source: Path | str, out: Path, **more: Any) -> ExportReport:
    return export_samples(exporter, str(source), str(out), workers=0, **more)


def contents(root: Path) -> dict[str, bytes]:
    return {str(path.relative_to(root)): path.read_bytes() for path in sorted(root.rglob("*")) if path.is_file()}


def rows_of(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted((out / "data").glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_llava_s_json_and_images(tmp_path: Path) -> None:
    samples = write(tmp_path / "chat", images=lambda index: index, chat=True)
    report = export(LlavaExporter(), tmp_path / "chat", tmp_path / "out")
    assert (report.samples, report.images, report.left_out) == (6, 6, {})
    rows = json.loads((tmp_path / "out" / "llava.json").read_text())
    assert [row["id"] for row in rows] == [sample.uid for sample in samples], "in order, in one list"
    for row, sample in zip(rows, samples, strict=True):
        listed = row.get("image", [])
        files = [listed] if isinstance(listed, str) else listed
        assert [(tmp_path / "out" / file).read_bytes() for file in files] == [image.data for image in sample.images]
        assert isinstance(row.get("image"), (type(None), str, list)[len(sample.images)])
        assert [turn["from"] for turn in row["conversations"]] == ["system", "human", "gpt"]
        assert row["conversations"][1]["value"].endswith("Was ist das? 😀")
        assert row["url"] == sample.meta["url"]
    write(tmp_path / "pairs")
    export(LlavaExporter(), tmp_path / "pairs", tmp_path / "captions")
    first = json.loads((tmp_path / "captions" / "llava.json").read_text())[0]["conversations"]
    assert first == [{"from": "human", "value": "<image>"}, {"from": "gpt", "value": "Bild 0\nist grün"}]


def test_parquet_holds_the_images_and_says_that_they_are(tmp_path: Path) -> None:
    samples = write(tmp_path / "pairs")
    export(ParquetExporter(), tmp_path / "pairs", tmp_path / "out")
    schema = pq.read_schema(tmp_path / "out" / "data" / "00000.parquet")
    assert schema == pq.read_schema(tmp_path / "out" / "data" / "00001.parquet"), "a null column has its type"
    assert json.loads(schema.metadata[b"huggingface"]) == {"info": {"features": {"image": {"_type": "Image"}}}}
    assert 'path: "data/*.parquet"' in (tmp_path / "out" / "README.md").read_text()
    for row, sample in zip(rows_of(tmp_path / "out"), samples, strict=True):
        assert (row["uid"], row["caption"], row["url"]) == (sample.uid, sample.caption, sample.meta["url"])
        assert row["image"]["bytes"] == sample.images[0].data
        assert row["image"]["path"] == f"{sample.uid}.{sample.images[0].extension}"
    write(tmp_path / "chat", images=lambda index: index, chat=True)
    export(ParquetExporter(), tmp_path / "chat", tmp_path / "turns")
    assert [len(row["images"]) for row in rows_of(tmp_path / "turns")] == [0, 1, 2, 0, 1, 2]
    assert rows_of(tmp_path / "turns")[2]["conversations"][2] == {"from": "gpt", "value": "Nummer 2"}


@pytest.mark.parametrize("exporter", [LlavaExporter(), ParquetExporter()])
@pytest.mark.parametrize("chat", [True, False])
def test_what_goes_out_is_read_again_as_a_source(exporter: Exporter, chat: bool, tmp_path: Path) -> None:
    samples = write(tmp_path / "in", images=lambda index: index + 1 if chat else 1, chat=chat)
    export(exporter, tmp_path / "in", tmp_path / "out")
    turns = chat or exporter.kind == "llava"  # where a caption is an answer
    path = str(tmp_path / "out" / ("llava.json" if exporter.kind == "llava" else "data"))
    config = IndexConfig(kind="conversation" if turns else "pair")
    index(config, [path], f"{tmp_path}/index", f"{tmp_path}/ledger", workers=0)
    again = [sample for shard in list_shards(f"{tmp_path}/index") for sample in read_samples(shard)]
    held = [[(one.uid, [image.data for image in one.images]) for one in each] for each in (again, samples)]
    assert held[0] == held[1]
    said = [parse_conversation(one.meta["conversations"]) if turns else one.caption for one in again]
    if chat:
        assert said == [parse_conversation(one.meta["conversations"]) for one in samples]
    else:
        assert [one[1][1] if turns else one for one in said] == [one.caption for one in samples]
    export(exporter, tmp_path / "index", tmp_path / "twice")
    if turns and exporter.kind == "parquet":
        assert [row["conversations"] for row in rows_of(tmp_path / "twice")] == [
            row["conversations"] for row in rows_of(tmp_path / "out")
        ]


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(str(tmp_path_factory.mktemp("documents")))


def test_documents_keep_their_order_and_what_is_known_of_their_images(trimmed: str, tmp_path: Path) -> None:
    report = export(ParquetExporter(), trimmed, tmp_path / "out")
    assert (report.samples, report.images) == (3, 3)
    first = rows_of(tmp_path / "out")[0]
    assert first["texts"] == ["It stands.", None, "- one\n- two", None]
    pictures = [None if image is None else Image.open(io.BytesIO(image["bytes"])).size for image in first["images"]]
    assert [size is None for size in pictures] == [True, False, True, False]
    known = json.loads(first["metadata"])
    assert known[1]["url"] == "http://img.test/1.jpg"
    assert known[1]["alt"] == "Ein Türmchen"
    export(WebdatasetExporter(), trimmed, tmp_path / "wds")
    again = export(ParquetExporter(), tmp_path / "wds", tmp_path / "again")
    assert again.samples == 3
    names = ("uid", "url", "texts", "images", "metadata")
    assert [[row[name] for name in names] for row in rows_of(tmp_path / "again")] == [
        [row[name] for name in names] for row in rows_of(tmp_path / "out")
    ], "out, in, and out again"
    refused = export(LlavaExporter(), trimmed, tmp_path / "llava")
    assert refused.left_out == {"not_held: document": 3}


@pytest.mark.parametrize("chat", [False, True])
def test_webdataset_is_read_by_webdataset_and_by_us(tmp_path: Path, chat: bool) -> None:
    samples = write(tmp_path / "in", chat=chat)
    export(WebdatasetExporter(), tmp_path / "in", tmp_path / "out")
    tars = [str(tmp_path / "out" / f"0000{number}.tar") for number in range(2)]
    theirs = list(webdataset.WebDataset(tars, shardshuffle=False))
    assert [one["__key__"] for one in theirs] == [sample.uid for sample in samples]
    assert [one[s.images[0].extension] for one, s in zip(theirs, samples, strict=True)] == [
        sample.images[0].data for sample in samples
    ]
    ours = [sample for shard in list_shards(str(tmp_path / "out")) for sample in read_samples(shard)]
    assert [(one.uid, one.caption, one.images) for one in ours] == [(s.uid, s.caption, s.images) for s in samples]
    export(WebdatasetExporter(), tmp_path / "out", tmp_path / "again")
    tar = Path("00000.tar")
    assert (tmp_path / "again" / tar).read_bytes() == (tmp_path / "out" / tar).read_bytes()


def test_datacomp_s_metadata_and_subset(tmp_path: Path) -> None:
    samples = write(tmp_path / "in")
    scores = pa.table({"uid": [s.uid for s in samples[:3]][::-1], "similarity": [0.1, 0.2, 0.3]})
    origin = Origin(scorer="clip", version="1", model=None, parameters={}, fingerprint="x")
    write_scores(str(tmp_path / "scores"), "00000", scores, origin)
    chosen = pa.table({"uid": [samples[2].uid, samples[0].uid], "count": pa.array([2, 1], pa.int32())})
    exporter = DatacompExporter(
        scores=str(tmp_path / "scores"), columns={"clip_l14_similarity_score": "clip.similarity"}
    )
    report = export(exporter, tmp_path / "in", tmp_path / "out", selection=chosen)
    assert report.samples == 3
    table = pq.read_table(tmp_path / "out" / "metadata" / "00000.parquet").to_pylist()
    assert [row["uid"] for row in table] == [samples[0].uid, samples[2].uid]
    assert [row["text"] for row in table] == ["Bild 0\nist grün", "Bild 2\nist grün"]
    assert [row["clip_l14_similarity_score"] for row in table] == [0.3, 0.1]
    subset = np.load(tmp_path / "out" / "subset.npy")
    assert subset.dtype == uids.PAIR
    assert len(subset) == 3
    assert read_selection(str(tmp_path / "out" / "subset.npy")).sort_by("uid").equals(chosen.sort_by("uid"))
    listed = normalise(
        DownloadConfig(caption_col="text", uid_col="uid"),
        f"{tmp_path}/out/metadata/00000.parquet",
        f"{tmp_path}/lists",
        f"{tmp_path}/ledger",
    )
    again = storage.read_table(listed.path(0))
    assert again["uid"].to_pylist() == [samples[0].uid, samples[2].uid], "it is a list to download again"
    with pytest.raises(ValueError, match=r"there are no scores clip\.logit"):
        export(
            DatacompExporter(scores=str(tmp_path / "scores"), columns={"x": "clip.logit"}),
            tmp_path / "in",
            tmp_path / "other",
        )


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Three pairs, indexed where they lie, each image a file of its own."""
    rng, lines = random.Random(3), []
    (tmp_path / "photos").mkdir()
    for number in range(3):
        (tmp_path / "photos" / f"{number}.jpg").write_bytes(image_bytes(rng))
        lines.append(json.dumps({"image": f"{number}.jpg", "caption": f"photo {number}"}) + "\n")
    (tmp_path / "photos" / "list.jsonl").write_text("".join(lines))
    listed = [f"{tmp_path}/photos/list.jsonl"]
    index(IndexConfig(), listed, f"{tmp_path}/photos.shards", f"{tmp_path}/photos.ledger", workers=0)
    return f"{tmp_path}/photos.shards"


def test_pairs_that_were_indexed_are_pairs(photos: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    captions = ["photo 0", "photo 1", "photo 2"]
    export(ParquetExporter(), photos, tmp_path / "hf")
    assert [(row["caption"], row["image"]["path"][-4:]) for row in rows_of(tmp_path / "hf")] == [
        (said, ".jpg") for said in captions
    ]
    assert export(DatacompExporter(), photos, tmp_path / "datacomp").samples == 3
    monkeypatch.setattr("mmcorpus.packing.export.energon._library", lambda: None)
    (shard,) = list_shards(photos)
    assert EnergonExporter().prepare(str(tmp_path / "e"), [shard]) == EnergonExporter(crude=False)
    # Others' tables, too, may have a column that is null in each row.
    samples, mixed = write(tmp_path / "in"), Shard(root=str(tmp_path / "in"), name="00000")
    for kind in (pa.null(), pa.string()):
        rows = storage.read_table(mixed.parquet)
        rows = rows.drop_columns(["conversations"] if "conversations" in rows.column_names else [])
        storage.write_table(mixed.parquet, rows.append_column("conversations", pa.nulls(len(rows), kind)))
        export(ParquetExporter(), tmp_path / "in", tmp_path / f"{kind}")
        assert [row["caption"] for row in rows_of(tmp_path / f"{kind}")] == [sample.caption for sample in samples]
        assert EnergonExporter().prepare(str(tmp_path / "e"), [mixed]) == EnergonExporter(crude=False)


def test_an_image_that_is_gone_since_it_was_indexed_costs_its_sample(photos: str, tmp_path: Path) -> None:
    (tmp_path / "photos" / "1.jpg").unlink()
    for exporter in (WebdatasetExporter(), ParquetExporter(), LlavaExporter()):
        report = export(exporter, photos, tmp_path / exporter.kind)
        assert (report.samples, report.images, report.left_out) == (2, 2, {"missing_image": 1})


def test_what_was_indexed_from_other_files_is_another_export(photos: str, tmp_path: Path) -> None:
    """Though uids, rows and the sizes of tables are the same."""

    def index_again() -> None:
        assert (
            index(IndexConfig(), [f"{tmp_path}/tars"], f"{tmp_path}/of_tars", f"{tmp_path}/l", workers=0).samples == 2
        )

    def write_tars(seed: int) -> None:
        pictured = [{**pair, "image": picture(seed + number)} for number, pair in enumerate(pairs(2))]
        write_tar(tmp_path / "tars" / "0.tar", as_tar(pictured))

    write_tars(10)
    index_again()
    out = tmp_path / "out"
    assert export(WebdatasetExporter(), f"{tmp_path}/of_tars", out).samples == 2
    index_again()
    assert export(WebdatasetExporter(), f"{tmp_path}/of_tars", out).resumed == 1
    uids_before = [uid for uid, _ in _image_of(f"{tmp_path}/of_tars")]
    write_tars(20)
    index_again()
    assert [uid for uid, _ in _image_of(f"{tmp_path}/of_tars")] == uids_before
    with pytest.raises(ValueError, match=r"made from something else .*indexed"):
        export(WebdatasetExporter(), f"{tmp_path}/of_tars", out)


def test_pairs_that_were_indexed_go_out_to_llava_and_come_in_again(photos: str, tmp_path: Path) -> None:
    export(LlavaExporter(), photos, tmp_path / "out")
    (first, *_) = json.loads((tmp_path / "out" / "llava.json").read_text())
    assert not {"images", "widths", "heights"} & set(first)
    config, out = IndexConfig(kind="conversation"), f"{tmp_path}/again"
    assert index(config, [f"{tmp_path}/out/llava.json"], out, f"{tmp_path}/ledger", workers=0).samples == 3
    assert dict(_image_of(out)) == dict(_image_of(photos))


def _image_of(shards: str) -> list[tuple[str, bytes]]:
    return [(one.uid, one.images[0].data) for shard in list_shards(shards) for one in read_samples(shard)]


def test_values_that_json_has_no_words_for_keep_their_types(tmp_path: Path) -> None:
    """As a download of a list with such columns leaves them."""
    shard = Shard(root=str(tmp_path / "in"), name="00000")
    with ShardWriter(shard) as writer:
        writer.write(
            Sample(key="0", uid="a" * 32, caption="x", images=(), meta={"date": None, "price": None, "p": 0.5})
        )
    table = storage.read_table(shard.parquet)
    typed = {"date": pa.array([1577836800000], pa.timestamp("ms", "UTC")), "p": pa.array([float("nan")])}
    typed["price"] = pa.array(["1.50"]).cast(pa.decimal128(5, 2))
    for name, column in typed.items():
        table = table.set_column(table.column_names.index(name), name, column)
    storage.write_table(shard.parquet, table)
    export(ParquetExporter(), tmp_path / "in", tmp_path / "hf")
    (row,) = pq.read_table(tmp_path / "hf" / "data").to_pylist()
    assert (row["date"], str(row["price"]), row["p"]) == (table["date"][0].as_py(), "1.50", None)
    export(WebdatasetExporter(), tmp_path / "in", tmp_path / "wds")
    (sample,) = webdataset.WebDataset(str(tmp_path / "wds" / "00000.tar"), shardshuffle=False).decode()
    assert (sample["json"]["price"], sample["json"]["date"][:10]) == ("1.50", "2020-01-01")


def test_counts_order_and_what_is_missing(tmp_path: Path) -> None:
    samples = write(tmp_path / "in")
    chosen = pa.table({"uid": [samples[4].uid, samples[1].uid, "f" * 32], "count": pa.array([1, 2, 1], pa.int32())})
    report = export(LlavaExporter(), tmp_path / "in", tmp_path / "out", selection=chosen)
    assert (report.samples, report.missing) == (3, 1)
    rows = json.loads((tmp_path / "out" / "llava.json").read_text())
    assert [row["id"] for row in rows] == [samples[1].uid, f"{samples[1].uid}-1", samples[4].uid]
    with pytest.raises(ValueError, match="made from something else"):
        export(LlavaExporter(), tmp_path / "in", tmp_path / "out")


def test_references_are_read_once_and_keep_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    image, count = image_bytes(random.Random(1)), 600
    turns = [[{"from": "human", "value": f"{n}?"}, {"from": "gpt", "value": "Ja."}] for n in range(count)]
    images = [[{"bytes": image, "path": None}] * (number % 3) for number in range(count)]
    (tmp_path / "in").mkdir()
    pq.write_table(pa.table({"images": images, "conversations": turns}), tmp_path / "in" / "0.parquet")
    shards = str(tmp_path / "shards")
    index(IndexConfig(kind="conversation"), [str(tmp_path / "in")], shards, str(tmp_path / "l"), workers=0, shown=False)
    (shard,) = list_shards(shards)
    uids_in_order = read_rows(shard, ["uid"])["uid"].to_pylist()
    assert [sample.uid for sample in read_samples(shard)] == uids_in_order
    assert [sample.uid for sample in read_samples(shard, uids_in_order[5::7])] == uids_in_order[5::7]
    opened: list[str] = []
    monkeypatch.setattr(
        row_tables, "open_table", lambda path, real=row_tables.open_table: opened.append(path) or real(path)
    )
    assert export(ParquetExporter(), shards, tmp_path / "out").samples == count
    rows = rows_of(tmp_path / "out")
    assert [row["uid"] for row in rows] == uids_in_order
    assert [row["conversations"][0]["value"].split("\n")[-1] for row in rows] == [f"{n}?" for n in range(count)]
    assert [len(row["images"]) for row in rows] == [number % 3 for number in range(count)]
    assert len(opened) == 1


def test_an_image_that_is_back_is_exported(tmp_path: Path) -> None:
    folder, shards = tmp_path / "in", str(tmp_path / "shards")
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.png").write_bytes(image_bytes(random.Random(number)))
        (folder / f"{number}.txt").write_text(f"Number {number}.")
    index(IndexConfig(), [str(folder)], shards, str(tmp_path / "l"), workers=0, shown=False)
    away = (folder / "1.png").rename(tmp_path / "away.png")
    first = export(ParquetExporter(), shards, tmp_path / "out")
    assert (first.samples, first.left_out) == (2, {MISSING_IMAGE: 1})
    away.rename(folder / "1.png")
    again = export(ParquetExporter(), shards, tmp_path / "out")
    assert (again.samples, again.left_out, again.resumed) == (3, {}, 0)
    assert len(rows_of(tmp_path / "out")) == 3
    assert export(ParquetExporter(), shards, tmp_path / "out").resumed == 1


@pytest.mark.parametrize("exporter", [LlavaExporter(), ParquetExporter(), WebdatasetExporter()])
def test_images_that_no_turn_marks_open_the_first_question_as_they_are_packed(
    exporter: Exporter, tmp_path: Path
) -> None:
    image = EncodedImage(extension="jpg", data=image_bytes(random.Random(2)))
    told = [("system", "Kurz."), ("human", "Was?"), ("gpt", "Ein Boot.")]
    values = {"none": (0, told), "two": (2, told), "asked by nobody": (1, [told[0], told[2]]),
              "one of two": (2, [("human", "<image> und?"), told[2]])}  # fmt: skip
    with ShardWriter(Shard(root=str(tmp_path / "in"), name="00000")) as writer:
        for number, (count, turns) in enumerate(values.values()):
            said = json.dumps([{"from": role, "value": text} for role, text in turns])
            writer.write(Sample(key=f"{number}", uid=pair_uid(str(number), ""), caption=None, images=(image,) * count,
                                meta={"conversations": said}))  # fmt: skip
    export(exporter, tmp_path / "in", tmp_path / "out")
    if exporter.kind == "llava":
        found = [row["conversations"] for row in json.loads((tmp_path / "out" / "llava.json").read_text())]
    elif exporter.kind == "parquet":
        found = [row["conversations"] for row in rows_of(tmp_path / "out")]
    else:
        (shard,) = list_shards(str(tmp_path / "out"))
        found = [json.loads(turns) for turns in read_rows(shard)["conversations"].to_pylist()]
    assert [[(turn["from"], turn["value"]) for turn in turns] for turns in found] == [
        told,
        [told[0], ("human", "<image>\n<image>\nWas?"), told[2]],
        [told[0], ("human", "<image>\n"), told[2]],
        [("human", "<image> und?"), told[2]],  # which the plan refuses, wherever it is read
    ]


def test_a_bad_conversation_costs_itself(tmp_path: Path) -> None:
    with ShardWriter(Shard(root=str(tmp_path / "in"), name="00000")) as writer:
        for index, turns in enumerate(['[{"from": "tool", "value": "x"}]', '[{"from": "gpt", "value": "ja"}]']):
            uid = pair_uid(str(index), "")
            writer.write(Sample(key=str(index), uid=uid, caption=None, images=(), meta={"conversations": turns}))
    report = export(LlavaExporter(), tmp_path / "in", tmp_path / "out")
    assert report.samples == 1
    assert report.left_out == {"bad_conversation": 1}


@pytest.mark.parametrize(
    "exporter", [LlavaExporter(), ParquetExporter(), WebdatasetExporter(), MdsExporter(), DatacompExporter()]
)
def test_a_killed_export_goes_on_to_the_same_bytes(
    exporter: Exporter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in")
    export(exporter, tmp_path / "in", tmp_path / "whole")

    def killed(path: str, value: Any) -> None:
        if path.endswith("done/00001.json"):
            raise KeyboardInterrupt
        real(path, value)

    real = storage.write_json
    monkeypatch.setattr(storage, "write_json", killed)
    with pytest.raises(KeyboardInterrupt):
        export(exporter, tmp_path / "in", tmp_path / "out")
    monkeypatch.undo()
    assert export(exporter, tmp_path / "in", tmp_path / "out").resumed == 1
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_to_s3_and_from_there(s3_root: str, tmp_path: Path) -> None:
    samples = write(tmp_path / "in")
    export_samples(WebdatasetExporter(), str(tmp_path / "in"), f"{s3_root}/wds", workers=0)
    report = export_samples(ParquetExporter(), f"{s3_root}/wds", f"{s3_root}/hf", workers=0)
    assert report.samples == 6
    table = storage.read_table(f"{s3_root}/hf/data/00001.parquet")
    assert table["uid"].to_pylist() == [sample.uid for sample in samples[3:]]


@pytest.mark.parametrize("chat", [False, True])
def test_mosaicml_s_own_reader_finds_the_samples_and_so_does_its_loader(tmp_path: Path, chat: bool) -> None:
    from streaming import LocalDataset, StreamingDataset
    from streaming.base.util import merge_index

    samples = write(tmp_path / "in", images=lambda index: index if chat else 1, chat=chat)
    chosen = pa.table({"uid": [s.uid for s in samples], "count": pa.array([1, 2, 1, 1, 1, 1], pa.int32())})
    report = export(MdsExporter(), tmp_path / "in", tmp_path / "out", selection=chosen)
    assert (report.samples, report.left_out) == (7, {})
    expected = [samples[0], samples[1], *samples[1:]]
    theirs = list(LocalDataset(str(tmp_path / "out")))
    assert [row["uid"] for row in theirs] == [sample.uid for sample in expected]
    for row, sample in zip(theirs, expected, strict=True):
        assert row["about"]["url"] == sample.meta["url"]
        images = [image.data for image in sample.images]
        if not chat:
            assert ([row["image"]], row["caption"]) == (images, sample.caption)
            continue
        ends = list(itertools.accumulate(row["image_sizes"], initial=0))
        assert [row["images"][start:end] for start, end in itertools.pairwise(ends)] == images
        assert parse_conversation(row["conversations"]) == parse_conversation(sample.meta["conversations"])
    loaded = StreamingDataset(local=str(tmp_path / "out"), batch_size=1, shuffle=False)
    assert [row["uid"] for row in loaded] == [row["uid"] for row in theirs]
    merge_index([str(tmp_path / "out" / name / "index.json") for name in ("00000", "00001")], str(tmp_path / "merged"))
    merged, ours = (json.loads((tmp_path / name / "index.json").read_text()) for name in ("merged", "out"))
    assert merged == ours


@pytest.mark.parametrize(
    ("exporter", "package", "said"),
    [
        (MdsExporter(), "streaming", "pip install --no-deps mosaicml-streaming"),
        (EnergonExporter(), "megatron.energon", r"pip install 'mmcorpus\[energon\]'"),
    ],
)
def test_without_the_package_that_writes_it_nothing_is_begun(
    exporter: Exporter, package: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(RuntimeError, match=said):
        export(exporter, tmp_path / "in", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_energon_s_own_reader_finds_the_samples(tmp_path: Path) -> None:
    samples = write(tmp_path / "in")
    energon: Any = importlib.import_module("megatron.energon")
    export(EnergonExporter(), tmp_path / "in", tmp_path / "out")

    class Encoder(energon.DefaultTaskEncoder):  # type: ignore[misc]
        def batch(self, found: list[Any]) -> Any:
            return found[0]

    config = energon.WorkerConfig(rank=0, world_size=1, num_workers=0)
    options = {"batch_size": 1, "shuffle_buffer_size": None, "max_samples_per_sequence": None}
    found = energon.get_train_dataset(str(tmp_path / "out"), worker_config=config, task_encoder=Encoder(), **options)
    captions = {one.caption for one, _ in zip(energon.get_loader(found), range(6), strict=False)}
    assert captions == {sample.caption for sample in samples}


@pytest.mark.parametrize("column", ["caption", "images"])
def test_energon_s_captioning_samples_are_of_one_image_and_a_caption(tmp_path: Path, column: str) -> None:
    """Its library fails when it reads one without a caption, or with `000.jpg` and `001.jpg` in place of `jpg`."""
    write(tmp_path / "in")
    table = storage.read_table(str(tmp_path / "in" / "00001.parquet"))
    values = pa.array(["a", None, "c"] if column == "caption" else [1, 2, 1])
    table = table.drop_columns([column]) if column in table.column_names else table
    storage.write_table(str(tmp_path / "in" / "00001.parquet"), table.append_column(column, values))
    shards = list_shards(str(tmp_path / "in"))
    assert EnergonExporter().prepare(str(tmp_path / "out"), shards).crude
    assert not EnergonExporter().prepare(str(tmp_path / "out"), shards[:1]).crude
