"""Perplexity from a server's log-probabilities of prompts: what is asked, what is read, what is kept."""

import math
from collections.abc import Mapping
from typing import Any

import pytest
from aiohttp import web

from mmcorpus.filters import judge_batch
from mmcorpus.filters.scorer import Unavailable
from mmcorpus.filters.served_perplexity import ServedPerplexityScorer, read_answer
from mmcorpus.filters.serving import ClientConfig, Connection
from tests.filters.serving.protocol import serving

QUICK = ClientConfig(attempts=2, backoff=0.01, timeout=5.0, connect_timeout=2.0, patience=0.5)


def prompted(logprobs: list[float | None]) -> dict[str, Any]:
    """A completion as vLLM answers it."""
    entries = [None if p is None else {"17": {"logprob": p, "rank": 3, "decoded_token": "a"}} for p in logprobs]
    return {"choices": [{"text": " ", "prompt_logprobs": entries}]}


async def by_words(body: dict[str, Any], number: int) -> web.Response:
    """Each word a token of half a nat; too many are refused."""
    words = body["prompt"].split()
    if len(words) > 5:
        return web.json_response({"error": {"message": "maximum context length is 5 tokens"}}, status=400)
    return web.json_response(prompted([None, *[-0.5] * (len(words) - 1)]))


def batch(captions: list[str | None]) -> dict[str, list[Any]]:
    size = range(len(captions))
    return {"uid": [f"{n:032x}" for n in size], "shard": ["00000"] * len(size), "caption": captions}


def test_the_prompts_log_probabilities_are_summed() -> None:
    captions = ["a red clock", None, "", "clock", "one two three four five six", "a clock\udce9"]
    with serving(by_words) as server:
        scorer = ServedPerplexityScorer(model_name="m", endpoints=(server.url,), client=QUICK)
        table = judge_batch(scorer, scorer.load(), batch(captions))
    assert table["nll_sum"].to_pylist() == [1.0, None, None, None, None, 0.5]
    assert table["n_tokens"].to_pylist() == [2, None, None, None, None, 1]
    assert table["ppl"][0].as_py() == pytest.approx(math.exp(0.5))
    reasons = table["reason"].to_pylist()
    assert reasons[:4] == [None, "no_caption", "blank", "too_short"]
    assert reasons[4].startswith("rejected: 400 maximum context length")
    assert {body["prompt_logprobs"] for body in server.bodies} == {0}


def test_a_server_that_refuses_everything_writes_no_nulls() -> None:
    with serving(by_words) as server:
        scorer = ServedPerplexityScorer(model_name="m", endpoints=(server.url,), client=QUICK)
        with pytest.raises(Unavailable, match="rejects all of 16 samples"):
            judge_batch(scorer, scorer.load(), batch(["word " * 6] * 16))


def test_a_server_without_log_probabilities_of_prompts_is_told() -> None:
    async def silent(body: dict[str, Any], number: int) -> web.Response:
        return web.json_response({"choices": [{"text": " ", "prompt_logprobs": None}]})

    with serving(silent) as server:
        scorer = ServedPerplexityScorer(model_name="m", endpoints=(server.url,), client=QUICK)
        with pytest.raises(Unavailable, match="reports no log-probabilities of the prompt"):
            judge_batch(scorer, scorer.load(), batch(["a clock"] * 3))


class Kept:
    """Answers in memory."""

    def __init__(self) -> None:
        self.answers: dict[str, dict[str, Mapping[str, Any]]] = {}

    def read(self, shard: str) -> Mapping[str, Any]:
        return dict(self.answers.get(shard, {}))

    def find(self, key: str) -> Mapping[str, Any] | None:
        return None

    def keep(self, shard: str, key: str, value: Mapping[str, Any]) -> None:
        self.answers.setdefault(shard, {})[key] = value

    def reserve(self, key: str) -> bool:
        return True

    def give_up(self, key: str) -> None:
        pass

    def flush(self) -> None:
        pass


def test_what_was_answered_is_not_asked_again() -> None:
    async def dies_after_three(body: dict[str, Any], number: int) -> web.StreamResponse:
        return await by_words(body, number) if number < 3 else web.Response(status=503)

    kept, captions = Kept(), ["a clock", "a dog", "a cat", "a bird", "a fish"]
    slow = ClientConfig(concurrency=1, attempts=1, backoff=0.01, patience=0.3)
    with serving(dies_after_three) as server:
        scorer = ServedPerplexityScorer(model_name="m", endpoints=(server.url,), client=slow)
        lent = Connection(endpoints=(server.url,), answers=kept)
        with pytest.raises(Unavailable):
            judge_batch(scorer, scorer.connected(lent).load(), batch(list(captions)))
    assert len(kept.answers["00000"]) == 3
    with serving(by_words) as server:
        lent = Connection(endpoints=(server.url,), answers=kept)
        table = judge_batch(scorer, scorer.connected(lent).load(), batch(list(captions)))
        assert [body["prompt"] for body in server.bodies] == captions[3:]
    assert table["n_tokens"].to_pylist() == [1] * 5


@pytest.mark.parametrize("data", [{}, {"choices": []}, {"choices": [{"prompt_logprobs": [None, {}, {"1": {}}]}]}])
def test_malformed_answers_are_told_from_good_ones(data: Any) -> None:
    with pytest.raises((KeyError, IndexError, ValueError, TypeError)):
        read_answer(data)
