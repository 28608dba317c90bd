"""A served model writes a text about each sample: from its caption, its other columns, other scorers' texts, its image.

As a score is: a column by uid, null with a reason where the model's answer cannot be used.
"""

import hashlib
import json
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa

from mmcorpus.filters.mllm.answer import Answer
from mmcorpus.filters.mllm.images import data_url, image_bytes
from mmcorpus.filters.mllm.scorer import read_answer
from mmcorpus.filters.scorer import REASON
from mmcorpus.filters.serving import REJECTED, ModelClient, Questions, Rejected, Row, ServedScorer
from mmcorpus.filters.texts import NO_CAPTION
from mmcorpus.filters.written.answer import check_answer
from mmcorpus.filters.written.prompt import Prompt, read_prompt

NO_FIELD: Final = "no_field"
"""A column that the prompt wants has nothing for this sample: an earlier text that was not taken, say."""
_COLUMNS: Final = ("text", "raw")
_SEEDS: Final = 1 << 31


@dataclass(frozen=True, kw_only=True)
class WrittenScorer(ServedScorer):
    """text: what the model wrote, as it is to be used; of a prompt for turns, a conversation as JSON. raw: its whole
    answer, also where that is not taken.

    Null, with a reason: what has no caption, or no column that the prompt wants (`no_caption`, `no_field`), and answers
    that are empty, cut off, refusals, too short or long, of another language, or not of the form that the prompt asks
    for. Answers are greedy unless `temperature` is given.
    """

    prompt: str
    """What is asked: `recaption`, `capfusion`, `capqa`, `docs`, `ask`, or a YAML file laid out as these
    (filters/written/prompts/)."""
    max_side: int | None = None
    """Larger images are scaled down to this before they are sent; null sends the shard's own bytes."""
    max_tokens: int = 512
    """Longest answer, in tokens."""
    temperature: float = 0.0
    """Above 0 answers are sampled, each sample with a seed of its own."""
    seed: int = 0
    """Of these."""
    extra: dict[str, Any] | None = None
    """More keys of the request's body, e.g. `{chat_template_kwargs: {enable_thinking: false}}`."""

    name: ClassVar[str] = "written"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("uid", "shard", "caption", "meta", "scores", "image", "encoded")

    def __post_init__(self) -> None:
        super().__post_init__()
        asked = read_prompt(self.prompt)
        if self.max_side is not None and self.max_side < 16:
            raise ValueError(f"max_side is {self.max_side}; give 16 or more, or null")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; give 1 or more")
        if not 0.0 <= self.temperature <= 2.0:
            raise ValueError(f"temperature is {self.temperature}; give 0 to 2")
        # Read once, where the recipe is checked: workers on other machines need not have the file.
        object.__setattr__(self, "_asked", asked)
        plain = [name for name in asked.fields if "." not in name]
        wanted = {
            "caption": "caption" in plain,
            "meta": any(name != "caption" for name in plain),
            "scores": bool(self.reads()),
            "image": asked.image,
            "encoded": asked.image,
        }
        object.__setattr__(self, "inputs", tuple(name for name in type(self).inputs if wanted.get(name, True)))

    @property
    def asked(self) -> Prompt:
        """The question."""
        asked: Prompt = getattr(self, "_asked")  # noqa: B009
        return asked

    def reads(self) -> tuple[str, ...]:
        return tuple(name for name in self.asked.fields if "." in name)

    def schema(self) -> pa.Schema:
        return pa.schema(dict.fromkeys(_COLUMNS, pa.string()))

    def parameters(self) -> dict[str, Any]:
        """All that decides the texts; where the servers are and how they are asked is none of it."""
        return {
            "prompt": self.asked.digest(),
            "max_side": self.max_side,
            **self.settings(""),
            "extra": self.extra,
            "server": self.deciding(),
        }

    def settings(self, uid: str) -> dict[str, Any]:
        """All of a sample's request but the model, the image and the text."""
        settings: dict[str, Any] = {"max_tokens": self.max_tokens, "temperature": self.temperature}
        if self.temperature:
            drawn = hashlib.blake2b(f"{self.seed} {uid}".encode(), digest_size=8).digest()
            settings["seed"] = int.from_bytes(drawn, "little") % _SEEDS if uid else self.seed
        return {**settings, **(self.extra or {})}

    def values(self, sample: Row) -> dict[str, str] | str:
        """What a sample has for the prompt's places, or the reason why it cannot be asked about.

        Raises:
            ValueError: the samples have no such column at all.
        """
        found: dict[str, str] = {}
        for name in self.asked.fields:
            if name == "caption":
                value = sample["caption"]
            elif "." in name:
                value = sample["scores"][name]
            elif name in sample["meta"]:
                value = sample["meta"][name]
            else:
                there = ", ".join(sorted(map(str, sample["meta"])))
                raise ValueError(f"prompt {self.prompt} asks for {{{name}}}, no column of these samples: {there}")
            text = value if isinstance(value, str) else "" if value is None else json.dumps(value, ensure_ascii=False)
            if not text.strip():
                return NO_CAPTION if name == "caption" else f"{NO_FIELD}: {name}"
            found[name] = text
        return found

    def questions(self, client: ModelClient, model: str) -> "Writing":
        return Writing(self, client, model)


class Writing(Questions):
    """One request a sample."""

    def __init__(self, scorer: WrittenScorer, client: ModelClient, model: str) -> None:
        identity = [model, scorer.deciding(), scorer.settings(""), scorer.asked.system]
        super().__init__(scorer.connection(), scorer.client, client, identity, scorer.servers())
        self._scorer = scorer

    async def ask(self, sample: Row) -> Row:
        scorer, prompt = self._scorer, self._scorer.asked
        values = scorer.values(sample)
        if isinstance(values, str):
            return self.nothing(values)
        text, url, picture = prompt.fill(sample["uid"], values), None, ""
        if prompt.image:
            data, form = image_bytes(sample["encoded"], sample["image"], scorer.max_side)
            picture, url = hashlib.blake2b(data, digest_size=16).hexdigest(), data_url(data, form)
        settings = scorer.settings(sample["uid"])
        body = {"model": scorer.model_name, "messages": prompt.messages(text, url), **settings}
        try:
            answer, _ = await self.answer(
                sample, f"{picture}\0{text}\0{settings.get('seed', '')}", "chat/completions", body,
                read=read_answer, save=_saved, restore=_restored,
            )  # fmt: skip
        except Rejected as error:
            return self.nothing(f"{REJECTED}: {error}")
        checked = check_answer(answer.text, answer.finish, prompt.answer)
        return {"text": checked.text, "raw": answer.text, REASON: checked.reason}

    def nothing(self, reason: str) -> Row:
        return {**dict.fromkeys(_COLUMNS), REASON: reason}


def _saved(answer: Answer) -> dict[str, Any]:
    return {"text": answer.text, "finish": answer.finish}


def _restored(data: Any) -> Answer:
    return Answer(text=data["text"], finish=data["finish"])
