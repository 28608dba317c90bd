"""`--fresh`: what a stage made is listed, asked about, removed and made again; nothing else is."""

from pathlib import Path

import pytest

from mmcorpus.curation.engine.stage import Result, Stage, decide, perform
from mmcorpus.pipelines.commands import run as run_command
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.run.fresh import Going, fresh_stages, remove, what_goes
from mmcorpus.pipelines.run.run_recipe import fresh_goes, run_recipe
from mmcorpus.pipelines.run.state import RunState


@pytest.fixture
def stages(tmp_path: Path) -> list[Stage]:
    def write(name: str) -> Stage:
        def work() -> Result:
            (tmp_path / name).mkdir(parents=True, exist_ok=True)
            (tmp_path / name / "a.txt").write_text(name)
            return Result(counts={})

        return Stage(name=name, config={}, needs=(), outputs=(name,), run=work)

    return [write("pairs/download"), write("pairs/score"), write("pages/score")]


@pytest.fixture
def state(tmp_path: Path, stages: list[Stage]) -> RunState:
    state = RunState(str(tmp_path), name="r")
    for stage in stages:
        perform(decide(stage, state), state)
    return state


def test_what_goes_is_what_the_stages_made_and_what_others_put_there(
    tmp_path: Path, stages: list[Stage], state: RunState
) -> None:
    (tmp_path / "pairs/score/mine.txt").write_text("12345")
    assert what_goes(fresh_stages(stages, ["pairs/score"]), str(tmp_path)) == [
        Going(stage="pairs/score", path="pairs/score", files=2, size=5 + len("pairs/score"))
    ]
    remove(fresh_stages(stages, ["pairs/score"]), state)
    assert not (tmp_path / "pairs/score").exists()
    assert (tmp_path / "pairs/download/a.txt").exists()
    again = RunState.load(str(tmp_path), name="r")
    assert [decide(stage, again).action for stage in stages] == ["keep", "run", "keep"]


def test_a_dry_run_says_of_a_stage_made_anew_that_it_runs(
    stages: list[Stage], state: RunState, capsys: pytest.CaptureFixture[str]
) -> None:
    run_command._show_plan([decide(stage, state) for stage in stages], always=True, anew={"pairs/score"})
    assert capsys.readouterr().out.splitlines() == [
        "keep  pairs/download: up to date",
        "run   pairs/score: made anew (--fresh)",
        "keep  pages/score: up to date",
    ]


def test_stages_are_named_as_until_names_them(stages: list[Stage]) -> None:
    assert [stage.name for stage in fresh_stages(stages, ["score"])] == ["pairs/score", "pages/score"]
    assert [stage.name for stage in fresh_stages(stages, ["pages", "pairs/download"])] == [
        "pairs/download",
        "pages/score",
    ]
    with pytest.raises(ValueError, match="there is no stage 'scores'; this recipe has: pairs/download"):
        fresh_stages(stages, ["scores"])


def test_what_has_no_record_goes_too(tmp_path: Path, stages: list[Stage], state: RunState) -> None:
    (tmp_path / "run.json").unlink()
    lost = RunState(str(tmp_path), name="r")
    assert what_goes(stages, str(tmp_path))
    remove(stages, lost)
    assert not what_goes(stages, str(tmp_path))
    assert [decide(stage, lost).reason for stage in stages] == ["new"] * 3


def test_what_this_run_would_not_make_again_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_text("url,caption\nhttp://a.test/1.jpg,one\n")
    path = tmp_path / "r.yaml"
    path.write_text(
        f"name: r\nsources: {{pairs: {{urls: {tmp_path}/list.csv}}}}\nscore: {{scorers: {{caption: {{}}}}}}\n"
        "select: {pairs: {keep: caption.words > 2}}\n"
    )
    recipe = load_recipe(str(path), [])
    with pytest.raises(ValueError, match="there is no stage 'score'; this recipe has: pairs/download"):
        run_recipe(recipe, str(tmp_path / "out"), until="download", fresh=["score"])
    assert not (tmp_path / "out").exists()
    assert fresh_goes(recipe, str(tmp_path / "out"), ["score"], until="select") == []
