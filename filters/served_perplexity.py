"""The perplexity of a caption, as a vLLM server reports it of a prompt (`prompt_logprobs`)."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa

from mmcorpus.filters.causal_lm import SCHEMA, TOO_SHORT, Measured, blank_reason, clean, to_columns
from mmcorpus.filters.scorer import Batch, Columns, Unavailable
from mmcorpus.filters.serving import ModelClient, NoAnswer, Rejected, ServedScorer, run

REJECTED: Final = "rejected"
"""The server read the request and refused it: the caption is longer than its context, say."""
NO_ANSWER: Final = "no_answer"
_SUSPICIOUS: Final = 16
"""This many captions in one batch, all rejected, are a matter of the server."""
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
        return SCHEMA.remove(SCHEMA.get_field_index("truncated"))

    def parameters(self) -> dict[str, Any]:
        """The settings that decide scores; addresses of servers and limits of requests do not."""
        return {**_SETTINGS, "server": self.deciding()}

    def load(self) -> Callable[[Batch], Columns]:
        clients, model = self.clients(), self.model()

        async def ask(batch: Batch) -> Columns:
            async with clients() as client:
                return await Questions(self, client, model).all(batch)

        return lambda batch: run(ask(batch))


class Questions:
    """A batch's captions, asked of the servers or found among the answers that are kept."""

    def __init__(self, scorer: ServedPerplexityScorer, client: ModelClient, model: str) -> None:
        self._scorer, self._client = scorer, client
        self._answers = scorer.connection().answers
        self._in_flight = asyncio.Semaphore(scorer.client.concurrency)
        self._identity = json.dumps([model, scorer.parameters()], sort_keys=True)

    async def all(self, batch: Batch) -> Columns:
        """The scorer's columns for a batch.

        Raises:
            Unavailable: captions got no answer for reasons that may pass; those that got one are kept for the rerun.
        """
        kept: dict[str, Mapping[str, Any]] = {}
        if self._answers is not None:
            kept = {shard: self._answers.read(shard) for shard in dict.fromkeys(batch["shard"])}
        rows = zip(batch["uid"], batch["shard"], batch["caption"], strict=True)
        try:
            found = await asyncio.gather(
                *(self._measure(uid, shard, caption, kept.get(shard, {})) for uid, shard, caption in rows),
                return_exceptions=True,
            )
        finally:
            if self._answers is not None:
                self._answers.flush()
        for kind in (Unavailable, BaseException):
            grave = (one for one in found if isinstance(one, kind) and not isinstance(one, NoAnswer | Rejected))
            if (error := next(grave, None)) is not None:
                raise error
        measured = [self._settled(result) for result in found]
        rejected = [row for row in measured if isinstance(row, str) and row.startswith(REJECTED)]
        if len(rejected) == len(measured) >= _SUSPICIOUS:
            raise Unavailable(f"the model server rejects all of {len(measured)} captions: {rejected[0]}")
        columns = to_columns(measured)
        del columns["truncated"]
        return columns

    def _settled(self, result: Measured | str | BaseException) -> Measured | str:
        if isinstance(result, Rejected):
            return f"{REJECTED}: {result}"
        if isinstance(result, NoAnswer):
            if self._scorer.client.unanswered == "fail":
                raise Unavailable(f"captions got no answer: {result}. A rerun asks these alone")
            return f"{NO_ANSWER}: {result}"
        assert isinstance(result, Measured | str)
        return result

    async def _measure(self, uid: str, shard: str, caption: str | None, kept: Mapping[str, Any]) -> Measured | str:
        reason = blank_reason(caption)
        if caption is None or reason is not None:
            return str(reason)
        text = clean(caption)
        key = hashlib.blake2b(f"{self._identity}\0{text}".encode(), digest_size=16).hexdigest()
        answer: Mapping[str, Any] = kept.get(key) or {}
        if not answer:
            body = {"model": self._scorer.model_name, "prompt": text, **_SETTINGS}
            async with self._in_flight:
                answer, _ = await self._client.ask("completions", body, read=read_answer)
            if self._answers is not None:
                self._answers.keep(shard, key, {"uid": uid, **answer})
        tokens = int(answer["n_tokens"])
        return Measured(float(answer["nll_sum"]), tokens) if tokens else TOO_SHORT


def read_answer(data: Any) -> dict[str, Any]:
    """`nll_sum` and `n_tokens` of a completion's prompt; ValueError, KeyError, TypeError or IndexError if malformed.

    `prompt_logprobs` has an entry for each token of the prompt, `{id: {"logprob": …}}`; null for the first.
    """
    entries = data["choices"][0]["prompt_logprobs"]
    if entries is None:
        raise ValueError("the server reports no log-probabilities of the prompt; vLLM does")
    logprobs = [float(next(iter(entry.values()))["logprob"]) for entry in entries if entry]
    return {"nll_sum": -sum(logprobs), "n_tokens": len(logprobs)}
