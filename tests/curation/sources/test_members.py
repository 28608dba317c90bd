"""Samples whose files lie side by side: WebDataset tars of anybody, compressed ones, and folders."""

import gzip
import io
import json
import logging
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.sources import members
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.packing.export.items import kind_of
from tests.curation.sources.conftest import as_tar, pairs, picture, write_tar

BEFORE = ["", "./", "train/", "train.v1/"]


@pytest.mark.parametrize("before", BEFORE)
def test_keys_are_webdatasets_whatever_folder_they_are_in(tmp_path: Path, indexed: Any, before: str) -> None:
    members = as_tar(pairs(), before=before)
    members += [(f"{before}._{name.rpartition('/')[2]}", b"Mac OS X") for name, _ in members]
    found = indexed(write_tar(tmp_path / "in" / "cc3m-train-0001.tar", members).parent)
    assert found.captions == {pair["caption"]: (pair["image"],) for pair in pairs()}
    assert [row["uid"] for row in found.rows] == [pair_uid(p["json"]["url"], p["caption"]) for p in pairs()]
    assert found.report.copied == 0
    assert not list((tmp_path / "out").rglob("*.tar"))


def test_the_same_key_in_two_folders_is_two_samples(tmp_path: Path, indexed: Any) -> None:
    members = as_tar(pairs(2), before="a/") + as_tar([{**pairs(1)[0], "image": picture(9)}], before="b/")
    found = indexed(write_tar(tmp_path / "x.tar", members))
    assert found.report.rows == 3
    assert sorted(row["source_key"] for row in found.rows) == ["a/000000000", "a/000000001", "b/000000000"]


@pytest.mark.parametrize(("extension", "kind"), [("png", "PNG"), ("webp", "WEBP"), ("avif", "AVIF"), ("JPEG", "JPEG")])
def test_images_of_every_kind_and_captions_in_every_place(
    tmp_path: Path, indexed: Any, extension: str, kind: str
) -> None:
    data = picture(3, kind, (33, 21))
    members = [
        *as_tar([{"key": "a", "image": data, "caption": "in txt", "extension": extension}]),
        *as_tar([{"key": "b", "image": data, "caption": "in caption", "extension": extension, "text": "caption"}]),
        (f"c.{extension}", data),
        ("c.json", json.dumps({"caption": "in json"}).encode()),
    ]
    found = indexed(write_tar(tmp_path / "x.tar", members))
    assert found.captions == {"in txt": (data,), "in caption": (data,), "in json": (data,)}
    assert {(row["width"], row["height"], row["images"]) for row in found.rows} == {(33, 21, 1)}


def test_the_first_bytes_say_what_a_file_is(tmp_path: Path, indexed: Any) -> None:
    (tmp_path / "in").mkdir()
    write_tar(tmp_path / "in" / "shard-000.bin", as_tar(pairs(2)))
    with gzip.open(tmp_path / "in" / "b.TAR", "wb") as file:
        packed = io.BytesIO()
        packed.write(write_tar(tmp_path / "plain", as_tar(pairs(2, first=2))).read_bytes())
        file.write(packed.getvalue())
    found = indexed(tmp_path / "in")
    assert found.captions == {pair["caption"]: (pair["image"],) for pair in pairs(4)}
    assert found.report.copied == 2, "what is compressed lies nowhere as it is"
    assert indexed([tmp_path / "plain"], out="again").rows[0]["uid"] == pair_uid(
        "http://x.test/2.jpg", "harbour number 2"
    )


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_a_sample_that_lie_apart_are_put_together_and_it_is_said(
    tmp_path: Path, indexed: Any, caplog: pytest.LogCaptureFixture, packed: bool
) -> None:
    members = sorted(as_tar(pairs(3)), key=lambda member: member[0].rpartition(".")[2])
    path = write_tar(tmp_path / "x.tar", members)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        found = indexed(path)
    assert found.captions == {pair["caption"]: (pair["image"],) for pair in pairs(3)}
    assert "6 files lie apart" in caplog.text


def test_several_images_of_a_sample_are_in_the_order_of_their_numbers(tmp_path: Path, indexed: Any) -> None:
    images = [picture(number) for number in range(12)]
    members = [(f"a.{number}.jpg", data) for number, data in enumerate(images)]
    turns = [{"from": "human", "value": "<image>" * 12}, {"from": "gpt", "value": "many"}]
    members.append(("a.json", json.dumps({"conversations": turns}).encode()))
    found = indexed(write_tar(tmp_path / "x.tar", members), kind="conversation")
    (sample,) = found.samples
    assert [image.data for image in sample.images] == images
    assert (found.rows[0]["images"], found.rows[0]["widths"]) == (12, [40] * 12)
    assert json.loads(found.rows[0]["conversations"]) == turns


def test_a_name_that_is_no_text_costs_a_copy(tmp_path: Path, indexed: Any) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (pair,) = pairs(1)
    for ending, data in (("jpg", pair["image"]), ("txt", pair["caption"].encode())):
        with open(os.fsencode(folder) + b"/bild-\xfc." + ending.encode(), "wb") as file:
            file.write(data)
    found = indexed(folder)
    assert found.captions == {pair["caption"]: (pair["image"],)}
    assert found.report.copied == 1


def test_columns_of_the_json_may_be_named(tmp_path: Path, indexed: Any) -> None:
    own = [
        {**pair, "json": {"alt": f"alt {pair['key']}", "uuid": f"{number:032X}"}}
        for number, pair in enumerate(pairs(2))
    ]
    path = write_tar(tmp_path / "x.tar", as_tar([*own, {**pairs(3)[2], "json": {"alt": ["a", "list"]}}]))
    found = indexed(path, columns={"caption": "alt", "uid": "uuid"})
    assert found.captions == {f"alt {pair['key']}": (pair["image"],) for pair in own}
    assert [row["uid"] for row in found.rows[:2]] == [f"{number:032x}" for number in range(2)]
    assert found.report.dropped == {"bad_caption": 1}


def img2dataset(folder: Path) -> list[dict[str, Any]]:
    """The rows that img2dataset writes beside its samples: one of them failed."""
    rows = [
        {"key": pair["key"], **pair["json"], "status": "success", "error_message": None, "width": 40, "height": 30,
         "similarity": 0.25, "thumb": {"bytes": pair["image"], "path": None}}
        for pair in pairs(3)
    ]  # fmt: skip
    rows.append({**rows[0], "key": "000000003", "url": "http://x.test/gone.jpg", "status": "failed_to_download",
                 "error_message": "HTTP Error 404: Not Found"})  # fmt: skip
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(rows), folder / "00000.parquet")
    (folder / "00000_stats.json").write_text('{"count": 4, "successes": 3}')
    return rows


@pytest.mark.parametrize("kind", ["webdataset", "files", "parquet"])
def test_img2datasets_formats_give_the_same_samples(tmp_path: Path, indexed: Any, kind: str) -> None:
    folder = tmp_path / "in"
    rows = img2dataset(folder)
    if kind == "webdataset":
        write_tar(folder / "00000.tar", as_tar(pairs(3)))
    elif kind == "files":
        (folder / "00000").mkdir()
        for name, data in as_tar(pairs(3)):
            (folder / "00000" / name).write_bytes(data)
    else:
        images = [pair["image"] for pair in pairs(3)] + [None]
        table = pa.Table.from_pylist([{**row, "jpg": image} for row, image in zip(rows, images, strict=True)])
        pq.write_table(table, folder / "00000.parquet")
    found = indexed(folder)
    assert found.captions == {pair["caption"]: (pair["image"],) for pair in pairs(3)}
    assert [row["uid"] for row in found.rows] == [pair_uid(row["url"], row["caption"]) for row in rows]
    assert [row["similarity"] for row in found.rows] == [0.25] * 4
    assert [row["status"] for row in found.rows] == ["success"] * 3 + ["failed_to_download"]
    assert "thumb" not in found.rows[0], "bytes are in no row"
    assert found.report.dropped == {"HTTP Error 404": 1}
    assert found.report.copied == 0


def test_a_row_beside_a_tar_that_is_too_long_costs_its_sample(
    tmp_path: Path, indexed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dictionary has a text once, however many rows do."""
    monkeypatch.setattr(members, "MAX_TEXT", 1_000)
    write_tar(tmp_path / "x.tar", as_tar([{**pair, "json": None} for pair in pairs(3)]))
    keys = [pair["key"] for pair in pairs(3)] + ["gone"]
    texts = pa.DictionaryArray.from_arrays(pa.array([1, 0, 1, 0], pa.int32()), pa.array(["x" * 2_000, "short"]))
    pq.write_table(pa.table({"key": keys, "note": texts}), tmp_path / "x.parquet")
    found = indexed(tmp_path / "x.tar")
    assert [row["status"] for row in found.rows] == ["success", "failed_to_index", "success", "failed_to_index"]
    assert [row["note"] for row in found.rows] == ["short", None, "short", None]
    for row in found.rows[1::2]:
        assert row["error_message"].startswith("bad_row: in x.parquet: a row of 2,0")


def test_a_sample_that_cannot_be_one_costs_itself(tmp_path: Path, indexed: Any) -> None:
    good = pairs(1)
    members = [
        *as_tar(good),
        *as_tar([{"key": "html", "image": b"<html>not found</html>", "caption": "a page"}]),
        ("lone.txt", b"a caption alone"),
        ("latin.jpg", picture(5)),
        ("latin.txt", "Hafen für Gäste".encode("latin-1")),
        ("readme.md", b"# not a sample"),
    ]
    found = indexed(write_tar(tmp_path / "x.tar", members))
    assert found.captions == {good[0]["caption"]: (good[0]["image"],)}
    assert found.report.dropped == {"bad_image": 1, "no_image": 1, "bad_caption": 1}
    assert found.report.rows == found.report.samples + sum(found.report.dropped.values())


def test_a_tar_that_breaks_off_is_named_and_the_others_are_read(tmp_path: Path, indexed: Any) -> None:
    whole = write_tar(tmp_path / "in" / "a.tar", as_tar(pairs(2)))
    cut = tmp_path / "in" / "b.tar"
    cut.write_bytes(write_tar(tmp_path / "b", as_tar(pairs(3, first=2))).read_bytes()[:5000])
    found = indexed(tmp_path / "in")
    assert list(found.report.failed) == [str(cut)]
    assert "damaged" in found.report.failed[str(cut)]
    assert found.report.samples == 2
    assert whole.exists()


@pytest.mark.parametrize("packed", [False, True])
def test_a_header_that_cannot_be_read_is_not_the_end(tmp_path: Path, indexed: Any, packed: bool) -> None:
    data = bytearray(write_tar(tmp_path / "a.tar", as_tar(pairs(3))).read_bytes())
    data[data.index(b"000000001.txt") + 150] ^= 1
    path = tmp_path / "b.tar"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert "is no file of a tar" in indexed(path).report.failed[str(path)]


def test_a_tar_without_an_end_is_read_and_it_is_said(
    tmp_path: Path, indexed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_tar(tmp_path / "a.tar", as_tar(pairs(2)))
    path.write_bytes(path.read_bytes().rstrip(b"\0") + b"\0" * (-len(path.read_bytes().rstrip(b"\0")) % 512))
    assert indexed(path).report.samples == 2
    assert "has no end" in caplog.text


def test_a_tar_that_is_called_parquet_has_none_beside_it(tmp_path: Path, indexed: Any) -> None:
    path = write_tar(tmp_path / "in" / "a.parquet", as_tar(pairs(2)))
    assert len(indexed(path).samples) == 2
    assert len(indexed(tmp_path / "in", out="folder").samples) == 2


def test_a_mark_of_utf8_is_no_character_of_a_caption(tmp_path: Path, indexed: Any) -> None:
    members = [("a.jpg", picture(1)), ("a.txt", b"\xef\xbb\xbfa harbour"), ("b.jpg", picture(2))]
    path = write_tar(tmp_path / "in" / "a.tar", [*members, ("b.caption", b"\xef\xbb\xbfa pier")])
    assert [sample.caption for sample in indexed(path).samples] == ["a harbour", "a pier"]


def test_json_without_an_image_is_a_sample_of_its_folder_and_a_list_is_not(tmp_path: Path, indexed: Any) -> None:
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A boat."}]
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(3):
        (folder / f"{number}.json").write_text(json.dumps({"conversations": turns, "n": number}, indent=number or None))
        if number:
            (folder / f"{number}.jpg").write_bytes(picture(number))
    found = indexed(folder, kind="conversation")
    assert [(row["n"], row["images"]) for row in found.rows] == [(0, 0), (1, 1), (2, 1)]
    (folder / "all.json").write_text(json.dumps([{"image": "1.jpg", "conversations": turns}]))
    assert [row["images"] for row in indexed(folder, out="list", kind="conversation").rows] == [1]


def test_a_column_of_nodes_makes_no_document_of_a_sample(tmp_path: Path, indexed: Any) -> None:
    rows = [{"image": "0.jpg", "caption": "a boat", "nodes": [1, 2]}, {"image": "0.jpg", "nodes": [{"text": "x"}]}]
    (tmp_path / "0.jpg").write_bytes(picture(0))
    (tmp_path / "x.json").write_text(json.dumps(rows))
    found = indexed(tmp_path / "x.json")
    assert json.loads(found.rows[0]["source_nodes"]) == [1, 2]
    assert "nodes" not in found.rows[0]
    assert kind_of(found.shards[0]) == "pair"
    assert found.rows[1]["error_message"].startswith("bad_row: it has nodes, as documents have")
