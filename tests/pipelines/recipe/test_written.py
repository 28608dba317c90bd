"""Sources of written texts in a recipe: what they need, who judges them, and what is wrong is said before any work."""

from pathlib import Path

import pytest

from mmcorpus.filters.written import WrittenScorer
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.populations import populations, samples
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.stages.order import build_stages

RECIPE = """\
name: fused
web: {generate: {pairs: 12, instructions: 0}}
sources:
  asked: {kind: conversation, written: {source: fused, column: capqa.text}}
  fused: {written: {source: pairs, column: capfusion.text, fallback: original}}
  pairs: {urls: "${web}/pairs.parquet"}
score:
  scorers:
    caption: {}
    capfusion: {uses: written, prompt: capfusion, model_name: llm, endpoints: ["http://127.0.0.1:1/v1"]}
    recaption: {uses: written, prompt: recaption, model_name: vlm, endpoints: ["http://127.0.0.1:1/v1"]}
    capqa: {uses: written, prompt: capqa, model_name: llm, endpoints: ["http://127.0.0.1:1/v1"], on: [fused]}
dedup:
  same_caption: {by: columns, on: [caption]}
  same_parent: {by: columns, on: [original_caption], sources: [fused]}
select:
  pairs: {keep: caption.words > 2}
tokenizer: {train: {vocab_size: 300}}
pack:
  all: {sources: [pairs, fused], context_length: 128, tokens_per_image: 4}
"""


@pytest.fixture
def recipe(tmp_path: Path) -> str:
    (tmp_path / "r.yaml").write_text(RECIPE)
    return str(tmp_path / "r.yaml")


def test_what_is_kept_aside_is_so_by_the_picture(recipe: str) -> None:
    """A caption and the text fused from it show one picture: one is not learned from where the other is a test."""
    aside = ["select.pairs.heldout_fraction=0.1"]
    stages = {stage.name: stage for stage in build_stages(load_recipe(recipe, aside), "run")}
    assert "pairs/select" in stages["fused/write"].needs, "of the pictures kept aside nothing is written"
    alone = ["select.fused={heldout_fraction: 0.1}", "pack.all.sources=[fused]"]
    assert load_recipe(recipe, alone).file.select["fused"].heldout_fraction == 0.1
    # A second selection of the texts keeps the same aside: it is no other source of their pictures.
    again = ["sources.again={reselect: fused}", alone[0], "pack.all.sources=[fused]"]
    again.append("pack.second={sources: [again], context_length: 128, tokens_per_image: 4}")
    assert load_recipe(recipe, again).file.sources["again"].reselect == "fused"
    beside = ["sources.more={reselect: pairs}", alone[0], "pack.all.sources=[fused, more]"]
    with pytest.raises(RecipeError, match=r"their pictures are also those of 'more'.*keep aside of 'pairs'"):
        load_recipe(recipe, beside)


def test_a_written_source_comes_after_the_texts_and_the_selection_that_it_is_made_of(recipe: str) -> None:
    found = load_recipe(recipe)
    order = [stage.name for stage in build_stages(found, "run")]
    needed = ["pairs/download", "pairs/score", "pairs/select", "fused/write", "fused/score", "fused/select",
              "asked/write", "asked/select"]  # fmt: skip
    assert [name for name in order if name in needed] == needed
    assert "asked/score" not in order
    assert samples(found.file) == ("pairs",), "who names no population judges none that a model wrote"
    assert found.on["caption"] == found.on["recaption"] == ("pairs",)
    assert populations(found.file)["fused"].needs == ("fused/write",)
    capfusion = found.scorers["capfusion"]
    assert isinstance(capfusion, WrittenScorer)
    assert capfusion.name == "capfusion"


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("sources.fused.written.source=pears", r"sources\.fused\.written\.source.*unknown source 'pears'"),
        ("sources.fused.written.source=asked", "is made of itself, by way of the sources that it is made of"),
        ("sources.fused.written.column=capfusion.txt", r"capfusion gives no column 'capfusion\.txt'"),
        ("sources.fused.written.column=caption.words", r"'caption\.words' is no text; name one that a scorer writes"),
        ("sources.fused.written.column=same_caption.rank", r"'same_caption\.rank' is no text"),
        ("sources.fused.written.column=mllm.text", "needs the scorer 'mllm', which the recipe does not run"),
        ("sources.fused.written.fallback=keep", "fallback"),
        ("sources.asked.written.fallback=original", "a caption is no conversation"),
        ("sources.asked.kind=document", "a model writes captions and conversations"),
        ("sources.asked.kind=pair", "the prompt capqa of capqa asks for turns; say `kind: conversation`"),
        ("score.scorers.capqa.prompt=recaption", "the prompt recaption of capqa asks for text; say `kind: pair`"),
        ("sources.fused.urls=list.parquet", "it has urls and written"),
        ("score.scorers.capfusion.on=[fused]", "the scorer 'recaption' does not judge 'fused'"),
        ("score.scorers.capfusion.prompt=capfuse", "there is no file capfuse; those that ship: ask, capfusion"),
        ("score.scorers.recaption.prompt=fuses.yaml", "recaption reads capfusion.*none of them can be the first"),
        ("score.scorers.recaption.prompt=itself.yaml", "recaption reads recaption: none of them can be the first"),
        ("score.scorers.recaption.prompt=judged.yaml", r"'ppl\.ppl' is there only once the run has trained its model"),
        ("pack.all.images=reference", "the images of fused lie in files of others"),
        (
            "select.fused={heldout_fraction: 0.1}",
            "select.fused.heldout_fraction: their pictures are also those of 'pairs'",
        ),
        (
            "sources.again={reselect: pairs, download: {}}",
            r"sources\.again\.download: is of `urls` and `pages`; a source",
        ),
        (
            "sources.fused.extract={}",
            r"sources\.fused\.extract: is of `pages`; a source with `written` does not read it",
        ),
        ("sources.pairs={reselect: fused}", "is made of itself, by way of the sources that it is made of"),
    ],
)
def test_what_is_wrong_is_told(recipe: str, setting: str, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(recipe).parent)
    for name, column in {"fuses": "capfusion.text", "itself": "recaption.text", "judged": "ppl.ppl"}.items():
        Path(f"{name}.yaml").write_text(f"image: true\ntemplate: Say it better than {{{column}}}\n")
    judge = 'score.scorers.ppl={uses: checkpoint_perplexity, checkpoint: "${run}/training/judge"}'
    stage = "train={model: {tokens_per_image: 4}, stages: {judge: {pack: all, schedule: {steps: 1}}}}"
    with pytest.raises(RecipeError, match=message):
        load_recipe(recipe, [judge, stage, setting])
