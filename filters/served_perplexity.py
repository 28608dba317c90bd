"""The perplexity of a caption, as a vLLM server reports it of a prompt (`prompt_logprobs`)."""

from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa

from mmcorpus.filters.causal_lm import TOO_SHORT, WHOLE, Measured
from mmcorpus.filters.plain_tokens import clean
from mmcorpus.filters.scorer import REASON
from mmcorpus.filters.serving import REJECTED, ModelClient, Questions, Rejected, Row, ServedScorer
from mmcorpus.filters.texts import blank_reason

_SETTINGS: Final[dict[str, Any]] = {"max_tokens": 1, "temperature": 0, "prompt_logprobs": 0}
"""Of a request: a prompt's own log-probabilities alone, and one token more, since a server must write something."""


@dataclass(frozen=True, kw_only=True)
class ServedPerplexityScorer(ServedScorer):
    """nll_sum: of the caption's tokens together, in nats. n_tokens: how many were scored. ppl: exp of their quotient.

    As the scorer `perplexity` measures it with `start: tokenizer`, but within the error of the server's arithmetic
    (bf16, usually), and with special tokens that a caption spells out taken for what they are. vLLM alone reports
    log-probabilities of prompts. Null are captions without a word (`no_caption`, `blank`), of one token (`too_short`)
    and those that the server refuses, since they are longer than its context (`rejected`).
    """

    name: ClassVar[str] = "served_perplexity"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("uid", "shard", "caption")

    def schema(self) -> pa.Schema:
        return WHOLE

    def parameters(self) -> dict[str, Any]:
        """The settings that decide scores; addresses of servers and limits of requests do not."""
        return {**_SETTINGS, "server": self.deciding()}

    def questions(self, client: ModelClient, model: str) -> "CaptionQuestions":
        return CaptionQuestions(self, client, model)


class CaptionQuestions(Questions):
    """How likely each caption is."""

    def __init__(self, scorer: ServedPerplexityScorer, client: ModelClient, model: str) -> None:
        super().__init__(scorer.connection(), scorer.client, client, [model, scorer.parameters()], scorer.servers())
        self._model_name = scorer.model_name

    async def ask(self, sample: Row) -> Row:
        if (reason := blank_reason(sample["caption"])) is not None:
            return self.nothing(reason)
        text = clean(sample["caption"])
        body = {"model": self._model_name, "prompt": text, **_SETTINGS}
        try:
            answer, _ = await self.answer(
                sample, text, "completions", body, read=read_answer, save=lambda found: found, restore=dict
            )
        except Rejected as error:
            return self.nothing(f"{REJECTED}: {error}")
        if not answer["n_tokens"]:
            return self.nothing(TOO_SHORT)
        found = Measured(float(answer["nll_sum"]), int(answer["n_tokens"])).columns()
        return {name: found.get(name) for name in (*WHOLE.names, REASON)}

    def nothing(self, reason: str) -> Row:
        return {**dict.fromkeys(WHOLE.names), REASON: reason}


def read_answer(data: Any) -> dict[str, Any]:
    """`nll_sum` and `n_tokens` of a completion's prompt; ValueError, KeyError, TypeError or IndexError if malformed.

    `prompt_logprobs` has an entry for each token of the prompt, `{id: {"logprob": …}}`; null for the first.
    """
    entries = data["choices"][0]["prompt_logprobs"]
    if entries is None:
        raise ValueError("the server reports no log-probabilities of the prompt; vLLM does")
    logprobs = [float(next(iter(entry.values()))["logprob"]) for entry in entries if entry]
    return {"nll_sum": -sum(logprobs), "n_tokens": len(logprobs)}
