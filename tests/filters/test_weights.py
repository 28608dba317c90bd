"""Weights: which a model has, by content, and copies of those at URLs."""

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
