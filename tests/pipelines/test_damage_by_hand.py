"""Commands by hand on damaged folders: what was lost is said with the file's name, and the exit code tells."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.commands.common import Cluster
from tests.packing.conftest import make_shards, select, tokenizer_folder  # noqa: F401 - fixtures


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def web(
    tmp_path: Path,
    make_shards: Callable[..., Any],  # noqa: F811
    select: Callable[..., pa.Table],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    in_process: None,
) -> Path:
    """Shards `web`, and a selection of all their samples; Ray is not started."""
    monkeypatch.setattr(Cluster, "start", lambda self: None)
    samples = make_shards(tmp_path / "web", 3, 8)
    storage.write_table(str(tmp_path / "all.parquet"), select(samples))
    return tmp_path


def pack(web: Path, tokenizer: str, out: str, code: int = 0) -> str:
    given = ("--source", f"web={web}/web", "--tokenizer", tokenizer)
    if not (web / "plan.parquet").exists():
        settings = ("--set", "context_length=256", "--set", "tokens_per_image=4")
        plan = str(web / "plan.parquet")
        call("plan", *given, "--selection", f"web={web}/all.parquet", "--out", plan, *settings)
    return call("pack", str(web / "plan.parquet"), *given, "--out", str(web / out), code=code)


@pytest.mark.parametrize("harm", ["emptied", "cut", "gone"])
def test_pack_says_what_a_damaged_tar_has_cost_and_goes_on_once_it_is_mended(
    web: Path,
    tokenizer_folder: str,  # noqa: F811
    harm: str,
) -> None:
    assert "Left out" not in pack(web, tokenizer_folder, "whole")
    tar = web / "web/00001.tar"
    whole = tar.read_bytes()
    tar.write_bytes(b"" if harm == "emptied" else whole[: len(whole) // 2])
    if harm == "gone":
        tar.unlink()
    told = pack(web, tokenizer_folder, "packs", code=1)
    assert re.search(r"failed: web/.*00001\.tar", told)
    assert f"Left out of web: {'4' if harm == 'cut' else '8'} missing_image" in told
    tar.write_bytes(whole)
    assert "Left out" not in pack(web, tokenizer_folder, "packs")
    for name in ("00000.tar", "manifest.json"):
        assert (web / "packs" / name).read_bytes() == (web / "whole" / name).read_bytes()


def reshard(web: Path, out: str, code: int = 0) -> str:
    return call("reshard", f"{web}/web", "--selection", f"{web}/all.parquet", "--out", f"{web}/{out}", code=code)


def test_reshard_fails_by_name_for_a_tar_and_goes_on(web: Path) -> None:
    tar = web / "web/00001.tar"
    whole = tar.read_bytes()
    tar.write_bytes(whole[:3000])
    told = reshard(web, "again", code=1)
    assert "failed: shard 00000" in told
    assert str(tar) in told
    tar.write_bytes(whole)
    assert "24 samples" in reshard(web, "again")


def test_reshard_fails_by_name_for_rows_that_cannot_be_read(web: Path) -> None:
    rows = web / "web/00001.parquet"
    rows.write_bytes(rows.read_bytes()[:-20])
    told = reshard(web, "again", code=1)
    assert f"failed: input shard 00001: Damaged: {rows} is damaged" in told
    assert "8 samples of the selection are in no shard that can be read" in told
    assert "give another --out" in told
    assert "fault of mmcorpus" not in told
