"""MM1's recipe in small, whole: documents, captions and texts, experts, sub-images, a table of few-shot results."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.cli import app
from mmcorpus.training.metrics import read_metrics

SMALLER = {
    "web.generate.pairs": 120, "web.generate.pages": 30, "web.generate.instructions": 40, "web.generate.waits": 0,
    "web.generate.weights": "{slow: 0, drip: 0, endless: 0}", "select.instructions.heldout_fraction": 0.3,
    "select.pages.heldout_fraction": 0.3, "tokenizer.train.vocab_size": 400,
    "evaluate.no_shots.limit": 8, "evaluate.four_shots.limit": 8,
    **{f"train.stages.{stage}.schedule.steps": 2 for stage in ("pretrain", "experts", "sft")},
}  # fmt: skip


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_the_small_one_runs_whole(tmp_path: Path) -> None:
    options = [word for name, value in SMALLER.items() for word in ("--set", f"{name}={value}")]
    done = CliRunner().invoke(app, ["run", "mm1_small", "--out", str(tmp_path), *options], env={"COLUMNS": "160"})
    assert done.exit_code == 0, done.output
    assert "Every sample is accounted for." in done.output
    state = storage.read_json(str(tmp_path / "run.json"))["stages"]
    assert {record["status"] for record in state.values()} == {"done"}
    dense, routed = (
        read_metrics(str(tmp_path / "training" / stage / "metrics.jsonl"))[0] for stage in ("pretrain", "experts")
    )
    assert "expert_load" in routed
    assert "expert_load" not in dense
    for name in ("no_shots", "four_shots"):
        results = json.loads((tmp_path / "evaluation" / name / "results.json").read_text())
        assert results["questions"] >= 4
        assert results["results"][0]["blank"]["questions"] == results["questions"]
    page = (tmp_path / "report.html").read_text()
    for shown in ("four_shots", "experts"):
        assert shown in page
