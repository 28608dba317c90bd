"""Sources of samples that are here: what README promises, and what a recipe may say of them."""

import json
import re
import shlex
import subprocess
import sys
import tarfile
import textwrap
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from mmcorpus.curation.engine.made_from import MadeFrom
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.curation.store.shards import list_shards, read_rows
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.recipe.load import load_recipe, read_recipe
from mmcorpus.pipelines.recipe.populations import populations
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.recipe.yaml_source import apply_override, parse
from mmcorpus.pipelines.run.run_recipe import run_recipe
from mmcorpus.pipelines.stages.order import build_stages
from tests.curation.sources.conftest import as_tar, pairs, picture, write_tar

README = Path(__file__).parents[2] / "README.md"


def corpora(folder: Path, *, size: tuple[int, int] = (40, 30)) -> dict[str, bytes]:
    """CC12M's shards, of images of a size, LLaVA's JSON and COCO's folder, small; the images by their texts."""
    own = [{**pair, "image": picture(number, size=size)} for number, pair in enumerate(pairs(40))]
    for number in range(2):
        write_tar(folder / "cc12m" / f"cc12m-train-{number:04d}.tar", as_tar(own[20 * number : 20 * number + 20]))
    images = folder / "data" / "coco" / "train2017"
    images.mkdir(parents=True)
    rows: list[dict[str, Any]] = []
    known = {pair["caption"]: pair["image"] for pair in own}
    for number in range(20):
        name, answer = f"coco/train2017/{number:012d}.jpg", f"It is thing number {number}."
        known[answer] = picture(1000 + number, size=(64, 48))
        (folder / "data" / name).write_bytes(known[answer])
        turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": answer}]
        rows.append({"id": f"{number:012d}", "image": name, "conversations": turns})
    said = [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hello."}]
    rows.append({"id": "text", "model": "", "conversations": said})  # 665k has some without an image
    (folder / "llava_v1_5_mix665k.json").write_text(json.dumps(rows))
    return known


@pytest.mark.soak
def test_what_readme_says_to_type_takes_what_people_have_to_a_trained_model(tmp_path: Path) -> None:
    """The recipe, and the commands below it that name the file, as they stand there."""
    images = corpora(tmp_path, size=(64, 48))
    recipe = re.search(r"```yaml\n(name: own-data.*?)```", README.read_text(), re.DOTALL)
    assert recipe is not None
    (tmp_path / "own.yaml").write_text(recipe[1])
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    commands = re.findall(r"^    (mmcorpus \w+ own\.yaml.*)$", README.read_text(), re.MULTILINE)
    assert [command.split()[1] for command in commands] == ["run"]
    for command in commands:
        words = [sys.executable, "-m", "mmcorpus.pipelines.cli", *shlex.split(command)[1:]]
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    assert "Every sample is accounted for." in done.stdout
    run = tmp_path / "runs" / "own"
    packed = {data for name in ("pretrain", "sft") for data in _packed(run / "packs" / name)}
    assert packed == set(images.values()), "the bytes that they arrived in"
    assert not list((run / "shards").rglob("*.tar")), "no image was copied"
    assert len((run / "training" / "sft" / "metrics.jsonl").read_text().splitlines()) == 10
    assert {path for path in tmp_path.rglob("*") if path.is_file() and run not in path.parents} == before


@pytest.mark.slow
def test_readmes_recipe_takes_what_people_have_to_a_first_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ray_local: None
) -> None:
    images = corpora(tmp_path)
    monkeypatch.chdir(tmp_path)
    found = re.search(r"```yaml\n(name: own-data.*?)```", README.read_text(), re.DOTALL)
    assert found is not None
    Path("own.yaml").write_text(found[1].replace("image.min_side >= 32", "image.min_side >= 30"))
    steps = ["train.stages.pretrain.schedule.steps=2", "train.stages.sft.schedule.steps=2"]
    assert run_recipe(load_recipe("own.yaml", steps), str(tmp_path / "run")).problems == ()
    packed = {data for name in ("pretrain", "sft") for data in _packed(tmp_path / "run" / "packs" / name)}
    assert packed == set(images.values()), "the bytes that they arrived in"
    assert not list((tmp_path / "run" / "shards").rglob("*.tar")), "no image was copied"
    assert (tmp_path / "run" / "training" / "sft" / "metrics.jsonl").exists()


@pytest.mark.slow
def test_tars_of_anybody_are_scored_as_they_are(tmp_path: Path, ray_local: None) -> None:
    corpora(tmp_path)
    (tmp_path / "cc12m" / "cut.tar").write_bytes(write_tar(tmp_path / "x.tar", as_tar(pairs(2))).read_bytes()[:3000])
    words = ["score", str(tmp_path / "cc12m"), "--out", str(tmp_path / "out" / "scores"), "--scorer", "caption"]
    result = CliRunner().invoke(app, words, env={"COLUMNS": "400", "TERM": "dumb"})
    assert result.exit_code == 1
    assert f"failed: {tmp_path / 'cc12m' / 'cut.tar'}" in result.output
    shards = list_shards(str(tmp_path / "out" / "shards"))
    uids = [uid for shard in shards for uid in read_rows(shard)["uid"].to_pylist()]
    assert sorted(uids) == sorted(load_scores(str(tmp_path / "out" / "scores"))["uid"].to_pylist())
    assert len(uids) == 40
    write_tar(tmp_path / "cc12m" / "cc12m-train-0000.tar", as_tar(pairs(20, first=50)))
    assert ", 0 of them scored before" in CliRunner().invoke(app, words, env={"COLUMNS": "400"}).output
    uids = [uid for shard in shards for uid in read_rows(shard)["uid"].to_pylist()]
    assert sorted(uids) == sorted(load_scores(str(tmp_path / "out" / "scores"))["uid"].to_pylist())


def _packed(pack: Path) -> list[bytes]:
    found = []
    for path in sorted(pack.glob("*.tar")):
        with tarfile.open(path) as tar:
            found += [_read(tar, member) for member in tar if member.name.endswith(".jpg")]
    return found


def _read(tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = tar.extractfile(member)
    assert file is not None
    return file.read()


RECIPE = """
name: own
sources:
  web: {shards: IN/cc12m}
  chat: {json: [IN/llava_v1_5_mix665k.json], kind: conversation, image_root: IN/data}
score: {scorers: {image: {}}}
dedup: {same: {by: columns, on: [source_key], sources: [web]}}
tokenizer: {train: {vocab_size: 512}}
pack: {all: {sources: [web, chat], tokens_per_image: 9}}
"""


def recipe(folder: Path, *settings: str) -> Any:
    source = parse(RECIPE.replace("IN", str(folder)), "own.yaml")
    for setting in settings:
        apply_override(source, setting)
    return read_recipe(source)


def test_a_source_that_is_here_is_indexed_and_all_else_needs_that(tmp_path: Path) -> None:
    corpora(tmp_path)
    found = recipe(tmp_path)
    assert {name: one.made_by for name, one in populations(found.file).items()} == {
        "web": "web/index", "chat": "chat/index",
    }  # fmt: skip
    stages = {stage.name: stage for stage in build_stages(found, str(tmp_path / "run"))}
    assert stages["web/score"].needs == ("web/index", "web/index#made_with")
    before = stages["chat/index"].config
    assert before == build_stages(recipe(tmp_path), str(tmp_path / "run"))[1].config
    (tmp_path / "llava_v1_5_mix665k.json").write_text("[]")
    assert before != {one.name: one for one in build_stages(found, str(tmp_path / "run"))}["chat/index"].config


def test_what_has_changed_is_seen_whatever_files_sources_and_scorers_are_called(tmp_path: Path) -> None:
    """Their names may be those that secrets have."""
    folder = tmp_path / "monkeys"
    write_tar(folder, as_tar(pairs(2)))

    def fingerprints(rate: float = 0.5, whole: str = "false") -> dict[str, str]:
        text = f"""
        name: own
        sources: {{auth: {{shards: {folder}}}, cookies: {{shards: {folder}}}}}
        score: {{scorers: {{api_secret: {{uses: url, whole_words: {whole}}}}}}}
        tokenizer: {{train: {{vocab_size: 512}}}}
        pack: {{all: {{sources: [auth, cookies], tokens_per_image: 9, mix: {{auth: 1, cookies: {rate}}}}}}}
        """
        stages = build_stages(read_recipe(parse(textwrap.dedent(text), "own.yaml")), str(tmp_path / "run"))
        return {stage.name: MadeFrom(config=stage.config).fingerprint for stage in stages}

    def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
        return {name for name, fingerprint in before.items() if after[name] != fingerprint}

    before = fingerprints()
    assert changed(before, fingerprints()) == set()
    assert changed(before, fingerprints(rate=0.6)) == {"all/plan"}
    assert changed(before, fingerprints(whole="true")) == {"auth/score", "cookies/score"}
    write_tar(folder, as_tar(pairs(3)))
    assert changed(before, fingerprints()) == {"auth/index", "cookies/index"}


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("sources.web.urls=list.parquet", "give one of `urls`.*it has urls and shards"),
        ("sources.web.kind=document", "a document is read from `pages`"),
        ("sources.web.columns={picture: x}", "columns: there is no 'picture'; a column can be image, url, caption"),
        ("sources.web.shards=[]", "shards is empty"),
        ("sources.web.shards=/nowhere/at/all", "there is nothing at /nowhere/at/all"),
        ("sources.web.shards=/nowhere/*.tar", r"there is nothing at /nowhere/\*\.tar"),
        ("sources.chat.image_root=/nowhere", "there is nothing at /nowhere"),
        ("sources.chat.downloaded=/nowhere", "there is nothing at /nowhere"),
        ("sources.chat={urls: x.parquet, columns: {image: y}}", "`columns`, `image_root`, `strip` and `downloaded`"),
        ("dedup.same.on=[similarity]", "no column 'similarity'"),
    ],
)
def test_what_a_recipe_may_not_say(tmp_path: Path, setting: str, said: str) -> None:
    corpora(tmp_path)
    with pytest.raises(RecipeError, match=said):
        recipe(tmp_path, setting)


def test_the_parquet_beside_a_tar_says_which_columns_there_will_be(tmp_path: Path) -> None:
    corpora(tmp_path)
    rows = [{"key": pair["key"], "similarity": 0.5} for pair in pairs(20)]
    import pyarrow as pa

    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "cc12m" / "cc12m-train-0000.parquet")
    assert recipe(tmp_path, "dedup.same.on=[similarity]") is not None
