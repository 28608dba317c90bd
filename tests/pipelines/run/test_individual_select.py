"""Individual Select: the greedy choice is POINTS', a trial is made once, and it finds the source that helps."""

import copy
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from mmcorpus.curation.store import storage
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.run import individual_select as module
from mmcorpus.pipelines.run.individual_select import (
    FILE,
    TrialFailed,
    individual_select,
    settings_of,
    with_trials,
)
from mmcorpus.pipelines.run.run_recipe import RunResult
from mmcorpus.pipelines.run.runner import Outcome
from tests.training.conftest import COLORS, png


def write_talk(folder: Path, name: str, turns: list[tuple[str, str, str]]) -> str:
    """A source of conversations about one colour each, as LLaVA's JSON: (colour, question, answer)."""
    (folder / "images").mkdir(exist_ok=True)
    rows = []
    for number, (color, question, answer) in enumerate(turns):
        image = folder / "images" / f"{name}{number}.png"
        # Otherwise than the others by a hair, else they would be one sample.
        image.write_bytes(png((*COLORS[color][:2], COLORS[color][2] - number % 20), 24 + number // 20))
        said = [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]
        rows.append({"id": f"{name}{number}", "image": f"images/{image.name}", "conversations": said})
    path = folder / f"{name}.json"
    path.write_text(json.dumps(rows))
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("talk")


@pytest.fixture(scope="module")
def written(folder: Path) -> dict[str, Any]:
    return recipe(folder)


def recipe(folder: Path) -> dict[str, Any]:
    """A base that talks of nothing to be seen; `colors` answers what is asked, `wrong` and `words` do not help."""
    rng, names = random.Random(0), sorted(COLORS)
    drawn = [rng.choice(names) for _ in range(160)]
    asked = "What color is it?"
    files = {
        "base": write_talk(folder, "base", [(one, "What is it?", "a picture") for one in drawn[:40]]),
        "colors": write_talk(folder, "colors", [(one, asked, one) for one in drawn]),
        "wrong": write_talk(folder, "wrong", [(one, asked, rng.choice(names)) for one in drawn[:80]]),
        "words": write_talk(folder, "words", [(one, "Say a word.", "word") for one in drawn[:80]]),
    }
    questions = [{"image": f"images/colors{n}.png", "question": asked, "answers": [one]} for n, one in enumerate(drawn)]
    (folder / "questions.jsonl").write_text("\n".join(map(json.dumps, questions[:40])))
    return {
        "name": "choice",
        "sources": {name: {"json": path, "kind": "conversation"} for name, path in files.items()},
        "tokenizer": {"train": {"vocab_size": 300}},
        "pack": {"sft": {"sources": list(files), "context_length": 64, "tokens_per_image": 4,
                         "mix": {"base": 1, "colors": 2, "wrong": 2, "words": 1}, "mix_over": "cap"}},
        "train": {
            "device": "cpu",
            "model": {
                "vision": {"image_size": 16, "patch_size": 4, "hidden_size": 32, "layers": 2, "heads": 2,
                           "intermediate_size": 64},
                "language": {"hidden_size": 32, "layers": 2, "heads": 4, "key_value_heads": 2,
                             "intermediate_size": 64},
                "tokens_per_image": 4,
            },
            "stages": {"sft": {"pack": "sft", "schedule": {"steps": 120}, "optimizer": {"learning_rate": 6e-3},
                               "data": {"batch_sequences": 4}, "freeze": {"vision": False}, "certify": 0,
                               "compute": {"precision": "fp32"}, "checkpoints": {"every": 60, "keep_last": 1}}},
        },
        "evaluate": {"colors": {"stage": "sft", "data": str(folder / "questions.jsonl"), "metric": "exact",
                                "max_new_tokens": 3, "batch_size": 64}},
        "individual_select": {"stage": "sft", "base": ["base"], "candidates": ["words", "colors", "wrong"],
                              "judge": "colors"},
    }  # fmt: skip


def write(folder: Path, data: Mapping[str, Any]) -> str:
    (folder / "choice.yaml").write_text(yaml.safe_dump(data, sort_keys=False))
    return str(folder / "choice.yaml")


class Runs:
    """In place of `run_recipe`: a trial's score is looked up by its sources, and what was run is noted."""

    def __init__(self, scores: Mapping[frozenset[str], float | None]) -> None:
        self.scores, self.ran = scores, list[str]()

    def __call__(self, extended: Any, out: str, *, until: str, **_: Any) -> RunResult:
        name = until.removeprefix("evaluate/")
        sources = frozenset(extended.file.pack[name].sources) - {"base"}
        assert extended.stages[name].links.pack == name
        assert extended.file.evaluate[name].stage == name
        assert set(extended.file.pack[name].mix) == set(extended.file.pack[name].sources)
        self.ran.append(name)
        found = {"value": self.scores[sources], "low": None, "high": None}
        storage.write_json(f"{out}/evaluation/{name}/results.json", {"results": [{"found": found}]})
        outcome = Outcome(ran=(), kept=(), failures={}, blocked=())
        return RunResult(outcome=outcome, summary={}, problems=() if sources != {"fails"} else ("x",))


def of(**scores: float) -> dict[frozenset[str], float]:
    return {frozenset(name.split("_") if name != "none" else ()): value for name, value in scores.items()}


@pytest.mark.parametrize(
    ("changes", "scores", "taken", "tried"),
    [
        # Of the first round the best, of the second the one that still helps; the third makes it worse.
        ({}, of(none=0.5, words=0.6, colors=0.7, wrong=0.4, colors_words=0.8, colors_wrong=0.7, colors_words_wrong=0.7),
         ["base", "colors", "words"], 7),
        ({"rounds": 1}, of(none=0.5, words=0.6, colors=0.7, wrong=0.4), ["base", "colors"], 4),
        ({"gain": 0.15}, of(none=0.5, words=0.6, colors=0.7, wrong=0.4, colors_words=0.8, colors_wrong=0.7),
         ["base", "colors"], 6),
        ({}, of(none=0.5, words=0.5, colors=0.5, wrong=0.4), ["base"], 4),  # as good is not better
        ({}, of(none=0.5, words=0.6, colors=0.6, wrong=0.4, colors_words=0.5, words_wrong=0.5), ["base", "words"], 6),
    ],
)  # fmt: skip
def test_each_round_takes_the_best_if_it_helps(
    changes: dict[str, Any], scores: dict[frozenset[str], float], taken: list[str], tried: int, tmp_path: Path,
    written: dict[str, Any], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    runs, data = Runs(scores), copy.deepcopy(written)
    data["individual_select"] |= changes
    monkeypatch.setattr(module, "run_recipe", runs)
    found = individual_select(load_recipe(write(tmp_path, data)), str(tmp_path / "run"))
    assert found.sources == tuple(taken)
    assert len(found.trials) == len(runs.ran) == tried
    assert runs.ran[:4] == ["sft--0", "sft--1--words", "sft--1--colors", "sft--1--wrong"]
    said = storage.read_json(str(tmp_path / "run" / FILE))
    assert said["sources"] == taken
    assert [trial["score"] for trial in said["trials"]] == [trial.score for trial in found.trials]


def test_what_cannot_be_chosen_is_told(
    tmp_path: Path, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    data = written
    for changes, message in (
        ({"stage": "stf"}, "individual_select.stage: unknown stage 'stf'; did you mean 'sft'"),
        ({"judge": "color"}, "individual_select.judge: unknown evaluation 'color'; did you mean 'colors'"),
        ({"base": ["bas"]}, "individual_select.base[0]: 'bas' is not in the pack 'sft'"),
        ({"candidates": ["base"]}, "name a source twice"),
        ({"candidates": []}, "one source or more each"),
        ({"gain": -1}, "gain is -1"),
        ({"rounds": 0}, "rounds is 0"),
    ):
        asked = {**data, "individual_select": {**data["individual_select"], **changes}}
        with pytest.raises(RecipeError) as caught:
            load_recipe(write(tmp_path, asked))
        assert message in str(caught.value)
    without = {key: value for key, value in data.items() if key != "individual_select"}
    with pytest.raises(ValueError, match="has no individual_select"):
        individual_select(load_recipe(write(tmp_path, without)), str(tmp_path / "run"))
    whole = load_recipe(write(tmp_path, data))
    monkeypatch.setattr(module, "run_recipe", Runs({frozenset(): None}))
    with pytest.raises(ValueError, match="sft--0 has no score"):
        individual_select(whole, str(tmp_path / "run"))
    failing = Runs({frozenset(): 0.5})
    monkeypatch.setattr(
        module, "run_recipe", lambda *a, **k: dataclass_with(failing(*a, **k), ("train/sft--0: broken",))
    )
    with pytest.raises(TrialFailed, match="sft--0 failed: train/sft--0: broken"):
        individual_select(whole, str(tmp_path / "run"))


def dataclass_with(result: RunResult, problems: tuple[str, ...]) -> RunResult:
    return RunResult(outcome=result.outcome, summary={}, problems=problems)


def test_a_trial_of_groups_keeps_what_it_has_of_them(tmp_path: Path, written: dict[str, Any]) -> None:
    data = copy.deepcopy(written)
    pack = data["pack"]["sft"]
    del pack["mix"]
    pack["mix_groups"] = {
        "good": {"rate": 0.5, "sources": ["base", "colors"], "sizes": {"colors": 9}},
        "other": {"rate": 0.5, "sources": ["wrong", "words"]},
    }
    whole = load_recipe(write(tmp_path, data))
    assert whole.file.individual_select is not None
    extended = with_trials(whole, whole.file.individual_select, {"sft--0": ["base"]})
    groups = extended.file.pack["sft--0"].mix_groups
    assert list(groups) == ["good"]
    assert (groups["good"].sources, groups["good"].sizes) == (("base",), {})
    assert list(whole.file.pack["sft"].mix_groups) == ["good", "other"], "the recipe stays as it was"


def test_the_settings_that_it_tells_train_on_what_was_chosen(tmp_path: Path, written: dict[str, Any]) -> None:
    """A mix says nothing of what is left out, and the recipe chooses no more."""
    path = write(tmp_path, written)
    entry = load_recipe(path).file.individual_select
    assert entry is not None
    settings = settings_of(load_recipe(path), entry, ("base", "colors"))
    assert settings == [
        "individual_select=null", "pack.sft.sources=[base, colors]", "pack.sft.mix={base: 1, colors: 2}"
    ]  # fmt: skip
    chosen = load_recipe(path, settings)
    assert chosen.file.pack["sft"].sources == ("base", "colors")
    assert chosen.file.pack["sft"].mix == {"base": 1, "colors": 2}


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_it_finds_the_source_that_helps_and_goes_on_where_it_was_stopped(
    tmp_path: Path, written: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in the second trial; what was trained before is kept. `wrong` asks the same and answers at random."""
    monkeypatch.chdir(tmp_path)
    data = copy.deepcopy(written)
    data["individual_select"]["rounds"] = 2
    del data["pack"]["sft"]["mix"], data["pack"]["sft"]["mix_over"]
    path, out = write(tmp_path, data), str(tmp_path / "run")
    whole = load_recipe(path)

    def stops(kind: str, stage: str, text: str) -> None:
        if (kind, stage) == ("start", "evaluate/sft--1--words"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        individual_select(whole, out, say=stops)
    assert [trial["name"] for trial in storage.read_json(f"{out}/{FILE}")["trials"]] == ["sft--0"]
    started: list[str] = []
    found = individual_select(
        whole, out, say=lambda kind, stage, text: started.append(stage) if kind == "start" else None
    )
    assert not {"train/sft--0", "train/sft--1--words"} & set(started), "no trial is trained twice"
    assert "evaluate/sft--1--words" in started
    scores = {trial.name: trial.score for trial in found.trials}
    assert [trial.added for trial in found.taken[:2]] == [None, "colors"], scores
    assert scores["sft--1--colors"] > 0.7 > scores["sft--1--wrong"], scores
    ran = CliRunner().invoke(app, ["individual-select", path, "--out", out])
    assert ran.exit_code == 0, ran.output
    assert f"Train on {', '.join(found.sources)}" in ran.output.replace("\n", " ")
    page = Path(out, "report.html").read_text()
    assert "<td>sft--1--colors</td>" in page
