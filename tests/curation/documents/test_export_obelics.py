"""Documents in OBELICS's schema: what a row says, and that our own reader of OBELICS reads it back."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.published import read_table_items
from mmcorpus.curation.crawl.records import START, Ready
from mmcorpus.curation.documents.export_obelics import ExportReport, export_obelics
from mmcorpus.curation.documents.image_list import ImageListConfig, list_images
from mmcorpus.curation.documents.place import PlaceConfig, place_images
from mmcorpus.curation.documents.trim import trim_documents
from mmcorpus.curation.html.nodes import ImageNode, TextNode
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.uid import node_uid
from tests.curation.documents.image_corpus import DOWNLOAD, fetch, image, page, picture, text, write_documents

INLINE = "data:image/png;base64," + base64.b64encode(picture(50, image_format="PNG")).decode()
PAGES = [
    [
        page("http://a.test/1", text("A tower", "h1"), text("It stands."), image("1.jpg", alt="Ein Türmchen", width=40),
             text("- one\n- two", "ul"), image("gone.jpg"), image("2.jpg", caption="two"), title="The tower",
             file="s3://crawl/0.warc.gz", offset=700, length=90, language="en"),
        page("http://a.test/2", text("x = 1\n\ny = 2", "pre"), image(INLINE, alt="drawn")),
    ],
    [page("http://a.test/3", text("Words alone."))],
]  # fmt: skip


def build(root: str) -> str:
    """Trimmed documents of PAGES; the heading of the first is dropped."""
    write_documents(f"{root}/documents", PAGES)
    list_images(ImageListConfig(), f"{root}/documents", f"{root}/list", f"{root}/ledger/urls", workers=0)
    bodies = {"http://img.test/1.jpg": picture(1, 90, 70), "http://img.test/2.jpg": picture(2)}
    fetch(f"{root}/list", f"{root}/shards/pages.urls", bodies)
    place_images(PlaceConfig(), f"{root}/documents", f"{root}/list", f"{root}/shards/pages.urls",
                 f"{root}/shards/pages", f"{root}/ledger/pages.images", download=DOWNLOAD, workers=0)  # fmt: skip
    rows = [row for shard in ("000000000", "000000001")
            for row in storage.read_table(f"{root}/shards/pages.paragraphs/{shard}.parquet").to_pylist()]  # fmt: skip
    kept = sorted(row["uid"] for row in rows if row["tag"] != "h1")
    storage.write_table(f"{root}/kept.parquet", pa.table({"uid": kept, "count": pa.array([1] * len(kept), pa.int32())}))
    trim_documents(f"{root}/shards/pages", f"{root}/shards/pages.trimmed", f"{root}/ledger/pages",
                   paragraphs=f"{root}/kept.parquet", workers=0)  # fmt: skip
    return f"{root}/shards/pages.trimmed"


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(str(tmp_path_factory.mktemp("obelics")))


def selection(**counts: int) -> pa.Table:
    uids = {f"_{number}": row["uid"] for shard in PAGES for number, row in enumerate(shard, 1)}
    uids = {f"_{row['url'][-1]}": row["uid"] for shard in PAGES for row in shard}
    return pa.table({"uid": [uids[n] for n in counts], "count": pa.array(list(counts.values()), pa.int32())})


def rows(out: Path) -> list[dict[str, Any]]:
    return [row for path in sorted(out.glob("*.parquet")) for row in pq.read_table(path).to_pylist()]


def test_what_a_row_says(trimmed: str, tmp_path: Path) -> None:
    report = export_obelics(trimmed, f"{tmp_path}/out", workers=0)
    assert report == ExportReport(files=2, resumed=0, documents=3, images=3, inline=1, missing=0, failed={})
    first, second, third = rows(tmp_path / "out")
    assert list(first) == ["images", "metadata", "general_metadata", "texts"]
    assert first["texts"] == ["It stands.", None, "- one\n- two", None]
    assert first["images"] == [None, "http://img.test/1.jpg", None, "http://img.test/2.jpg"]
    known = json.loads(first["metadata"])
    assert [entry is None for entry in known] == [True, False, True, False]
    assert known[1] | {"sha256": ""} == {
        "document_url": "http://a.test/1", "src": "http://img.test/1.jpg", "alt_text": "Ein Türmchen",
        "rendered_width": 40, "original_width": 90, "original_height": 70, "format": "jpeg", "sha256": "",
    }  # fmt: skip
    assert known[3]["caption"] == "two"
    assert json.loads(first["general_metadata"]) == {
        "url": "http://a.test/1", "warc_filename": "s3://crawl/0.warc.gz", "warc_record_offset": 700,
        "warc_record_length": 90, "uid": PAGES[0][0]["uid"], "date": "2024-01-01T00:00:00Z", "language": "en",
        "title": "The tower",
    }  # fmt: skip
    for row in (first, second, third):
        assert len(row["images"]) == len(row["texts"]) == len(json.loads(row["metadata"]))
        assert all((image is None) != (words is None) for image, words in zip(row["images"], row["texts"], strict=True))
    assert third["images"] == [None]


def test_our_reader_of_obelics_reads_it_back(trimmed: str, tmp_path: Path) -> None:
    export_obelics(trimmed, f"{tmp_path}/out", workers=0)
    found: list[Ready] = []
    for path in sorted((tmp_path / "out").glob("*.parquet")):
        with path.open("rb") as file:
            for item in read_table_items(str(path), file, "auto", PagesConfig(), START):
                assert isinstance(item, Ready), item
                found.append(item)
    captions = [row["caption"] for name in ("000000000", "000000001")
                for row in storage.read_table(f"{trimmed}/{name}.parquet").to_pylist()]  # fmt: skip
    assert ["\n\n".join(node.text for node in item.nodes if isinstance(node, TextNode)) for item in found] == captions
    assert [item.url for item in found] == ["http://a.test/1", "http://a.test/2", "http://a.test/3"]
    assert [node.alt for item in found for node in item.nodes if isinstance(node, ImageNode)] == [
        "Ein Türmchen", None, "drawn"]  # fmt: skip
    kinds = [[type(node) for node in item.nodes] for item in found]
    assert kinds[0] == [TextNode, ImageNode, TextNode, ImageNode]
    drawn = found[1].nodes[-1]
    assert isinstance(drawn, ImageNode)
    data = base64.b64decode(drawn.url.partition(",")[2])
    assert Image.open(io.BytesIO(data)).size == (40, 30), "the image as stored"


def test_a_selection_counts(trimmed: str, tmp_path: Path) -> None:
    report = export_obelics(trimmed, f"{tmp_path}/out", selection=selection(_1=2), workers=0)
    assert (report.files, report.documents, report.images, report.missing) == (1, 2, 4, 0)
    first, again = rows(tmp_path / "out")
    assert first == again
    strange = pa.table({"uid": [node_uid("a" * 32, 1)], "count": pa.array([1], pa.int32())})
    report = export_obelics(trimmed, f"{tmp_path}/none", selection=strange, workers=0)
    assert (report.files, report.missing) == (0, 1)


def test_what_is_there_is_kept_and_nothing_is_mixed(trimmed: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export_obelics(trimmed, str(out), workers=0)
    whole = {path.name: path.read_bytes() for path in out.iterdir()}
    (out / "000000001.parquet").unlink()
    report = export_obelics(trimmed, str(out), workers=0)
    assert (report.files, report.resumed, report.documents) == (2, 1, 3)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == whole
    with pytest.raises(ValueError, match="exported documents made from something else"):
        export_obelics(trimmed, str(out), selection=selection(_1=1), workers=0)
    for other in ("pages.paragraphs", "pages.urls"):
        with pytest.raises(ValueError, match="has no documents"):
            export_obelics(trimmed.replace("pages.trimmed", other), f"{tmp_path}/other", workers=0)
    with pytest.raises(ValueError, match="no shards"):
        export_obelics(f"{tmp_path}/nowhere", f"{tmp_path}/other", workers=0)


def test_everything_on_s3(tmp_path: Path, s3_root: str, trimmed: str) -> None:
    export_obelics(trimmed, f"{tmp_path}/out", workers=0)
    export_obelics(build(f"{s3_root}/run"), f"{s3_root}/out", workers=0)
    for name in ("000000000.parquet", "000000001.parquet"):
        assert storage.read_bytes(f"{s3_root}/out/{name}") == (tmp_path / "out" / name).read_bytes()
