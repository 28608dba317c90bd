"""The manifest of a stage: what is known of its files, and how they differ from it."""

import hashlib
import os
import time
from pathlib import Path

import pytest

from mmcorpus.curation.engine.manifest import (
    Entry,
    compare,
    manifest_path,
    read_manifest,
    settle,
    write_manifest,
)
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.storage import Damaged
from mmcorpus.curation.store.written import Notes, noting


def write(root: Path, *names: str) -> Notes:
    with noting() as notes:
        for name in names:
            storage.write_bytes(str(root / name), f"content of {name}".encode())
    return notes


def sha256(root: Path, name: str) -> str:
    return hashlib.sha256((root / name).read_bytes()).hexdigest()


def flip(path: Path) -> None:
    there, data = path.stat(), bytearray(path.read_bytes())
    data[0] ^= 1
    path.write_bytes(data)
    os.utime(path, ns=(there.st_atime_ns, there.st_mtime_ns))


def test_it_is_written_and_read_back(tmp_path: Path) -> None:
    entries = {"b/x\u2028y": Entry(size=1, sha256="0"), "a": Entry(size=2, sha256="1", text="{}")}
    digest = write_manifest(str(tmp_path), "pairs/score", entries)
    assert read_manifest(str(tmp_path), "pairs/score", digest) == entries
    assert write_manifest(str(tmp_path), "pairs/score", dict(reversed(entries.items()))) == digest
    assert digest == hashlib.sha256(Path(manifest_path(str(tmp_path), "pairs/score")).read_bytes()).hexdigest()


@pytest.mark.parametrize("damage", [lambda path: flip(path), lambda path: path.unlink()])
def test_a_damaged_manifest_is_named(tmp_path: Path, damage: object) -> None:
    digest = write_manifest(str(tmp_path), "a", {"a": Entry(size=1, sha256="0")})
    damage(Path(manifest_path(str(tmp_path), "a")))  # type: ignore[operator]
    with pytest.raises(Damaged, match=r"manifests/a\.jsonl is damaged, or no manifest of a stage"):
        read_manifest(str(tmp_path), "a", digest)


def test_what_was_noted_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    notes = write(tmp_path, "out/00000.parquet", "out/00001.parquet")
    (tmp_path / "out/by_hand").write_text("unnoted")
    read: list[str] = []
    whole = storage.sha256
    monkeypatch.setattr(storage, "sha256", lambda path: read.append(path) or whole(path))
    entries = settle(str(tmp_path), ["out"], {}, notes, time.time())
    assert read == [str(tmp_path / "out/by_hand")]
    assert list(entries) == ["out/00000.parquet", "out/00001.parquet", "out/by_hand"]
    assert all(entry.sha256 == sha256(tmp_path, path) for path, entry in entries.items())
    assert not list(compare(str(tmp_path), ["out"], entries))


def test_damage_is_not_taken_for_content(tmp_path: Path) -> None:
    """A stage that goes on vouches for what it has written itself, and for the rest as it was."""
    before = settle(str(tmp_path), ["out"], {}, write(tmp_path, "out/a", "out/b"), time.time())
    flip(tmp_path / "out/a")
    os.truncate(tmp_path / "out/b", 3)
    os.utime(tmp_path / "out/b", (1, 1))
    entries = settle(str(tmp_path), ["out"], before, write(tmp_path, "out/c"), time.time())
    assert {path: entries[path] for path in before} == before
    found = {one.path: one.detail for one in compare(str(tmp_path), ["out"], entries)}
    assert found == {
        "out/a": "has other bytes than were committed",
        "out/b": "has 3 bytes, of 16 that were committed",
    }


def test_what_a_killed_attempt_wrote_is_read(tmp_path: Path) -> None:
    began = time.time() - 1
    before = {"out/a": Entry(size=1, sha256="of its earlier bytes")}
    write(tmp_path, "out/a")
    entries = settle(str(tmp_path), ["out"], before, Notes(), began)
    assert entries["out/a"].sha256 == sha256(tmp_path, "out/a")
    assert "out/a" not in settle(str(tmp_path), ["out"], before, Notes(), began, read=False)


def test_missing_and_foreign_files_are_told(tmp_path: Path) -> None:
    entries = settle(str(tmp_path), ["out", "x.json"], {}, write(tmp_path, "out/a", "x.json"), time.time())
    (tmp_path / "x.json").unlink()
    write(tmp_path, "out/deep/b")
    (tmp_path / "out" / ("c." + "0" * 12 + storage.TEMPORARY_SUFFIX)).write_text("half")
    found = {(one.path, one.problem) for one in compare(str(tmp_path), ["out", "x.json"], entries)}
    assert found == {("x.json", "missing"), ("out/deep/b", "foreign")}


def test_only_the_chosen_are_hashed(tmp_path: Path) -> None:
    entries = settle(str(tmp_path), ["out"], {}, write(tmp_path, "out/a", "out/b"), time.time())
    flip(tmp_path / "out/a")
    assert not list(compare(str(tmp_path), ["out"], entries, hashed=["out/b"]))
    assert [one.path for one in compare(str(tmp_path), ["out"], entries, hashed=["out/a"])] == ["out/a"]


def test_records_keep_their_text(tmp_path: Path) -> None:
    notes = write(tmp_path, "out/made_from.json", "out/other.json")
    entries = settle(str(tmp_path), ["out"], {}, notes, time.time())
    assert entries["out/made_from.json"].text == "content of out/made_from.json"
    assert entries["out/other.json"].text is None


def test_remote_outputs_are_known_by_their_notes() -> None:
    root = "memory://manifest-test"
    with noting() as notes:
        storage.write_bytes(f"{root}/out/a", b"abc")
    entries = settle(root, ["out"], {}, notes, time.time())
    assert list(entries) == ["out/a"]
    assert settle(root, ["out"], entries, Notes(), time.time()) == entries
    storage.write_bytes(f"{root}/out/a", b"abd")
    assert [one.problem for one in compare(root, ["out"], entries)] == ["changed"]
