"""Whole runs of small recipes, as a user starts them, for the tests that kill, damage and resume them."""

import hashlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from typer.testing import CliRunner

from mmcorpus.curation.store.storage import TEMPORARY_SUFFIX
from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site
from mmcorpus.pipelines.cli import app
from tests.processes import interruptible, kill_in_the_midst

ROOT: Final = Path(__file__).parent.parent.parent
QUICK: Final = {"drip": 0.0, "endless": 0.0, "slow": 0.0}
"""Weights of a site for runs that are compared: without what is slow."""
_RECIPE: Final = """\
name: {name}
web: {{folder: SITE}}
download:
  {{image_size: 96, number_sample_per_shard: {per_shard}, timeout: 3, total_timeout: 5, max_bytes: 2000000,
   backoff: 0.1}}
tokenizer: {{train: {{vocab_size: 400}}}}
{sections}train:
  model:
    tokens_per_image: 4
    vision: {{image_size: 16, patch_size: 8, hidden_size: 32, layers: 2, heads: 2, intermediate_size: 64}}
    language: {{hidden_size: 32, layers: 1, heads: 2, key_value_heads: 1, intermediate_size: 64}}
  stages:
{stages}"""


def write_recipe(
    folder: Path, sections: str, stages: str, site: MiniWebConfig, *, name: str, per_shard: int, workers: int = 2
) -> Path:
    """A recipe on a generated site, in a folder: a small download, tokenizer and model, and what the test is about.

    Args:
        sections: sources, scores, selections, packs: whatever is none of the above.
        stages: the entries of `train.stages`, four blanks before each.
        per_shard: images in a shard.
    """
    generate_site(site, str(folder / "site"), workers=workers)
    path = folder / f"{name}.yaml"
    text = _RECIPE.format(name=name, per_shard=per_shard, sections=sections, stages=stages)
    path.write_text(text.replace("SITE", str(folder / "site")))
    return path


def hashes(out: Path, paths: Iterable[Path]) -> dict[str, str]:
    """SHA-256 of those of some paths of a run that are files, by path relative to its folder."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(paths)
        if path.is_file()
    }


def start(recipe: Path, out: Path, *options: str) -> subprocess.Popen[bytes]:
    """The command in a process of its own; what it says goes to a file beside its folder."""
    settings = ["--out", str(out), "--num-cpus", "2", *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    environment.pop("RAY_ADDRESS", None)
    out.parent.mkdir(parents=True, exist_ok=True)
    with said(out).open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "mmcorpus.pipelines.cli", "run", str(recipe), *settings],
            cwd=ROOT,
            env=environment,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=interruptible,
        )


def said(out: Path) -> Path:
    return out.with_name(f"{out.name}.log")


def run(recipe: Path, out: Path, *options: str) -> str:
    """The command in a process of its own, to its end; what it said."""
    code = start(recipe, out, *options).wait(500)
    assert code == 0, said(out).read_text()
    return said(out).read_text()


def run_here(recipe: Path, out: Path, *options: str) -> str:
    """The command in this process, on the session's Ray."""
    done = CliRunner().invoke(app, ["run", str(recipe), "--out", str(out), *options], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    return done.output


def written(out: Path) -> int:
    """How many files of a run have their final names, which tells how far it is."""
    parts = ("documents", "shards", "scores", "dedup", "selections", "plans", "packs", "ledger", "training")
    # os.walk, because folders go while they are walked.
    names = (name for part in parts for _, _, files in os.walk(out / part) for name in files)
    return sum(not name.endswith(TEMPORARY_SUFFIX) for name in names)


def kill_on_the_way(recipe: Path, out: Path, moments: Sequence[int]) -> None:
    """Start a run and kill it in the midst of a stage, once it has written so many files; and so for each moment."""
    for moment in moments:
        process = start(recipe, out)
        kill_in_the_midst(process, lambda wanted=moment: written(out) >= wanted and running(out))
        assert running(out), "it was killed in the midst of a stage"
        assert not (out / "summary.json").exists(), "it was killed before its end"


def running(out: Path) -> list[str]:
    """The stages that a run is in the midst of."""
    return [name for name, record in records(out).items() if record["status"] in ("clearing", "running")]


def moments(reference: Path, seed: int, kills: int) -> list[int]:
    """When to kill a run: after how many files of those that an undisturbed one has written."""
    files = written(reference)
    return sorted(random.Random(seed).sample(range(1, files * 9 // 10), kills))


def records(out: Path) -> dict[str, dict[str, object]]:
    stages: dict[str, dict[str, object]] = json.loads((out / "run.json").read_text())["stages"]
    return stages
