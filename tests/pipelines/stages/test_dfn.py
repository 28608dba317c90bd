"""The recipe's section `dfn`: what is refused, in which order its stages stand, and a small run of it whole."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.scores import load_scores
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.recipe.schema import Recipe
from mmcorpus.pipelines.run.run_recipe import plan_run, run_recipe
from mmcorpus.pipelines.stages.order import build_stages
from tests.training.clip.conftest import MakePairs, squares

__all__ = ["squares"]  # a fixture of the trainer's tests

RECIPE = """\
name: small
seed: 5
web:
  generate:
    {pairs: 90, instructions: 3, spoil: 0.3, kinds: {scene: 1}, captions: short, sides: [96, 128],
     weights: {swapped_caption: 300, drip: 0, slow: 0, endless: 0, reset: 0}}
sources:
  pairs: {urls: "${web}/pairs.parquet"}
  chat: {urls: "${web}/instructions.parquet", kind: conversation}
download: {number_sample_per_shard: 40, timeout: 3, total_timeout: 6, retries: 0}
score:
  scorers: {caption: {}, image: {}}
dfn:
  trust: {keep: caption.words > 1 and not caption.is_url, heldout_fraction: 0.25, heldout_by: caption.text_hash}
  model: {image_size: 16, patch_size: 8, vision_width: 32, vision_layers: 1, text_width: 32, embed_dim: 32}
  schedule: {steps: 4}
  data: {batch_size: 8, num_workers: 0}
  compute: {precision: fp32}
select:
  pairs: {keep: "top(dfn.similarity, 0.15)"}
"""


def read(folder: Path, text: str) -> Recipe:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return load_recipe(str(path))


def test_the_section_is_read_with_the_recipes_seed(tmp_path: Path) -> None:
    entry = read(tmp_path, RECIPE).file.dfn
    assert entry is not None
    assert entry.seed == 5
    assert entry.trust.heldout_fraction == 0.25
    own = read(tmp_path, RECIPE.replace("  schedule:", "  seed: 9\n  schedule:")).file.dfn
    assert own is not None
    assert own.seed == 9


def test_stages_come_in_their_order_and_need_what_they_read(tmp_path: Path) -> None:
    stages = {stage.name: stage for stage in build_stages(read(tmp_path, RECIPE), str(tmp_path / "run"))}
    names = list(stages)
    order = ["pairs/score", "pairs/trust", "dfn/train", "pairs/dfn", "pairs/select"]
    assert [name for name in names if name in order] == order
    assert "chat/dfn" not in names, "conversations have no caption to score"
    assert "pairs/score#caption" in stages["pairs/trust"].needs
    assert {"pairs/trust", "pairs/download"} <= set(stages["dfn/train"].needs)
    assert "dfn/train" in stages["pairs/dfn"].needs
    assert "pairs/dfn" in stages["pairs/select"].needs


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("caption.words > 1", "caption.wrds > 1", r"dfn.trust.*'caption.wrds' is not there for 'pairs' yet; did you"),
        ("caption.words > 1", "dfn.similarity > 0.1", r"dfn.trust: 'dfn.similarity' is not there for 'pairs' yet"),
        ("caption.words > 1", "selected('no.npy')", r"dfn.trust: there is no selection at no.npy"),
        ("schedule:", "sources: [pear]\n  schedule:", r"sources\[0\]: no source of pairs 'pear'; did you mean 'pairs'"),
        ("schedule:", "sources: [chat]\n  schedule:", r"sources\[0\]: no source of pairs 'chat'"),
        ("steps: 4", "stps: 4", r"dfn.schedule.stps: unknown key; did you mean 'steps'"),
        ("schedule: {steps: 4}", "steps: 4", r"dfn.steps: it is now schedule.steps"),
        ("batch_size: 8", "batch_size: 1", r"dfn.data.batch_size"),
        ("patch_size: 8", "patch_size: 7", r"dfn.model.*image_size 16 is not a multiple of patch_size 7"),
        ("image_size: 16", "imge_size: 16", r"dfn.model.imge_size: unknown key"),
        ("  trust: {", "  scoring: {batch_size: 0}\n  trust: {", r"dfn.scoring.batch_size"),
        ("image: {}}", "image: {}, dfn: {}}", r"dfn: score.scorers has a 'dfn' too.*dfn_public: \{uses: dfn"),
        ("dfn.similarity", "dfn.similarty", r"select.pairs.keep: dfn gives no column 'dfn.similarty'; did you mean"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_its_place(tmp_path: Path, before: str, after: str, message: str) -> None:
    assert before in RECIPE
    with pytest.raises(RecipeError, match=message):
        read(tmp_path, RECIPE.replace(before, after, 1))


def test_shipped_recipes_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).parents[3] / "pipelines" / "recipes"
    assert load_recipe(str(root / "dfn.yaml")).file.dfn is not None
    site = tmp_path / "data" / "tuxpaint"
    site.mkdir(parents=True)
    for name in ("site.json", "pairs.parquet"):
        (site / name).write_text("{}")
    monkeypatch.chdir(tmp_path)
    assert load_recipe(str(root / "dfn_real_pairs.yaml")).file.dfn is not None


def test_the_command_trains_on_a_selection(squares: MakePairs, tmp_path: Path) -> None:
    source = squares("s", 12)
    small = "model={image_size: 16, patch_size: 8, vision_width: 32, vision_layers: 1, text_width: 32, embed_dim: 32}"
    settings = [small, "schedule.steps=2", "data.batch_size=4", "compute.precision=fp32"]
    listed = Path(source.selection).read_text().splitlines(keepends=True)
    trusted, heldout = (str(tmp_path / name) for name in ("trusted.txt", "heldout.txt"))
    Path(trusted).write_text("".join(listed[:8]))
    Path(heldout).write_text("".join(listed[8:]))
    more = ["--out", str(tmp_path / "o"), *(part for text in settings for part in ("--set", text))]
    told = CliRunner().invoke(
        app, ["dfn", source.shards, "--trusted", trusted, "--heldout", heldout, *more], env={"COLUMNS": "200"}
    )
    assert told.exit_code == 0, told.output
    assert "2 steps over 8 pairs" in told.output
    assert "image_to_text_r1" in told.output
    assert str(tmp_path / "o" / "checkpoints" / "step-00000002" / "model") in told.output
    wrong = CliRunner().invoke(app, ["dfn", source.shards, "--trusted", "no.parquet", "--out", str(tmp_path / "p")])
    assert wrong.exit_code == 2
    same = CliRunner().invoke(app, ["dfn", source.shards, "--trusted", trusted, "--heldout", source.selection, *more])
    assert (same.exit_code, "8 of 12 held-out pairs are learned from too" in " ".join(same.output.split())) == (2, True)


def actions(recipe: Recipe, out: str) -> dict[str, str]:
    return {decision.stage.name: decision.action for decision in plan_run(recipe, out)}


@pytest.mark.slow
def test_a_run_trusts_trains_scores_and_keeps_the_best(tmp_path: Path, ray_local: None) -> None:
    out = str(tmp_path / "run")
    recipe = read(tmp_path, RECIPE)
    result = run_recipe(recipe, out)
    assert result.problems == ()
    scores = load_scores(storage.join(out, "scores", "pairs"), columns=["dfn.similarity"])
    kept = storage.read_table(storage.join(out, "selections", "pairs.parquet"))["uid"].to_pylist()
    ranked = sorted(zip(scores["dfn.similarity"].to_pylist(), scores["uid"].to_pylist(), strict=True), reverse=True)
    assert set(kept) == {uid for _, uid in ranked[: round(0.15 * len(ranked))]}
    learned, tested = (
        set(storage.read_table(storage.join(out, "selections", f"pairs.{name}.parquet"))["uid"].to_pylist())
        for name in ("trusted", "trusted.heldout")
    )
    assert tested
    assert not learned & tested
    counts = result.summary["stages"]["dfn/train"]["counts"]
    assert counts["training_pairs"] == len(learned)
    assert counts["heldout_pairs"] == len(tested)
    assert 0 <= counts["image_to_text_r1"] <= 1
    page = Path(str(result.report)).read_text()
    assert 'id="dfn"' in page
    assert "true captions that score lowest" in page

    assert set(actions(recipe, out).values()) == {"keep"}
    faster = read(tmp_path, RECIPE.replace("num_workers: 0}", "num_workers: 2}\n  checkpoints: {every: 2}"))
    assert set(actions(faster, out).values()) == {"keep"}
    longer = read(tmp_path, RECIPE.replace("steps: 4", "steps: 5"))
    redone = {name for name, action in actions(longer, out).items() if action == "run"}
    assert redone == {"dfn/train", "pairs/dfn", "pairs/select"}

    # A published list, as DataComp writes them (sorted u8,u8), in place of a network of one's own.
    listed = uids.encode(sorted(ranked[place][1] for place in (0, 5, 9)))
    path = tmp_path / "datacomp_medium_dfn_20m_inds.npy"
    np.save(path, listed)
    published = RECIPE.replace(', 0.15)"', f', 8)", intersect: [{path}]')
    assert run_recipe(read(tmp_path, published), out).problems == ()
    kept = storage.read_table(storage.join(out, "selections", "pairs.parquet"))["uid"].to_pylist()
    assert set(kept) == {ranked[0][1], ranked[5][1]}
    joined = published.replace("intersect:", "union:")
    assert run_recipe(read(tmp_path, joined), out).problems == ()
    kept = storage.read_table(storage.join(out, "selections", "pairs.parquet"))["uid"].to_pylist()
    assert set(kept) == {uid for _, uid in ranked[:8]} | {ranked[9][1]}
