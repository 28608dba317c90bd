"""A whole run, killed at seeded moments in all its stages: it always goes on to the same bytes."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.pipelines.killed_runs import killed_recipe


def killed(folder: Path, kills: int, seed: int) -> dict[str, Any]:
    recipe = killed_recipe(folder)
    command = [
        sys.executable,
        "-m",
        "tests.pipelines.killed_runs",
        str(recipe),
        str(folder / "out"),
        str(kills),
        str(seed),
    ]
    root = Path(__file__).parent.parent.parent
    done = subprocess.run(
        command, cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert said["kills"] == kills
    assert said["differ"] == {}
    return said


@pytest.mark.soak
@pytest.mark.timeout(1800)
def test_200_kills_change_no_byte(tmp_path: Path) -> None:
    said = killed(tmp_path, 200, seed=1)
    stages = {name.rpartition("/")[2] for name in said["where"]}
    early, late = {"download", "extract", "place", "trim", "score"}, {"select", "packs", "pretrain", "sft"}
    assert stages >= early | late, f"it was never killed in the midst of {(early | late) - stages}"
    assert said["ended"] >= 3
