"""Corpora of documents in the layouts that they are published in, from the file to the extracted rows."""

import base64
import io
import json
import tarfile
import zipfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.records import Position
from mmcorpus.curation.crawl.tables import read_rows as read_rows_of
from mmcorpus.curation.documents.export_obelics import export_obelics
from mmcorpus.curation.documents.extract import ExtractReport, extract_documents
from mmcorpus.curation.store.shards import list_shards, read_rows
from mmcorpus.packing.export import export_samples
from mmcorpus.packing.export.huggingface import ParquetExporter
from tests.curation.documents.image_corpus import picture
from tests.curation.documents.test_export_obelics import build


def extract(inputs: Any, out: Path, **options: Any) -> ExtractReport:
    config = PagesConfig(**{"workers": 0, **options})
    return extract_documents(config, inputs, f"{out}/documents", f"{out}/ledger")


def documents(out: Path) -> list[dict[str, Any]]:
    rows = [row for shard in list_shards(f"{out}/documents") for row in read_rows(shard).to_pylist()]
    return [row | {"nodes": json.loads(row["nodes"] or "[]")} for row in rows]


def said(row: dict[str, Any]) -> list[Any]:
    """The texts of a document, and of images the bytes that they hold, or their address."""
    found: list[Any] = []
    for node in row["nodes"]:
        url = node.get("url", "")
        held = url.startswith("data:")
        found.append(base64.b64decode(url.partition(",")[2]) if held else url or node["text"])
    return found


def tar(path: Path, *members: tuple[str, bytes]) -> str:
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return str(path)


def tiff(*pages: bytes) -> bytes:
    file = io.BytesIO()
    first, *others = [Image.open(io.BytesIO(page)).convert("RGB") for page in pages]
    first.save(file, "TIFF", save_all=True, append_images=others)
    return file.getvalue()


def b64(data: bytes) -> dict[str, str]:
    return {"image_base64": base64.b64encode(data).decode()}


ONE, TWO = picture(1), picture(2)


@pytest.mark.parametrize("name", ["shard.tar", "shard.tar.gz"])
def test_tars_of_documents_with_their_images(tmp_path: Path, name: str) -> None:
    obelics = {"texts": [None, "A tower.\n\nIt stands.", None], "image_info": [b64(ONE), None, b64(TWO)]}
    mmc4 = {
        "text_list": ["First.", "Second."],
        "image_info": [{"image_name": "x.jpg", "matched_text_index": 1, "raw_url": "http://a.test/x.jpg", **b64(ONE)}],
        "url": "http://a.test/mmc4",
    }
    mint = {
        "texts": ["Before", None, None, "after"],
        "images": [None, "p0_1", "p0_2", None],
        "url": "http://a.test/pdf",
    }
    ours = {"texts": ["x", None], "images": [None, ""], "uid": "ab" * 16}
    path = tar(
        tmp_path / name,
        ("0.json", json.dumps(obelics).encode()),
        ("1.json", json.dumps(mmc4).encode()),
        ("2.pdf", b"%PDF"),
        ("2.json", json.dumps(mint).encode()),
        ("2.tiff", tiff(ONE, TWO)),
        ("./d.e/3.000.jpg", TWO),
        ("./d.e/3.json", json.dumps(ours).encode()),
        ("4.json", b'{"texts": ["cut'),
        ("5.json", json.dumps(mint | {"images": [None, "http://a.test/1", "http://a.test/2", None]}).encode()),
        ("5.jpg", ONE),
    )
    report = extract(path, tmp_path / "out", records_per_shard=2)
    assert (report.documents, report.images, report.failed) == (5, 8, {"bad_record": 1})
    assert report.others == {"file .pdf": 1, "image that its document has no place for": 1}
    found = documents(tmp_path / "out")
    assert said(found[0]) == [ONE, "A tower.", "It stands.", TWO]
    assert said(found[1]) == ["First.", ONE, "Second."]
    pages = [Image.open(io.BytesIO(page)).tobytes() for page in said(found[2])[1:3]]
    assert pages == [Image.open(io.BytesIO(page)).convert("RGB").tobytes() for page in (ONE, TWO)]
    assert said(found[3]) == ["x", TWO]
    assert found[3]["uid"] == "ab" * 16
    assert said(found[5]) == ["Before", "http://a.test/1", "http://a.test/2", "after"], "one of two is there: whose?"
    assert found[1]["url"] == "http://a.test/mmc4"
    whole = extract(path, tmp_path / "whole")
    assert whole.documents == 5
    assert [row["uid"] for row in documents(tmp_path / "whole")] == [row["uid"] for row in found], (
        "in parts and at once"
    )


def test_mmc4_as_it_is_published_is_json_lines_in_a_zip(tmp_path: Path) -> None:
    rows = [
        {"text_list": [f"Text {n}."], "url": f"http://a.test/{n}",
         "image_info": [{"raw_url": f"http://a.test/{n}.jpg", "matched_text_index": 0}]}
        for n in range(5)
    ]  # fmt: skip
    with zipfile.ZipFile(tmp_path / "docs_shard_0_v2.jsonl.zip", "w") as archive:
        archive.writestr("docs_shard_0_v2.jsonl", "\n".join(map(json.dumps, rows)))
        archive.writestr("more.jsonl", json.dumps(rows[0] | {"url": "http://a.test/more"}))
    report = extract(str(tmp_path / "docs_shard_0_v2.jsonl.zip"), tmp_path / "out", records_per_shard=2)
    assert report.documents == 6
    assert [row["url"][-1] for row in documents(tmp_path / "out")] == [*"01234", "e"]
    assert said(documents(tmp_path / "out")[4]) == ["http://a.test/4.jpg", "Text 4."]
    again = extract(str(tmp_path / "docs_shard_0_v2.jsonl.zip"), tmp_path / "out", records_per_shard=2)
    assert again.extracted == 0


def test_omnicorpus_and_parquet_with_images_in_the_rows(tmp_path: Path) -> None:
    omni = {
        "images": [None, "http://a.test/1.jpg"], "texts": ["Words.", None],
        "metadata": [None, {"aesthetic_prob": 0.5, "height": 3}],
        "general_metadata": {"url": "http://a.test/omni", "id": "x"},
    }  # fmt: skip
    held = {"images": [{"bytes": ONE, "path": None}, None], "texts": [None, "Held."], "url": "http://a.test/held"}
    pq.write_table(pa.Table.from_pylist([omni]), tmp_path / "a.parquet")
    pq.write_table(pa.Table.from_pylist([held]), tmp_path / "b.parquet")
    (tmp_path / "c.jsonl").write_text(
        json.dumps({**held, "images": [b64(TWO), None], "url": "http://a.test/64"}) + "\n"
    )
    report = extract([f"{tmp_path}/{name}" for name in ("a.parquet", "b.parquet", "c.jsonl")], tmp_path / "out")
    assert (report.documents, report.failed_files) == (3, {})
    found = {row["url"]: said(row) for row in documents(tmp_path / "out")}
    assert found == {
        "http://a.test/omni": ["Words.", "http://a.test/1.jpg"],
        "http://a.test/held": [ONE, "Held."],
        "http://a.test/64": [TWO, "Held."],
    }


def test_what_goes_out_comes_in_again(tmp_path: Path) -> None:
    trimmed = build(str(tmp_path / "run"))
    rows = [row for shard in list_shards(trimmed) for row in read_rows(shard).to_pylist()]
    export_samples(ParquetExporter(), trimmed, str(tmp_path / "hf"), workers=0)
    extract(str(tmp_path / "hf" / "data"), tmp_path / "held")
    export_obelics(trimmed, str(tmp_path / "obelics"), workers=0)
    extract(str(tmp_path / "obelics"), tmp_path / "named")
    for out in ("held", "named"):
        found = documents(tmp_path / out)
        assert [(row["uid"], row["url"]) for row in found] == [(row["uid"], row["url"]) for row in rows]
    texts = [[node["text"] for node in json.loads(row["nodes"]) if "text" in node] for row in rows]
    held = documents(tmp_path / "held")
    assert [[one for one in said(row) if isinstance(one, str)] for row in held] == texts
    assert [sum(isinstance(one, bytes) for one in said(row)) for row in held] == [2, 1, 0]
    assert held[0]["nodes"][1]["alt"] == "Ein Türmchen"


def test_a_file_of_nothing_but_bad_records_is_named(tmp_path: Path) -> None:
    (tmp_path / "noise.jsonl").write_text("no json\nneither\n")
    (tmp_path / "good.jsonl").write_text('{"text": "Words."}\nno json\n')
    report = extract([f"{tmp_path}/good.jsonl", f"{tmp_path}/noise.jsonl"], tmp_path / "out", format="text")
    assert list(report.failed_files) == [f"{tmp_path}/noise.jsonl"]
    assert "2 bad_record" in report.failed_files[f"{tmp_path}/noise.jsonl"]


@pytest.mark.parametrize("form", ["stream", "file"])
def test_arrow_files_of_documents_as_datasets_keep_them(tmp_path: Path, form: str) -> None:
    rows = [{"texts": [f"Tower {n}.", None], "images": [None, f"http://a.test/{n}.jpg"]} for n in range(150)]
    table = pa.table({"texts": [row["texts"] for row in rows], "images": [row["images"] for row in rows]})
    path = tmp_path / "in" / "data-00000-of-00001.arrow"
    path.parent.mkdir()
    with pa.OSFile(str(path), "wb") as file, getattr(pa.ipc, f"new_{form}")(file, table.schema) as sink:
        sink.write_table(table, max_chunksize=70)
    (path.parent / "state.json").write_text("{}")
    extract(str(path.parent), tmp_path, records_per_shard=40)
    found = documents(tmp_path)
    assert [said(row) for row in found] == [[f"Tower {n}.", f"http://a.test/{n}.jpg"] for n in range(150)]
    assert len(list_shards(f"{tmp_path}/documents")) == 4
    with open(path, "rb") as file:
        later = list(read_rows_of(str(path), file, ["texts"], Position(100)))
    assert [row.offset for row in later] == list(range(100, 150)), "a rerun goes on where it was"
    cut = path.with_name("cut.arrow")
    cut.write_bytes(path.read_bytes()[:9_000])
    with open(cut, "rb") as file:
        damaged = list(read_rows_of(str(cut), file, None, Position(0)))
        assert damaged[-1].problem is not None
        assert list(read_rows_of(str(cut), file, None, damaged[-1].position)) == []


def test_documents_of_ours_in_tars_are_shards_as_they_are_and_it_is_said(tmp_path: Path) -> None:
    row = {"uid": "0" * 32, "nodes": [{"text": "It stands."}]}
    report = extract(tar(tmp_path / "0.tar", ("0.json", json.dumps(row).encode())), tmp_path)
    assert report.documents == 0
    rows = [row for shard in list_shards(f"{tmp_path}/documents") for row in read_rows(shard).to_pylist()]
    assert "it has nodes, as mmcorpus writes documents" in rows[0]["error_message"]
