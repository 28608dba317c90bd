"""Whole runs, as a user starts them: killed anywhere and resumed, the bytes are the same; a change redoes its own."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmcorpus.curation.store.storage import TEMPORARY_SUFFIX
from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site
from mmcorpus.pipelines.cli import app
from tests.processes import interruptible, kill_in_the_midst, wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_local")]

ROOT = Path(__file__).parent.parent.parent
RECIPE = """\
name: small
web: {folder: SITE}
sources:
  pairs: {urls: "${web}/pairs.parquet"}
  instructions: {urls: "${web}/instructions.parquet", kind: conversation}
download:
  {image_size: 96, number_sample_per_shard: 60, timeout: 3, total_timeout: 5, max_bytes: 2000000, backoff: 0.1}
score:
  scorers:
    {image: {}, caption: {}, language: {}, url: {}, fingerprint: {}}
dedup: {same_image: {by: image, sources: [pairs], among: caption.words > 2}}
select:
  pairs:
    keep: >-
      image.min_side >= 100 and image.frames == 1 and caption.words > 2 and not caption.is_boilerplate
      and same_image.rank == 0
    heldout_fraction: 0.2
tokenizer:
  train: {vocab_size: 400}
pack:
  pretrain: {sources: [pairs], context_length: 128, tokens_per_image: 4, sequences_per_shard: 10, format: both}
  sft: {sources: [instructions], context_length: 256, tokens_per_image: 4, sequences_per_shard: 10}
train:
  model:
    tokens_per_image: 4
    vision: {image_size: 16, patch_size: 8, hidden_size: 32, layers: 2, heads: 2, intermediate_size: 64}
    language: {hidden_size: 32, layers: 1, heads: 2, key_value_heads: 1, intermediate_size: 64}
  stages:
    pretrain: &settings
      {pack: pretrain, schedule: {steps: 2}, data: {batch_sequences: 2, micro_batch_sequences: 2},
       freeze: {vision: false}, compute: {precision: fp32}}
    sft:
      <<: *settings
      pack: sft
      init: pretrain
"""
SPOILED_AND_SLOW = {"drip": 0.0, "endless": 0.0, "slow": 0.0}
"""Weights of a site for runs that are compared: without what is slow."""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    config = MiniWebConfig(pairs=150, instructions=30, weights=SPOILED_AND_SLOW, sides=(64, 160))
    generate_site(config, str(folder / "site"), workers=2)
    path = folder / "small.yaml"
    path.write_text(RECIPE.replace("SITE", str(folder / "site")))
    return path


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


def results(out: Path) -> dict[str, str]:
    """The hash of every file of selections, plans, packs and ledgers, by path."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("selections", "plans", "packs", "ledger", "scores")
        for path in sorted((out / part).rglob("*"))
        if path.is_file()
    }


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


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("run") / "out"
    output = run(recipe, out)
    assert "Every sample is accounted for." in output
    assert "Against the truth of the generated site" in output
    return out


def test_the_whole_chain_accounts_for_every_sample(finished: Path) -> None:
    out = finished
    summary = json.loads((out / "summary.json").read_text())
    assert summary["balance"] == []
    for stages in summary["sources"].values():
        for stage in stages:
            assert stage["entered"] == stage["kept"] + sum(stage["dropped"].values())
    truth = json.loads((out / "truth.json").read_text())["truth"]
    verdicts = {verdict["spoil"]: verdict for verdict in truth}
    assert verdicts["http_404"]["caught"] == verdicts["http_404"]["listed"] > 0
    assert verdicts["animated"]["missed"] == 0
    assert sum(verdict["listed"] for verdict in verdicts.values()) == 180
    assert (out / "report.html").stat().st_size > 10_000
    metrics = [json.loads(line) for line in (out / "training/sft/metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in metrics) == 2
    assert (out / "packs" / "pretrain.pickles").is_dir()


@pytest.mark.parametrize(
    ("seed", "kills"), [(1, 1), *(pytest.param(seed, 3, marks=pytest.mark.soak) for seed in range(2, 6))]
)
def test_killed_anywhere_it_resumes_to_the_same_bytes(
    recipe: Path, finished: Path, tmp_path: Path, seed: int, kills: int
) -> None:
    expected = results(finished)
    kill_on_the_way(recipe, tmp_path / "out", moments(finished, seed, kills))
    assert written(tmp_path / "out") < written(finished), "it was killed too late to prove anything"
    run_here(recipe, tmp_path / "out")
    assert results(tmp_path / "out") == expected


def test_ctrl_c_leaves_a_run_that_resumes(recipe: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    process = start(recipe, out, "--until", "download")
    wait_until(lambda: written(out) and running(out), process)  # Ray works: as it starts, it is not ours to be quiet
    process.send_signal(signal.SIGINT)
    code, output = process.wait(120), said(out).read_text()
    assert code == 130, output
    assert "run the same command to resume" in output
    assert "Traceback" not in output
    assert "interrupted" in [record["status"] for record in records(out).values()]
    run_here(recipe, out, "--until", "download")


def test_a_second_run_keeps_everything_and_a_threshold_redoes_only_what_follows(recipe: Path, finished: Path) -> None:
    out = finished
    before, scores = records(out), {p: p.stat().st_mtime_ns for p in (out / "scores").rglob("*.parquet")}
    assert "Every sample is accounted for." in run_here(recipe, out)
    assert records(out) == before
    output = run_here(recipe, out, "--set", "select.pairs.keep=image.min_side >= 120", "--until", "packs")
    assert "pairs/select: keep changed" in output
    after = records(out)
    same = {name for name in before if after[name] == before[name]}
    assert same >= {"pairs/download", "pairs/score", "dedup/same_image", "instructions/download", "instructions/select"}
    assert not same & {"pairs/select", "pretrain/plan", "pretrain/packs"}
    assert {p: p.stat().st_mtime_ns for p in (out / "scores").rglob("*.parquet")} == scores


def test_a_scorers_parameter_redoes_that_scorer_alone(recipe: Path, finished: Path) -> None:
    out = finished
    before = {p: p.stat().st_mtime_ns for p in (out / "scores" / "pairs").rglob("*.parquet")}
    output = run_here(recipe, out, "--set", "score.scorers.language.languages=[en, de]", "--until", "pairs/select")
    assert "Every sample is accounted for." in output  # though the packs are now of another selection
    assert 'language.parameters.languages with "de"' in output
    touched = {p.parent.name for p in before if p.stat().st_mtime_ns != before[p]}
    assert touched == {"language"}
