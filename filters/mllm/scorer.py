"""MLLM-Filter: a vision-language model rates a caption under its image by several criteria (arXiv:2403.02677, §3)."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa

from filters.caption import NO_CAPTION
from filters.mllm.answer import Answer, expected, open_digits, parse
from filters.mllm.images import data_url, image_bytes
from filters.mllm.prompts import Rubric, read_rubric
from filters.scorer import REASON, Batch, Columns, Unavailable
from filters.serving import Endpoint, ModelClient, NoAnswer, Rejected, ServedScorer, run

METRICS: Final = (
    "image_text_matching",
    "object_detail_fulfillment",
    "caption_text_quality",
    "semantic_understanding",
)
"""Those of the rubric that ships, in its order."""
REJECTED: Final = "rejected"
"""The server read the request and refused it: the caption is longer than its context, say."""
NO_ANSWER: Final = "no_answer"
NO_LOGPROBS: Final = "no_logprobs"
_SUSPICIOUS: Final = 16
"""So many samples in one batch, all rejected, are a matter of the server."""
_DECIMALS: Final = 3


@dataclass(frozen=True, kw_only=True)
class MllmScorer(ServedScorer):
    """For each metric M: M, the expected rating (0-100, float); M_integer, the rating as the model wrote it; M_raw, its
    whole answer; M_reason, why there is no rating.

    One visit asks an image's metrics of the same server, the first alone and the rest together, so that the server's
    prefix cache pays for the image once. Ratings are greedy (temperature 0). Published cuts: semantic_understanding
    >= 85 (Open-Qwen2VL), image_text_matching >= 66 and object_detail_fulfillment >= 20 (MLM-Filter, DataComp-medium).
    """

    prompts: str | None = None
    """A YAML file with prompts of your own, laid out as filters/mllm/prompts.yaml, which is used if null."""
    metrics: tuple[str, ...] | None = None
    """Which of the file's metrics to ask; null for all."""
    max_side: int | None = None
    """Larger images are scaled down to this before they are sent; null sends the shard's own bytes."""
    max_tokens: int = 8
    """Longest answer, in tokens: "100" may take three, and a blank or a mark may come first."""
    top_logprobs: int = 20
    """Alternatives of each token that the expectation sees. Servers limit it: vLLM to 20 (`--max-logprobs`)."""
    explore: float | None = None
    """Ask on from each first digit that was not taken but has at least this probability, so that the expectation need
    not guess how the number would go on. vLLM alone can; each costs a short request. null: never."""
    extra: dict[str, Any] | None = None
    """More keys of the request's body, e.g. `{chat_template_kwargs: {enable_thinking: false}}`."""

    name: ClassVar[str] = "mllm"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("uid", "shard", "caption", "image", "encoded")

    def __post_init__(self) -> None:
        super().__post_init__()
        rubric = read_rubric(self.prompts)
        unknown = sorted(set(self.metrics or ()) - set(rubric.criteria))
        if unknown:
            raise ValueError(f"metrics: {unknown[0]!r} is not in the prompts; there are {', '.join(rubric.criteria)}")
        if self.metrics is not None and (not self.metrics or len(set(self.metrics)) != len(self.metrics)):
            raise ValueError(f"metrics is {list(self.metrics)}; name each once, and at least one")
        if self.max_side is not None and self.max_side < 16:
            raise ValueError(f"max_side is {self.max_side}; give 16 or more, or null")
        if self.max_tokens < 3:
            raise ValueError(f'max_tokens is {self.max_tokens}; "100" may take three tokens, so give 3 or more')
        if self.top_logprobs < 1:
            raise ValueError(f"top_logprobs is {self.top_logprobs}; give 1 or more")
        if self.explore is not None and not 0.0 < self.explore <= 1.0:
            raise ValueError(f"explore is {self.explore}; give a probability above 0, or null")
        # Read once, where the recipe is checked: workers on other machines need not have the file.
        object.__setattr__(self, "_rubric", rubric)

    @property
    def rubric(self) -> Rubric:
        """What is asked."""
        rubric: Rubric = getattr(self, "_rubric")  # noqa: B009
        return rubric

    @property
    def asked(self) -> tuple[str, ...]:
        """The metrics, in order."""
        return self.metrics or tuple(self.rubric.criteria)

    def schema(self) -> pa.Schema:
        fields: list[pa.Field] = []
        for metric in self.asked:
            fields += [
                pa.field(metric, pa.float32()),
                pa.field(f"{metric}_integer", pa.int16()),
                pa.field(f"{metric}_raw", pa.string()),
                pa.field(f"{metric}_{REASON}", pa.string()),
            ]
        return pa.schema(fields)

    def parameters(self) -> dict[str, Any]:
        """What decides the ratings; where the servers are and how they are asked is none of it."""
        return {
            "prompts": self.rubric.digest(self.asked),
            "metrics": list(self.asked),
            "max_side": self.max_side,
            "max_tokens": self.max_tokens,
            "top_logprobs": self.top_logprobs,
            "explore": self.explore,
            "extra": self.extra,
        }

    def load(self) -> Callable[[Batch], Columns]:
        clients, model = self.clients(), self.model()

        async def ask(batch: Batch) -> Columns:
            async with clients() as client:
                return await Visits(self, client, model).all(batch)

        return lambda batch: run(ask(batch))


@dataclass(frozen=True, kw_only=True, slots=True)
class Rated:
    """One metric of one sample."""

    value: float | None = None
    integer: int | None = None
    raw: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, answer: Answer, branches: Mapping[str, Answer]) -> "Rated":
        """What an answer says."""
        parsed = parse(answer)
        value = expected(answer, parsed, branches)
        reason = parsed.reason or (NO_LOGPROBS if value is None else None)
        rounded = None if value is None else round(value, _DECIMALS)
        return cls(value=rounded, integer=parsed.integer, raw=answer.text, reason=reason)


class Visits:
    """The visits to a batch's images: each asks all the metrics of its image."""

    def __init__(self, scorer: MllmScorer, client: ModelClient, model: str) -> None:
        self._scorer, self._client = scorer, client
        self._answers = scorer.connection().answers
        self._kept: dict[str, Mapping[str, Any]] = {}
        self._in_flight = asyncio.Semaphore(scorer.client.concurrency)
        # All of a request but the image and the text: with those two it makes the key under which an answer is kept.
        self._settings = {
            "temperature": 0,
            "max_tokens": scorer.max_tokens,
            "logprobs": True,
            "top_logprobs": scorer.top_logprobs,
            **(scorer.extra or {}),
        }
        self._identity = json.dumps([model, self._settings, scorer.rubric.system], sort_keys=True)

    async def all(self, batch: Batch) -> Columns:
        """The scorer's columns for a batch.

        Raises:
            Unavailable: samples got no answer for reasons that may pass; those that got one are kept for the rerun.
        """
        if self._answers is not None:
            self._kept = {shard: self._answers.read(shard) for shard in dict.fromkeys(batch["shard"])}
        rows: list[dict[str, Rated]] = [{} for _ in batch["uid"]]
        silent: list[tuple[str, str]] = []

        async def visit(position: int) -> None:
            async with self._in_flight:
                row = {name: batch[name][position] for name in self._scorer.inputs}
                try:
                    rows[position] = await self._visit(row)
                except NoAnswer as error:
                    silent.append((row["uid"], str(error)))
                    rows[position] = dict.fromkeys(self._scorer.asked, Rated(reason=f"{NO_ANSWER}: {error}"))

        try:
            async with asyncio.TaskGroup() as group:
                for position in range(len(rows)):
                    group.create_task(visit(position))
        except ExceptionGroup as errors:
            raise _gravest(errors.exceptions) from None
        finally:
            if self._answers is not None:
                self._answers.flush()
        self._complain(rows, silent)
        return _columns(rows, self._scorer.asked)

    def _complain(self, rows: Sequence[Mapping[str, Rated]], silent: Sequence[tuple[str, str]]) -> None:
        if silent and self._scorer.client.unanswered == "fail":
            uid, error = min(silent)
            raise Unavailable(
                f"{len(silent)} of {len(rows)} samples got no answer, {uid} first: {error}. A rerun asks these alone"
            )
        reasons = [rated.reason or "" for row in rows for rated in row.values()]
        if len(rows) >= _SUSPICIOUS and all(reason.startswith(REJECTED) for reason in reasons):
            raise Unavailable(f"the model server rejects all of {len(rows)} samples: {reasons[0]}")

    async def _visit(self, row: Mapping[str, Any]) -> dict[str, Rated]:
        """All the metrics of one sample, of one server as long as it answers."""
        asked = self._scorer.asked
        if row["caption"] is None or not row["caption"].strip():
            return dict.fromkeys(asked, Rated(reason=NO_CAPTION))
        data, form = image_bytes(row["encoded"], row["image"], self._scorer.max_side)
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
        messages = self._scorer.rubric.messages(metric, row["caption"], url)
        text = messages[-1]["content"][1]["text"]
        branches: dict[str, Answer] = {}
        try:
            answer, server = await self._answer(row, f"{digest}\0{text}", metric, {"messages": messages}, server)
            if self._scorer.explore is not None:
                for start in open_digits(answer, parse(answer), self._scorer.explore):
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
        body = {"model": self._scorer.model_name, **self._settings, **body}
        answer, server = await self._client.ask("chat/completions", body, read=read_answer, prefer=server)
        if self._answers is not None:
            record = {"uid": row["uid"], "metric": metric, **answer.as_dict()}
            self._answers.keep(row["shard"], key, record)
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
