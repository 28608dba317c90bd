"""The example recipe of MLLM-Filter: what it asks for, and what is said where that is missing."""

import sys
from pathlib import Path

import pytest

from mmcorpus.filters.mllm import METRICS, MllmScorer
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.stages.order import build_stages

RECIPE = "mllm_filter"
MLLM = "score.scorers.mllm"


def settings(model: Path, *more: str) -> list[str]:
    return [f"{MLLM}.model_name={model}", f"{MLLM}.server.python={sys.executable}", *more]


def test_the_example_is_valid_and_its_stage_depends_on_the_model_not_on_the_server(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    recipe = load_recipe(RECIPE, settings(model))
    scorer = recipe.scorers["mllm"]
    assert isinstance(scorer, MllmScorer)
    assert scorer.asked == METRICS
    before = {stage.name: stage for stage in build_stages(recipe, str(tmp_path / "run"))}["pairs/score"].config
    moved = load_recipe(RECIPE, settings(model, f"{MLLM}.server.replicas=4", f"{MLLM}.client.concurrency=99"))
    assert {s.name: s for s in build_stages(moved, str(tmp_path / "run"))}["pairs/score"].config == before
    (model / "config.json").write_text('{"other": "weights"}')
    trained = load_recipe(RECIPE, settings(model))
    assert {s.name: s for s in build_stages(trained, str(tmp_path / "run"))}["pairs/score"].config != before


def test_what_is_missing_is_told_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"score\.scorers\.mllm.*there is no model at .*/gone"):
        load_recipe(RECIPE, settings(tmp_path / "gone"))
    with pytest.raises(RecipeError, match=r"server\.python: /nowhere/python is no program here"):
        load_recipe(RECIPE, [f"{MLLM}.model_name={tmp_path}", f"{MLLM}.server.python=/nowhere/python"])
    with pytest.raises(RecipeError, match=r"endpoints and server exclude each other"):
        load_recipe(RECIPE, settings(tmp_path, f'{MLLM}.endpoints=["http://gpu1:8000/v1"]'))
    with pytest.raises(RecipeError, match=r"client\.concurency: unknown key"):
        load_recipe(RECIPE, settings(tmp_path, f"{MLLM}.client.concurency=3"))
    with pytest.raises(RecipeError, match=r"mllm gives no column 'mllm\.semantic_misunderstanding'"):
        load_recipe(RECIPE, settings(tmp_path, "select.pairs.keep=mllm.semantic_misunderstanding >= 85"))
