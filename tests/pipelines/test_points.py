"""POINTS' recipe in small, whole: an encoder learns to read, a judge selects, sources are tuned on, a soup answers."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.cli import app
from mmcorpus.training.checkpoint import read_state, read_tensors, resolve_checkpoint

OF = {"reading": "reading", "charts": "reading", "trusted": "scenes", "clocks": "clocks"}
"""The recipe's sources that are rendered, and in what folder."""


def steps(stage: str, count: int) -> str:
    return f"train.stages.{stage}.schedule.steps={count}"


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_the_small_recipe_runs_whole(tmp_path: Path) -> None:
    run, given = str(tmp_path / "run"), list[str]()
    for name, kinds, count in (
        ("reading", "chart: 1, table: 1", 90),
        ("scenes", "scene: 1", 60),
        ("clocks", "clock: 1", 12),
    ):
        folder = str(tmp_path / name)
        made = CliRunner().invoke(app, ["render", folder, "--set", f"count={count}", "--set", f"kinds={{{kinds}}}"])
        assert made.exit_code == 0, made.output
        sources = [source for source, of in OF.items() if of == name]
        given += [f"sources.{source}.shards={folder}" for source in sources]
    given += [steps(stage, 3) for stage in ("reading", "judge", "pretrain", "talk", "talk_charts", "talk_clocks")]
    given += ["web.generate.pairs=120", "web.generate.instructions=40"]
    settings = [part for setting in given for part in ("--set", setting)]
    ran = CliRunner().invoke(app, ["run", "points_small", "--out", run, *settings, "--until", "evaluate/soup"])
    assert ran.exit_code == 0, ran.output
    state = storage.read_json(f"{run}/run.json")["stages"]
    assert {record["status"] for record in state.values()} == {"done"}
    pretrained = read_tensors(resolve_checkpoint(f"{run}/training/pretrain"), "model")
    taught = read_tensors(resolve_checkpoint(f"{run}/training/reading"), "model")
    name = "encoder.layers.0.mlp.fc1.weight"
    assert pretrained[f"vision.siglip_1.{name}"].equal(taught[f"vision.siglip.{name}"]), "it was frozen"
    judged = state["pairs/select"]["counts"]
    assert 0 < judged["kept"] + judged["held_out"] < 0.55 * judged["judged"]
    assert set(read_state(f"{run}/training/soup")["soup"]["scores"].keys()) == {
        resolve_checkpoint(f"{run}/training/{stage}") for stage in ("talk", "talk_charts", "talk_clocks")
    }
    results = json.loads(Path(f"{run}/evaluation/soup/results.json").read_text())
    assert results["results"][0]["found"]["questions"] > 0
    again = CliRunner().invoke(app, ["report", run])
    assert again.exit_code == 0, again.output
    page = Path(f"{run}/report.html").read_text()
    for shown in ("pairs: lowest ppl.ppl", "pairs: highest ppl.ppl", "<td>soup</td>"):
        assert shown in page
