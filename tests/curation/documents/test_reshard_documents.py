"""Trimmed documents as shards of their own: what is left of them, and nothing else."""

import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmcorpus.curation.documents.export_obelics import export_obelics
from mmcorpus.curation.documents.trim import trim_documents
from mmcorpus.curation.selection.blur_faces import FaceBlurring
from mmcorpus.curation.selection.reshard import reshard
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import SUCCESS, list_shards, read_rows, read_samples
from mmcorpus.curation.store.storage import Damaged
from mmcorpus.curation.store.views import read_kept
from mmcorpus.packing.inputs import open_tar, read_texts
from tests.curation.documents.test_export_obelics import PAGES, build

UIDS = [row["uid"] for shard in PAGES for row in shard]


@pytest.fixture(scope="module")
def trimmed(tmp_path_factory: pytest.TempPathFactory) -> str:
    return build(str(tmp_path_factory.mktemp("reshard")))


def selection(counts: dict[str, int]) -> pa.Table:
    return pa.table({"uid": list(counts), "count": pa.array(list(counts.values()), pa.int32())})


def test_a_view_without_its_file_is_named(trimmed: str, tmp_path: Path) -> None:
    shutil.copytree(Path(trimmed).parent, tmp_path / "shards")
    (tmp_path / "shards" / Path(trimmed).name / "view.json").unlink()
    (shard,) = list_shards(str(tmp_path / "shards" / Path(trimmed).name))[:1]
    with pytest.raises(Damaged, match=r"view\.json is damaged, or no view of documents: it is gone, or .*\.tar is"):
        list(read_kept(shard, UIDS))


@pytest.mark.usefixtures("in_process")
def test_documents_stand_on_their_own(trimmed: str, tmp_path: Path) -> None:
    out = str(tmp_path / "out")
    report = reshard(trimmed, selection({UIDS[0]: 2, UIDS[1]: 1, UIDS[2]: 1}), out, samples_per_shard=3)
    assert (report.shards, report.samples, report.missing, report.failed) == (2, 4, (), {})
    first, second = list_shards(out)
    assert first.level == ""
    with tarfile.open(first.tar) as tar:
        names = tar.getnames()
        told: dict[str, Any] = json.load(tar.extractfile("000000000.json") or pytest.fail("no json"))
    assert names == [
        *(f"000000000.{end}" for end in ("000.jpg", "001.jpg", "txt", "json")),
        *(f"000000001-1.{end}" for end in ("000.jpg", "001.jpg", "txt", "json")),
        *(f"000000002.{end}" for end in ("000.jpg", "txt", "json")),
    ]
    assert [node.get("text", node.get("image")) for node in told["nodes"]] == ["It stands.", 0, "- one\n- two", 1]
    assert told["nodes"][1] | {"sha256": ""} == {
        "url": "http://img.test/1.jpg", "alt": "Ein Türmchen", "width": 40, "image": 0, "size": [64, 50],
        "original_width": 90, "original_height": 70, "original_format": "jpeg", "sha256": "",
    }  # fmt: skip
    assert (told["url"], told["offset"], told["copy"]) == ("http://a.test/1", 700, 0)
    (words,) = read_samples(second)
    assert (words.caption, words.images) == ("Words alone.", ())
    (source,) = (sample for sample in read_samples(list_shards(trimmed)[0]) if sample.uid == UIDS[0])
    again = next(iter(read_samples(first)))
    assert (again.uid, again.images, again.caption) == (source.uid, source.images, source.caption)
    assert read_rows(first)["status"].to_pylist() == [SUCCESS] * 3


@pytest.mark.usefixtures("in_process")
def test_packing_webdataset_and_the_export_read_them(trimmed: str, tmp_path: Path) -> None:
    import webdataset

    out = str(tmp_path / "out")
    reshard(trimmed, selection(dict.fromkeys(UIDS, 1)), out)
    (shard,) = list_shards(out)
    before, after = (
        {row["uid"]: row for one in list_shards(root) for row in read_texts(one, "document").to_pylist()}
        for root in (trimmed, out)
    )
    assert before.keys() == after.keys() == set(UIDS)
    tar = open_tar(shard.tar)
    for uid, row in after.items():
        numbers = [node["image"] for node in json.loads(row["text"]) if "image" in node]
        assert numbers == list(range(len(numbers)))
        assert len(tar.images(row["key"], numbers)) == len(numbers)
        assert [node.get("text") for node in json.loads(row["text"])] == [
            node.get("text") for node in json.loads(before[uid]["text"])
        ]
    samples = list(webdataset.WebDataset(shard.tar, shardshuffle=False, empty_check=False))
    assert [sample["__key__"] for sample in samples] == ["000000000", "000000001", "000000002"]
    assert {"000.jpg", "001.jpg", "json", "txt"} < set(samples[0])
    exports = tmp_path / "before", tmp_path / "after"
    for root, place in zip((trimmed, out), exports, strict=True):
        report = export_obelics(root, str(place), workers=0)
        assert (report.documents, report.images, report.inline) == (3, 3, 1)
    rows = [
        [row for path in sorted(place.glob("*.parquet")) for row in storage.read_table(str(path)).to_pylist()]
        for place in exports
    ]
    assert rows[0] == rows[1]


@pytest.mark.usefixtures("in_process")
def test_resharded_documents_are_resharded_again_to_the_same_samples(trimmed: str, tmp_path: Path) -> None:
    once, twice = str(tmp_path / "once"), str(tmp_path / "twice")
    everything = selection(dict.fromkeys(UIDS, 1))
    for source, out in ((trimmed, once), (once, twice)):
        reshard(source, everything, out)
    (first,), (second,) = list_shards(once), list_shards(twice)
    assert storage.read_bytes(first.tar) == storage.read_bytes(second.tar)
    assert read_rows(first).to_pylist() == read_rows(second).to_pylist()


@pytest.mark.usefixtures("in_process")
def test_documents_that_were_trimmed_otherwise_are_not_mixed_in(tmp_path: Path) -> None:
    trimmed, out = build(str(tmp_path / "run")), str(tmp_path / "out")
    reshard(trimmed, selection({UIDS[0]: 1}), out)
    placed = trimmed.removesuffix(".trimmed")
    trim_documents(placed, trimmed, f"{tmp_path}/run/ledger/pages", workers=0)
    with pytest.raises(ValueError, match="made from something else"):
        reshard(trimmed, selection({UIDS[0]: 1}), out)


@pytest.mark.usefixtures("in_process")
def test_images_of_documents_become_pairs(trimmed: str, tmp_path: Path) -> None:
    view = trimmed.replace("trimmed", "images")
    uids = [
        row["uid"] for shard in list_shards(view) for row in read_rows(shard).to_pylist() if row["status"] == SUCCESS
    ]
    reshard(view, selection(dict.fromkeys(uids, 1)), str(tmp_path / "out"))
    samples = [sample for shard in list_shards(str(tmp_path / "out")) for sample in read_samples(shard)]
    assert [(sample.caption, len(sample.images)) for sample in samples] == [
        ("- one\n- two", 1), ("two", 1), ("x = 1\n\ny = 2", 1)]  # fmt: skip


def test_faces_of_documents_are_not_blurred(trimmed: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="faces are blurred in pairs"):
        reshard(trimmed, selection({UIDS[0]: 1}), str(tmp_path / "out"), blur=FaceBlurring(scores="x"))
