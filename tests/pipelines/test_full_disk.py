"""A really full disk, on a small filesystem of its own: told with the path, and made good by the same command."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmcorpus.curation.store.storage import DISK_FULL
from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site
from mmcorpus.pipelines.cli import app

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_local")]

MEGABYTE = 2**20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[tuple[Path, Callable[[float], None]]]:
    """A mounted folder, and what gives it another size in megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", f"size={MEGABYTE}", "tmpfs", str(disk)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("this machine cannot: only root may mount a filesystem")
    try:
        yield disk, lambda size: resize(mount, disk, size)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def resize(mount: str, disk: Path, megabytes: float) -> None:
    subprocess.run([mount, "-o", f"remount,size={int(megabytes * MEGABYTE)}", str(disk)], check=True)


def mmcorpus(*arguments: str, code: int) -> str:
    done = CliRunner().invoke(app, arguments, env={"COLUMNS": "400"})
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.soak
def test_each_command_names_the_path_and_goes_on_once_there_is_space(
    small_disk: tuple[Path, Callable[[float], None]], tmp_path: Path
) -> None:
    disk, set_size = small_disk
    site = tmp_path / "site"
    generate_site(MiniWebConfig(pairs=60, instructions=0, spoil=0.0), str(site), workers=1)

    web = ["web", str(disk / "site"), "--set", "pairs=200", "--set", "instructions=0"]
    assert f"{disk}/site/files/" in (told := mmcorpus(*web, code=1))
    assert DISK_FULL in told
    shutil.rmtree(disk / "site")

    set_size(0.3)
    download = ["download", str(site / "pairs.parquet"), "--out", str(disk / "run"), "--site", str(site)]
    download += ["--set", "caption_col=caption", "--num-cpus", "1"]
    assert f"{disk}/run/shards/00000.tar: {DISK_FULL}" in mmcorpus(*download, code=1)
    set_size(4)
    assert "60 downloaded" in mmcorpus(*download, code=0)

    set_size(sum(file.stat().st_blocks * 512 for file in disk.rglob("*")) / MEGABYTE)
    score = ["score", str(disk / "run" / "shards"), "--out", str(disk / "run" / "scores"), "--scorer", "caption"]
    score += ["--num-cpus", "1"]
    assert f"{disk}/run/scores/caption/00000.parquet: {DISK_FULL}" in mmcorpus(*score, code=1)
    set_size(5)
    assert "60 samples" in mmcorpus(*score, code=0)
    assert list(disk.rglob("*.partial")) == []
