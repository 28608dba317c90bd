"""What a recipe takes of its own run: encoders, a judge's checkpoint, soups – in the order in which they come to be."""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.recipe.schema import Recipe
from mmcorpus.pipelines.recipe.trained import model_in, scorer_in
from mmcorpus.pipelines.stages.order import build_stages
from mmcorpus.training.config import ModelConfig, RandomVision
from mmcorpus.training.vision_language import TrainReport

RECIPE = """\
name: own
web: {generate: {pairs: 4, instructions: 4}}
sources:
  first: {urls: "${web}/pairs.parquet"}
  pairs: {urls: "${web}/pairs.parquet"}
  talk: {urls: "${web}/instructions.parquet", kind: conversation}
score:
  scorers:
    caption: {on: [pairs]}
    ppl: {uses: checkpoint_perplexity, checkpoint: "${run}/training/judge", on: [pairs]}
    rating: {uses: mllm, model_name: "${run}/exports/judge", server: {python: PYTHON}, on: [pairs]}
dedup:
  ranked: {by: columns, on: [caption], survivor: -ppl.ppl, sources: [pairs]}
select:
  pairs: {keep: [caption.words > 2, "bottom(ppl.ppl, 0.2)"]}
  talk: {heldout_fraction: 0.5}
tokenizer: {train: {vocab_size: 300, sources: [first, talk]}}
pack:
  first: {sources: [first], context_length: 64, tokens_per_image: 4}
  pairs: {sources: [pairs], context_length: 64, tokens_per_image: 4}
  talk: {sources: [talk], context_length: 64, tokens_per_image: 4}
train:
  device: cpu
  model:
    encoders: [{weight: 0.5}, {source: "${run}/training/reading", weight: 0.5}]
    tokens_per_image: 4
  stages:
    reading: {pack: first, model: {vision_layer: -1, tokens_per_image: 4}}
    judge: {pack: first}
    pretrain: {pack: pairs}
    one: {pack: talk, init: pretrain}
    two: {pack: talk, init: pretrain}
    more: {pack: talk, init: soup}
  soups:
    soup: {stages: [one, two], method: greedy, judge: sees}
export:
  judge: {stage: judge, dtype: bf16}
evaluate:
  sees: {stage: soup, source: talk}
""".replace("PYTHON", sys.executable)


def load(folder: Path, text: str = RECIPE) -> Recipe:
    (folder / "own.yaml").write_text(text)
    return load_recipe(str(folder / "own.yaml"))


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("training/judge", "training/jugde", "ppl.checkpoint: unknown stage 'jugde'; did you mean 'judge'"),
        ("training/judge", "packs/judge", "'${run}/packs/judge'; of the run's folder, ${run}/training/STAGE can be"),
        ("training/judge", "exports/judge", "'${run}/exports/judge'; of the run's folder, ${run}/training/STAGE can"),
        ("exports/judge", "training/judge", "rating.model_name: '${run}/training/judge'; of the run's folder, $"),
        ("exports/judge", "exports/jugde", "rating.model_name: unknown export 'jugde'; did you mean 'judge'"),
        ("stage: judge, dtype", "stage: jugde, dtype", "export.judge.stage: unknown stage 'jugde'; did you mean"),
        ("dtype: bf16", "dtype: int8", "valid: bf16, fp16, fp32 – Of the weights"),
        (sys.executable, "/nowhere/python", "score.scorers.rating: server.python: /nowhere/python is no program here"),
        ("training/reading", "training/raeding", "train.model.encoders[1].source: unknown stage 'raeding'; did you"),
        ("vision_layer: -1", "language: '${run}/training/judge'", "stages.reading.model.language: only encoders are"),
        ("pack: first, model:", "pack: first, init: judge, model:", "init and model are both given"),
        ("vision_layer: -1", "vision_layr: -1", "stages.reading.model.vision_layr: unknown key; valid: conn"),
        ("vision_layer: -1, tokens_per_image: 4", "tokens_per_image: 9", "reading.model.tokens_per_image: 9, but pack"),
        ("stages: [one, two]", "stages: [one, tow]", "train.soups.soup.stages[1]: unknown stage 'tow'; did you mean"),
        ("stages: [one, two]", "stages: [one, one]", "name two or more, each once"),
        ("judge: sees", "judge: seas", "train.soups.soup.judge: unknown evaluation 'seas'; did you mean 'sees'"),
        ("method: greedy, ", "", "average takes all and has no `judge`"),
        ("init: soup", "init: soop", "more.init: unknown stage 'soop'; did you mean 'soup'"),
        ("stage: soup", "stage: soop", "sees.stage: unknown stage 'soop'; did you mean 'soup'"),
        ("  soups:\n    soup:", "  soups:\n    one:", "train.soups.one: a stage is called so too"),
        ("sources: [first, talk]", "sources: [frist]", "tokenizer.train.sources[0]: unknown source 'frist'; did you"),
    ],
)
def test_what_the_run_will_not_have_is_refused(before: str, after: str, message: str, tmp_path: Path) -> None:
    assert before in RECIPE
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, RECIPE.replace(before, after))
    assert message in str(caught.value)


def test_each_stage_waits_for_what_it_reads(tmp_path: Path) -> None:
    stages = {stage.name: stage for stage in build_stages(load(tmp_path), "RUN")}
    assert "train/reading" in stages["train/judge"].needs
    assert "train/reading" not in stages["train/reading"].needs
    assert "train/judge" in stages["pairs/score-ppl"].needs
    assert stages["export/judge"].needs == ("train/judge",)
    assert stages["export/judge"].outputs == ("exports/judge",)
    assert "export/judge" in stages["pairs/score-rating"].needs
    assert "train/judge" not in stages["pairs/score-rating"].needs
    assert {"pairs/score#caption", "pairs/score-ppl"} <= set(stages["pairs/select"].needs)
    assert "pairs/score-ppl" in stages["dedup/ranked"].needs
    assert stages["soup/soup"].needs == ("train/one", "train/two", "talk/download", "talk/select")
    assert "soup/soup" in stages["evaluate/sees"].needs
    assert "soup/soup" in stages["train/more"].needs
    assert stages["soup/soup"].outputs == ("training/soup", "training/soup.trials")
    assert "RUN" not in str(stages["train/judge"].config), "a run's folder may be moved"
    order = list(stages)
    for first, then in (("train/judge", "pairs/score-ppl"), ("pairs/select", "train/pretrain")):
        assert order.index(first) < order.index(then)


def test_a_judge_of_its_own_pupils_is_refused(tmp_path: Path) -> None:
    recipe = load(tmp_path, RECIPE.replace("judge: {pack: first}", "judge: {pack: pairs}"))
    with pytest.raises(ValueError, match=r"train/judge needs .*no stage can be the first.*another source"):
        build_stages(recipe, "RUN")
    recipe = load(tmp_path, RECIPE.replace("sources: [first, talk]", "sources: [pairs]"))
    with pytest.raises(ValueError, match=r"no stage can be the first. Name sources in tokenizer\.train\.sources"):
        build_stages(recipe, "RUN")


def test_paths_are_the_runs_own_when_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load(tmp_path)
    assert isinstance(recipe.model, ModelConfig)
    assert model_in(recipe.model, "RUN").encoders[1].source == "RUN/training/reading"
    assert isinstance(model_in(recipe.model, "RUN").encoders[0].source, RandomVision)
    found: Any = scorer_in(recipe.scorers["ppl"], "RUN")
    assert (found.checkpoint, found.name) == ("RUN/training/judge", "ppl")
    served: Any = scorer_in(recipe.scorers["rating"], "RUN/")
    assert served.model_name == "RUN/exports/judge"
    began: list[Any] = []

    def launch(*_: Any, model: Any, init: Any, **__: Any) -> TrainReport:
        from mmcorpus.training.vision_language import StageTotals

        began.append((model, init))
        return TrainReport(checkpoint="step-00000001", totals=StageTotals())

    monkeypatch.setattr("mmcorpus.training.launch.launch", launch)
    stages = {stage.name: stage for stage in build_stages(recipe, "RUN")}
    for name in ("train/reading", "train/judge", "train/more"):
        stages[name].run()
    assert recipe.stages["reading"].model is not None
    assert began[0] == (recipe.stages["reading"].model, None)
    assert began[0][0].encoders == (dataclasses.replace(recipe.model.encoders[0], weight=None, layers=(-1,)),)
    assert began[1] == (model_in(recipe.model, "RUN"), None)
    assert began[2] == (None, "RUN/training/soup")


def test_a_soup_of_the_run_is_its_greedy_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the stage hands to `soup`, and what it tells of it."""
    from mmcorpus.training.soup import SoupReport

    asked: dict[str, Any] = {}

    def soup(paths: list[str], out: str, **given: Any) -> SoupReport:
        asked.update(given, paths=paths, out=out)
        best = "RUN/training/two/checkpoints/step-00000004"
        return SoupReport(checkpoint=out, members=[best], scores={best: 0.75}, score=0.75)

    monkeypatch.setattr("mmcorpus.training.soup.soup", soup)
    (stage,) = (stage for stage in build_stages(load(tmp_path), "RUN") if stage.name == "soup/soup")
    result = stage.run()
    assert result.counts == {"members": ["two"], "score_two": 0.75, "score": 0.75}
    assert (asked["paths"], asked["out"]) == (["RUN/training/one", "RUN/training/two"], "RUN/training/soup")
    assert (asked["method"], asked["top"]) == ("greedy", None)
    average = load(tmp_path, RECIPE.replace("method: greedy, judge: sees", "method: average"))
    (stage,) = (stage for stage in build_stages(average, "RUN") if stage.name == "soup/soup")
    stage.run()
    assert (asked["method"], asked["score"], stage.outputs) == ("average", None, ("training/soup",))


def test_a_soups_judge_may_start_ray_as_an_evaluations_does(tmp_path: Path) -> None:
    """A judge of captions is served on it."""
    asks = RECIPE.replace(
        "source: talk}", "source: talk, judge: {model_name: judge, endpoints: ['http://127.0.0.1:9/v1']}}"
    )
    for text, ray in ((RECIPE, "no"), (asks, "maybe")):
        stages = {stage.name: stage for stage in build_stages(load(tmp_path, text), "RUN")}
        assert [stages[name].ray for name in ("soup/soup", "evaluate/sees")] == [ray, ray]
