"""A run on a cluster of three nodes: nodes are lost in mid-run, then the driver, and the tables are a local run's."""

import contextlib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site
from tests.pipelines.whole_runs import run_here
from tests.processes import kill

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_local")]

ROOT = Path(__file__).parent.parent.parent
RECIPE = """\
name: cluster
web: {folder: SITE}
sources:
  pairs: {urls: "${web}/pairs.parquet"}
download:
  {image_size: 96, number_sample_per_shard: 10, timeout: 3, total_timeout: 5, max_bytes: 2000000, backoff: 0.1}
score:
  scorers: {image: {}, caption: {}, fingerprint: {}}
dedup:
  same_image: {by: image, among: caption.words > 2}
  near_text: {by: minhash, verify: 0.5, survivor: image.min_side}
select:
  pairs: {keep: image.min_side >= 64 and same_image.rank == 0 and near_text.rank == 0}
report: {enabled: false}
"""
# So few samples are deduplicated in the driver, sooner than a worker starts; here they are not.
DRIVER = (
    "import mmcorpus.curation.dedup.run as run; run.LOCAL_ROWS = 0; from mmcorpus.pipelines.cli import main; main()"
)
SLOW = ("drip", "endless", "slow")


class Nodes:
    """The cluster, in its own process."""

    def __init__(self, folder: str) -> None:
        self._errors = Path(folder) / "errors.txt"
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).parent / "cluster_nodes.py"), folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors.open("w"),
            text=True,
            start_new_session=True,
            env={name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"},
        )

    def line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().strip()
        assert line, self._errors.read_text()[-3000:]
        return line

    def tell(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        assert self.line() == "done"

    def stop(self) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.close()
            self._process.wait(120)
        except (BrokenPipeError, subprocess.TimeoutExpired):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)


@pytest.fixture
def nodes() -> Iterator[Nodes]:
    folder = tempfile.mkdtemp(prefix="ray")  # short: the paths of Ray's sockets end at 107 bytes
    nodes = Nodes(folder)
    yield nodes
    nodes.stop()
    shutil.rmtree(folder, ignore_errors=True)


def start(recipe: Path, out: Path, address: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160", "RAY_ADDRESS": address}
    command = [sys.executable, "-c", DRIVER, "run", str(recipe), "--out", str(out)]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def finish(process: subprocess.Popen[str]) -> None:
    output, _ = process.communicate(timeout=300)
    assert process.returncode == 0, output


def wait_for(out: Path, pattern: str, count: int, process: subprocess.Popen[str]) -> None:
    """Until so many files are there; the run must be in the middle of its work then."""
    deadline = time.monotonic() + 300
    while len(list(out.glob(pattern))) < count:
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < deadline, f"{pattern}: {len(list(out.glob(pattern)))} of {count} after 300 s"
        time.sleep(0.02)


def results(out: Path) -> dict[str, str]:
    """The hash of every shard, score table, table of duplicates, selection and ledger, by path."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("shards", "scores", "selections", "ledger")
        for path in sorted((out / part).rglob("*"))
        if path.is_file() and not path.name.endswith("_stats.json")  # these hold the seconds that it took
    }


@pytest.mark.soak
def test_lost_nodes_and_a_lost_driver_change_nothing(nodes: Nodes, tmp_path: Path) -> None:
    config = MiniWebConfig(pairs=150, instructions=0, weights=dict.fromkeys(SLOW, 0.0), sides=(64, 160))
    generate_site(config, str(tmp_path / "site"), workers=2)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("SITE", str(tmp_path / "site")))
    address = nodes.line()
    nodes.tell("add")
    nodes.tell("add")

    out = tmp_path / "out"
    run = start(recipe, out, address)
    wait_for(out, "shards/pairs/*_stats.json", 2, run)
    nodes.tell("kill 0")
    wait_for(out, "scores/pairs/image/*.parquet", 2, run)
    nodes.tell("kill 1")
    wait_for(out, "dedup/*/keys-*/*", 1, run)
    kill(run)
    assert not list(out.glob("selections/*")), "it was killed before its end"

    nodes.tell("add")
    finish(start(recipe, out, address))
    run_here(recipe, tmp_path / "undisturbed")
    expected = results(tmp_path / "undisturbed")
    assert len([path for path in expected if path.startswith("scores/pairs/near_text/")]) == len(
        list((out / "shards" / "pairs").glob("*.tar"))
    )
    assert results(out) == expected
