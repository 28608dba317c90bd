"""Images by reference, from wherever the sources' shards lie; where packs may say that they do."""

import zlib
from pathlib import Path

import pytest

from mmcorpus.curation.store import storage
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.stored_images import ALLOWED, GoneError, Reference, fetch, resolve


def test_a_sequence_may_mix_sources_of_several_stores(tmp_path: Path) -> None:
    folders = {"here": str(tmp_path), "away": "memory://mixed/a", "s": "memory://mixed/b"}
    data = {source: f"bytes of {source}".encode() for source in folders}
    for source, folder in folders.items():
        storage.write_bytes(f"{folder}/00000.tar", b"before" + data[source] + b"after")

    def reference(source: str, shard: str = "00000") -> Reference:
        crc32 = zlib.crc32(data[source])
        return Reference(source=source, shard=shard, offset=6, size=len(data[source]), crc32=crc32, extension="jpg")

    order = ["away", "here", "s", "here", "away"]
    for asked in (order, order[1:], order[::-1]):
        assert [image.data for image in fetch(list(map(reference, asked)), folders)] == [data[one] for one in asked]
    for source in folders:
        with pytest.raises(GoneError, match=f"{folders[source]}/00007.tar, which it refers to, is missing"):
            fetch([*map(reference, order), reference(source, "00007")], folders)
    storage.remove("memory://mixed")


@pytest.mark.parametrize(
    ("named", "root", "found"),
    [
        ("../../shards/web", "/run/packs/one", "/run/shards/web"),
        ("../../shards/web", "file:///run/packs/one", "/run/shards/web"),
        ("/data/web", "/run/packs/one", "/data/web"),
        ("../shards", "s3://ours/packs/", "s3://ours/shards"),
        ("s3://ours/other/shards", "s3://ours/packs", "s3://ours/other/shards"),
        ("https://a.test:8/x", "https://a.test:8/packs", "https://a.test:8/x"),
        ("file:///data", "/run/packs", "file:///data"),
        ("memory:///shards", "memory://run/packs", "memory:///shards"),
    ],
)
def test_folders_of_the_same_store_are_found_from_the_pack(named: str, root: str, found: str) -> None:
    assert resolve(named, root) == found


@pytest.mark.parametrize(
    ("named", "root"),
    [
        ("s3://theirs/shards", "/run/packs"),
        ("s3://theirs/shards", "s3://ours/packs"),
        ("../../theirs/shards", "s3://ours/packs"),
        ("/etc", "s3://ours/packs"),
        ("file:///etc", "https://a.test/packs"),
        ("https://a.test:22/x", "https://a.test/packs"),
        ("sftp://host/data", "/run/packs"),
        ("simplecache::s3://ours/x", "s3://ours/packs"),
        ("filecache::/etc", "/run/packs"),
    ],
)
def test_others_are_read_only_where_the_user_names_them(named: str, root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(PackError, match=f"read from {named}, which is another store .* {ALLOWED}"):
        resolve(named, root)
    monkeypatch.setenv(ALLOWED, "s3://elsewhere/x, s3://theirs/shard")
    with pytest.raises(PackError):
        resolve(named, root)


def test_a_named_folder_is_read_and_nothing_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ALLOWED, "s3://other/x, s3://theirs/shards/")
    for inside in ("s3://theirs/shards", "s3://theirs/shards/web"):
        assert resolve(inside, "/run/packs") == inside
    for beside in ("s3://theirs/shards-2", "s3://theirs/shards/../keys", "s3://theirs"):
        with pytest.raises(PackError):
            resolve(beside, "/run/packs")
