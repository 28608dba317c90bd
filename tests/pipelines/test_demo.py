"""Whole runs, as a user starts them: killed anywhere and resumed, the bytes are the same; a change redoes its own."""

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site

pytestmark = pytest.mark.slow

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


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recipe")
    config = MiniWebConfig(pairs=150, instructions=30, weights=SPOILED_AND_SLOW, sides=(64, 160))
    generate_site(config, str(folder / "site"), workers=2)
    path = folder / "small.yaml"
    path.write_text(RECIPE.replace("SITE", str(folder / "site")))
    return path


def start(recipe: Path, out: Path, *options: str) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "mmcorpus.pipelines.cli",
        "run",
        str(recipe),
        "--out",
        str(out),
        "--num-cpus",
        "2",
        *options,
    ]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}
    environment.pop("RAY_ADDRESS", None)
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )


def run(recipe: Path, out: Path, *options: str, code: int = 0) -> str:
    process = start(recipe, out, *options)
    output, _ = process.communicate(timeout=500)
    assert process.returncode == code, output
    return output


def results(out: Path) -> dict[str, str]:
    """The hash of every file of selections, plans, packs and ledgers, by path."""
    return {
        str(path.relative_to(out)): hashlib.sha256(path.read_bytes()).hexdigest()
        for part in ("selections", "plans", "packs", "ledger", "scores")
        for path in sorted((out / part).rglob("*"))
        if path.is_file()
    }


def records(out: Path) -> dict[str, dict[str, object]]:
    stages: dict[str, dict[str, object]] = json.loads((out / "run.json").read_text())["stages"]
    return stages


@pytest.fixture(scope="module")
def finished(recipe: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, float]:
    out = tmp_path_factory.mktemp("run") / "out"
    begun = time.monotonic()
    output = run(recipe, out)
    assert "Every sample is accounted for." in output
    assert "Against the truth of the generated site" in output
    return out, time.monotonic() - begun


def test_the_whole_chain_accounts_for_every_sample(finished: tuple[Path, float]) -> None:
    out, _ = finished
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


def test_killed_anywhere_it_resumes_to_the_same_bytes(
    recipe: Path, finished: tuple[Path, float], tmp_path: Path
) -> None:
    reference, seconds = finished
    seed = random.randrange(10**6)
    draw = random.Random(seed)
    killed = 0
    for _ in range(2):
        process = start(recipe, tmp_path / "out")
        try:
            process.communicate(timeout=draw.uniform(0.15, 0.7) * seconds)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            killed += 1
    run(recipe, tmp_path / "out")
    assert results(tmp_path / "out") == results(reference), f"seed {seed}, {killed} kills"


def test_ctrl_c_leaves_a_run_that_resumes(recipe: Path, tmp_path: Path) -> None:
    process = start(recipe, tmp_path / "out", "--until", "download")
    deadline = time.monotonic() + 60
    while not (tmp_path / "out" / "run.json").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 130, output
    assert "run the same command to resume" in output
    assert "Traceback" not in output
    run(recipe, tmp_path / "out", "--until", "download")


def test_a_second_run_keeps_everything_and_a_threshold_redoes_only_what_follows(
    recipe: Path, finished: tuple[Path, float]
) -> None:
    out, _ = finished
    before, scores = records(out), {p: p.stat().st_mtime_ns for p in (out / "scores").rglob("*.parquet")}
    assert "Every sample is accounted for." in run(recipe, out)
    assert records(out) == before
    output = run(recipe, out, "--set", "select.pairs.keep=image.min_side >= 120", "--until", "packs")
    assert "pairs/select: keep changed" in output
    after = records(out)
    same = {name for name in before if after[name] == before[name]}
    assert same >= {"pairs/download", "pairs/score", "dedup/same_image", "instructions/download", "instructions/select"}
    assert not same & {"pairs/select", "pretrain/plan", "pretrain/packs"}
    assert {p: p.stat().st_mtime_ns for p in (out / "scores").rglob("*.parquet")} == scores


def test_a_scorers_parameter_redoes_that_scorer_alone(recipe: Path, finished: tuple[Path, float]) -> None:
    out, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (out / "scores" / "pairs").rglob("*.parquet")}
    output = run(recipe, out, "--set", "score.scorers.language.languages=[en, de]", "--until", "pairs/select")
    assert "Every sample is accounted for." in output  # though the packs are now of another selection
    assert 'language.parameters.languages with "de"' in output
    touched = {p.parent.name for p in before if p.stat().st_mtime_ns != before[p]}
    assert touched == {"language"}
