"""docs/own-scorer.md as written: a scorer in a file of one's own, and in a package of one's own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from mmcorpus.curation.store.scores import load_scores
from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "own-scorer.md").read_text()
COMMAND = Path(sys.executable).with_name("mmcorpus")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, re.S)


@pytest.fixture
def mine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the page's file in it."""
    # Recorded as missing, so that what a test imports is gone after it: other pages name a `my_rules` of other content.
    monkeypatch.setitem(sys.modules, "my_rules", sys)
    monkeypatch.delitem(sys.modules, "my_rules")
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "my_rules.py").write_text(blocks("python")[0])
    return folder


def recipe(site: Path, scorer: str = "my_rules:Colour") -> str:
    given = yaml.safe_load(blocks("yaml")[0].replace("my_rules:Colour", scorer))
    web = {"folder": str(site)}
    return yaml.safe_dump({"name": "own", "web": web, "sources": {"pairs": {"urls": "${web}/pairs.parquet"}}, **given})


def mmcorpus(folder: Path, *arguments: str, path: str = "") -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "200", "PYTHONPATH": path}
    environment.pop("RAY_ADDRESS", None)
    command = [str(COMMAND), *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def site(tmp_path: Path) -> Path:
    generate_site(MiniWebConfig(pairs=20, instructions=0, spoil=0.0), str(tmp_path / "site"), workers=1)
    return tmp_path / "site"


def test_a_wrong_parameter_is_told_with_its_line(mine: Path, site: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(mine))
    path = mine / "own.yaml"
    path.write_text(recipe(site).replace("smallest: 32", "smalest: 32"))
    with pytest.raises(RecipeError, match=r"smalest: unknown key; did you mean 'smallest'\?"):
        load_recipe(str(path))
    path.write_text(recipe(site).replace("smallest: 32", "smallest: 0"))
    with pytest.raises(RecipeError, match=r"my_rules:Colour\.smallest: smallest is 0; give 1 or more"):
        load_recipe(str(path))


def test_the_page_s_few_lines_without_ray(mine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    monkeypatch.syspath_prepend(str(mine))
    monkeypatch.chdir(mine)
    Image.new("RGB", (40, 40), "red").save("picture.jpg")
    code = compile(blocks("python")[1], "page", "exec")
    said: list[object] = []
    exec(code, {"print": said.append})
    assert said == [[{"colourfulness": pytest.approx(0.3 * (255**2 + 127.5**2) ** 0.5, rel=0.02), "reason": None}]]


@pytest.mark.soak
def test_a_file_beside_you_and_an_installed_package_run(mine: Path, site: Path, tmp_path: Path) -> None:
    (mine / "own.yaml").write_text(recipe(site))
    out = mmcorpus(mine, "run", "own.yaml", "--out", "run", "--num-cpus", "1", "--until", "select")
    assert "pairs/select: 20 judged" in out
    scores = load_scores(str(mine / "run" / "scores" / "pairs"), columns=["colour.colourfulness"])
    assert scores.num_rows == 20
    assert scores["colour.colourfulness"].null_count == 0

    package = tmp_path / "installed" / "their_rules"
    package.mkdir(parents=True)
    (mine / "my_rules.py").rename(package / "colours.py")
    (package / "__init__.py").write_text("")
    scorer = "their_rules.colours:Colour"
    shards = str(mine / "run" / "shards" / "pairs")
    settings = ["--scorer", scorer, "--set", f"{scorer}.smallest=32", "--num-cpus", "1"]
    mmcorpus(tmp_path, "score", shards, "--out", "scores", *settings, path=str(package.parent))
    same = load_scores(str(tmp_path / "scores"), columns=["colour.colourfulness"])
    assert same.equals(scores)
