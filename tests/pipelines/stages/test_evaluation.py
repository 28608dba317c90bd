"""The recipe's section `evaluate`: what is refused, what its stages do, their rows of the report, and the command."""

import dataclasses
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from mmcorpus.curation.selection.tables import make_selection, write_selection
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.recipe.load import load_recipe
from mmcorpus.pipelines.recipe.problems import RecipeError
from mmcorpus.pipelines.report import render_page
from mmcorpus.pipelines.stages.evaluation import Held
from mmcorpus.pipelines.stages.order import build_stages
from mmcorpus.training import ModelConfig, SFTConfig, train
from mmcorpus.training.evaluation.intervals import Estimate
from mmcorpus.training.evaluation.results import EvaluationReport, Result
from tests.training.conftest import chats, configured, make_packs, pairs, png, tiny, tokenizer, tokenizer_folder

__all__ = ["chats", "make_packs", "pairs", "tiny", "tokenizer", "tokenizer_folder"]  # fixtures of the trainer's tests

RECIPE = """\
name: small
web: {generate: {pairs: 4, instructions: 4}}
sources:
  talk: {urls: "${web}/instructions.parquet", kind: conversation}
  pairs: {urls: "${web}/pairs.parquet"}
select:
  talk: {heldout_fraction: 0.5}
tokenizer: {train: {vocab_size: 300}}
pack:
  talk: {sources: [talk], context_length: 64, tokens_per_image: 4}
train:
  model: {tokens_per_image: 4}
  device: cpu
  stages:
    sft: {pack: talk, schedule: {steps: 1}}
evaluate:
  sees: {stage: sft, source: talk, blank: true, max_new_tokens: 4, categories: {hue: "^What col", more: more}}
"""
TURNS = [
    {"from": "human", "value": "<image>\nWhat color is it?"}, {"from": "gpt", "value": "It is red."},
    {"from": "human", "value": "Say more."}, {"from": "gpt", "value": "No."},
]  # fmt: skip


def write(folder: Path, text: str) -> str:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ("stage: sft, source", "stage: stf, source", "evaluate.sees.stage: unknown stage 'stf'; did you mean 'sft'"),
        ("source: talk, b", "source: tlk, b", "evaluate.sees.source: unknown source 'tlk'; did you mean 'talk'"),
        ("source: talk, b", "source: pairs, b", "'pairs' keeps nothing aside from training; give select.pairs"),
        ("source: talk, b", "b", "evaluate.sees: give either `data`"),
        ("source: talk, b", "data: none.jsonl, b", "evaluate.sees.data: there is nothing at"),
        (
            "max_new_tokens: 4",
            "metric: bleu",
            'evaluate.sees.metric: "bleu" is none of its values; valid: anls, cap_f1',
        ),
        ("max_new_tokens: 4", "shots: 4", "shots is 4 without demonstrations"),
        ("max_new_tokens: 4", "shot: 4", "evaluate.sees.shot: unknown key; did you mean 'shots'"),
        ("  sees:", "  what it sees:", "a name becomes a folder"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(before: str, after: str, message: str, tmp_path: Path) -> None:
    assert before in RECIPE
    with pytest.raises(RecipeError) as caught:
        load_recipe(write(tmp_path, RECIPE.replace(before, after)))
    assert message in str(caught.value)


def test_what_is_kept_aside_is_asked_and_reported(
    tmp_path: Path, chats: list[Any], make_packs: Callable[..., str], tiny: ModelConfig
) -> None:
    root = tmp_path / "run"
    stage = configured(SFTConfig, steps=1, batch_sequences=1, precision="fp32", num_workers=0)
    train(stage, make_packs([chats], context=256), str(root / "training" / "sft"), model=tiny)
    with ShardWriter(Shard(root=str(root / "shards" / "talk"), name="00000")) as writer:
        for number in range(6):
            image = EncodedImage(extension="png", data=png((40 * number, 0, 0)) if number else b"broken")
            meta = {"url": str(number), "conversations": json.dumps(TURNS)}
            writer.write(Sample(key=f"{number:05d}", uid=f"{number:032x}", caption="", images=(image,), meta=meta))
    (root / "selections").mkdir()
    held = make_selection(*uids.count(uids.encode([f"{number:032x}" for number in range(4)])))
    write_selection(str(root / "selections" / "talk.heldout.parquet"), held)
    stages = {one.name: one for one in build_stages(load_recipe(write(tmp_path, RECIPE)), str(root))}
    asked = stages["evaluate/sees"]
    assert set(asked.needs) == {"train/sft", "talk/download", "talk/select"}
    result = asked.run()
    assert (result.counts["questions"], result.counts["unanswered"]) == (8, 2)
    assert set(result.counts) == {"questions", "unanswered", "exact", "exact_blank"}
    said = storage.read_json(str(root / "evaluation" / "sees" / "results.json"))
    assert [one["category"] for one in said["results"]] == ["", "hue", "more"]
    assert [one["found"]["questions"] for one in said["results"]] == [6, 3, 3]
    assert said["results"][1]["constant"] == 1.0

    storage.write_json(
        str(root / "run.json"),
        {"name": "small", "stages": {"evaluate/sees": {"status": "done"}}, "order": ["evaluate/sees"]},
    )
    page = render_page(str(root))
    assert '<section id="evaluation">' in page
    assert "<td>sees</td><td>accuracy</td><td>all</td>" in page

    ran = CliRunner().invoke(
        app,
        ["evaluate", str(root / "training" / "sft"), "--data", str(root / "shards" / "talk"), "--out",
         str(tmp_path / "by_hand"), "--device", "cpu", "--set", "blank=true", "--set", "max_new_tokens=4"],
    )  # fmt: skip
    assert ran.exit_code == 0, ran.output
    assert "12 questions to" in ran.output
    assert "2 unanswered: the image cannot be decoded" in ran.output.replace("\n", " ")
    refused = CliRunner().invoke(app, ["evaluate", "--data", "x", "--out", str(tmp_path / "no")])
    assert refused.exit_code == 2


def test_what_has_no_value_is_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The precision of captions that say nothing is not defined, and NaN is no number of JSON's."""
    questions, nothing = Estimate(questions=2, clusters=2, value=0.0, low=0.0, high=0.0), math.nan
    lines = {"cap_f1": questions, "cap_precision": dataclasses.replace(questions, value=nothing, low=nothing)}
    results = [
        Result(
            metric=name, title=name, fractions=True, category="", found=found, by_seed=(), blank=None, constant=nothing
        )
        for name, found in lines.items()
    ]
    report = EvaluationReport(model="m", questions=2, unanswered={}, results=results)
    monkeypatch.setattr(Held, "ask", lambda *_: report)
    stages = {one.name: one for one in build_stages(load_recipe(write(tmp_path, RECIPE)), str(tmp_path / "run"))}
    assert stages["evaluate/sees"].run().counts == {"questions": 2, "unanswered": 0, "cap_f1": 0.0}
