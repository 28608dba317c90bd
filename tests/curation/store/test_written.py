"""Notes of what is committed: the size and hash of each file as its bytes go by."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import Sample, Shard, ShardWriter
from mmcorpus.curation.store.written import Notes, add, noting


def test_every_writer_is_noted_with_the_hash_of_its_file(tmp_path: Path) -> None:
    with noting() as notes:
        storage.write_table(str(tmp_path / "a.parquet"), pa.table({"x": list(range(10_000))}))
        storage.write_json(str(tmp_path / "b.json"), {"x": 1})
        with ShardWriter(Shard(root=str(tmp_path), name="00000")) as writer:
            writer.write(Sample(key="000000000", uid="0" * 32, caption="a", images=()))
        with storage.atomic_write(str(tmp_path / "c.npy")) as file:
            np.lib.format.write_array(file, np.arange(1000))
    assert len(notes.files) == 6
    for path, noted in notes.files.items():
        data = Path(path).read_bytes()
        assert (noted.size, noted.sha256) == (len(data), hashlib.sha256(data).hexdigest())
        assert noted.modified == os.stat(path).st_mtime_ns


def test_remote_files_are_noted_too() -> None:
    with noting() as notes:
        storage.write_bytes("memory://notes/a", b"abc")
    (noted,) = notes.files.values()
    assert (noted.size, noted.sha256, noted.modified) == (3, hashlib.sha256(b"abc").hexdigest(), None)


def test_a_writer_that_goes_back_is_not_noted(tmp_path: Path) -> None:
    """The hash would be of other bytes than the file's."""
    with noting() as notes, storage.atomic_write(str(tmp_path / "a")) as file:
        file.write(b"abc")
        file.seek(0)
        file.write(b"x")
    assert (tmp_path / "a").read_bytes() == b"xbc"
    assert not notes.files


def test_what_fails_is_not_noted_and_what_moves_is_noted_where_it_lies(tmp_path: Path) -> None:
    with noting() as notes:
        with pytest.raises(RuntimeError), storage.atomic_write(str(tmp_path / "a")):
            raise RuntimeError
        storage.write_bytes(str(tmp_path / "new"), b"1")
        storage.move(str(tmp_path / "new"), str(tmp_path / "old"))
    assert list(notes.files) == [str(tmp_path / "old")]


def test_notes_of_a_worker_are_taken_over(tmp_path: Path) -> None:
    with noting() as outer:
        with noting() as inner:
            storage.write_bytes(str(tmp_path / "a"), b"1")
        outer.files.clear()
        add(Notes(files=inner.files, damaged={"b": "cut"}))
    assert outer.files == inner.files
    assert outer.damaged == {"b": "cut"}
    storage.write_bytes(str(tmp_path / "c"), b"1")
    assert len(outer.files) == 1, "closed notes take no more"
