"""A source that is selected from once more: the other's rows, scores and held-out samples, a selection of its own."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

from mmcorpus.curation.engine.stage import Stage
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.packing.packs import PackReader
from mmcorpus.pipelines.notebook import Run
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.report import render_page, reselected
from mmcorpus.pipelines.run.state import RunState
from mmcorpus.pipelines.run.summary import make_summary
from mmcorpus.pipelines.stages.order import build_stages
from tests.training.clip.conftest import samples, write_source

RECIPE = """\
name: twice
web: {generate: {pairs: 40, instructions: 4, pages: 4}}
sources:
  third: {reselect: again}
  again: {reselect: pairs}
  pairs: {urls: "${web}/pairs.parquet"}
  pages: {kind: document, pages: "${web}/pages/*.warc.gz"}
score:
  scorers:
    caption: {}
select:
  pairs: {keep: caption.words > 9, heldout_fraction: 0.3, salt: a}
  again: {keep: caption.words > 14}
  third: {keep: caption.words < 14}
tokenizer: {train: {vocab_size: 300, sources: [pairs]}}
pack:
  first: &pack {sources: [pairs], context_length: 64, tokens_per_image: 4}
  second: {<<: *pack, sources: [again]}
  both: {<<: *pack, sources: [pairs, again]}
train:
  model: {tokens_per_image: 4}
  stages:
    first: {pack: first}
    second: {pack: second}
evaluate:
  second: {stage: second, source: again}
"""
COUNT = 60


def load(folder: Path, text: str = RECIPE) -> dict[str, Stage]:
    (folder / "twice.yaml").write_text(text)
    return {stage.name: stage for stage in build_stages(load_recipe(str(folder / "twice.yaml")), str(folder))}


def chosen(folder: Path, name: str) -> set[str]:
    return set(storage.read_table(str(folder / "selections" / f"{name}.parquet"))["uid"].to_pylist())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run from its selections to its plans; each caption has as many words, says the scorer, as its number is."""
    folder = tmp_path_factory.mktemp("run")
    made = samples(COUNT)
    write_source(str(folder / "shards" / "pairs"), [made])
    uids = [sample.uid for sample in made]
    words, origin = pa.array(range(COUNT), pa.int64()), Origin(scorer="caption", version="1", fingerprint="0" * 16)
    write_scores(str(folder / "scores" / "pairs"), "00000", pa.table({"uid": uids, "words": words}), origin)
    stages = load(folder)
    (folder / "recipe.yaml").write_text((folder / "twice.yaml").read_text())
    wanted = [name for name in stages if name.endswith("/select") or name == "tokenizer/train" or "/lengths-" in name]
    for name in [*wanted, "first/plan", "first.heldout/plan", "second/plan", "second.heldout/plan"]:
        if not name.startswith("pages"):
            stages[name].run()
    return folder


def test_the_second_selection_reads_the_scores_of_the_first_and_keeps_its_own(run: Path) -> None:
    stages = load(run)
    assert {name for name in stages if name.startswith(("again/", "third/"))} == {"again/select", "third/select"}
    assert "pairs/score#caption" in stages["again/select"].needs
    uids = [sample.uid for sample in samples(COUNT)]
    kept = chosen(run, "pairs") | chosen(run, "pairs.heldout")
    assert kept == set(uids[10:])
    assert chosen(run, "again") | chosen(run, "again.heldout") == set(uids[15:])
    assert chosen(run, "third") | chosen(run, "third.heldout") == set(uids[:14])


def test_a_notebook_has_the_scores_of_the_first_under_either_name(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "run.json").write_text("{}")
    seen = Run(str(tmp_path / "run"))
    for source in ("pairs", "again", "third"):
        assert len(seen.scores(source)) == COUNT
        assert len(seen.keep("caption.words > 19", source)) == COUNT - 20
    assert len(seen.scores()) == COUNT, "no sample twice"


def test_what_the_first_keeps_aside_is_learned_from_by_neither(run: Path) -> None:
    aside = chosen(run, "pairs.heldout")
    assert 5 < len(aside) < 30
    for name in ("pairs", "again", "third"):
        assert not chosen(run, name) & aside, name
    plans = {name: storage.read_table(str(run / "plans" / f"{name}.parquet")) for name in
             ("first", "second", "first.heldout", "second.heldout")}  # fmt: skip
    assert set(plans["first"]["uid"].to_pylist()) == chosen(run, "pairs")
    assert set(plans["second"]["uid"].to_pylist()) == chosen(run, "again")
    both = [plans[f"{name}.heldout"]["uid"].to_pylist() for name in ("first", "second")]
    assert both[0] == both[1], "both models are measured on the same"
    assert set(both[0]) == aside
    stages = load(run)
    assert {"pairs/select"} <= set(stages["second.heldout/plan"].needs) & set(stages["evaluate/second"].needs)
    assert len([name for name in stages if "/lengths-" in name]) == 1, "lengths are measured once"


def test_a_pack_of_both_has_a_sample_as_often_as_either_selects_it(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    stages = load(folder)
    for name in ("both/plan", "both.heldout/plan", "both/packs"):
        stages[name].run()
    plan = storage.read_table(str(folder / "plans" / "both.parquet"))
    by_source = Counter(zip(plan["source"].to_pylist(), plan["uid"].to_pylist(), strict=True))
    expected = [(name, uid) for name in ("pairs", "again") for uid in chosen(run, name)]
    assert by_source == Counter(expected)
    reader = PackReader(str(folder / "packs" / "both"))
    packed = Counter(placed for sequence in reader for placed in zip(sequence.sources, sequence.uids, strict=True))
    assert packed == by_source
    aside = storage.read_table(str(folder / "plans" / "both.heldout.parquet"))["uid"].to_pylist()
    assert sorted(aside) == sorted(chosen(run, "pairs.heldout")), "the one held-out set, once"


def test_both_selections_are_accounted_for_and_compared(run: Path) -> None:
    summary = make_summary(load_recipe(str(run / "twice.yaml")), str(run), RunState(str(run)))
    assert summary["balance"] == []
    assert {"pairs", "again", "third"} <= summary["sources"].keys()
    uids = [sample.uid for sample in samples(COUNT)]
    found = {one["source"]: one for one in reselected.section(str(run), [], 8)}
    assert found["again"]["counts"] == [("both", 45), ("pairs", 5), ("again", 0)]
    assert found["third"]["counts"] == [("both", 0), ("again", 45), ("third", 14)]
    alone = found["again"]["galleries"][0]
    assert (alone["title"], {card.uid for card in alone["cards"]}) == ("kept by pairs alone", set(uids[10:15]))
    assert {card.note for card in alone["cards"]} == {f"caption.words > 14: caption.words={n}" for n in range(10, 15)}
    assert all(card.picture.startswith("data:image/jpeg") for card in alone["cards"])
    titles = [gallery["title"] for gallery in found["third"]["galleries"]]
    assert titles == ["kept by again alone", "kept by third alone"]
    assert ledger.check_balance(str(run / "ledger" / "again")) == []


def test_the_models_are_compared_where_the_one_that_saw_least_has_ended(run: Path) -> None:
    for name, seen in (("first", [(1, 1000, 2.0), (2, 2000, 1.5)]), ("second", [(1, 1100, 1.75)])):
        lines: list[dict[str, float]] = []
        for step, positions, loss in seen:
            lines.append({"step": step, "loss": 3.0, "positions": positions, "tokens": positions // 2, "seconds": 1.0})
            lines.append({"step": step, "heldout_loss": loss, "heldout_loss_blank": loss + 1})
        path = str(run / "training" / name / "metrics.jsonl")
        storage.write_bytes(path, "".join(json.dumps(line) + "\n" for line in lines).encode())
    asked = [{"name": "second", "category": "all", "metric": "CIDEr", "value": "12.00"}]
    found = {one["source"]: one for one in reselected.section(str(run), asked, 8)}["again"]
    first, second = found["models"]
    assert (first["steps"], first["positions"], first["loss"], first["blank"]) == (2, 1000, 2.0, 3.0)
    assert (second["steps"], second["positions"], second["loss"], second["tokens"]) == (1, 1100, 1.75, 550)
    assert (first["samples"], second["samples"]) == (len(chosen(run, "pairs")), len(chosen(run, "again")))
    assert (first["answers"], second["answers"]) == ([], ["second: CIDEr 12.00"])
    page = render_page(str(run))
    for shown in ("again: pairs once more", "pairs keeps 50 samples, again 45", "<td>second</td>"):
        assert shown in page
    assert page.count("pairs alone") >= 2
    assert "again, select: caption.words" not in page, "its pictures are those of the section"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("reselect: pairs", "reselect: pears", "sources.again.reselect: unknown source 'pears'; did you mean 'pairs'"),
        ("reselect: pairs", "reselect: third", "sources.again.reselect: selects from itself, by way of the sources"),
        ("reselect: pairs", "reselect: pages", "sources.again.reselect: a document is trimmed by its selections"),
        ("reselect: pairs", "reselect: pairs, kind: conversation", "sources.again.kind: conversation, and 'pairs' is"),
        ("reselect: pairs", "reselect: pairs, json: a.json", "it has json and reselect"),
        ("again: {keep: ", "again: {heldout_fraction: 0.2, keep: ", "again.heldout_fraction: what is kept aside is"),
        ("again: {keep: caption.words", "again: {keep: caption.wrods", "did you mean 'caption.words'"),
        ("caption: {}", "caption: {on: [pairs, again]}", "caption.on[1]: 'again' has the scores of 'pairs'; name that"),
        ("\nselect:", "\ndedup: {same: {by: columns, on: [caption], sources: [again]}}\nselect:",
         "dedup.same.sources[0]: 'again' has the rows of 'pairs'; name that"),
        ("heldout_fraction: 0.3, ", "", "'again' keeps nothing aside from training; give select.pairs.heldout_fract"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(before: str, after: str, message: str, tmp_path: Path) -> None:
    assert before in RECIPE
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, RECIPE.replace(before, after))
    assert message in str(caught.value)
