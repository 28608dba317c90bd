"""Trimming: the decisions on nodes leave some of a document, or drop it whole."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmcorpus.curation.documents.image_list import ImageListConfig, list_images
from mmcorpus.curation.documents.inspect import read_document
from mmcorpus.curation.documents.place import PlaceConfig, place_images
from mmcorpus.curation.documents.read_extracted import surviving
from mmcorpus.curation.documents.trim import TrimReport, trim_documents
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import Shard, list_shards, read_samples, shard_at
from mmcorpus.curation.store.uid import node_uid
from tests.curation.documents.image_corpus import (
    DOWNLOAD,
    fetch,
    image,
    ledger_of,
    page,
    picture,
    rows_of,
    text,
    write_documents,
)

ONE = page("http://a.test/1", text("First.", "h1"), image("a.jpg"), text("Second."), image("gone.jpg"), image("b.jpg"),
           title="One")  # fmt: skip
TWO = page("http://a.test/2", image("b.jpg"), text("Only."))
THREE = page("http://b.test/3", text("Words."), opt_out="meta robots: noai")
BROKEN = {**page("http://b.test/4"), "nodes": "nothing"}
SHARDS: list[list[dict[str, Any]]] = [[ONE, TWO], [THREE, BROKEN]]


def uid(document: dict[str, Any], *numbers: int) -> list[str]:
    return [node_uid(document["uid"], number) for number in numbers]


def place(root: str) -> str:
    """Places the four documents; returns the root."""
    write_documents(f"{root}/documents", SHARDS)
    list_images(ImageListConfig(), f"{root}/documents", f"{root}/list", f"{root}/ledger/pages.urls", workers=0)
    bodies = {"http://img.test/a.jpg": picture(1), "http://img.test/b.jpg": picture(2)}
    fetch(f"{root}/list", f"{root}/shards/pages.urls", bodies)
    place_images(
        PlaceConfig(), f"{root}/documents", f"{root}/list", f"{root}/shards/pages.urls", f"{root}/shards/pages",
        f"{root}/ledger/pages.images", download=DOWNLOAD, workers=0,
    )  # fmt: skip
    uids = [row for shard in list_shards(f"{root}/documents") for row in surviving(shard, None)["uid"].to_pylist()]
    ledger.write_stage(f"{root}/ledger/pages", "capture", [ledger.entry(one, "capture") for one in uids])
    return root


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> str:
    return place(str(tmp_path_factory.mktemp("trim")))


def select(path: str, chosen: list[str]) -> str:
    """A selection file."""
    storage.write_table(path, pa.table({"uid": sorted(chosen), "count": pa.array([1] * len(chosen), pa.int32())}))
    return path


def trim(root: str, name: str = "trimmed", **decisions: Any) -> TrimReport:
    return trim_documents(
        f"{root}/shards/pages", f"{root}/shards/pages.{name}", f"{root}/ledger/pages", workers=0, **decisions
    )


SIZE = [40, 30]


def left(root: str, name: str = "trimmed") -> dict[str, Any]:
    """By address of the document, its nodes, or the rule that dropped it."""
    rows = rows_of(f"{root}/shards/pages.{name}")
    found: dict[str, Any] = {row["url"][-1]: row["rule"] or json.loads(row["nodes"]) for row in rows}
    entries = ledger_of(f"{root}/ledger/pages/trim.parquet")
    assert {row["uid"]: (row["rule"], row["value"]) for row in rows} == entries
    assert ledger.check_balance(f"{root}/ledger/pages") == []
    return found


def test_without_decisions_all_that_is_there_is_left(shared: str) -> None:
    report = trim(shared, "all")
    assert left(shared, "all") == {
        "1": [
            {"text": "First.", "tag": "h1"}, {"image": 0, "size": SIZE}, {"text": "Second.", "tag": "p"},
            {"image": 1, "size": SIZE},
        ],
        "2": [{"image": 0, "size": SIZE}, {"text": "Only.", "tag": "p"}],
        "3": "opt_out",
        "4": "bad_nodes",
    }  # fmt: skip
    assert (report.documents, report.kept, report.images, report.paragraphs) == (4, 2, 3, 3)
    assert report.dropped == {"bad_nodes": 1, "opt_out": 1}
    row = rows_of(f"{shared}/shards/pages.all")[0]
    assert (row["caption"], row["images"], row["texts"], row["title"]) == ("First.\n\nSecond.", 2, 2, "One")
    assert ledger_of(f"{shared}/ledger/pages/trim.parquet")[THREE["uid"]] == ("opt_out", "meta robots: noai")
    assert trim(shared, "with", opt_out=False).dropped == {"bad_nodes": 1}


def test_nodes_that_were_not_selected_go(shared: str, tmp_path: Path) -> None:
    images = select(f"{tmp_path}/images.parquet", uid(ONE, 4))
    paragraphs = select(f"{tmp_path}/paragraphs.parquet", uid(ONE, 2) + uid(THREE, 0))
    trim(shared, "some", images=images, paragraphs=paragraphs)
    assert left(shared, "some") == {
        "1": [{"text": "Second.", "tag": "p"}, {"image": 1, "size": SIZE}],
        "2": "nothing_left", "3": "opt_out", "4": "bad_nodes",
    }  # fmt: skip
    (document,) = read_samples(shard_at(f"{shared}/shards/pages.some", "000000000"))
    placed = next(read_samples(Shard(root=f"{shared}/shards/pages", name="000000000")))
    assert document.images == placed.images[1:]
    sets = [row["image_set"] for row in rows_of(f"{shared}/shards/pages.some")]
    assert sets[1:] == [None] * 3
    trim(shared, "b", images=select(f"{tmp_path}/b.parquet", uid(ONE, 4) + uid(TWO, 0)))
    assert [row["image_set"] for row in rows_of(f"{shared}/shards/pages.b")] == [sets[0], sets[0], None, None]
    trim(shared, "images", images=select(f"{tmp_path}/none.parquet", []))
    assert left(shared, "images")["2"] == [{"text": "Only.", "tag": "p"}]
    trim(shared, "texts", paragraphs=select(f"{tmp_path}/none.parquet", []))
    assert left(shared, "texts")["1"] == [{"image": 0, "size": SIZE}, {"image": 1, "size": SIZE}]


def test_a_node_that_fails_a_required_clause_drops_its_document(shared: str, tmp_path: Path) -> None:
    required = [f"{tmp_path}/images.required.parquet", f"{tmp_path}/paragraphs.required.parquet"]
    nodes = [*uid(ONE, 4, 1), "f" * 32]
    storage.write_table(required[0], pa.table({"uid": nodes, "rule": ["clip.nsfw < 0.5", "a: b", "never"]}))
    trim(shared, "required", required=required, images=select(f"{tmp_path}/none.parquet", []))
    assert left(shared, "required")["1"] == "a: b", "the first node that fails, kept or not"
    assert ledger_of(f"{shared}/ledger/pages/trim.parquet")[ONE["uid"]] == ("a: b", uid(ONE, 1)[0])
    storage.write_table(required[1], pa.table({"uid": uid(TWO, 1), "rule": ["language.en > 0.5"]}))
    report = trim(shared, "required", required=required, images=select(f"{tmp_path}/none.parquet", []))
    assert report.dropped == {"a: b": 1, "bad_nodes": 1, "language.en > 0.5": 1, "opt_out": 1}
    assert report.resumed == 0, "other decisions, another view"


def test_decisions_that_did_not_change_are_not_taken_again(tmp_path: Path) -> None:
    root = place(str(tmp_path))
    chosen = select(f"{root}/images.parquet", uid(ONE, 1))
    first = trim(root, images=chosen)
    file = tmp_path / "shards/pages.trimmed/000000000.parquet"
    before = file.stat().st_mtime_ns
    again = trim(root, images=chosen)
    assert (file.stat().st_mtime_ns, again.resumed, again.kept) == (before, 2, first.kept)
    data = file.read_bytes()
    storage.remove(str(file.with_name("000000000_stats.json")))
    assert trim(root, images=chosen).resumed == 1
    assert file.read_bytes() == data
    select(chosen, uid(ONE, 4))
    assert trim(root, images=chosen).resumed == 0
    assert file.read_bytes() != data


def test_documents_of_shards_that_failed_are_counted(tmp_path: Path) -> None:
    root = place(str(tmp_path))
    storage.write_bytes(f"{root}/shards/pages/000000000.parquet", b"PAR1 nothing PAR1")
    for file in (".tar", ".parquet", "_stats.json"):
        storage.remove(f"{root}/shards/pages/000000001{file}")
    report = trim(root, documents=f"{root}/documents")
    assert list(report.failed) == ["000000000"]
    assert report.kept == 0
    assert report.dropped == {"shard_failed": 4}
    assert ledger.check_balance(f"{root}/ledger/pages") == []


def test_other_folders_are_left_alone(shared: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="without a record of what they are made from"):
        trim_documents(f"{shared}/shards/pages", f"{shared}/shards/pages.urls", f"{tmp_path}/ledger", workers=0)
    with pytest.raises(ValueError, match="holds placed documents, not trimmed documents"):
        trim_documents(f"{shared}/shards/pages", f"{shared}/shards/pages", f"{tmp_path}/ledger", workers=0)
    assert list_shards(f"{shared}/shards/pages")
    with pytest.raises(ValueError, match="beside"):
        trim_documents(f"{shared}/shards/pages", f"{tmp_path}/trimmed", f"{tmp_path}/ledger", workers=0)
    with pytest.raises(ValueError, match="place them first"):
        trim_documents(f"{tmp_path}/none", f"{tmp_path}/trimmed", f"{tmp_path}/ledger", workers=0)


def test_a_document_as_a_person_sees_it(shared: str) -> None:
    entries = [
        ledger.entry(uid(ONE, 0)[0], "select", rule="caption.words > 2", value="caption.words=1"),
        ledger.entry(uid(ONE, 2)[0], "select"),
    ]
    ledger.write_stage(f"{shared}/ledger/pages.paragraphs", "select", entries)
    roots = {"images_ledger": f"{shared}/ledger/pages.images", "paragraphs_ledger": f"{shared}/ledger/pages.paragraphs"}
    shard = Shard(root=f"{shared}/shards/pages", name="000000000")
    document = read_document(shard, ONE["uid"], **roots)
    assert document.row["title"] == "One"
    assert [(node.kept, node.stage, node.rule, node.value) for node in document.nodes] == [
        (False, "select", "caption.words > 2", "caption.words=1"),
        (True, None, None, None),
        (True, None, None, None),
        (False, "download", "http_404", "http_404: Not Found"),
        (True, None, None, None),
    ]
    placed = next(read_samples(shard))
    assert [node.image for node in document.nodes if node.image] == list(placed.images)
    assert document.nodes[0].node == {"text": "First.", "tag": "h1"}
    broken = read_document(Shard(root=f"{shared}/shards/pages", name="000000001"), BROKEN["uid"], **roots)
    assert (broken.nodes, broken.row["error_message"][:9]) == ((), "bad_nodes")
    with pytest.raises(LookupError, match="no document"):
        read_document(shard, "0" * 32, **roots)


def test_on_s3(s3_root: str, shared: str) -> None:
    place(s3_root)
    assert trim(s3_root) == trim(shared, "local")
    for name in ("000000000.parquet", "000000001.parquet"):
        remote = storage.read_bytes(f"{s3_root}/shards/pages.trimmed/{name}")
        assert remote == storage.read_bytes(f"{shared}/shards/pages.local/{name}")
    assert len(list(read_samples(shard_at(f"{s3_root}/shards/pages.trimmed", "000000000")))) == 2
