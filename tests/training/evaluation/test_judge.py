"""cap F1 with a judge on loopback that takes sentences for statements: the arithmetic, what is kept, what is lost."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mmcorpus.curation.scoring.servers.answers import AnswerLog
from mmcorpus.filters.serving import ClientConfig, Connection
from mmcorpus.training.evaluation import EvaluationConfig, evaluate
from mmcorpus.training.evaluation.answering import Unanswered
from mmcorpus.training.evaluation.asking import Asked
from mmcorpus.training.evaluation.judge import CaptionJudge, Statements
from tests.filters.serving.protocol import Running, completion, serving

REFERENCES = ("A red clock. It hangs on a wall.", "A red clock. The wall is white.")


async def judges(body: dict[str, Any], _: int) -> web.StreamResponse:
    """Statements are the sentences; one follows that is among what is known, word for word."""
    text = body["messages"][-1]["content"]
    inside = re.findall(r"<(description|statements|known)>\n(.*?)\n</\1>", text, re.DOTALL)
    parts = dict(inside)
    if "nonsense" in text:
        return web.json_response(completion("I would rather not say."))
    if "description" in parts:
        return web.json_response(completion(json.dumps(re.findall(r"[^.\s][^.]*\.", parts["description"]))))
    numbered = [line.partition(". ") for line in parts["statements"].splitlines()]
    known = {line.removeprefix("- ") for line in parts["known"].splitlines()}
    follow = [int(number) for number, _, said in numbered if said in known]
    return web.json_response(completion(f"```json\n{[*follow, 99, 'x'] if follow else []}\n```".replace("'", '"')))


def judge(server: Running, **more: Any) -> CaptionJudge:
    return CaptionJudge(model_name="m", endpoints=(server.url,), client=ClientConfig(backoff=0.01), **more)


def test_precision_and_recall_of_statements(tmp_path: Path) -> None:
    captions = ["A red clock. A cat.", "It hangs on a wall. The wall is white. A red clock.", "", "nonsense", "Red."]
    with serving(judges) as server:
        connected = judge(server).connected(Connection(endpoints=(server.url,), answers=AnswerLog(str(tmp_path))))
        found = connected.judged(captions, [REFERENCES] * 5)
        assert found == [
            Statements(precision=1 / 2, recall=1 / 3),
            Statements(precision=1.0, recall=1.0),
            Statements(precision=None, recall=0.0),
            Statements(reason="not_json"),
            Statements(precision=0.0, recall=0.0),
        ]
        # Four captions' statements and the references', each once, and both ways for three captions.
        assert len(server.bodies) == 4 + 1 + 2 * 3
        assert connected.judged(captions, [REFERENCES] * 5) == found
        assert len(server.bodies) == 11, "nothing is paid for twice, also what could not be used"
        assert connected.judged(["A dog."], [("nonsense",)])[0].reason == "not_json"
        assert connected.judged(["A dog."], [(" ",)])[0].reason == "no_statements"


class Says:
    """A model that captions by the picture's number."""

    name = "says"
    captions = ("A red clock. A cat.", "It hangs on a wall. The wall is white. A red clock.", "nonsense", "")

    def identity(self) -> dict[str, Any]:
        return {"captions": self.captions}

    def answer(self, asked: list[Asked], longest: int, batch_size: int) -> list[str | Unanswered]:
        return [self.captions[int(one.turns[-1][1].rsplit(" ", 1)[-1])] for one in asked]


def questions(path: Path) -> str:
    rows = [{"id": f"q{n}", "images": [], "prompt": f"Describe picture {n}", "answers": REFERENCES, "metric": "cap_f1"}
            for n in range(4)]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_the_table_has_f1_precision_and_recall_with_intervals(tmp_path: Path) -> None:
    data = questions(tmp_path / "q.jsonl")
    with serving(judges) as server:
        config = EvaluationConfig(judge=judge(server))
        report = evaluate(config, Says(), data, str(tmp_path / "out"))
        paid = len(server.bodies)
        again = evaluate(config, Says(), data, str(tmp_path / "out"))
        assert len(server.bodies) == paid
    assert report.as_dict() == again.as_dict()
    f1, precision, recall = report.results
    assert [one.metric for one in report.results] == ["cap_f1", "cap_precision", "cap_recall"]
    assert precision.found.value == pytest.approx((1 / 2 + 1) / 2), "of those that say anything"
    assert recall.found.value == pytest.approx((1 / 3 + 1 + 0) / 3)
    assert f1.found.value == pytest.approx(2 / (1 / precision.found.value + 1 / recall.found.value))
    assert f1.found.low < f1.found.value < f1.found.high
    assert report.unanswered == {"judge: not_json": 1}
    assert (tmp_path / "out/judge/cap_f1/captions").is_dir()


def test_a_model_that_says_nothing_has_an_f1_of_zero(tmp_path: Path) -> None:
    """It can be compared with others: a soup, say, goes by the first result."""

    class Silent(Says):
        captions = ("",) * 4

    with serving(judges) as server:
        report = evaluate(
            EvaluationConfig(judge=judge(server)), Silent(), questions(tmp_path / "q.jsonl"), str(tmp_path / "out")
        )
    f1, precision, recall = (one["found"] for one in report.as_dict()["results"])
    assert (f1["value"], f1["low"], f1["high"]) == (0.0, 0.0, 0.0)
    assert (precision["value"], recall["value"]) == (None, 0.0)


def test_without_a_judge_and_with_prompts_that_are_none_it_says_so(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"cap_f1 asks a model about captions: give judge\.model_name"):
        evaluate(EvaluationConfig(), Says(), questions(tmp_path / "q.jsonl"), str(tmp_path / "out"))
    with pytest.raises(ValueError, match=r"metric is cap_f1.*give judge\.model_name"):
        EvaluationConfig(metric="cap_f1")
    (tmp_path / "p.yaml").write_text("statements: 'List {caption}'\nmatch: '{statements} of it'\n")
    with pytest.raises(ValueError, match=r"match in .*p\.yaml must be a text that holds \{statements\} and \{others\}"):
        CaptionJudge(model_name="m", endpoints=("http://127.0.0.1:1/v1",), prompts=str(tmp_path / "p.yaml"))
    with pytest.raises(ValueError, match=r"there is no file .*gone\.yaml"):
        CaptionJudge(model_name="m", prompts=str(tmp_path / "gone.yaml"))
