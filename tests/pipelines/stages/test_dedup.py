"""The recipe's section `dedup`: what is read, in which order, and what is refused."""

from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from typer.testing import CliRunner

from mmcorpus.curation.dedup.image import NearImages
from mmcorpus.curation.dedup.passes import METHODS, DedupConfig
from mmcorpus.curation.engine.stage import StageRecord
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.recipe.schema import Recipe
from mmcorpus.pipelines.run.runner import execute
from mmcorpus.pipelines.run.state import RunState
from mmcorpus.pipelines.stages.order import build_stages
from tests.curation.dedup.corpus import found, make_rows, source_at

RECIPE = """\
name: small
web:
  generate: {pairs: 20, instructions: 5}
sources:
  pairs: {urls: "${web}/pairs.parquet", download: {save_additional_columns: [date]}}
  talk: {urls: "${web}/instructions.parquet", kind: conversation}
score:
  scorers: {image: {}, caption: {}, fingerprint: {}}
dedup:
  same_image: {by: image, survivor: image.min_side, among: same_text.rank == 0, max_distance: 6, sources: [pairs]}
  same_text: {by: text, sources: [pairs], survivor: time(date)}
  same_file: {by: bytes}
select:
  pairs: {keep: same_image.rank == 0 and same_text.copies <= 10, heldout_by: same_image.cluster}
"""


def read(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return load_recipe(str(path))


def test_passes_come_after_those_whose_columns_they_read(tmp_path: Path) -> None:
    recipe = read(tmp_path, RECIPE)
    assert list(recipe.passes) == ["same_text", "same_image", "same_file"]
    own = recipe.passes["same_image"]
    assert own.method == NearImages(max_distance=6)
    assert (own.survivor, own.config.among) == ("image.min_side", "same_text.rank == 0")
    assert set(own.scorers) == {"image", "fingerprint", "same_text"}
    assert recipe.passes["same_file"].survivor == ""
    assert recipe.passes["same_file"].columns == ("sha256",)


def test_every_method_has_its_name() -> None:
    assert set(get_args(get_type_hints(DedupConfig)["by"])) == set(METHODS)


FILE, AMONG = "same_file: {by: bytes", "same_text.rank == 0,"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("by: text,", "by: txt,", r'yaml:11: dedup.same_text.by: "txt" is none of its values; did you mean .text.'),
        ("by: text, ", "", r"dedup.same_text.by: missing"),
        ("max_distance: 6", "max_distanc: 6", r"yaml:10: dedup.same_image.max_distanc: unknown key; did you mean"),
        ("max_distance: 6", "max_distance: 17", r"dedup.same_image.max_distance: 17 is not in 0-16"),
        ("max_distance: 6", "max_distance: many", r"should be a whole number"),
        ("sources: [pairs], survivor", "sources: [pear], survivor", r"sources\[0\]: unknown source 'pear'; did you"),
        ("fingerprint: {}", "url: {}", r"dedup.same_image.by: 'fingerprint.dct' needs the scorer 'fingerprint', which"),
        ("image.min_side", "image.min_sid", r"survivor: image gives no column 'image.min_sid'; did you mean"),
        ("image.min_side", "image.min_side >= 3", r"survivor: a number is needed"),
        ("image.min_side", "caption.text_hash", r"survivor: a number is needed, and this is a text"),
        (AMONG, "same_text.rank,", r"among: a condition is needed"),
        (AMONG, "same_text.rnk == 0,", r"among: same_text gives no column 'same_text.rnk'; did you mean"),
        (AMONG, "'top(image.min_side, 0.5)',", r"`top` looks at other samples too"),
        (AMONG, "same_image.rank == 0,", r"'same_image.rank' cannot be read here"),
        ("time(date)", "same_image.copies", r"cannot be read here: pass 'same_"),
        ("time(date)", "time(dat)", r"same_text.survivor: the shards will have no column 'dat'; did you mean 'date'"),
        (FILE, "same_file: {by: bytes, survivor: time(date)", r"will have no column 'date'"),
        ("name: small", "name: small\ndownload: {compute_hash: md5}", r"needs the column 'sha256'; set compute_hash"),
        (FILE, "same-file: {by: bytes", r"dedup.same-file: a pass's name stands in expressions"),
        (FILE, "caption: {by: bytes", r"dedup.caption: a scorer has this name"),
        (FILE, "dfn: {by: bytes", r"dedup.dfn: a scorer has this name, or it stands for other tables"),
        (FILE, "same_file: {by: bytes, index: ./nowhere", r"index: there is no index at ./nowhere; a pass"),
        (FILE, "same_file: {by: bytes, extend: true", r"same_file.extend: extend needs an index"),
        (FILE, "same_file: {by: semantic", r"embeddings of the scorer 'clip', which"),
        (FILE, "same_file: {by: columns, on: []", r"same_file.on: on is empty"),
        ("same_text.copies <= 10", "same_text.copes <= 10", r"select.pairs.keep: same_text gives no column"),
        ("  pairs: {keep", "  talk: {keep", r"the pass 'same_image' does not look through the source 'talk'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in RECIPE
    with pytest.raises(RecipeError, match=message):
        read(tmp_path, RECIPE.replace(before, after, 1))


def test_the_command_looks_through_folders(tmp_path: Path) -> None:
    names = ("first", "second")
    uids = {}
    for name in names:
        source = source_at(tmp_path / "run", name)
        uids[name] = make_rows(source, [{"caption": "A hare."}, {"caption": f"{name} fox"}])
    command = ["dedup", str(tmp_path / "run"), "--by", "text", "--set", "survivor=caption.words"]
    told = CliRunner().invoke(app, [*command, "--set", "annotations=true"], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output
    assert "same_text over first, second: 4 samples, 1 clusters, 1 duplicates" in told.output
    rows = found("same_text", *(source_at(tmp_path / "run", name) for name in names))
    assert sum(rank == 0 for _, rank, _ in rows.values()) == 3
    assert (tmp_path / "run" / "dedup" / "same_text" / "annotations.parquet").exists()
    one = ["dedup", str(tmp_path / "run"), "--by", "text", "--name", "own", "--source", "second"]
    assert "own over second: 2 samples, 0 clusters" in CliRunner().invoke(app, one, env={"COLUMNS": "200"}).output
    wrong = CliRunner().invoke(app, [*one[:-1], "secnd"], env={"COLUMNS": "200"})
    assert wrong.exit_code == 2
    assert "there is no source 'secnd'; did you mean 'second'?" in wrong.output


def test_the_methods_are_listed() -> None:
    told = CliRunner().invoke(app, ["methods"], env={"COLUMNS": "200"}).output
    for words in (
        "text_image  – The same pixels",
        "aspect_tolerance = 0.06",
        "cosine = 0.95",
        "every pass",
        "among = None",
    ):
        assert words in told


def test_a_changed_parameter_redoes_its_pass_and_what_reads_it(tmp_path: Path) -> None:
    for name in ("pairs", "talk"):
        make_rows(source_at(tmp_path, name), [{"caption": "A hare.", "date": "2020-01-01", "sha256": "s"}] * 3)
    first = "same_image: {by: image, survivor: image.min_side, among: same_text.rank == 0, max_distance: 6,"
    text = RECIPE.replace(first, "same_image: {by: url, among: same_text.rank == 0,")

    def go(text: str) -> list[str]:
        recipe = read(tmp_path, text)
        stages = build_stages(recipe, str(tmp_path))
        state = RunState.load(str(tmp_path), name="small")
        for stage in stages:
            if stage.name.endswith(("/download", "/score")):
                record = StageRecord(fingerprint="f", status="done", content="c", parts={"caption": "p"})
                state.put(stage.name, record)
        passes = [stage for stage in stages if stage.name.startswith("dedup/")]
        outcome = execute(passes, state, say=lambda *event: None)
        assert not outcome.failures
        assert not outcome.blocked
        return list(outcome.ran)

    assert go(text) == ["dedup/same_text", "dedup/same_image", "dedup/same_file"]
    assert go(text) == []
    other = text.replace("same_file: {by: bytes", "same_file: {by: bytes, survivor: caption.words")
    assert go(other) == ["dedup/same_file"]
    # Another survivor, but of equal dates the same one: what reads the pass is as it was.
    assert go(text.replace("survivor: time(date)", "survivor: time(date) + 1")) == [
        "dedup/same_text",
        "dedup/same_file",
    ]
    redone = text.replace("by: text, sources: [pairs]", "by: columns, on: [uid], sources: [pairs]")
    assert go(redone) == ["dedup/same_text", "dedup/same_image"]
    assert (tmp_path / "scores" / "talk" / "same_file").is_dir()
    assert go(redone.replace("same_file: {by: bytes", "same_file: {by: bytes, sources: [pairs]")) == ["dedup/same_file"]
    assert not (tmp_path / "scores" / "talk" / "same_file").exists()
