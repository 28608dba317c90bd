"""Where packs may say that their images lie."""

import pytest

from mmcorpus.packing.errors import PackError
from mmcorpus.packing.stored_images import ALLOWED, resolve


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
