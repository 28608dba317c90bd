"""A checkpoint of the run, exported by it: what it is known by, and what reads it."""

import dataclasses
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.store.scores import Origin
from mmcorpus.filters.mllm import MllmScorer
from mmcorpus.filters.serving import Connection
from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.packing.vocabulary import train_tokenizer
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.trained import scorer_in
from mmcorpus.pipelines.stages.order import build_stages
from mmcorpus.training.checkpoint import save_model
from mmcorpus.training.folder import STATE, new_folder
from mmcorpus.training.model import build_model
from tests.pipelines.recipe.test_trained import load
from tests.training.conftest import TINY


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run in which `judge` has been trained, to random weights."""
    tokenizer = load_tokenizer(train_tokenizer(["A red square."], 300, str(tmp_path / "tokenizer")))
    model = build_model(TINY, len(tokenizer))
    with new_folder(str(tmp_path / "run/training/judge/checkpoints/step-00000004")) as inner:
        save_model(inner, model, tokenizer, {name: value.detach() for name, value in model.named_parameters()})
        state = {"kind": "pretrain", "step": 4, "model": dataclasses.asdict(TINY)}
        Path(inner, STATE).write_text(json.dumps(state))
    return tmp_path / "run"


class Asked(Exception):
    """In place of questions."""


def test_what_reads_it_knows_it_by_its_content_wherever_the_run_lies(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Scores and kept answers of a run that was moved are not paid for again; those by other weights are no longer its
    own. A stage that was killed once the export had come to its place makes the same again."""
    recipe = load(tmp_path)
    (export,) = (stage for stage in build_stages(recipe, str(run)) if stage.name == "export/judge")
    assert export.run() == export.run()
    assert json.loads((run / "exports/judge/config.json").read_text())["dtype"] == "bfloat16"
    asked: list[str] = []

    def questions(scorer: MllmScorer, client: Any, model: str) -> None:
        asked.append(model)
        raise Asked

    monkeypatch.setattr(MllmScorer, "questions", questions)
    shutil.copytree(run, tmp_path / "elsewhere" / "run")
    known: list[list[Any]] = []
    for root in (run, tmp_path / "elsewhere" / "run"):
        ppl, rating = (scorer_in(recipe.scorers[name], str(root)) for name in ("ppl", "rating"))
        known.append([Origin.of(ppl), Origin.of(rating)])
        assert isinstance(rating, MllmScorer)
        assert rating.model_name == f"{root}/exports/judge", "what the server is asked for"
        with pytest.raises(Asked):
            rating.connected(Connection(endpoints=("http://127.0.0.1:9/v1",))).load()({"uid": []})
    assert known[0] == known[1]
    assert known[0][0].model.startswith("${run}/training/judge/checkpoints/step-00000004@")
    assert known[0][0].parameters["checkpoint"] == "${run}/training/judge"
    assert known[0][1].model == asked[0] == asked[1]
    assert asked[0].startswith("${run}/exports/judge@")
    (run / "exports/judge/generation_config.json").write_text("{}")
    assert scorer_in(recipe.scorers["rating"], str(run)).fingerprint() != known[0][1].fingerprint
    neighbour = scorer_in(recipe.scorers["ppl"], str(run).removesuffix("n"))
    assert neighbour.known_as(f"{run}/training") == f"{run}/training", "a folder that only begins so is another"


def test_the_loop_in_small_waits_for_what_each_round_makes() -> None:
    recipe = load_recipe("loop_small", [f"score.scorers.rating.server.python={sys.executable}"])
    stages = {stage.name: stage for stage in build_stages(recipe, "RUN")}
    order = list(stages)
    chain = ["pairs/select", "first/packs", "train/first", "export/first", "pairs/score-rating", "again/select",
             "second/packs", "train/second", "evaluate/second"]  # fmt: skip
    assert [name for name in order if name in chain] == chain
    assert recipe.stages["first"].config == recipe.stages["second"].config, "as many steps of as many positions"
    first, second = (stages[f"{name}.heldout/plan"] for name in ("first", "second"))
    assert first.needs == second.needs
