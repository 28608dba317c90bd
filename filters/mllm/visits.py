"""One visit an image: all its metrics asked of one server, answers kept, what fails told apart."""

import asyncio
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from mmcorpus.filters.caption import NO_CAPTION
from mmcorpus.filters.mllm.answer import Answer, expected, open_digits, parse
from mmcorpus.filters.mllm.images import data_url, image_bytes
from mmcorpus.filters.mllm.in_process import InProcessClient
from mmcorpus.filters.mllm.prompts import Rubric
from mmcorpus.filters.scorer import REASON, Batch, Columns, Unavailable
from mmcorpus.filters.serving import Answers, Endpoint, ModelClient, NoAnswer, Rejected

REJECTED: Final = "rejected"
"""The server read the request and refused it: the caption is longer than its context, say."""
NO_ANSWER: Final = "no_answer"
NO_LOGPROBS: Final = "no_logprobs"
_READ: Final = ("uid", "shard", "caption", "image", "encoded")
_SUSPICIOUS: Final = 16
"""This many samples in one batch, all rejected, are a matter of the server."""
_DECIMALS: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class Rated:
    """One metric of one sample."""

    value: float | None = None
    integer: int | None = None
    raw: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, answer: Answer, branches: Mapping[str, Answer]) -> "Rated":
        """The rating in an answer."""
        parsed = parse(answer)
        value = expected(answer, parsed, branches)
        reason = parsed.reason or (NO_LOGPROBS if value is None else None)
        rounded = None if value is None else round(value, _DECIMALS)
        return cls(value=rounded, integer=parsed.integer, raw=answer.text, reason=reason)


@dataclass(kw_only=True)
class Visits:
    """The visits to a batch's images, in one event loop: each asks all the metrics of its image."""

    client: ModelClient | InProcessClient
    rubric: Rubric
    metrics: Sequence[str]
    model_name: str
    """The model's name in requests."""
    model: str
    """The model, its revision and all else that decides its answers."""
    settings: Mapping[str, Any]
    """The rest of a request's body. With these, the image and the text, `model` makes the key of a kept answer."""
    max_side: int | None
    explore: float | None
    at_once: int
    """Images that are in visit at once."""
    unanswered: Literal["fail", "null"]
    answers: Answers | None

    def __post_init__(self) -> None:
        self._in_flight = asyncio.Semaphore(self.at_once)
        self._identity = json.dumps([self.model, self.settings, self.rubric.system], sort_keys=True)
        self._kept: dict[str, Mapping[str, Any]] = {}

    async def all(self, batch: Batch) -> Columns:
        """The scorer's columns for a batch.

        Raises:
            Unavailable: samples got no answer for reasons that may pass; those that got one are kept for the rerun.
        """
        if self.answers is not None:
            self._kept = {shard: self.answers.read(shard) for shard in dict.fromkeys(batch["shard"])}
        rows: list[dict[str, Rated]] = [{} for _ in batch["uid"]]
        silent: list[tuple[str, str]] = []

        async def visit(position: int) -> None:
            async with self._in_flight:
                row = {name: batch[name][position] for name in _READ}
                try:
                    rows[position] = await self._visit(row)
                except NoAnswer as error:
                    silent.append((row["uid"], str(error)))
                    rows[position] = dict.fromkeys(self.metrics, Rated(reason=f"{NO_ANSWER}: {error}"))

        try:
            async with asyncio.TaskGroup() as group:
                for position in range(len(rows)):
                    group.create_task(visit(position))
        except ExceptionGroup as errors:
            raise _gravest(errors.exceptions) from None
        finally:
            if self.answers is not None:
                self.answers.flush()
        self._complain(rows, silent)
        return _columns(rows, self.metrics)

    def _complain(self, rows: Sequence[Mapping[str, Rated]], silent: Sequence[tuple[str, str]]) -> None:
        if silent and self.unanswered == "fail":
            uid, error = min(silent)
            raise Unavailable(
                f"{len(silent)} of {len(rows)} samples got no answer, {uid} first: {error}. A rerun asks these alone"
            )
        reasons = [rated.reason or "" for row in rows for rated in row.values()]
        if len(rows) >= _SUSPICIOUS and all(reason.startswith(REJECTED) for reason in reasons):
            raise Unavailable(f"the model server rejects all of {len(rows)} samples: {reasons[0]}")

    async def _visit(self, row: Mapping[str, Any]) -> dict[str, Rated]:
        """All the metrics of one sample, of one server as long as it answers."""
        asked = self.metrics
        if row["caption"] is None or not row["caption"].strip():
            return dict.fromkeys(asked, Rated(reason=NO_CAPTION))
        data, form = image_bytes(row["encoded"], row["image"], self.max_side)
        digest, url = hashlib.blake2b(data, digest_size=16).hexdigest(), data_url(data, form)
        first, server = await self._rate(row, asked[0], digest, url, None)
        others = (self._rate(row, metric, digest, url, server) for metric in asked[1:])
        # All are waited for, so that what is answered is kept even where one is not.
        rest = await asyncio.gather(*others, return_exceptions=True)
        errors = [one for one in rest if isinstance(one, BaseException)]
        if errors:
            raise _gravest(errors)
        rated = [first, *(one[0] for one in rest if not isinstance(one, BaseException))]
        return dict(zip(asked, rated, strict=True))

    async def _rate(
        self, row: Mapping[str, Any], metric: str, digest: str, url: str, server: Endpoint | None
    ) -> tuple[Rated, Endpoint | None]:
        """One metric, from the answers kept or from a server, and the server."""
        messages = self.rubric.messages(metric, row["caption"], url)
        text = messages[-1]["content"][1]["text"]
        branches: dict[str, Answer] = {}
        try:
            answer, server = await self._answer(row, f"{digest}\0{text}", metric, {"messages": messages}, server)
            if self.explore is not None:
                for start in open_digits(answer, parse(answer), self.explore):
                    told = [*messages, {"role": "assistant", "content": start}]
                    more = {"messages": told, "continue_final_message": True, "add_generation_prompt": False}
                    key = f"{digest}\0{text}\0{start}"
                    branches[start], server = await self._answer(row, key, metric, more, server)
        except Rejected as error:
            return Rated(reason=f"{REJECTED}: {error}"), server
        return Rated.of(answer, branches), server

    async def _answer(
        self, row: Mapping[str, Any], asked: str, metric: str, body: dict[str, Any], server: Endpoint | None
    ) -> tuple[Answer, Endpoint | None]:
        key = hashlib.blake2b(f"{self._identity}\0{asked}".encode("utf-8", "replace"), digest_size=16).hexdigest()
        kept = self._kept.get(row["shard"], {}).get(key)
        if kept is not None:
            return Answer.from_dict(kept), server
        body = {"model": self.model_name, **self.settings, **body}
        answer, server = await self.client.ask("chat/completions", body, read=read_answer, prefer=server)
        if self.answers is not None:
            record = {"uid": row["uid"], "metric": metric, **answer.as_dict()}
            self.answers.keep(row["shard"], key, record)
        return answer, server


def _gravest(errors: Sequence[BaseException]) -> BaseException:
    """The one that matters for all: that there is no server rather than that a sample got no answer."""
    return next((error for error in errors if isinstance(error, Unavailable)), errors[0])


def read_answer(data: Any) -> Answer:
    """The answer in a chat completion's JSON; KeyError, TypeError, ValueError or IndexError where it is malformed."""
    choice = data["choices"][0]
    message = choice["message"]
    text = message["content"]
    if text is None:
        text = message.get("refusal") or ""
    if not isinstance(text, str):
        raise ValueError("the answer's content is no text")
    content = (choice.get("logprobs") or {}).get("content") or ()
    tokens = [(str(t["token"]), [(str(o["token"]), float(o["logprob"])) for o in t["top_logprobs"]]) for t in content]
    return Answer(text=text, finish=choice.get("finish_reason"), tokens=tokens)


def _columns(rows: Sequence[Mapping[str, Rated]], metrics: Sequence[str]) -> Columns:
    columns: dict[str, Sequence[Any]] = {}
    for metric in metrics:
        rated = [row[metric] for row in rows]
        columns[metric] = [one.value for one in rated]
        columns[f"{metric}_integer"] = [one.integer for one in rated]
        columns[f"{metric}_raw"] = [one.raw for one in rated]
        columns[f"{metric}_{REASON}"] = [one.reason for one in rated]
    columns[REASON] = [next((row[metric].reason for metric in metrics if row[metric].reason), None) for row in rows]
    return columns
