"""Which of a model's answers are taken: those that are whole, long enough, no refusal, and of the form that was asked.

A text is taken as it is written, without the quotes around it. Turns are questions with their answers: a JSON list of
objects, or an object that holds one, whatever stands around it; what is no such object is left out.
"""

import functools
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Literal

from mmcorpus.filters.language import LANGUAGES, load_predictor
from mmcorpus.filters.mllm.answer import CUT_OFF, EMPTY
from mmcorpus.filters.plain_tokens import clean

REFUSAL: Final = "refusal"
"""The model says that it will not, or cannot, or that there is nothing to see."""
TOO_SHORT: Final = "too_short"
TOO_LONG: Final = "too_long"
OTHER_LANGUAGE: Final = "other_language"
NOT_JSON: Final = "not_json"
TOO_FEW_TURNS: Final = "too_few_turns"

_THOUGHTS: Final = re.compile(r"\s*<think>.*?(?:</think>\s*|\Z)", re.DOTALL)
_FENCE: Final = re.compile(r"```[a-z]*\n(.*?)\n?```", re.DOTALL)
_QUOTES: Final = {'"': '"', "“": "”", "«": "»"}
_BEGINNING: Final = 200
"""Characters in which a refusal is looked for: what follows may speak of one."""
_REFUSALS: Final = (
    r"\W*(?:(?:i'm|i am|i’m) )?(?:(?:very|so) )?sorry,? (?:but )?(?:i|as|there|no|the image)\b",
    r"\W*(?:unfortunately,? )?i (?:cannot|can't|can’t|can not|won't|will not|am (?:not able|unable) to)\b",
    r"\W*(?:unfortunately,? )?(?:i'm|i’m) (?:not able|unable) to\b",
    r"\W*there (?:is|was) no (?:\w+ )?(?:image|caption|description)\b",
    r"\W*i (?:do not|don't|don’t) (?:see|have) (?:any|an|the|access to) (?:\w+ )?(?:image|caption|description)\b",
    r".*\bas an? (?:ai|artificial intelligence|(?:large )?language model)(?: \w+){0,2},? (?:i|my)\b",
)


@dataclass(frozen=True, kw_only=True, slots=True)
class AnswerRules:
    """What an answer must be."""

    form: Literal["text", "turns"] = "text"
    """A text; or turns, a JSON list of objects that hold `keys`."""
    keys: tuple[str, ...] = ("question", "answer")
    """Of each turn: the first is asked, the last is what is answered with. Others stay in the answer as it was
    written: a draft that the last one edits, say."""
    min_characters: int = 1
    """Of the text; of turns, of each answer."""
    max_characters: int = 20_000
    """Likewise."""
    min_turns: int = 1
    """Good ones."""
    max_turns: int = 100
    """Those after them are left out."""
    language: str | None = None
    """The most likely language, a code of the scorer `language` (`en`); null for any."""
    refusals: tuple[str, ...] = ()
    """Regular expressions that a refusal begins with, besides the usual English ones; case is no matter."""

    def __post_init__(self) -> None:
        if self.form not in ("text", "turns"):
            raise ValueError(f"form is {self.form!r}; give 'text' or 'turns'")
        if len(self.keys) < 2 or len(set(self.keys)) != len(self.keys):
            raise ValueError(f"keys is {list(self.keys)}; give two or more, each once: the question's, the answer's")
        for least, most in (("min_characters", "max_characters"), ("min_turns", "max_turns")):
            if not 1 <= getattr(self, least) <= getattr(self, most):
                raise ValueError(f"{least} is {getattr(self, least)}; give 1 or more, and no more than {most}")
        if self.language is not None and self.language not in LANGUAGES:
            raise ValueError(f"language is {self.language!r}; give a code such as en, or null")
        for pattern in self.refusals:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"refusals: {pattern!r} is no regular expression: {error}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class Checked:
    """The text that is kept, or the reason why there is none."""

    text: str | None = None
    """As it is to be used; of turns, LLaVA's conversation as JSON."""
    reason: str | None = None


def check_answer(said: str, finish: str | None, rules: AnswerRules) -> Checked:
    """The text in an answer; `finish` is why the server ended it (`stop`, `length`)."""
    text = _THOUGHTS.sub("", said, count=1).strip() if said.lstrip().startswith("<think>") else said.strip()
    if not text:
        return Checked(reason=EMPTY)
    if finish == "length":
        return Checked(reason=CUT_OFF)
    if _refuses(text, rules):
        return Checked(reason=REFUSAL)
    return _text(text, rules) if rules.form == "text" else _turns(text, rules)


def _text(text: str, rules: AnswerRules) -> Checked:
    inside = text[1:-1]
    if len(text) > 2 and _QUOTES.get(text[0]) == text[-1] and text[0] not in inside and text[-1] not in inside:
        text = inside.strip()
    reason = _wrong_length(text, rules) or _wrong_language(text, rules)
    return Checked(reason=reason) if reason else Checked(text=text)


def _turns(text: str, rules: AnswerRules) -> Checked:
    found = json_list(text)
    if found is None:
        return Checked(reason=NOT_JSON)
    first, last = rules.keys[0], rules.keys[-1]
    told = ((turn[first].strip(), turn[last].strip()) for turn in found if _is_turn(turn, rules))
    usable = ((asked, said) for asked, said in told if not _wrong_length(said, rules) and not _refuses(said, rules))
    good = list(itertools.islice(usable, rules.max_turns))
    if len(good) < rules.min_turns:
        return Checked(reason=f"{TOO_FEW_TURNS}: {len(good)} of {len(found)} can be used")
    if (reason := _wrong_language(" ".join(f"{asked} {said}" for asked, said in good), rules)) is not None:
        return Checked(reason=reason)
    turns = [{"from": who, "value": value} for turn in good for who, value in zip(("human", "gpt"), turn, strict=True)]
    return Checked(text=clean(json.dumps(turns, ensure_ascii=False)))


def _is_turn(turn: Any, rules: AnswerRules) -> bool:
    """Whether it says something under each key."""
    return isinstance(turn, dict) and all(isinstance(turn.get(k), str) and turn[k].strip() for k in rules.keys)


def json_list(text: str) -> list[Any] | None:
    """The JSON list that an answer is or holds, an object alone as a list of it; None if there is none."""
    for part in _candidates(text):
        try:
            found = json.loads(part)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, dict):
            lists = [value for value in found.values() if isinstance(value, list)]
            found = lists[0] if len(lists) == 1 else [found]
        if isinstance(found, list):
            return found
    return None


def _candidates(text: str) -> Iterator[str]:
    """What may be the JSON: all, what stands in a code fence, from the first bracket to the last."""
    yield text
    if (fenced := _FENCE.search(text)) is not None:
        yield fenced[1]
    for opening, closing in ("[]", "{}"):
        start, end = text.find(opening), text.rfind(closing)
        if 0 <= start < end:
            yield text[start : end + 1]


def _refuses(text: str, rules: AnswerRules) -> bool:
    beginning = text[:_BEGINNING].lower()
    return any(re.match(pattern, beginning, re.IGNORECASE) for pattern in (*_REFUSALS, *rules.refusals))


def _wrong_length(text: str, rules: AnswerRules) -> str | None:
    if len(text) < rules.min_characters:
        return f"{TOO_SHORT}: {len(text)} characters"
    return f"{TOO_LONG}: {len(text)} characters" if len(text) > rules.max_characters else None


def _wrong_language(text: str, rules: AnswerRules) -> str | None:
    if rules.language is None:
        return None
    code = next(iter(_predictor()(text)), "none")
    return f"{OTHER_LANGUAGE}: {code}" if code != rules.language else None


_predictor: Final = functools.cache(load_predictor)
"""The language model, loaded once a process."""
