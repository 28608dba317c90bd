"""What is read in any layout, written in any, and read again, is the same: uids, bytes, order, texts."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.sources import IndexConfig, index
from mmcorpus.curation.store.shards import list_shards, read_samples
from mmcorpus.packing.export import Exporter, export_samples
from mmcorpus.packing.export.datacomp import DatacompExporter
from mmcorpus.packing.export.energon import EnergonExporter
from mmcorpus.packing.export.huggingface import ParquetExporter
from mmcorpus.packing.export.llava import LlavaExporter
from mmcorpus.packing.export.mds import MdsExporter
from mmcorpus.packing.export.webdataset import WebdatasetExporter
from mmcorpus.packing.turns import parse_conversation
from tests.curation.sources.conftest import picture, write_tar

COUNTS = (1, 0, 2, 1)
"""Images of each conversation; a pair has one."""


def rows(chat: bool) -> list[dict[str, Any]]:
    """Samples whose order is not that of their keys or texts, of several kinds of images."""
    found = []
    for number, count in enumerate(COUNTS if chat else (1,) * len(COUNTS)):
        kinds = ("PNG", "WEBP", "JPEG")
        images = [picture(10 * number + each, kinds[(number + each) % 3]) for each in range(count)]
        turns = [
            {"from": "human", "value": "<image>\n" * count + f"Wie viele? {number}"},
            {"from": "gpt", "value": f"Très peu 😀\n{9 - number}"},
        ]
        found.append({"key": f"{(7 * number) % 4}", "images": images, "text": turns[1]["value"], "turns": turns})
    return found


def endings(row: dict[str, Any]) -> list[str]:
    known = {b"\x89PNG": "png", b"RIFF": "webp"}
    return [known.get(data[:4], "jpg") for data in row["images"]]


def tar(folder: Path, chat: bool, ending: str = "tar") -> None:
    members = []
    for row in rows(chat):
        for number, (kind, data) in enumerate(zip(endings(row), row["images"], strict=True)):
            place = f".{number:03d}" if len(row["images"]) > 1 else ""
            members.append((f"{row['key']}{place}.{kind}", data))
        about = {"conversations": row["turns"]} if chat else {"caption": row["text"]}
        members.append((f"{row['key']}.json", json.dumps(about).encode()))
    write_tar(folder / f"a.{ending}", members, "w:gz" if ending.endswith("gz") else "w")


def img2dataset(folder: Path, chat: bool) -> None:
    """Its tars, with the parquet and stats beside them."""
    told = [{**row, "url": f"http://x.test/{row['key']}.jpg"} for row in sorted(rows(chat), key=_key)]
    members = []
    for row in told:
        about = {"key": row["key"], "url": row["url"], "caption": None if chat else row["text"], "status": "success"}
        members += [(f"{row['key']}.{number}.{kind}" if number else f"{row['key']}.{kind}", data)
                    for number, (kind, data) in enumerate(zip(endings(row), row["images"], strict=True))]  # fmt: skip
        members.append((f"{row['key']}.txt", row["text"].encode()))
        members.append((f"{row['key']}.json", json.dumps(about | _turns(row, chat)).encode()))
    write_tar(folder / "00000.tar", members)
    (folder / "00000_stats.json").write_text(json.dumps({"count": len(told), "successes": len(told)}))
    names = ("key", "url")
    table = {name: [row[name] for row in told] for name in names} | {"status": ["success"] * len(told)}
    pq.write_table(pa.table(table), folder / "00000.parquet")


def mds(folder: Path, chat: bool, compression: str | None = None) -> None:
    from streaming import MDSWriter

    columns = {"images": "jpeg_array", "messages": "json"} if chat else {"image": "bytes", "caption": "str"}
    with MDSWriter(out=str(folder / "mds"), columns=columns, compression=compression) as writer:
        for row in rows(chat):
            pair = {"image": row["images"][0], "caption": row["text"]} if not chat else {}
            writer.write(pair or {"images": row["images"], "messages": row["turns"]})


def _turns(row: dict[str, Any], chat: bool) -> dict[str, Any]:
    return {"conversations": row["turns"]} if chat else {}


def _key(row: dict[str, Any]) -> str:
    return str(row["key"])


def files(folder: Path, chat: bool) -> None:
    for row in rows(chat):
        for number, (kind, data) in enumerate(zip(endings(row), row["images"], strict=True)):
            (folder / f"{row['key']}.{number}.{kind}").write_bytes(data)
        about = {"conversations": row["turns"]} if chat else {"caption": row["text"]}
        (folder / f"{row['key']}.json").write_text(json.dumps(about))


def table(chat: bool) -> pa.Table:
    structs = [[{"bytes": data, "path": None} for data in row["images"]] for row in rows(chat)]
    if chat:
        return pa.table({"images": structs, "conversations": [row["turns"] for row in rows(chat)]})
    return pa.table({"image": [one[0] for one in structs], "caption": [row["text"] for row in rows(chat)]})


def parquet(folder: Path, chat: bool) -> None:
    pq.write_table(table(chat), folder / "a.parquet", row_group_size=2)


def arrow(folder: Path, chat: bool) -> None:
    with pa.OSFile(str(folder / "a.arrow"), "wb") as file, pa.ipc.new_stream(file, table(chat).schema) as sink:
        sink.write_table(table(chat))


def jsonl(folder: Path, chat: bool) -> None:
    lines = []
    for row in rows(chat):
        names = [f"images/{row['key']}.{number}" for number in range(len(row["images"]))]
        (folder / "images").mkdir(exist_ok=True)
        for name, data in zip(names, row["images"], strict=True):
            (folder / name).write_bytes(data)
        text = {"conversations": row["turns"]} if chat else {"caption": row["text"]}
        held = {"image": names if len(names) > 1 else names[0]} if names else {}
        lines.append(json.dumps({"id": row["key"], **held, **text}))
    (folder / "a.jsonl").write_text("\n".join(lines))


LAYOUTS: dict[str, Callable[[Path, bool], None]] = {
    "tar": tar, "tar.gz": lambda folder, chat: tar(folder, chat, "tar.gz"), "files": files, "parquet": parquet,
    "arrow": arrow, "json": jsonl, "img2dataset": img2dataset, "mds": mds,
    "mds.zstd": lambda folder, chat: mds(folder, chat, "zstd"),
}  # fmt: skip
BY_KEY = ("files", "img2dataset")
"""Layouts whose samples lie in the order of their names."""
EXPORTS = (WebdatasetExporter(), ParquetExporter(), LlavaExporter(), EnergonExporter(), MdsExporter())


def read(path: Path, out: Path, *, chat: bool) -> list[tuple[str, tuple[bytes, ...], Any]]:
    """By index: uid, images and text of each sample, in order of its rows."""
    config = IndexConfig(kind="conversation" if chat else "pair")
    report = index(config, [str(path)], f"{out}/shards", f"{out}/ledger", workers=0, shown=False)
    assert (report.failed, report.dropped) == ({}, {})
    samples = [sample for shard in list_shards(f"{out}/shards") for sample in read_samples(shard)]
    samples.sort(key=lambda sample: sample.key)
    return [
        (
            sample.uid,
            tuple(image.data for image in sample.images),
            _text(sample.meta.get("conversations"), sample.caption),
        )
        for sample in samples
    ]


def _text(turns: Any, caption: str | None) -> Any:
    return parse_conversation(turns) if turns else caption


@pytest.mark.parametrize("chat", [False, True], ids=["pairs", "chat"])
@pytest.mark.parametrize("exporter", EXPORTS, ids=lambda one: one.kind)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_in_out_and_in_again(tmp_path: Path, layout: str, exporter: Exporter, chat: bool) -> None:
    (tmp_path / "in").mkdir()
    LAYOUTS[layout](tmp_path / "in", chat)
    first = read(tmp_path / "in", tmp_path / "first", chat=chat)
    told = sorted(rows(chat), key=_key) if layout in BY_KEY else rows(chat)
    expected = [(tuple(row["images"]), row["text"]) for row in told]
    said = [(images, text[1][1] if chat else text) for _, images, text in first]
    assert said == expected
    report = export_samples(exporter, f"{tmp_path}/first/shards", f"{tmp_path}/out", workers=0)
    assert (report.samples, report.left_out) == (len(COUNTS), {})
    turns = chat or exporter.kind == "llava"  # where a caption is the answer to its image
    again = read(_within(tmp_path / "out", exporter), tmp_path / "again", chat=turns)
    if turns and not chat:
        again = [(uid, images, text[1][1]) for uid, images, text in again]
    assert again == first


def _within(out: Path, exporter: Exporter) -> Path:
    """What of an export is read."""
    return out / {"llava": "llava.json", "parquet": "data"}.get(exporter.kind, "")


def each_after_each(exporters: tuple[Exporter, ...]) -> Iterator[Exporter]:
    """A walk on which every one follows every one, itself too."""
    for number, one in enumerate(exporters):
        yield one
        for other in exporters[number + 1 :]:
            yield from (one, other)


@pytest.mark.parametrize("chat", [False, True], ids=["pairs", "chat"])
def test_from_each_layout_that_is_written_into_each(tmp_path: Path, chat: bool) -> None:
    (tmp_path / "in").mkdir()
    tar(tmp_path / "in", chat)
    first = read(tmp_path / "in", tmp_path / "0", chat=chat)
    able = tuple(one for one in EXPORTS if chat or one.kind != "llava")  # which makes conversations of pairs
    for number, exporter in enumerate(each_after_each(able)):
        out = tmp_path / f"{number}.{exporter.kind}"
        report = export_samples(exporter, f"{tmp_path}/{number}/shards", str(out), workers=0)
        assert report.left_out == {}
        assert read(_within(out, exporter), tmp_path / str(number + 1), chat=chat) == first, out


@pytest.mark.parametrize("layout", LAYOUTS)
def test_datacomp_s_subset_chooses_the_same_samples(tmp_path: Path, layout: str) -> None:
    (tmp_path / "in").mkdir()
    LAYOUTS[layout](tmp_path / "in", False)
    first = read(tmp_path / "in", tmp_path / "first", chat=False)
    shards = f"{tmp_path}/first/shards"
    half = pa.table({"uid": [uid for uid, *_ in first[1:3]], "count": pa.array([1, 2], pa.int32())})
    export_samples(DatacompExporter(), shards, f"{tmp_path}/datacomp", selection=half, workers=0)
    table = pq.read_table(tmp_path / "datacomp" / "metadata")
    assert sorted(zip(table["uid"].to_pylist(), table["text"].to_pylist(), strict=True)) == sorted(
        (uid, text) for uid, _, text in first[1:3]
    )
    chosen = f"{tmp_path}/datacomp/subset.npy"
    export_samples(WebdatasetExporter(), shards, f"{tmp_path}/out", selection=chosen, workers=0)
    samples = [sample for shard in list_shards(f"{tmp_path}/out") for sample in read_samples(shard)]
    assert [(one.uid, (one.images[0].data,), one.caption) for one in samples] == [first[1], first[2], first[2]]
