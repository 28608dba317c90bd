"""Recipes with documents: their populations, what is refused, which stages there are, and what a change redoes."""

from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.engine.stage import StageRecord, decide
from mmcorpus.pipelines.recipe.load import read_recipe
from mmcorpus.pipelines.recipe.populations import populations
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.recipe.schema import Recipe
from mmcorpus.pipelines.recipe.yaml_source import apply_override, parse
from mmcorpus.pipelines.run.state import RunState
from mmcorpus.pipelines.stages.order import build_stages

RECIPE = """
name: pages
web: {generate: {pairs: 60, pages: 20}}
sources:
  pairs: {urls: "${web}/pairs.parquet"}
  pages:
    kind: document
    pages: ${web}/pages/*.warc.gz
  texts: {kind: text, pages: ["${web}/pages/*.warc.gz"]}
score:
  scorers:
    image: {on: [pairs, pages.images]}
    caption: {on: [pairs, pages.paragraphs, pages, texts]}
    url: {}
dedup:
  same: {by: bytes, sources: [pages.images, pairs]}
  repeated: {by: columns, on: [domain, caption], sources: [pages.paragraphs]}
  alike: {by: text, sources: [pages, texts]}
select:
  pairs: {keep: url.matches == 0 and same.rank == 0}
  pages.images: {profile: obelics_images, keep: same.copies <= 10}
  pages.paragraphs: {keep: repeated.rank == 0, require: [not caption.is_boilerplate]}
  pages: {keep: caption.words > 10 and alike.rank == 0, heldout_fraction: 0.1}
tokenizer: {train: {vocab_size: 512}}
pack:
  all:
    sources: [pairs, pages, texts]
    context_length: 512
    tokens_per_image: 9
    max_images: 16
    too_long: split
    mix: {pairs: 45, pages: 45, texts: 10}
train:
  model: {tokens_per_image: 9}
  stages: {pretrain: {pack: all, schedule: {steps: 2}}}
"""


def recipe(*settings: str) -> Recipe:
    source = parse(RECIPE, "pages.yaml")
    for setting in settings:
        apply_override(source, setting)
    return read_recipe(source)


def test_populations_and_what_judges_them() -> None:
    loaded = recipe()
    found = populations(loaded.file)
    assert {name: (one.level, one.shards) for name, one in found.items()} == {
        "pairs": ("sample", "pairs"),
        "pages.images": ("image", "pages.images"),
        "pages.paragraphs": ("paragraph", "pages.paragraphs"),
        "pages": ("document", "pages.trimmed"),
        "texts.paragraphs": ("paragraph", "texts.paragraphs"),
        "texts": ("document", "texts.trimmed"),
    }
    assert loaded.on["url"] == ("pairs",), "without `on`, pairs and conversations alone"
    assert loaded.on["image"] == ("pairs", "pages.images")


def test_the_stages_come_in_an_order_in_which_they_can_run(tmp_path: Path) -> None:
    stages = build_stages(recipe(), str(tmp_path))
    names = [stage.name for stage in stages]
    assert len(set(names)) == len(names)
    for number, stage in enumerate(stages):
        assert {need.partition("#")[0] for need in stage.needs} <= set(names[:number]), stage.name
    own = [name.split("-")[0] for name in names if name.partition("/")[0].partition(".")[0] == "pages"]
    assert own == [
        "pages/extract",
        "pages/capture",
        "pages/list",
        "pages.urls/download",
        "pages/place",
        "pages.images/score",
        "pages.paragraphs/score",
        "pages.images/select",
        "pages.paragraphs/select",
        "pages/trim",
        "pages/score",
        "pages/select",
        "pages/lengths",
    ]
    texts = [name.split("-")[0] for name in names if name.startswith("texts")]
    made = ("extract", "capture", "place", "trim", "score", "select", "lengths")
    assert texts == [f"texts/{name}" for name in made]
    needs = {stage.name: stage.needs for stage in stages}
    assert "dedup/repeated#pages.paragraphs" in needs["pages.paragraphs/select"]
    assert {"pages.images/select", "pages.paragraphs/select"} <= set(needs["pages/trim"])
    assert "dedup/alike#pages" in needs["pages/select"]
    assert {"pages/trim", "pages/select"} <= set(needs["all/plan"])


def redone(before: Recipe, after: Recipe, root: str) -> list[str]:
    """The stages that run when a finished run's recipe changes; each stage that runs gives something else."""
    state = RunState(root)

    def finish(stages: Any, mark: str, run: list[str]) -> None:
        for stage in stages:
            decision = decide(stage, state)
            if decision.action == "run" and not decision.reason.endswith("is gone"):
                run.append(stage.name)
                made_from = decision.made_from
                record = StageRecord(fingerprint=made_from.fingerprint, status="done", inputs=dict(made_from.inputs))
                parts = {name: f"{name}-{mark}" for name in ("made_with", "pairs", "pages", "texts")}
                state.stages[stage.name] = StageRecord(**{**record.__dict__, "content": mark, "parts": parts})

    run: list[str] = []
    finish(build_stages(before, root), "first", [])
    finish(build_stages(after, root), "second", run)
    return run


@pytest.mark.parametrize(
    ("setting", "first", "kept"),
    [
        ("select.pages.images={keep: same.copies <= 3}", "pages.images/select", "pages.paragraphs/select"),
        ("sources.pages.images.max_uses=3", "pages/list", "pages/extract"),
        ("sources.pages.place.repeats=all", "pages/place", "pages.urls/download"),
        ("sources.pages.extract.captures=all", "pages/extract", "texts/extract"),
        ("pack.all.mix.texts=20", "all/plan", "pages/select"),
    ],
)
def test_a_change_redoes_what_depends_on_it(setting: str, first: str, kept: str, tmp_path: Path) -> None:
    run = redone(recipe(), recipe(setting), str(tmp_path))
    assert run[0] == first
    assert kept not in run
    assert "all/plan" in run


def test_an_image_threshold_leaves_extraction_download_and_scores_alone(tmp_path: Path) -> None:
    run = redone(recipe(), recipe("select.pages.images={keep: same.copies <= 3}"), str(tmp_path))
    assert run[:4] == ["pages.images/select", "pages/trim", "pages/score", "dedup/alike"]
    assert not {"pages/extract", "pages.urls/download", "pages/place", "pages.images/score", "dedup/same"} & set(run)


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("sources.pages.urls=x.parquet", "give one of `urls` .* it has urls and pages"),
        ("sources.pages.kind=pair", "`pages` give documents: say `kind: document`"),
        ("sources.pairs.kind=document", "a document is made of `pages`, and this source has `urls`"),
        ("sources.pages.pages=[]", "pages is empty"),
        ("sources.pages.pages=/nowhere/*.warc.gz", "/nowhere"),
        ("web.generate.pages=0", "the generated site has no pages"),
        ("sources.pages.extract.formt=warc", "unknown key; did you mean 'format'"),
        ("score.scorers.image.on=[pages.imges]", "unknown population 'pages.imges'; did you mean 'pages.images'"),
        ("score.scorers.image.on=[pages.urls]", "judged where they stand: as pages.images"),
        ("score.scorers.image.on=[pages]", "image looks at an image, and a document is a text; name the images"),
        ("score.scorers.image.on=pages.images", r"give a list of populations"),
        ("score.scorers.url.on=[pages.images]", "'url.matches': the scorer 'url' does not judge 'pairs'; add 'pairs'"),
        ("select.pages.images={heldout_fraction: 0.1}", "documents are held out whole"),
        ("select.pages.images={upsample: {image.width > 3: 2}}", "a node stands once in its document"),
        ("select.pages={require: caption.words > 3}", "drops the document of a node"),
        ("select.pages={keep: image.width > 3}", "the scorer 'image' does not judge 'pages'"),
        ("select.pages.images={keep: repeated.rank == 0}", "the pass 'repeated' does not look through the source"),
        ("dedup.same.sources=[pages.image]", "unknown source 'pages.image'; did you mean 'pages.images'"),
        ("dedup.repeated.on=[domian]", "no column 'domian'; did you mean 'domain'"),
        ("dedup.alike.sources=[pages.images]", "the scorer 'caption' does not judge 'pages.images'"),
        ("pack.all.mix.text=3", "'text' is not packed here; did you mean 'texts'"),
        ("pack.all.mix={pairs: 1}", "says nothing of pages, texts"),
        ("pack.all.mix.texts=-1", "pack.mix.texts is -1.0; give a number from"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(setting: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        recipe(setting)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("pages.imgs", "there is no source of this name; did you mean 'pages.images'"),
        ("pages.urls", "addresses are judged where they stand: as pages.images"),
    ],
)
def test_a_selection_of_nobody(name: str, problem: str) -> None:
    with pytest.raises(RecipeError, match=problem):
        read_recipe(parse(RECIPE.replace("  pages.images: {profile", f"  {name}: {{profile"), "pages.yaml"))


def test_without_pairs_a_scorer_must_say_on_what(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<p>x</p>")
    text = f"""
name: pages
sources: {{pages: {{kind: document, pages: {tmp_path}/a.html}}}}
score: {{scorers: {{caption: {{}}}}}}
dedup: {{same: {{by: bytes}}}}
"""
    with pytest.raises(RecipeError, match=r"(?s)say what caption judges: pages\.images.*say which documents or nodes"):
        read_recipe(parse(text, "pages.yaml"))
