"""One visit an image: all its metrics asked of one server, answers kept, what fails told apart."""

import asyncio
import hashlib
import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from mmcorpus.filters.mllm.answer import Answer, expected, open_digits, parse
from mmcorpus.filters.mllm.images import data_url, image_bytes
from mmcorpus.filters.scorer import REASON
from mmcorpus.filters.serving import REJECTED, Endpoint, ModelClient, Questions, Rejected, Row, gravest
from mmcorpus.filters.texts import NO_CAPTION

if TYPE_CHECKING:
    from mmcorpus.filters.mllm.scorer import MllmScorer

NO_LOGPROBS: Final = "no_logprobs"
_DECIMALS: Final = 3


class Visits(Questions):
    """The visits to a batch's images: each asks all the metrics of its image, of one server as long as it answers."""

    def __init__(self, scorer: "MllmScorer", client: ModelClient, model: str) -> None:
        settings = scorer.settings()
        decides = json.dumps([model, scorer.deciding()], sort_keys=True)
        super().__init__(scorer, client, [decides, settings, scorer.rubric.system])
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
    return Answer(text=text, finish=choice.get("finish_reason"), tokens=tokens)
