"""A run's folder belongs to the recipe that made it."""

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from mmcorpus.curation.engine.stage import StageRecord
from mmcorpus.curation.store.lock import RunLocked
from mmcorpus.curation.store.storage import Damaged
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.schema import Recipe
from mmcorpus.pipelines.run.run_recipe import plan_run, run_recipe
from mmcorpus.pipelines.run.state import RunState
from mmcorpus.pipelines.truth.run_verdict import read_truth


def recipe(folder: Path, name: str) -> Recipe:
    (folder / "list.csv").write_text("url,caption\n")
    path = folder / f"{name}.yaml"
    path.write_text(f"name: {name}\nsources: {{pairs: {{urls: {folder}/list.csv}}}}\n")
    return load_recipe(str(path))


def test_another_recipes_run_is_not_taken_over(tmp_path: Path) -> None:
    out = tmp_path / "run"
    RunState(str(out), name="first").put("pairs/download", StageRecord(fingerprint="f", status="done"))
    before = (out / "run.json").read_bytes()
    for call in (plan_run, run_recipe):
        with pytest.raises(
            ValueError, match="run holds the run 'first', and this recipe is called 'second': give another"
        ):
            call(recipe(tmp_path, "second"), str(out))
    assert (out / "run.json").read_bytes() == before
    assert plan_run(recipe(tmp_path, "first"), str(out))[0].action == "run"


@pytest.mark.parametrize("stored", ["name: [", "\udcff", "- first", None])
def test_where_record_and_recipe_are_damaged_the_advice_goes_on(tmp_path: Path, stored: str | None) -> None:
    out, own = tmp_path / "run", recipe(tmp_path, "first")
    RunState(str(out), name="first").put("pairs/download", StageRecord(fingerprint="f", status="done"))
    (out / "run.json").write_bytes((out / "run.json").read_bytes()[:-9])
    if stored is not None:
        (out / "recipe.yaml").write_text(stored, errors="surrogateescape")
        with pytest.raises(Damaged, match=r"recipe.yaml is damaged, or no recipe of a run: "):
            read_truth(str(out))
    for call in (plan_run, run_recipe):
        with pytest.raises(ValueError, match=r"recipe.yaml beside it.*move run.json away and give the same command"):
            call(own, str(out))
    (out / "run.json").rename(tmp_path / "away.json")
    assert plan_run(own, str(out))[0].action == "run"


def test_an_empty_list_fails_the_run_with_its_path(tmp_path: Path, ray_local: None) -> None:
    result = run_recipe(recipe(tmp_path, "first"), str(tmp_path / "run"))
    told = f"pairs/download: ListError: {tmp_path}/list.csv: the list has no rows, so there is nothing to download"
    assert result.problems[0] == told


def test_a_run_that_no_longer_holds_its_folder_records_nothing(
    tmp_path: Path, ray_local: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the lease on S3 was lost (tests/curation/store/test_lock.py)."""

    @contextlib.contextmanager
    def lost(out: str) -> Iterator[Callable[[], None]]:
        def confirm() -> None:
            raise RunLocked(f"{out} is another's")

        yield confirm

    monkeypatch.setattr("mmcorpus.pipelines.run.run_recipe.lock", lost)
    with pytest.raises(RunLocked, match="run is another's"):
        run_recipe(recipe(tmp_path, "first"), str(tmp_path / "run"))
    assert not (tmp_path / "run" / "run.json").exists()
