"""Shards whose images lie in files of others: read in order and at random, and never what was not indexed."""

import errno
import io
import json
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.engine.readable import unreadable
from mmcorpus.curation.sources import IndexConfig, index
from mmcorpus.curation.store import places, references, storage
from mmcorpus.curation.store.named_files import Outside, path_below
from mmcorpus.curation.store.places import Moved
from mmcorpus.curation.store.references import open_references
from mmcorpus.curation.store.shards import list_shards, read_rows, read_samples, shard_at
from mmcorpus.packing.inputs import open_images
from tests.curation.sources.conftest import as_tar, pairs, write_tar

PAIRS = pairs(5)
DATA = {pair["caption"]: pair["image"] for pair in PAIRS}


def parquet(path: str) -> None:
    images = [{"bytes": pair["image"], "path": None} for pair in PAIRS]
    file = io.BytesIO()
    pq.write_table(pa.table({"image": images, "text": list(DATA)}), file, row_group_size=2)
    storage.write_bytes(path, file.getvalue())


def made(form: str, root: str, out: str) -> str:
    """A file of a form, indexed."""
    if form == "parquet":
        parquet(f"{root}/data.parquet")
    elif form == "files":
        for name, data in as_tar(PAIRS):
            storage.write_bytes(f"{root}/data/{name}", data)
    else:
        local = write_tar(Path(out.removeprefix("memory://")) / "x.tar", as_tar(PAIRS))
        storage.write_bytes(f"{root}/data.tar", local.read_bytes())
        local.unlink()
    index(IndexConfig(), [root], f"{out}/shards", f"{out}/ledger", workers=0, shown=False)
    return f"{out}/shards"


@pytest.fixture
def remote() -> Iterator[str]:
    fs = fsspec.filesystem("memory")
    yield "memory://bucket/data"
    fs.store.clear()


@pytest.mark.parametrize("where", ["local", "remote"])
@pytest.mark.parametrize("form", ["tar", "parquet", "files"])
def test_images_are_read_in_order_and_at_random(tmp_path: Path, remote: str, form: str, where: str) -> None:
    out = made(form, str(tmp_path / "in") if where == "local" else remote, str(tmp_path / "out"))
    (shard,) = list_shards(out)
    assert shard.references
    assert shard_at(out, shard.name) == shard
    assert {sample.caption: sample.images[0].data for sample in read_samples(shard)} == DATA
    rows = read_rows(shard).to_pylist()
    images = open_images(shard)
    for row in reversed(rows):
        assert [image.data for image in images.images(row["key"])] == [DATA[row["caption"]]]
        assert images.images(row["key"], [0])[0].extension == "jpg"
        assert images.images(row["key"], []) == ()
    some = {row["uid"] for row in rows[1::2]}
    assert {sample.uid for sample in read_samples(shard, some)} == some
    for missing in ((rows[0]["key"], [1]), ("no such key", [0])):
        with pytest.raises(LookupError, match="no image"):
            images.images(*missing)


@pytest.mark.parametrize("form", ["tar", "parquet"])
@pytest.mark.parametrize("change", ["longer", "later", "gone"])
def test_a_file_that_has_changed_since_is_named(tmp_path: Path, form: str, change: str) -> None:
    out = made(form, str(tmp_path / "in"), str(tmp_path / "out"))
    (shard,) = list_shards(out)
    (path,) = (tmp_path / "in").iterdir()
    if change == "longer":
        path.write_bytes(path.read_bytes() + b"\0" * 512)
    elif change == "later":
        os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    else:
        path.unlink()
    with pytest.raises(Moved, match=f"{path} .*ind(ex again|exed)"):
        list(read_samples(shard))
    images = open_images(shard)
    with pytest.raises(LookupError, match=str(path)):
        images.images(read_rows(shard)["key"][0].as_py())
    assert str(path) in images.damage


def test_a_file_of_its_own_that_has_changed_costs_its_sample(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    out = made("files", str(tmp_path / "in"), str(tmp_path / "out"))
    (shard,) = list_shards(out)
    files = sorted((tmp_path / "in" / "data").glob("*.jpg"))
    files[1].write_bytes(PAIRS[2]["image"])
    files[2].unlink()
    lost = {PAIRS[1]["caption"], PAIRS[2]["caption"]}
    assert {sample.caption for sample in read_samples(shard) if not sample.images} == lost
    assert "2 of 5 images are lost" in caplog.text
    assert str(files[1]) in caplog.text
    for file in files:
        file.unlink(missing_ok=True)
    with pytest.raises(Moved, match="is gone since it was indexed"):
        list(read_samples(shard))


@pytest.mark.parametrize("form", ["tar", "parquet", "files"])
def test_a_file_that_was_mended_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    out = made(form, str(tmp_path / "in"), str(tmp_path / "out"))
    (shard,) = list_shards(out)
    keys = read_rows(shard, ["key"])["key"].to_pylist()
    monkeypatch.setattr(references, "_SURE", 0.0)
    images = open_images(shard)
    first = images.images(keys[0])
    moved = [path for path in sorted((tmp_path / "in").rglob("*")) if path.suffix not in ("", ".txt", ".json")]
    for path in moved:
        path.rename(f"{path}.away")
    with pytest.raises(Moved, match="is gone since it was indexed"):
        images.images(keys[1])
    assert bool(images.damage) == (form != "files")
    for path in moved:
        Path(f"{path}.away").rename(path)
    again = open_images(shard)
    assert [len(again.images(key)) for key in keys] == [1] * 5
    assert again.images(keys[0]) == first
    assert not again.damage


def test_no_thread_reads_a_file_before_it_was_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = made("tar", str(tmp_path / "in"), str(tmp_path / "out"))
    (shard,) = list_shards(out)
    (path,) = (tmp_path / "in").iterdir()
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 10**9))
    looking, answered = threading.Event(), threading.Event()

    def slow(path: str, real: Any = places.state_of) -> Any:
        if not looking.is_set():
            looking.set()
            answered.wait(10)
        return real(path)

    monkeypatch.setattr(places, "state_of", slow)
    found = open_references(shard.root, shard.name)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(found.image, 0)
        assert looking.wait(10)
        with pytest.raises(Moved, match="was written again"):
            found.image(1)
        answered.set()
        with pytest.raises(Moved, match="was written again"):
            waiting.result()


@pytest.mark.parametrize("where", ["state_of", "read_range"])
@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO, errno.EMFILE])
def test_a_file_that_cannot_be_read_costs_its_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, number: int
) -> None:
    out = made("files", str(tmp_path / "in"), str(tmp_path / "out"))
    (shard,) = list_shards(out)
    (bad,) = (path for path in (tmp_path / "in").rglob("*.jpg") if path.read_bytes() == PAIRS[3]["image"])
    reader = places if where == "state_of" else references
    real = getattr(reader, where)

    def failing(path: str, *more: int) -> Any:
        if path == str(bad):
            raise OSError(number, os.strerror(number), path)
        return real(path, *more)

    monkeypatch.setattr(references, "read_whole", lambda *_: None)  # which says nothing of what it cannot open
    monkeypatch.setattr(reader, where, failing)
    if number == errno.EMFILE:
        with pytest.raises(OSError, match="Too many open files"):  # the process's, which is no sample's
            list(read_samples(shard))
        return
    lost = {sample.caption for sample in read_samples(shard) if not sample.images}
    assert lost == {PAIRS[3]["caption"]}
    (key,) = (row["key"] for row in read_rows(shard).to_pylist() if row["caption"] in lost)
    with pytest.raises(LookupError, match=f"{bad} cannot be read: {os.strerror(number)}"):
        open_images(shard).images(key)


def test_a_table_that_cannot_be_read_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = made("parquet", str(tmp_path / "in"), str(tmp_path / "out"))
    (shard,) = list_shards(out)

    def failing(*_: Any) -> Any:
        raise PermissionError(errno.EACCES, "Permission denied")

    key = read_rows(shard)["key"][0].as_py()
    with monkeypatch.context() as patched:
        patched.setattr(references, "images_of_rows", failing)
        with pytest.raises(Moved, match=r"data\.parquet cannot be read: Permission denied"):
            list(read_samples(shard))
        images = open_images(shard)
        with pytest.raises(Moved, match=r"data\.parquet cannot be read"):
            images.images(key)
        assert "data.parquet" in images.damage
    assert len(open_images(shard).images(key)) == 1


@pytest.mark.parametrize("file", ["../x", "a/../../x", "/etc/hostname", "link", "\0"])
def test_paths_stay_below_their_root(tmp_path: Path, file: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "x").write_bytes(b"secret")
    os.symlink(tmp_path / "x", root / "link")
    with pytest.raises(Outside):
        path_below(str(root), file)
    if file != "link":
        with pytest.raises(Outside):
            path_below("memory://bucket/root", file)


def test_a_table_that_was_tampered_with_leads_nowhere(tmp_path: Path) -> None:
    out = made("files", str(tmp_path / "in"), str(tmp_path / "out"))
    (shard,) = list_shards(out)
    table = storage.read_table(shard.images)
    place = table.column_names.index("file")
    files = pa.array(["../../secret"] * len(table))
    storage.write_table(shard.images, table.set_column(place, "file", files))
    with pytest.raises(Moved, match="leads out of"):
        open_references(shard.root, shard.name).image(0)
    storage.write_json(storage.join(out, places.REFERENCES_FILE), {"roots": "here"})
    with pytest.raises(ValueError, match="is not of mmcorpus"):
        list(read_samples(shard))


@pytest.mark.parametrize(
    "changed",
    [
        {"offset": 10**9}, {"size": 10**12}, {"offset": -5}, {"size": -5}, {"offset": 2**63 - 1, "size": 2**63 - 1},
        {"offset": None, "size": None}, {"file": None}, {"root": None}, {"file_size": None}, {"row": -1, "item": 0},
        {"root": -1, "file": "own.tar", "size": 2**40}, {"row": 0, "item": None}, {"root": -2}, {"file": "a\0b"},
    ],
    ids=str,
)  # fmt: skip
def test_a_row_of_the_table_that_cannot_be_is_told_with_the_tables_name(
    tmp_path: Path, changed: dict[str, Any]
) -> None:
    out = made("tar", str(tmp_path / "in"), str(tmp_path / "out"))
    (shard,) = list_shards(out)
    table = storage.read_table(shard.images)
    rows = table.to_pylist()
    rows[1] |= changed
    storage.write_table(shard.images, pa.Table.from_pylist(rows, schema=table.schema))
    with pytest.raises(Moved, match=rf"{re.escape(shard.images)} .*index again"):
        open_references(shard.root, shard.name).image(1)
    assert open_references(shard.root, shard.name).image(0)
    assert [len(sample.images) for sample in read_samples(shard)] == [1, 0, 1, 1, 1]
    assert "what cannot be" in unreadable(shard.images) or "which" in unreadable(shard.images)


@pytest.mark.parametrize(
    ("form", "changed"),
    [
        ("tar", {"file": "gone.tar"}), ("tar", {"file_size": 10**6}), ("tar", {"modified": "0"}), ("tar", {"root": -1}),
        ("tar", {"key": None}),
        ("tar", {"number": None}), ("tar", {"extension": None}), ("tar", {"root": 7}), ("tar", {"key": "another"}),
        ("parquet", {"row": 10**6}), ("parquet", {"item": 5}), ("parquet", {"columns": "nowhere"}),
        ("parquet", {"columns": "text"}), ("parquet", {"root": 7}), ("files", {"file": "data/gone.jpg"}),
    ],
    ids=str,
)  # fmt: skip
def test_a_row_that_is_of_no_image_costs_its_sample(tmp_path: Path, form: str, changed: dict[str, Any]) -> None:
    out = made(form, str(tmp_path / "in"), str(tmp_path / "out"))
    (shard,) = list_shards(out)
    table = storage.read_table(shard.images)
    rows = table.to_pylist()
    rows[1] |= changed
    storage.write_table(shard.images, pa.Table.from_pylist(rows, schema=table.schema))
    assert [len(sample.images) for sample in read_samples(shard)] == [1, 0, 1, 1, 1]
    images, keys = open_images(shard), read_rows(shard, ["key"])["key"].to_pylist()
    for key in keys[:1] + keys[2:]:
        assert len(images.images(key)) == 1
    assert not images.damage
    if rows[1]["key"] != keys[1]:
        assert images.images(keys[1]) == ()  # which the packer counts
        return
    with pytest.raises(LookupError):
        images.images(keys[1])
    assert bool(images.damage) == (changed.keys().isdisjoint({"file"}) and changed != {"root": -1})


def test_a_row_of_another_sample_is_not_read_as_its_image(tmp_path: Path) -> None:
    out = made("tar", str(tmp_path / "in"), str(tmp_path / "out"))
    (shard,) = list_shards(out)
    table = storage.read_table(shard.images)
    rows = table.to_pylist()
    rows[3]["key"] = rows[0]["key"]
    storage.write_table(shard.images, pa.Table.from_pylist(rows, schema=table.schema))
    assert [len(sample.images) for sample in read_samples(shard)] == [0, 1, 1, 0, 1]


@pytest.mark.parametrize("root", ["a\0b", "\ud800"])
def test_roots_that_are_no_paths_are_told_with_their_file(tmp_path: Path, root: str) -> None:
    (tmp_path / places.REFERENCES_FILE).write_text(json.dumps({"roots": [root]}))
    with pytest.raises(ValueError, match=r"references\.json names the folder"):
        places.read_roots(str(tmp_path))
