"""Molmo's recipe in small, whole: branches, crops, dropout, points and counts, a table of results."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mmcorpus.pipelines.cli import app
from mmcorpus.training import read_metrics

SMALLER = {
    "web.generate.instructions": 90, "web.generate.kinds": "{scene: 3, clock: 2}", "select.pixmo.heldout_fraction": 0.2,
    "tokenizer.train.vocab_size": 400, "pack.pretrain.epochs": 1, "pack.sft.epochs": 1, "evaluate.points.limit": 6,
    "train.stages.pretrain.schedule.steps": 4, "train.stages.sft.schedule.steps": 4,
    "train.stages.pretrain.schedule.warmup": 2, "train.stages.sft.schedule.warmup": 2,
    "train.stages.pretrain.data.batch_samples": 8, "train.stages.sft.data.batch_samples": 8,
}  # fmt: skip


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_the_small_one_runs_whole(tmp_path: Path) -> None:
    options = [word for name, value in SMALLER.items() for word in ("--set", f"{name}={value}")]
    done = CliRunner().invoke(app, ["run", "molmo_small", "--out", str(tmp_path), *options], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    plan = pq.read_metadata(tmp_path / "plans" / "pretrain.parquet").metadata[b"mmcorpus"]
    assert json.loads(plan)["config"]["render"]["draw"]["transcript"] == 1
    lines = read_metrics(str(tmp_path / "training" / "pretrain" / "metrics.jsonl"))
    assert {tag for line in lines for tag in line.get("loss_by_tag", ())} == {"long_caption", "transcript"}
    line = read_metrics(str(tmp_path / "training" / "sft" / "metrics.jsonl"))[0]
    assert {"pointing", "point_count", "scene_qa", "clock_qa"} <= set(line["loss_by_tag"])
    assert set(line["learning_rate_by_group"]) == {"projector", "vision", "language"}
    metrics = {}
    for name in ("points", "point_then_count", "count_alone", "clocks", "clocks_hour"):
        results = json.loads((tmp_path / "evaluation" / name / "results.json").read_text())
        metrics[name] = results["results"][0]["metric"]
        assert results["questions"] > 0
        assert not results["unanswered"]
    assert metrics == {
        "points": "points", "point_then_count": "count", "count_alone": "count", "clocks": "clock",
        "clocks_hour": "clock_hour",
    }  # fmt: skip
