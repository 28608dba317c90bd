"""Shards written and read back, local and on S3."""

import io
import tarfile
from pathlib import Path

import pyarrow as pa
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import (
    EncodedImage,
    Sample,
    Shard,
    ShardWriter,
    add_member,
    commit_shard,
    list_shards,
    read_rows,
    read_samples,
    warn_of_unfinished,
)


@pytest.fixture(params=["local", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "local" else str(request.getfixturevalue("s3_root"))


def image(data: bytes, extension: str = "jpg") -> EncodedImage:
    return EncodedImage(extension=extension, data=data)


SAMPLES = [
    Sample(key="000", uid="a" * 32, caption="one", images=(image(b"1"),), meta={"url": "http://a.test", "width": 3}),
    Sample(key="001", uid="b" * 32, caption=None, images=(image(b"2", "png"),), meta={"url": "http://b.test"}),
    Sample(key="002", uid="c" * 32, caption="ünïcode", images=(image(b"3"), image(b"4", "webp")), meta={"url": None}),
    Sample(key="003", uid="d" * 32, caption="", images=(), meta={"url": None}),
]


def write(shard: Shard, samples: list[Sample] | None = None) -> Shard:
    with ShardWriter(shard) as writer:
        for sample in SAMPLES if samples is None else samples:
            writer.write(sample)
    return shard


def test_what_is_written_is_read(root: str) -> None:
    shard = write(Shard(root=root, name="00007"))
    assert list_shards(root) == [shard]
    found = list(read_samples(shard))
    assert [(s.key, s.uid, s.caption, s.images) for s in found] == [
        (s.key, s.uid, s.caption, s.images) for s in SAMPLES
    ]
    assert found[0].meta["url"] == "http://a.test"
    rows = read_rows(shard).to_pylist()
    assert [row["uid"] for row in rows] == [s.uid for s in SAMPLES]
    assert {row["status"] for row in rows} == {"success"}
    assert read_rows(shard, ["key"]).column_names == ["key"]
    stats = storage.read_json(shard.stats)
    assert (stats["count"], stats["successes"]) == (4, 4)


def test_a_commit_counts_statuses_and_codes(tmp_path: Path) -> None:
    shard = Shard(root=str(tmp_path), name="00000")
    rows = [("success", None), ("skipped", "opt_out: noai"), ("skipped", "opt_out: robots.txt: a"), ("success", None)]
    names = ["status", "error_message"]
    stats = commit_shard(shard, pa.Table.from_pylist([dict(zip(names, row, strict=True)) for row in rows]), texts=7)
    assert stats == storage.read_json(shard.stats) == {
        "count": 4, "successes": 2, "failed_to_download": 0, "failed_to_resize": 0, "skipped": 2,
        "status_dict": {"opt_out": 2, "success": 2}, "texts": 7,
    }  # fmt: skip
    assert list_shards(str(tmp_path)) == [shard]


def test_a_shard_without_samples_is_one(tmp_path: Path) -> None:
    shard = write(Shard(root=str(tmp_path), name="00000"), [])
    assert list_shards(str(tmp_path)) == [shard]
    assert read_rows(shard, ["uid", "status"]).num_rows == 0
    assert list(read_samples(shard)) == []


def test_only_the_uids_asked_for(root: str) -> None:
    shard = write(Shard(root=root, name="00000"))
    assert [s.key for s in read_samples(shard, {"b" * 32, "d" * 32, "e" * 32})] == ["001", "003"]
    assert list(read_samples(shard, set())) == []


def test_equal_samples_give_equal_bytes(tmp_path: Path) -> None:
    one, two = (write(Shard(root=str(tmp_path / name), name="00000")) for name in ("a", "b"))
    for path in ("tar", "parquet", "stats"):
        assert storage.read_bytes(getattr(one, path)) == storage.read_bytes(getattr(two, path))


def test_a_writer_that_fails_leaves_nothing(root: str) -> None:
    def interrupted() -> None:
        with ShardWriter(Shard(root=root, name="00000")) as writer:
            writer.write(SAMPLES[0])
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        interrupted()
    assert storage.list_names(root) == []


def test_a_shard_without_stats_is_not_there(root: str) -> None:
    shard = write(Shard(root=root, name="00000"))
    storage.remove(shard.stats)
    assert list_shards(root) == []
    for name in ("x_stats.json", "00001_stats.json.abc.partial", "list.json", "00001.json"):
        storage.write_bytes(storage.join(root, name), b"{}")
    assert list_shards(root) == []
    assert list_shards(storage.join(root, "none")) == []


def test_what_is_passed_over_for_want_of_stats_is_named(root: str, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("00000", "00001", "00002"):
        shard = write(Shard(root=root, name=name), SAMPLES[:1])
        warn_of_unfinished(root)
        assert not caplog.text
    storage.remove(shard.stats)
    storage.write_bytes(storage.join(root, "00007.tar"), b"")
    warn_of_unfinished(root)
    assert "2 shards are passed over, as no NUMBER_stats.json says that they are complete: 00002, 00007;" in caplog.text


def test_shards_come_by_name(root: str) -> None:
    for name in ("00010", "00002", "00001"):
        write(Shard(root=root, name=name), SAMPLES[:1])
    assert [shard.name for shard in list_shards(root)] == ["00001", "00002", "00010"]


def test_an_empty_shard(root: str) -> None:
    shard = write(Shard(root=root, name="00000"), [])
    assert list(read_samples(shard)) == []
    assert len(read_rows(shard)) == 0


def test_a_damaged_tar_raises(root: str) -> None:
    shard = write(Shard(root=root, name="00000"))
    data = storage.read_bytes(shard.tar)
    for damaged in (b"x" * 1000, data[:700]):
        storage.write_bytes(shard.tar, damaged)
        with pytest.raises(tarfile.ReadError):
            list(read_samples(shard))


def test_tars_of_other_tools_with_folders_and_times(tmp_path: Path) -> None:
    shard = Shard(root=str(tmp_path), name="00000")
    storage.make_folder(str(tmp_path))
    (tmp_path / "x.json").write_text('{"uid": "' + "a" * 32 + '"}')
    (tmp_path / "x.JPG").write_bytes(b"img")
    with tarfile.open(shard.tar, "w") as tar:
        for name in ("x.JPG", "x.json"):
            tar.add(tmp_path / name, arcname=name)
    (sample,) = read_samples(shard)
    assert sample.images == (image(b"img"),)
    assert sample.caption is None


@pytest.mark.parametrize("extension", ["avif", "AVIF", "heic", "jxl", "jp2"])
def test_members_of_every_decoded_format_are_images(tmp_path: Path, extension: str) -> None:
    shard = Shard(root=str(tmp_path), name="00000")
    (tmp_path / "x.json").write_text('{"uid": "' + "a" * 32 + '"}')
    (tmp_path / f"x.{extension}").write_bytes(b"img")
    with tarfile.open(shard.tar, "w") as tar:
        for name in (f"x.{extension}", "x.json"):
            tar.add(tmp_path / name, arcname=name)
    (sample,) = read_samples(shard)
    assert sample.images == (image(b"img", extension.lower()),)


def test_members_carry_nothing_of_the_machine() -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        add_member(tar, "k" * 150 + ".txt", b"text")
    buffer.seek(0)
    with tarfile.open(fileobj=buffer) as tar:
        (member,) = tar.getmembers()
    assert (member.mtime, member.uid, member.gid, member.uname, member.mode) == (0, 0, 0, "", 0o644)
