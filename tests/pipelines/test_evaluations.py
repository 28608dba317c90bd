"""`mmcorpus evaluations`, and recipes that name an index."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError

RECIPE = """\
name: x
sources: {pairs: {urls: LIST}}
score: {scorers: {contamination: {index: INDEX}}}
select: {pairs: {keep: contamination.text_overlap == 0 and contamination.image_distance > 8}}
"""


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", "TERM": "dumb"})
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "list.csv").write_text("url,caption\nhttp://x.test/1.jpg,one\n")
    rows = [{"question": f"How many of the {n} boats in the harbour have a red sail?"} for n in range(3)]
    (tmp_path / "set.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    text = RECIPE.replace("LIST", str(tmp_path / "list.csv")).replace("INDEX", str(tmp_path / "index"))
    (tmp_path / "recipe.yaml").write_text(text)
    return tmp_path


def test_an_index_is_made_and_a_recipe_finds_it(folder: Path) -> None:
    with pytest.raises(RecipeError, match=r"score.scorers.contamination: index .* holds no index.json; make one with"):
        load_recipe(str(folder / "recipe.yaml"))
    output = call("evaluations", f"boats={folder}/set.jsonl", "--out", f"{folder}/index", "--set", "n=9")
    assert "boats: 3 items, 3 texts, 0 pictures" in output
    recipe = load_recipe(str(folder / "recipe.yaml"))
    assert recipe.scorers["contamination"].model().startswith("evaluations ")


def test_settings_reach_the_sets_and_mistakes_are_told(folder: Path) -> None:
    named = ("--out", f"{folder}/index", "--set")
    output = call("evaluations", f"b={folder}/set.jsonl", *named, "sets.b.texts=[question]")
    assert "3 items, 3 texts" in output
    assert "has no column 'answer'" in call(
        "evaluations", f"b={folder}/set.jsonl", *named, "sets.b.texts=[answer]", code=2
    )
    assert "write it as NAME=VALUE" in call("evaluations", f"{folder}/set.jsonl", "--out", f"{folder}/index", code=2)
    assert "names 'b' twice" in call("evaluations", "b=1", "b=2", "--out", f"{folder}/index", code=2)
    assert "min_words: 20 is not in 1-13" in call(
        "evaluations", f"b={folder}/set.jsonl", *named, "min_words=20", code=2
    )
    assert "there is nothing at" in call("evaluations", f"b={folder}/none", "--out", f"{folder}/index", code=2)
