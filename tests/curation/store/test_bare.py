"""Shards that others wrote: uids by the house's rule, rows without a parquet, samples that cannot be read."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmcorpus.curation.store import storage, written
from mmcorpus.curation.store.shards import Shard, add_member, no_shards, open_tar, read_rows, read_samples, read_schema
from mmcorpus.curation.store.uid import pair_uid

CAPTIONS = [f"a picture number {n} of a harbour" for n in range(4)]
URLS = [f"http://x.test/{n}.jpg" for n in range(4)]
UIDS = [pair_uid(url, caption) for url, caption in zip(URLS, CAPTIONS, strict=True)]
KEYS = [f"{n:09d}" for n in range(4)]


def rows() -> list[dict[str, Any]]:
    """As img2dataset has them."""
    pairs = zip(KEYS, URLS, CAPTIONS, strict=True)
    return [
        {"key": key, "caption": caption, "url": url, "status": "success", "error_message": None, "width": 64}
        for key, url, caption in pairs
    ]


def members(changes: Mapping[str, bytes | None] | None = None) -> dict[str, bytes]:
    made = {}
    for number, row in enumerate(rows()):
        made[f"{row['key']}.jpg"] = b"picture %d" % number
        made[f"{row['key']}.json"] = json.dumps(row).encode()
        made[f"{row['key']}.txt"] = row["caption"].encode()
    made.update(changes or {})  # type: ignore[arg-type]
    return {name: data for name, data in made.items() if data is not None}


def shard(
    root: Path,
    table: list[dict[str, Any]] | None,
    changes: Mapping[str, bytes | None] | None = None,
) -> Shard:
    made = Shard(root=str(root), name="00000")
    with open_tar(made.tar) as tar:
        for name, data in sorted(members(changes).items()):
            add_member(tar, name, data)
    if table is not None:
        storage.write_table(made.parquet, pa.Table.from_pylist(table))
    storage.write_json(made.stats, {"count": 4, "successes": 4})
    return made


def uids_of(made: Shard) -> list[Any]:
    """By rows and by samples, which must agree."""
    by_key = dict(zip(*(read_rows(made, ["key", "uid"])[name].to_pylist() for name in ("key", "uid")), strict=True))
    found = {sample.key: sample.uid for sample in read_samples(made)}
    assert found.items() <= by_key.items()
    assert [sample.key for sample in read_samples(made, {by_key[KEYS[2]]})] == [KEYS[2]]
    return [found.get(key) for key in KEYS]


@pytest.mark.parametrize("parquet", [True, False])
def test_uids_of_bare_img2dataset_are_those_of_its_download(tmp_path: Path, parquet: bool) -> None:
    made = shard(tmp_path, rows() if parquet else None)
    assert uids_of(made) == UIDS
    assert {"uid", "key", "url", "caption", "status", "width"} <= set(read_schema(made).names)
    table = read_rows(made)
    assert table.schema.names == read_schema(made).names
    assert table["caption"].to_pylist() == CAPTIONS
    assert table["width"].to_pylist() == [64] * 4
    assert [(s.caption, s.images[0].data) for s in read_samples(made)] == [
        (caption, b"picture %d" % number) for number, caption in enumerate(CAPTIONS)
    ]


def test_uids_that_are_null_or_none_in_some_rows(tmp_path: Path) -> None:
    own = "0123456789abcdef0123456789abcdef"
    table = [{**row, "uid": uid} for row, uid in zip(rows(), (own, None, "", "sample-17"), strict=True)]
    json_0 = json.dumps({**rows()[0], "uid": own}).encode()
    made = shard(tmp_path, table, {f"{KEYS[0]}.json": json_0})
    assert uids_of(made) == [own, *UIDS[1:]]


def test_the_sources_own_uids_win_wherever_they_stand(tmp_path: Path) -> None:
    """DataComp's: in the json, in the parquet, in either; UUIDs with dashes are uids as in lists."""
    own = [hashlib.md5(key.encode()).hexdigest() for key in KEYS]
    jsons: dict[str, bytes | None] = {
        f"{row['key']}.json": json.dumps({**row, "uid": uid}).encode() for row, uid in zip(rows(), own, strict=True)
    }
    dashed = [f"{uid[:8]}-{uid[8:12]}-{uid[12:16]}-{uid[16:20]}-{uid[20:]}".upper() for uid in own]
    table = [{**row, "uid": uid} for row, uid in zip(rows(), dashed, strict=True)]
    for name, told, changes in (("a", rows(), jsons), ("b", None, jsons), ("c", table, None), ("d", table, jsons)):
        assert uids_of(shard(tmp_path / name, told, changes)) == own, name


@pytest.mark.parametrize("parquet", [True, False])
def test_without_a_url_the_uid_is_of_the_picture_and_its_caption(tmp_path: Path, parquet: bool) -> None:
    plain = [{name: row[name] for name in ("key", "caption", "status")} for row in rows()]
    jsons: dict[str, bytes | None] = {f"{key}.json": None for key in KEYS}
    found = uids_of(shard(tmp_path / "a", plain if parquet else None, jsons))
    assert len(set(found)) == 4
    # Never of the place: the same pictures under other keys have the same uids.
    names = dict(zip(KEYS, ("x", "y", "z", "w"), strict=True))
    other = Shard(root=str(tmp_path / "b"), name="00007")
    with open_tar(other.tar) as tar:
        for name, data in sorted(members(jsons).items()):
            add_member(tar, names[name[:9]] + name[9:], data)
    assert {names[key]: uid for key, uid in zip(KEYS, found, strict=True)} == {
        s.key: s.uid for s in read_samples(other)
    }


def test_a_shard_without_its_tar_has_uids_of_url_and_caption(tmp_path: Path) -> None:
    made = shard(tmp_path, rows())
    storage.remove(made.tar)
    assert read_rows(made, ["uid"])["uid"].to_pylist() == UIDS


@pytest.mark.parametrize("bad", [b'{"url": ', b"\xff\xfe", b"[1, 2]", b"", b"[" * 100_000])
@pytest.mark.parametrize("parquet", [True, False])
def test_a_json_that_cannot_be_read_costs_no_other_sample(tmp_path: Path, bad: bytes, parquet: bool) -> None:
    made = shard(tmp_path, rows() if parquet else None, {f"{KEYS[1]}.json": bad})
    found = uids_of(made)
    assert [found[0], *found[2:]] == [UIDS[0], *UIDS[2:]]
    (sample,) = (one for one in read_samples(made) if one.key == KEYS[1])
    if parquet:  # its row says what the json does not
        assert (sample.uid, sample.meta["url"]) == (UIDS[1], URLS[1])
    else:
        told = read_rows(made, ["key", "error_message"]).to_pylist()
        assert [bool(row["error_message"]) for row in told] == [False, True, False, False]
        assert told[1]["error_message"].startswith("bad_json: ")


@pytest.mark.parametrize("parquet", [True, False])
def test_a_caption_that_is_not_utf8_is_none_and_never_replaced_text(tmp_path: Path, parquet: bool) -> None:
    made = shard(tmp_path, rows() if parquet else None, {f"{KEYS[1]}.txt": "café à la crème".encode("cp1252")})
    captions = [sample.caption for sample in read_samples(made)]
    assert captions == [CAPTIONS[0], CAPTIONS[1] if parquet else None, *CAPTIONS[2:]]
    if not parquet:
        assert read_rows(made)["error_message"].to_pylist()[1].startswith("bad_caption: ")


def test_what_cannot_be_read_is_noted_for_the_run(tmp_path: Path) -> None:
    made = shard(tmp_path, rows(), {f"{KEYS[1]}.json": b"{"})
    with written.noting() as notes:
        list(read_samples(made))
    assert list(notes.damaged) == [made.tar]


def test_a_sample_of_a_json_alone_is_none(tmp_path: Path) -> None:
    changes: dict[str, bytes | None] = {f"{KEYS[3]}.{end}": None for end in ("jpg", "txt")}
    made = shard(tmp_path, None, {**changes, f"{KEYS[3]}.json": b'{"sha256": "x"}'})
    assert read_rows(made, ["key"])["key"].to_pylist() == KEYS[:3]
    assert [sample.key for sample in read_samples(made)] == KEYS[:3]


def test_fields_of_several_types_are_json_text(tmp_path: Path) -> None:
    made = shard(
        tmp_path, None, {f"{KEYS[1]}.json": b'{"url": "http://y.test/", "width": "wide", "caption": "\\ud800"}',
                         f"{KEYS[1]}.txt": None}
    )  # fmt: skip
    assert read_rows(made)["width"].to_pylist() == ["64", '"wide"', "64", "64"]
    assert read_rows(made)["caption"].to_pylist()[1] == "?"


def test_a_folder_of_other_names_says_which_are_needed(tmp_path: Path) -> None:
    (tmp_path / "cc12m-train-0000.tar").write_bytes(b"")
    with pytest.raises(ValueError, match=r"cc12m-train-0000\.tar.*NUMBER_stats\.json.*mmcorpus index"):
        raise no_shards(str(tmp_path))
    with pytest.raises(ValueError, match="download first"):
        raise no_shards(str(tmp_path / "nothing"))


def test_uids_that_are_no_text_name_the_file(tmp_path: Path) -> None:
    """A flipped bit in a string that parquet does not check."""
    made = shard(tmp_path, rows())
    table = pa.Table.from_pylist(rows())
    uids = pa.array([b"\xe1" * 32] * len(table), pa.binary()).view(pa.string())
    storage.write_table(made.parquet, table.append_column("uid", uids))
    with pytest.raises(storage.Damaged, match=r"00000\.parquet"):
        read_rows(made)


@pytest.mark.parametrize("parquet", [True, False])
def test_conversations_that_are_lists_become_their_json(tmp_path: Path, parquet: bool) -> None:
    """Two of one picture are two samples; a lone surrogate in one changes no other."""
    talks = [[{"from": "human", "value": f"what {n}?"}, {"from": "gpt", "value": "é"}] for n in range(4)]
    told = [
        {**row, "url": URLS[0], "caption": None, "conversations": talk} for row, talk in zip(rows(), talks, strict=True)
    ]
    texts = [json.dumps(talk, ensure_ascii=False) for talk in talks]
    if not parquet:
        told[3]["conversations"] = json.dumps([{"from": "human", "value": "\ud800"}])
        told[3]["note"] = "\ud800 alone"
        texts[3] = told[3]["conversations"]
    changes = {f"{row['key']}.json": json.dumps(row).encode() for row in told}
    made = shard(tmp_path, told if parquet else None, changes | {f"{key}.txt": None for key in KEYS})
    found = read_rows(made)
    assert found["conversations"].to_pylist() == texts
    assert found["uid"].to_pylist() == [pair_uid(URLS[0], text) for text in texts]
    if not parquet:
        assert found["note"].to_pylist() == [None, None, None, "? alone"]
