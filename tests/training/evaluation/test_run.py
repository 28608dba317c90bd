"""Evaluations from end to end: results, resumption, blank images, seeds, and what a bad question costs."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmcorpus.curation.engine.output import MadeOtherwise
from mmcorpus.training.evaluation import EvaluationConfig, evaluate
from mmcorpus.training.evaluation.answering import Unanswered, grey
from mmcorpus.training.evaluation.asking import Asked
from tests.training.conftest import png


class Oracle:
    """Says the mean of an image's pixels as a colour's name; grey ones are a guess. Counts what it is asked."""

    name = "oracle"

    def __init__(self, version: str = "1", dies_after: int | None = None) -> None:
        self.version, self.dies_after, self.asked = version, dies_after, 0

    def identity(self) -> dict[str, Any]:
        return {"version": self.version}

    def answer(self, asked: Sequence[Asked], longest: int, batch_size: int) -> list[str | Unanswered]:
        if self.dies_after is not None and self.asked >= self.dies_after:
            raise KeyboardInterrupt
        self.asked += len(asked)
        return [self._one(question) for question in asked]

    def _one(self, question: Asked) -> str | Unanswered:
        image = question.images[-1]
        if image == grey():
            return "green"
        path = Path(str(image))
        if not path.exists():
            return Unanswered("there is no image")
        red, _, blue = Image.open(path).convert("RGB").resize((1, 1)).getpixel((0, 0))  # type: ignore[misc]
        return "green" if len(question.turns) > 1 and question.images[0] != image and red > 150 else (
            "red" if red > blue else "blue")  # fmt: skip


@pytest.fixture
def questions(tmp_path: Path) -> str:
    for number, color in enumerate([(200, 0, 0), (0, 0, 200), (100, 0, 0), (0, 0, 100)]):
        (tmp_path / f"{number}.png").write_bytes(png(color))
    rows = [
        {"id": str(n), "images": [f"{n % 5}.png"], "prompt": "Hue?", "answers": [["red", "blue"][n % 5 % 2]],
         "metric": "exact", "category": ["even", "odd"][n % 2], "cluster": str(n % 5)}
        for n in range(20)
    ]  # fmt: skip
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_results_with_grey_images_categories_and_a_question_lost(questions: str, tmp_path: Path) -> None:
    """Of five images one is missing: its four questions are in no result, with their reason."""
    model = Oracle()
    report = evaluate(EvaluationConfig(blank=True, questions_per_shard=6), model, questions, str(tmp_path / "out"))
    assert model.asked == 40
    assert report.unanswered == {"there is no image": 4}
    whole, even, odd = report.results
    assert (whole.category, even.category, odd.category) == ("", "even", "odd")
    assert whole.found.value == 1.0
    assert (whole.found.questions, whole.found.clusters) == (16, 4)
    assert whole.blank is not None
    assert (whole.blank.value, whole.blank.questions) == (0.0, 16)
    assert whole.constant == 12 / 20, "who always says red"
    written = json.loads((tmp_path / "out" / "results.json").read_text())
    assert written["results"][0]["found"]["value"] == 1.0
    assert written["results"][0]["title"] == "accuracy"


def test_stopped_and_resumed_it_asks_only_what_is_missing(questions: str, tmp_path: Path) -> None:
    config, out = EvaluationConfig(questions_per_shard=6), str(tmp_path / "out")
    with pytest.raises(KeyboardInterrupt):
        evaluate(config, Oracle(dies_after=12), questions, out)
    assert not (tmp_path / "out" / "results.json").exists()
    model = Oracle()
    report = evaluate(config, model, questions, out)
    assert model.asked == 8
    assert report == evaluate(config, Oracle(), questions, str(tmp_path / "whole"))
    again = Oracle()
    assert evaluate(EvaluationConfig(questions_per_shard=6, batch_size=3), again, questions, out) == report
    assert again.asked == 0
    other = Oracle(version="2")
    evaluate(config, other, questions, out)
    assert other.asked == 20, "another model's answers are not kept"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "00000.parquet").write_bytes(b"mine")
    with pytest.raises(MadeOtherwise):
        evaluate(config, Oracle(), questions, str(tmp_path / "mine"))


def test_five_seeds_of_demonstrations_are_averaged(questions: str, tmp_path: Path) -> None:
    config = EvaluationConfig(shots=2, demonstrations=questions, demonstration_seeds=(0, 1, 2, 3, 4))
    model = Oracle()
    (whole, *_) = evaluate(config, model, questions, str(tmp_path / "out")).results
    assert model.asked == 100
    assert len(whole.by_seed) == 5
    assert whole.found.value == pytest.approx(sum(whole.by_seed) / 5)
    assert whole.found.low <= whole.found.value <= whole.found.high


def test_demonstrations_may_be_the_other_questions(questions: str, tmp_path: Path) -> None:
    """Where there is no training split: never the question itself, nor another of its image."""
    asked = list[Asked]()

    class Listener(Oracle):
        def answer(self, prompts: Sequence[Asked], longest: int, batch_size: int) -> list[str | Unanswered]:
            asked.extend(prompts)
            return super().answer(prompts, longest, batch_size)

    evaluate(EvaluationConfig(shots=2, demonstrations="others"), Listener(), questions, str(tmp_path / "out"))
    assert len(asked) == 20
    for one in asked:
        assert len(one.turns) == 5
        assert one.images[-1] not in one.images[:-1]


class Forgetful(Oracle):
    """Has no answer to question 3 at one seed, nor to question 5 when its image is grey."""

    def _one(self, question: Asked) -> str | Unanswered:
        text, demonstration = question.turns[-1][1], question.turns[0][1]
        if "Hue 3" in text and "Hue 7" in demonstration:
            return Unanswered("too long")
        if "Hue 5" in text and question.images[-1] == grey():
            return Unanswered("grey")
        return super()._one(question)


def test_a_question_counts_in_every_column_or_in_none(tmp_path: Path) -> None:
    """However often it is asked, one without an answer is told once."""
    (tmp_path / "red.png").write_bytes(png((200, 0, 0)))
    rows = [
        {"id": str(n), "images": ["red.png" if n % 4 else "gone.png"], "prompt": f"Hue {n}.", "answers": ["red"],
         "metric": "exact", "cluster": str(n)}
        for n in range(12)
    ]  # fmt: skip
    path = tmp_path / "questions.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)))
    seeds = tuple(range(12))  # one at least shows question 7 first
    config = EvaluationConfig(shots=1, demonstrations=str(path), demonstration_seeds=seeds, blank=True)
    report = evaluate(config, Forgetful(), str(path), str(tmp_path / "out"))
    assert report.unanswered == {"there is no image": 3, "too long": 1, "grey": 1}
    (whole,) = report.results
    assert whole.blank is not None
    assert whole.found.questions == whole.blank.questions == 12 - 5


def test_bad_settings_are_refused() -> None:
    for settings, message in [
        ({"shots": 2}, "shots is 2 without demonstrations"),
        ({"limit": 0}, "limit is 0"),
        ({"categories": {"a": "("}}, r"categories\.a is no regular expression"),
        ({"only": "["}, "only is no regular expression"),
        ({"by_count": True, "categories": {"a": "b"}}, "by_count and categories both name categories"),
        ({"demonstration_seeds": ()}, "demonstration_seeds is empty"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"questions_per_shard": 0}, "questions_per_shard is 0"),
    ]:
        with pytest.raises(ValueError, match=message):
            EvaluationConfig(**settings)  # type: ignore[arg-type]
