"""The recipe `looks`: dials, then captions, then questions, and what it is asked about pictures kept aside."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmcorpus.curation.synthetic.miniweb import MiniWebConfig
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.recipe.load import load_recipe

SMALL = (
    "web.generate.pairs=160", "web.generate.instructions=40", "select.dials.heldout_fraction=0.3",
    "select.instructions.heldout_fraction=0.5", "train.stages.dials.schedule.steps=2",
    "train.stages.captions.schedule.steps=2", "train.stages.sft.schedule.steps=2",
)  # fmt: skip


def test_clocks_are_learnt_from_dials_and_no_dial_is_asked_about() -> None:
    recipe = load_recipe("looks")
    assert recipe.file.web is not None
    site = recipe.file.web.generate
    assert isinstance(site, MiniWebConfig)
    assert "dial" in site.kinds
    assert "dial" not in site.instruction_kinds
    assert [(stage.links.pack, stage.links.init) for stage in recipe.stages.values()] == [
        ("dials", None), ("captions", "dials"), ("sft", "captions"),
    ]  # fmt: skip


@pytest.mark.soak
def test_it_runs_whole(tmp_path: Path) -> None:
    settings = [part for setting in SMALL for part in ("--set", setting)]
    result = CliRunner().invoke(app, ["run", "looks", "--out", str(tmp_path / "run"), "--num-cpus", "2", *settings])
    assert result.exit_code == 0, result.output
    asked = {}
    for name in ("looks", "time", "hour"):
        found = json.loads((tmp_path / f"run/evaluation/{name}/results.json").read_text())["results"]
        asked |= {(name, row["category"]): row["blank"]["questions"] for row in found}
    assert asked["time", ""] == asked["hour", ""] == asked["looks", "clock, the time"] >= 3
    assert asked["looks", "counts"] >= 3
