"""MLLM-Filter: a vision-language model rates a caption under its image by several criteria (arXiv:2403.02677, §3)."""

import asyncio
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa

from mmcorpus.filters.mllm.answer import Answer, expected, open_digits, parse
from mmcorpus.filters.mllm.images import data_url, image_bytes
from mmcorpus.filters.mllm.in_process import InProcessClient
from mmcorpus.filters.mllm.prompts import Rubric, read_rubric
from mmcorpus.filters.plain_tokens import clean
from mmcorpus.filters.scorer import REASON
from mmcorpus.filters.serving import (
    DECIDING,
    REJECTED,
    Connection,
    Endpoint,
    ModelClient,
    Questions,
    Rejected,
    Row,
    ServedScorer,
    ServerConfig,
    gravest,
)
from mmcorpus.filters.texts import NO_CAPTION

METRICS: Final = (
    "image_text_matching",
    "object_detail_fulfillment",
    "caption_text_quality",
    "semantic_understanding",
)
"""Those of the rubric that ships, in its order."""
NO_LOGPROBS: Final = "no_logprobs"
_DECIMALS: Final = 3


@dataclass(frozen=True, kw_only=True)
class MllmScorer(ServedScorer):
    """For each metric M: M, the expected rating (0-100, float); M_integer, the rating as the model wrote it; M_raw, its
    whole answer; M_reason, why there is no rating.

    One visit asks an image's metrics of the same server, the first alone and the rest together, so that the server's
    prefix cache pays for the image once. Ratings are greedy (temperature 0). Published cuts: semantic_understanding
    >= 85 (Open-Qwen2VL), image_text_matching >= 66 and object_detail_fulfillment >= 20 (MLM-Filter, DataComp-medium).
    """

    in_process: dict[str, Any] | None = None
    """Run vLLM's engine in the scoring worker itself, in place of servers: the arguments of `vllm.LLM`, e.g.
    `{max_model_len: 4096}`. For one machine whose environment has vLLM beside mmcorpus; give `score.workers: 1`, since
    every worker loads the model."""
    prompts: str | None = None
    """A YAML file with prompts of your own, laid out as filters/mllm/prompts.yaml, which is used if null."""
    metrics: tuple[str, ...] | None = None
    """The file's metrics to ask; null for all."""
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
    version: ClassVar[str] = "2"
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
        if self.in_process is not None and (self.endpoints or self.server is not None):
            raise ValueError("in_process excludes endpoints and server: the model runs in one place")
        # Read once, where the recipe is checked: workers on other machines need not have the file.
        object.__setattr__(self, "_rubric", rubric)

    @property
    def rubric(self) -> Rubric:
        """The questions."""
        rubric: Rubric = getattr(self, "_rubric")  # noqa: B009
        return rubric

    @property
    def asked(self) -> tuple[str, ...]:
        """The metrics, in order."""
        return self.metrics or tuple(self.rubric.criteria)

    def schema(self) -> pa.Schema:
        kinds = {"": pa.float32(), "_integer": pa.int16(), "_raw": pa.string(), f"_{REASON}": pa.string()}
        return pa.schema({f"{metric}{suffix}": kind for metric in self.asked for suffix, kind in kinds.items()})

    def parameters(self) -> dict[str, Any]:
        """All that decides the ratings; where the servers are and how they are asked is none of it."""
        return {
            "prompts": self.rubric.digest(self.asked),
            "metrics": list(self.asked),
            "max_side": self.max_side,
            "max_tokens": self.max_tokens,
            "top_logprobs": self.top_logprobs,
            "explore": self.explore,
            "extra": self.extra,
            "server": self.deciding(),
        }

    def deciding(self) -> dict[str, Any]:
        if self.in_process is None:
            return super().deciding()
        return {name: value for name, value in sorted(self.in_process.items()) if name in DECIDING}

    def serving(self) -> ServerConfig | None:
        return None if self.in_process is not None else super().serving()

    def connection(self) -> Connection:
        if self.in_process is not None and not hasattr(self, "_connection"):
            return Connection(endpoints=())
        return super().connection()

    def clients(self) -> Callable[[], ModelClient]:
        if self.in_process is None:
            return super().clients()
        engine = InProcessClient(self.model_name, self.revision, self.in_process)
        return lambda: engine

    def questions(self, client: ModelClient, model: str) -> "Visits":
        return Visits(self, client, model)

    def settings(self) -> dict[str, Any]:
        """All of a request but the model, the image and the text."""
        return {
            "temperature": 0,
            "max_tokens": self.max_tokens,
            "logprobs": True,
            "top_logprobs": self.top_logprobs,
            **(self.extra or {}),
        }


class Visits(Questions):
    """The visits to a batch's images: each asks all the metrics of its image, of one server as long as it answers."""

    def __init__(self, scorer: MllmScorer, client: ModelClient, model: str) -> None:
        settings = scorer.settings()
        decides = json.dumps([model, scorer.deciding()], sort_keys=True)
        identity = [decides, settings, scorer.rubric.system]
        super().__init__(scorer.connection(), scorer.client, client, identity, scorer.servers())
        self._scorer, self._metrics = scorer, scorer.asked
        self._body = {"model": scorer.model_name, **settings}

    async def ask(self, sample: Row) -> Row:
        if sample["caption"] is None or not sample["caption"].strip():
            return self.nothing(NO_CAPTION)
        data, form = image_bytes(sample["encoded"], sample["image"], self._scorer.max_side)
        digest, url = hashlib.blake2b(data, digest_size=16).hexdigest(), data_url(data, form)
        first, server = await self._rate(sample, self._metrics[0], digest, url, None)
        others = (self._rate(sample, metric, digest, url, server) for metric in self._metrics[1:])
        # All are waited for, so that what is answered is kept even where one is not.
        rest = await asyncio.gather(*others, return_exceptions=True)
        errors = [one for one in rest if isinstance(one, BaseException)]
        if errors:
            raise gravest(errors)
        return _whole([first, *(one[0] for one in rest if not isinstance(one, BaseException))])

    def nothing(self, reason: str) -> Row:
        return _whole([_rating(metric, reason=reason) for metric in self._metrics])

    async def _rate(
        self, sample: Row, metric: str, digest: str, url: str, server: Endpoint | None
    ) -> tuple[Row, Endpoint | None]:
        """The columns of one metric, from the answers kept or from a server, and the server."""
        messages = self._scorer.rubric.messages(metric, sample["caption"], url)
        asked = f"{digest}\0{messages[-1]['content'][1]['text']}"
        branches: dict[str, Answer] = {}
        try:
            answer, server = await self._answer(sample, asked, metric, {"messages": messages}, server)
            parsed = parse(answer)
            if self._scorer.explore is not None:
                for start in open_digits(answer, parsed, self._scorer.explore):
                    told = [*messages, {"role": "assistant", "content": start}]
                    more = {"messages": told, "continue_final_message": True, "add_generation_prompt": False}
                    branches[start], server = await self._answer(sample, f"{asked}\0{start}", metric, more, server)
        except Rejected as error:
            return _rating(metric, reason=f"{REJECTED}: {error}"), server
        value = expected(answer, parsed, branches)
        reason = parsed.reason or (NO_LOGPROBS if value is None else None)
        rounded = None if value is None else round(value, _DECIMALS)
        return _rating(metric, rounded, parsed.integer, answer.text, reason), server

    async def _answer(
        self, sample: Row, asked: str, metric: str, body: dict[str, Any], server: Endpoint | None
    ) -> tuple[Answer, Endpoint | None]:
        return await self.answer(
            sample,
            asked,
            "chat/completions",
            {**self._body, **body},
            read=read_answer,
            save=lambda answer: {"metric": metric, **answer.as_dict()},
            restore=Answer.from_dict,
            prefer=server,
        )


def _rating(
    metric: str,
    value: float | None = None,
    integer: int | None = None,
    raw: str | None = None,
    reason: str | None = None,
) -> Row:
    """The columns of one metric."""
    return {metric: value, f"{metric}_integer": integer, f"{metric}_raw": raw, f"{metric}_{REASON}": reason}


def _whole(ratings: Sequence[Row]) -> Row:
    """The columns of all metrics of a sample; the first reason among them is its own."""
    columns = {name: value for rating in ratings for name, value in rating.items()}
    reasons = (value for name, value in columns.items() if name.endswith(f"_{REASON}"))
    return {**columns, REASON: next(filter(None, reasons), None)}


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
    return Answer(text=clean(text), finish=choice.get("finish_reason"), tokens=tokens)
