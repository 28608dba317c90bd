"""cap F1: a served language model as the judge of captions (Molmo, Deitke et al. 2024, arXiv:2409.17146).

The judge breaks a generated caption and the reference captions of its image down into atomic statements, and says which
statements of each side follow from the other's. Precision is the share of the generated statements that do, recall that
of the references'. Answers are kept, so that none is paid twice: the statements of references serve all checkpoints.
"""

import hashlib
import importlib.resources
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import pyarrow as pa
import yaml

from mmcorpus.curation.store import storage
from mmcorpus.filters.mllm.answer import CUT_OFF, Answer
from mmcorpus.filters.mllm.scorer import read_answer
from mmcorpus.filters.plain_tokens import apart
from mmcorpus.filters.scorer import REASON
from mmcorpus.filters.serving import REJECTED, ModelClient, Questions, Rejected, Row, ServedScorer
from mmcorpus.filters.written.answer import NOT_JSON, json_list
from mmcorpus.filters.yaml_data import read_text

NO_STATEMENTS: Final = "no_statements"
"""The references say nothing that the judge can take apart."""
_PLACES: Final = {"statements": ("{caption}",), "match": ("{statements}", "{others}")}
_SHARD: Final = "captions"
_COLUMNS: Final = pa.schema({"precision": pa.float64(), "recall": pa.float64()})


@dataclass(frozen=True, kw_only=True, slots=True)
class Statements:
    """What the judge found of a caption."""

    precision: float | None = None
    """The share of its statements that follow from the references; None if it makes none."""
    recall: float | None = None
    """The share of the references' statements that follow from it."""
    reason: str | None = None
    """Why it could not be judged."""


@dataclass(frozen=True, kw_only=True)
class CaptionJudge(ServedScorer):
    """The judge of captions: a served language model, as scorers ask one."""

    prompts: str | None = None
    """A YAML file with prompts of your own, laid out as training/evaluation/cap_f1.yaml, which is used if null."""
    max_tokens: int = 2048
    """Longest answer, in tokens."""
    extra: dict[str, Any] | None = None
    """More keys of the request's body, e.g. `{chat_template_kwargs: {enable_thinking: false}}`."""

    name: ClassVar[str] = "cap_f1"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("uid", "shard", "caption")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens is {self.max_tokens}; give 1 or more")
        object.__setattr__(self, "_templates", _read_templates(self.prompts))

    @property
    def templates(self) -> dict[str, str]:
        """The two prompts."""
        templates: dict[str, str] = getattr(self, "_templates")  # noqa: B009
        return templates

    def schema(self) -> pa.Schema:
        return _COLUMNS

    def settings(self) -> dict[str, Any]:
        """All of a request but the model and the text."""
        return {"temperature": 0, "max_tokens": self.max_tokens, **(self.extra or {})}

    def parameters(self) -> dict[str, Any]:
        return {"prompts": self.templates, **self.settings(), "server": self.deciding()}

    def questions(self, client: ModelClient, model: str) -> "Judging":
        return Judging(self, client, model)

    def judged(self, captions: Sequence[str], references: Sequence[Sequence[str]]) -> list[Statements]:
        """What the judge finds of generated captions, each with the reference captions of its image.

        Raises:
            Unavailable: some got no answer for reasons that may pass; what was answered is kept for a rerun.
        """
        several = [json.dumps(list(texts)) for texts in references]
        uids = [hashlib.blake2b(f"{one}\0{text}".encode("utf-8", "replace"), digest_size=16).hexdigest()
                for one, text in zip(captions, several, strict=True)]  # fmt: skip
        columns = {"uid": uids, "shard": [_SHARD] * len(uids), "caption": captions, "references": references}
        found = self.load()(columns)
        rows = zip(found["precision"], found["recall"], found[REASON], strict=True)
        return [Statements(precision=precision, recall=recall, reason=reason) for precision, recall, reason in rows]


class Judging(Questions):
    """Four requests a caption: its statements, the references', and what of each follows from the other's."""

    def __init__(self, scorer: CaptionJudge, client: ModelClient, model: str) -> None:
        identity = [model, scorer.deciding(), scorer.settings()]
        super().__init__(scorer.connection(), scorer.client, client, identity, scorer.servers())
        self._scorer = scorer

    async def ask(self, sample: Row) -> Row:
        try:
            said = await self._statements(sample, [sample["caption"]])
            known = await self._statements(sample, sample["references"])
            if not known:
                return self.nothing(NO_STATEMENTS)
            right, covered = await self._follow(sample, said, known), await self._follow(sample, known, said)
        except _Unusable as error:
            return self.nothing(str(error))
        except Rejected as error:
            return self.nothing(f"{REJECTED}: {error}")
        precision = right / len(said) if said else None
        return {"precision": precision, "recall": covered / len(known), REASON: None}

    def nothing(self, reason: str) -> Row:
        return {**dict.fromkeys(_COLUMNS.names), REASON: reason}

    async def _statements(self, sample: Row, captions: Sequence[str]) -> list[str]:
        """The statements of some captions of one image, each once."""
        if not any(caption.strip() for caption in captions):
            return []
        found = await self._list(sample, "statements", {"{caption}": "\n\n".join(captions)})
        return list(dict.fromkeys(" ".join(one.split()) for one in found if isinstance(one, str) and one.strip()))

    async def _follow(self, sample: Row, statements: Sequence[str], others: Sequence[str]) -> int:
        """How many statements follow from others."""
        if not statements or not others:
            return 0
        numbered = "\n".join(f"{number}. {text}" for number, text in enumerate(statements, start=1))
        filled = {"{statements}": numbered, "{others}": "\n".join(f"- {text}" for text in others)}
        found = await self._list(sample, "match", filled)
        return len({one for one in found if type(one) is int and 1 <= one <= len(statements)})

    async def _list(self, sample: Row, name: str, values: Mapping[str, str]) -> list[Any]:
        """The JSON list that the judge answers a prompt with. Raises _Unusable for another answer."""
        places = re.compile("|".join(map(re.escape, values)))
        text = places.sub(lambda place: apart(values[place[0]]), self._scorer.templates[name])
        messages = [{"role": "user", "content": text}]
        body = {"model": self._scorer.model_name, "messages": messages, **self._scorer.settings()}
        answer, _ = await self.answer(
            sample, text, "chat/completions", body,
            read=read_answer, save=lambda one: {"text": one.text, "finish": one.finish},
            restore=lambda kept: Answer(text=kept["text"], finish=kept["finish"]),
        )  # fmt: skip
        if answer.finish == "length":
            raise _Unusable(CUT_OFF)
        found = json_list(answer.text)
        if found is None:
            raise _Unusable(NOT_JSON)
        return found


class _Unusable(Exception):
    """An answer of the judge is not of the form that was asked for; its text is the reason."""


def _read_templates(path: str | None) -> dict[str, str]:
    """The prompts of a file, or those that ship. Raises ValueError for what is not laid out as these."""
    name = path or "cap_f1.yaml"
    try:
        text = (
            importlib.resources.files(__package__).joinpath(name).read_text("utf-8")
            if path is None
            else storage.read_bytes(path).decode("utf-8")
        )
        data = read_text(text)
    except FileNotFoundError:
        raise ValueError(f"prompts: there is no file {path}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"prompts: {name} is not readable as YAML: {error}") from None
    if not isinstance(data, dict) or set(data) != set(_PLACES):
        raise ValueError(f"prompts: {name} must be a mapping of {' and '.join(_PLACES)}")
    for key, places in _PLACES.items():
        if not isinstance(data[key], str) or any(data[key].count(place) != 1 for place in places):
            raise ValueError(f"prompts: {key} in {name} must be a text that holds {' and '.join(places)} once")
    return data
