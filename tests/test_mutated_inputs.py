"""10,000 damaged inputs over all readers: each costs itself, in bounded time and memory."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.mutated import READERS
from tests.pipelines.killed_runs import killed_recipe

ROOT = Path(__file__).parent.parent
EACH = -(-10_500 // len(READERS))


def python(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a whole run leaves: sound files of every kind."""
    folder = tmp_path_factory.mktemp("finished")
    done = python("tests.pipelines.killed_runs", str(killed_recipe(folder)), str(folder / "out"), "0", "0")
    assert done.returncode == 0, done.stderr[-4000:]
    return folder / "reference"


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("reader", READERS)
def test_10000_damaged_inputs(reader: str, tmp_path: Path, finished_run: Path) -> None:
    (tmp_path / "run").symlink_to(finished_run)
    done = python("tests.mutated", reader, "0", str(EACH), str(tmp_path))
    assert done.returncode == 0, f"ended with {done.returncode} at {done.stderr[-2000:]}"
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["worse"] == []
    assert said["read"] + said["refused"] == EACH
