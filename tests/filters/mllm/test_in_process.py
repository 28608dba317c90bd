"""vLLM's engine in this process, here one that only seems to be: batches, probabilities, what it refuses."""

import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mmcorpus.filters.mllm import METRICS, MllmScorer
from mmcorpus.filters.scorer import Unavailable
from tests.filters.mllm.test_scorer import batch, judged

SAMPLES = 6


class Engine:
    """Says 86, with probabilities; refuses batches that hold "too long"; dies of "poison"."""

    batches: list[int]

    def __init__(self, **arguments: Any) -> None:
        self.arguments = arguments
        Engine.batches = []

    def chat(self, conversations: list[Any], sampling: list[Any], *, use_tqdm: bool, **more: Any) -> list[Any]:
        assert not use_tqdm
        assert {one["max_tokens"] for one in sampling} == {8}
        assert {one["logprobs"] for one in sampling} == {20}
        texts = [conversation[0]["content"][1]["text"] for conversation in conversations]
        if any("too long" in text for text in texts):
            raise ValueError("longer than the context")
        if any("poison" in text for text in texts):
            raise RuntimeError("engine is dead")
        Engine.batches.append(len(texts))
        return [self._say() for _ in texts]

    def _say(self) -> Any:
        spelled = {1: "8", 2: "6"}
        logprobs = [{token: SimpleNamespace(decoded_token=text, logprob=0.0)} for token, text in spelled.items()]
        said = SimpleNamespace(text="86", token_ids=list(spelled), logprobs=logprobs, finish_reason="stop")
        return SimpleNamespace(outputs=[said])


@pytest.fixture
def scorer(monkeypatch: pytest.MonkeyPatch) -> MllmScorer:
    module = ModuleType("vllm")
    module.LLM = Engine  # type: ignore[attr-defined]
    module.SamplingParams = lambda **more: more  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)
    made = MllmScorer(model_name="some/model", in_process={"max_model_len": 4096})
    object.__setattr__(made, "_model", "some/model@1")
    return made


def test_the_same_questions_and_columns_without_a_server_in_as_few_batches_as_can_be(scorer: MllmScorer) -> None:
    columns = judged(scorer, batch([f"thing {n}" for n in range(SAMPLES)]))
    assert all(columns[metric] == [86.0] * SAMPLES for metric in METRICS)
    assert columns["reason"] == [None] * SAMPLES
    assert sum(Engine.batches) == SAMPLES * len(METRICS)
    assert Engine.batches[0] == SAMPLES
    assert len(Engine.batches) <= 4


def test_what_the_engine_refuses_costs_itself_alone(scorer: MllmScorer) -> None:
    columns = judged(scorer, batch(["thing", "too long", "thing"]))
    assert columns["image_text_matching"] == [86.0, None, 86.0]
    assert columns["reason"][1] == "rejected: the engine refuses it: longer than the context"


def test_an_engine_that_dies_is_no_verdict_on_the_samples(scorer: MllmScorer) -> None:
    with pytest.raises(Unavailable, match="engine failed: RuntimeError: engine is dead"):
        judged(scorer, batch(["thing", "poison"]))


def test_where_the_model_runs_is_said_once_and_is_not_in_the_fingerprint(scorer: MllmScorer) -> None:
    assert scorer.serving() is None
    with pytest.raises(ValueError, match="in_process excludes endpoints and server"):
        MllmScorer(model_name="some/model", in_process={}, endpoints=("http://127.0.0.1:1/v1",))
    elsewhere = MllmScorer(model_name="some/model", endpoints=("http://127.0.0.1:1/v1",))
    object.__setattr__(elsewhere, "_model", "some/model@1")
    assert elsewhere.fingerprint() == scorer.fingerprint()
    other = MllmScorer(model_name="some/model", in_process={"max_model_len": 4096, "quantization": "fp8"})
    object.__setattr__(other, "_model", "some/model@1")
    assert other.fingerprint() != scorer.fingerprint()


def test_without_vllm_it_says_so() -> None:
    scorer = MllmScorer(model_name="some/model", in_process={})
    object.__setattr__(scorer, "_model", "some/model@1")
    with pytest.raises(RuntimeError, match="in_process needs vLLM in the environment that runs"):
        scorer.load()
