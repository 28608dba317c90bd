"""Whole runs, as a user starts them: killed anywhere and resumed, the bytes are the same; a change redoes its own."""

import json
import signal
from pathlib import Path

import pytest

from mmcorpus.curation.synthetic.miniweb import MiniWebConfig
from tests.pipelines.whole_runs import (
    QUICK,
    hashes,
    kill_on_the_way,
    moments,
    records,
    run,
    run_here,
    running,
    said,
    start,
    write_recipe,
    written,
)
from tests.processes import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("ray_local")]

SECTIONS = """\
sources:
  pairs: {urls: "${web}/pairs.parquet"}
  instructions: {urls: "${web}/instructions.parquet", kind: conversation}
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
pack:
  pretrain: {sources: [pairs], context_length: 128, tokens_per_image: 4, sequences_per_shard: 10, format: both}
  sft: {sources: [instructions], context_length: 256, tokens_per_image: 4, sequences_per_shard: 10}
"""
STAGES = """\
    pretrain: &settings
      {pack: pretrain, schedule: {steps: 2}, data: {batch_sequences: 2, micro_batch_sequences: 2},
       freeze: {vision: false}, compute: {precision: fp32}}
    sft:
      <<: *settings
      pack: sft
      init: pretrain
"""


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    site = MiniWebConfig(pairs=150, instructions=30, weights=QUICK, sides=(64, 160))
    return write_recipe(tmp_path_factory.mktemp("recipe"), SECTIONS, STAGES, site, name="small", per_shard=60)


def results(out: Path) -> dict[str, str]:
    """The hash of every file of selections, plans, packs and ledgers, by path."""
    parts = ("selections", "plans", "packs", "ledger", "scores")
    return hashes(out, (path for part in parts for path in (out / part).rglob("*")))


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


@pytest.mark.soak
def test_killed_anywhere_it_resumes_to_the_same_bytes(recipe: Path, finished: Path, tmp_path: Path) -> None:
    """As a user's run is killed, its own Ray with it; 200 moments without Ray are in test_killed_everywhere.py."""
    expected = results(finished)
    kill_on_the_way(recipe, tmp_path / "out", moments(finished, seed=2, kills=3))
    assert written(tmp_path / "out") < written(finished), "it was killed too late to prove anything"
    run_here(recipe, tmp_path / "out")
    assert results(tmp_path / "out") == expected


@pytest.mark.soak
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
