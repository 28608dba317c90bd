"""A loopback server writes about a batch: what is asked, what is kept, and what nothing is paid for twice."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from mmcorpus.curation.scoring.servers.answers import AnswerLog
from mmcorpus.filters import decode_image
from mmcorpus.filters.serving import ClientConfig, Connection
from mmcorpus.filters.written import WrittenScorer
from tests.curation.scoring.servers.conftest import jpeg
from tests.filters.serving.protocol import completion, serving

CLIENT = ClientConfig(backoff=0.01, patience=1.0, attempts=2)


def said_of(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return str(content if isinstance(content, str) else content[-1]["text"])


async def writes(body: dict[str, Any], _: int) -> web.StreamResponse:
    return web.json_response(completion(f"A merged caption of {len(said_of(body))} characters of a prompt."))


def scorer(url: str, answers: Path | None = None, **more: Any) -> WrittenScorer:
    made = WrittenScorer(**{"prompt": "capfusion", "model_name": "m", "client": CLIENT, "endpoints": (url,), **more})
    log = AnswerLog(str(answers)) if answers is not None else None
    return made.connected(Connection(endpoints=(url,), answers=log))


def batch(captions: list[str | None], written: list[str | None]) -> dict[str, Any]:
    return {
        "uid": [f"{number:032x}" for number in range(len(captions))],
        "shard": ["00000"] * len(captions),
        "caption": captions,
        "scores": [{"recaption.text": text} for text in written],
    }


def test_each_sample_has_a_text_or_a_reason() -> None:
    async def handler(body: dict[str, Any], number: int) -> web.StreamResponse:
        if "cut me" in said_of(body):
            answer = completion("A merged caption that does not")
            answer["choices"][0]["finish_reason"] = "length"
            return web.json_response(answer)
        if "too long" in said_of(body):
            return web.json_response({"error": {"message": "longer than the context"}}, status=400)
        if "forbidden" in said_of(body):
            return web.json_response(completion("I'm sorry, but I can't help with that."))
        return await writes(body, number)

    captions = ["a clock", None, "cut me", "too long", "forbidden", "a cat"]
    with serving(handler) as server:
        columns = scorer(server.url).load()(batch(captions, ["A red clock."] * 5 + [None]))
    assert [bool(text) for text in columns["text"]] == [True, False, False, False, False, False]
    assert columns["reason"] == [
        None, "no_caption", "cut_off", "rejected: 400 longer than the context", "refusal", "no_field: recaption.text",
    ]  # fmt: skip
    assert columns["raw"][4] == "I'm sorry, but I can't help with that.", "what was said stays"
    assert len(server.bodies) == 4, "what cannot be asked about costs nothing"
    assert server.bodies[0]["messages"][0] == {"role": "user", "content": said_of(server.bodies[0])}
    assert {body["temperature"] for body in server.bodies} == {0.0}


def test_what_is_the_same_is_asked_once_and_nothing_again_after_a_kill(tmp_path: Path) -> None:
    async def handler(body: dict[str, Any], number: int) -> web.StreamResponse:
        await asyncio.sleep(0.05)  # so that all are under way at once
        return await writes(body, number)

    asked = batch(["a clock", "a clock", "a cat", "a clock"], ["Red.", "Red.", "Red.", "Blue."])
    with serving(handler) as server:
        first = scorer(server.url, tmp_path).load()(asked)
        assert len(server.bodies) == 3
        again = scorer(server.url, tmp_path).load()(asked)  # as a new process would, from the files alone
        assert len(server.bodies) == 3
        rules = tmp_path / "p.yaml"
        rules.write_text("template: |-\n  merge {caption} and {recaption.text}\nanswer: {min_characters: 10}\n")
        scorer(server.url, tmp_path, prompt=str(rules)).load()(asked)
        assert len(server.bodies) == 6
        rules.write_text("template: |-\n  merge {caption} and {recaption.text}\nanswer: {min_characters: 9999}\n")
        strict = scorer(server.url, tmp_path, prompt=str(rules)).load()(asked)
        assert len(server.bodies) == 6, "answers are checked anew without being asked for"
    assert first == again
    assert all(str(reason).startswith("too_short") for reason in strict["reason"])


def test_an_image_goes_first_and_sampling_has_a_seed_a_sample() -> None:
    data = jpeg(3)
    images = {"encoded": [data, data], "image": [decode_image(data)] * 2}
    with serving(writes) as server:
        judge = scorer(server.url, prompt="recaption", temperature=0.7)
        assert judge.inputs == ("uid", "shard", "image", "encoded")
        columns = judge.load()({**{k: v for k, v in batch(["a", "b"], []).items() if k in ("uid", "shard")}, **images})
    assert all(columns["text"])
    (first, second) = server.bodies
    assert [part["type"] for part in first["messages"][0]["content"]] == ["image_url", "text"]
    assert first["seed"] != second["seed"]


def test_other_columns_are_filled_in_and_one_that_no_sample_has_is_an_error() -> None:
    facts = {"kind": "chart", "rows": [1, 2]}
    rows = {
        "uid": ["0" * 32, "1" * 32],
        "shard": ["00000"] * 2,
        "meta": [{"facts": json.dumps(facts)}, {"facts": None}],
    }
    turns = json.dumps([{"question": "How many rows?", "answer": "2"}])

    async def handler(*_: Any) -> web.StreamResponse:
        return web.json_response(completion(turns))

    with serving(handler) as server:
        columns = scorer(server.url, prompt="docs").load()(rows)
        assert json.dumps(facts) in said_of(server.bodies[0])
        assert columns["reason"] == [None, "no_field: facts"]
        assert json.loads(columns["text"][0])[1] == {"from": "gpt", "value": "2"}
        with pytest.raises(ValueError, match=r"asks for \{facts\}, no column of these"):
            scorer(server.url, prompt="docs").load()({**rows, "meta": [{"kind": "chart"}] * 2})


def test_what_decides_the_texts_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    made = scorer("http://127.0.0.1:1/v1")
    assert made.reads() == ("recaption.text",)
    assert made.fingerprint() == scorer("http://127.0.0.1:2/v1", client=ClientConfig(concurrency=3)).fingerprint()
    others = [
        scorer("http://127.0.0.1:1/v1", prompt="capqa"),
        scorer("http://127.0.0.1:1/v1", temperature=0.5),
        scorer("http://127.0.0.1:1/v1", revision="abc"),
        made.reading({"recaption": "one"}),
        made.reading({"recaption": "other"}),
    ]
    assert len({made.fingerprint(), *(one.fingerprint() for one in others)}) == 6


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"prompt": "nothing"}, "there is no file nothing"),
        ({"max_side": 3}, "max_side is 3"),
        ({"max_tokens": 0}, "max_tokens is 0"),
        ({"temperature": -1.0}, "temperature is -1"),
    ],
)
def test_settings_that_make_no_sense_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        scorer("http://127.0.0.1:1/v1", **given)
