"""Scoring with servers: which run at the same time."""

import contextlib
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from mmcorpus.curation.scoring.run import ScoreReport
from mmcorpus.curation.scoring.servers import score as scoring
from mmcorpus.filters import SCORERS
from mmcorpus.filters.mllm import MllmScorer
from mmcorpus.filters.scorer import Scorer
from mmcorpus.filters.serving import ServedScorer, ServerConfig
from mmcorpus.filters.written import WrittenScorer


def judge(name: str, **more: Any) -> Scorer:
    scorer = MllmScorer(**{"model_name": "a/model", **more})
    object.__setattr__(scorer, "_model", "a/model@1")
    return scorer.named(name)


def test_servers_of_different_models_run_one_after_the_other(monkeypatch: pytest.MonkeyPatch) -> None:
    happened: list[str] = []

    @contextlib.contextmanager
    def served(scorers: Sequence[Scorer], **_: str) -> Iterator[Sequence[Scorer]]:
        names = " ".join(scorer.name for scorer in scorers)
        happened.append(f"{names} start")
        yield scorers
        happened.append(f"{names} end")

    def score(_: str, __: str, scorers: Sequence[Scorer], **___: Any) -> ScoreReport:
        happened.append(" ".join(scorer.name for scorer in scorers))
        names = [scorer.name for scorer in scorers]
        failed = {"00001": f"{names[0]} failed"} if names[0] != "caption" else {}
        report = ScoreReport(shards=2, skipped=0, samples=9, scored={}, unscored={}, fingerprints={}, seconds=1.0)
        return dataclasses.replace(report, scored=dict.fromkeys(names, 9), failed=failed)

    monkeypatch.setattr(scoring, "served", served)
    monkeypatch.setattr(scoring.scoring, "score", score)
    monkeypatch.setattr(scoring, "_is_done", lambda *_: False)
    scorers = [
        judge("one"),
        SCORERS["caption"](),
        judge("other", model_name="a/nother"),
        judge("two", metrics=("caption_text_quality",)),
        judge("given", endpoints=("http://127.0.0.1:1/v1",)),
        judge("apart", server=ServerConfig(args=("--dtype", "half"))),
    ]
    monkeypatch.setattr(MllmScorer, "check", lambda _: None)
    report = scoring.score("shards", "scores", scorers, logs="logs", answers="answers")
    assert happened == [
        "caption",
        *("one two start", "one two", "one two end"),
        *("other start", "other", "other end"),
        *("given start", "given", "given end"),
        *("apart start", "apart", "apart end"),
    ]
    assert report.scored == dict.fromkeys(["caption", "one", "two", "other", "given", "apart"], 9)
    assert report.failed == {"00001": "one failed; other failed; given failed; apart failed"}
    assert report.seconds == 5.0


def test_who_reads_a_table_comes_after_it_and_a_server_stays_for_rounds() -> None:
    def writes(name: str, prompt: str, model: str) -> ServedScorer:
        scorer = WrittenScorer(prompt=prompt, model_name=model)
        object.__setattr__(scorer, "_model", model)
        return scorer.named(name)

    fuse, caption = writes("capfusion", "capfusion", "llm"), writes("recaption", "recaption", "vlm")
    other, asks = writes("other", "recaption", "vlm"), writes("capqa", "capqa", "llm")

    def names(*scorers: ServedScorer) -> list[list[list[str]]]:
        return [[[one.name for one in now] for now in rounds] for rounds in scoring.in_turn(scorers)]

    assert names(fuse, caption, other) == [[["recaption", "other"]], [["capfusion"]]]
    assert names(asks, fuse, caption) == [[["capqa"]], [["recaption"]], [["capfusion"]]]
    own = writes("capfusion", "capfusion", "vlm")
    assert names(own, caption, other) == [[["recaption", "other"], ["capfusion"]]], "one start of one server"
    assert names(writes("capfusion", "capfusion", "llm")) == [[["capfusion"]]], "the table may be there already"
    with pytest.raises(ValueError, match="read each other's tables in a circle"):
        names(writes("recaption", "capfusion", "llm"))


def test_who_reads_tables_that_could_not_be_made_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def score(_: str, __: str, scorers: Sequence[Scorer], **___: Any) -> ScoreReport:
        (scorer,) = scorers
        asked.append(scorer.name)
        return ScoreReport(
            shards=1, skipped=0, samples=9, scored={scorer.name: 0}, unscored={scorer.name: {}},
            fingerprints={scorer.name: "f"}, failed={"00000": "no model server has answered"},
        )  # fmt: skip

    monkeypatch.setattr(scoring, "served", lambda scorers, **_: contextlib.nullcontext(scorers))
    monkeypatch.setattr(scoring.scoring, "score", score)
    monkeypatch.setattr(scoring, "_is_done", lambda *_: False)
    monkeypatch.setattr(scoring, "_tell_costs", lambda *_: None)
    one = {"model_name": "m", "endpoints": ("http://127.0.0.1:1/v1",)}
    judges = [WrittenScorer(prompt="capfusion", **one).named("capfusion"),  # type: ignore[arg-type]
              WrittenScorer(prompt="recaption", **one).named("recaption")]  # type: ignore[arg-type]  # fmt: skip
    report = scoring.score("shards", "scores", judges, logs="logs", answers="answers")
    assert asked == ["recaption"]
    assert report.scored == {"recaption": 0, "capfusion": 0}
    assert report.failed["00000"] == (
        "no model server has answered; scorers capfusion: it waits for recaption, which failed"
    )
    assert report.fingerprints.keys() == {"recaption", "capfusion"}
