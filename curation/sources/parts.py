"""Conversations of rows: the images that turns name themselves (parts of chat messages, as the model servers' APIs have
them), and turns made of columns with a question and its answer."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

from mmcorpus.curation.sources.found import BAD_CONVERSATION, BadSample

_IMAGE_TYPES: Final = frozenset({"image", "image_url", "input_image"})
_IMAGE: Final = {"type": "image"}
_MARK: Final = "<image>"
_USERS: Final = ("human", "user")
_SAID: Final = ("value", "content", "parts")
"""Where a turn has what it says."""
_ASKED: Final = (
    ("instruction", "output"), ("query", "response"), ("instruction", "response"), ("prompt", "response"),
    ("prompt", "completion"), ("question", "answer"),
)  # fmt: skip
_BESIDE: Final = ("input", "system", "history")
"""Alpaca's columns, and ms-swift's, that say more about a question."""
GEMINI: Final = "contents"
"""Gemini's name for the turns; elsewhere it is a text."""
SYSTEM: Final = ("system", "systemInstruction", "system_instruction")
"""What a row of turns calls its system turn beside them: LLaMA-Factory's, and Gemini's."""
_INLINE: Final = ("inlineData", "inline_data")
_FILE: Final = ("fileData", "file_data")
_MIME: Final = ("mimeType", "mime_type", "media_type")
"""Beside `data` that is base64: Gemini's and Anthropic's."""
_NAMES: Final = (
    "image", "image_url", "url", "path", "base64", "data", "source", *_INLINE, *_FILE, "fileUri", "file_uri",
)  # fmt: skip


def conversation_images(value: Any) -> tuple[Any, list[str | None]]:
    """A conversation without the images in it, and what its parts call these, in order: a path, an address, base64, or
    None for a part that says only that an image stands there.

    Read are lists of turns, objects that hold one as `messages`, `conversations` or `contents` (Gemini's, whose turns
    have `parts`), and objects of parallel lists; an object of `annotations` stays as it is (docs/packing.md). What a
    turn says is left to those who lay it out (`packing/turns.py`); nulls, which tables put where JSON has nothing, are
    taken out.

    Raises:
        BadSample: it is no list of turns.
    """
    if isinstance(value, Mapping) and isinstance(value.get("annotations"), list) and value["annotations"]:
        return value, []
    if isinstance(value, Mapping):
        lists = ("messages", "conversations", "conversation", GEMINI)
        value = next((value[name] for name in lists if name in value), value)
    if isinstance(value, Mapping):
        value = _by_turn(value)
    if not isinstance(value, list) or not value:
        raise BadSample(BAD_CONVERSATION, "there is no list of turns")
    named: list[str | None] = []
    return [_turn(turn, named) for turn in value], named


def _by_turn(value: Mapping[Any, Any]) -> list[dict[Any, Any]] | None:
    """The turns of an object of parallel lists, as Hugging Face stores a `Sequence` of objects; None for others."""
    told = {name: said for name, said in value.items() if said is not None}
    alike = all(isinstance(said, list) for said in told.values()) and len({len(said) for said in told.values()}) == 1
    if not alike or not {"from", "role", "user"} & told.keys():
        return None
    return [dict(zip(told, turn, strict=True)) for turn in zip(*told.values(), strict=True)]


def with_system(turns: Any, said: Any) -> Any:
    """Turns, opened by what a row has as its system turn beside them, a text or Gemini's object of `parts`, if none of
    theirs is one."""
    said = said.get("parts") if isinstance(said, Mapping) else said if isinstance(said, str) else None
    if not said or not isinstance(turns, list):
        return turns
    roles = {str(turn.get("from", turn.get("role"))).lower() for turn in turns}
    return turns if roles & {"system", "developer"} else [{"role": "system", "content": said}, *turns]


def question_columns(names: Collection[str]) -> list[str]:
    """Of a row without turns, the columns of a question, its answer and what belongs to them (Alpaca's `instruction`,
    `output`, `input`; ms-swift's `query`, `response`, `system`, `history`); none where there are no such."""
    for question, answer in _ASKED:
        if question in names and answer in names:
            return [question, answer, *(name for name in _BESIDE if name in names)]
    return []


def asked_turns(row: Mapping[str, Any], columns: Sequence[str]) -> list[dict[str, Any]] | None:
    """The turns of a row's question and answer, in the columns that `question_columns` found; None where either is
    missing. `input` is what the question is about, below it; `history` has the questions and answers before.

    Raises:
        BadSample: one of them is no text.
    """
    question, answer = (_said(row, name) for name in columns[:2])
    more, system = (_said(row, name) if name in columns else None for name in ("input", "system"))
    before = (row.get("history") if "history" in columns else None) or []
    if question is None or answer is None:
        return None
    if not isinstance(before, list) or not all(isinstance(pair, list) and len(pair) == 2 for pair in before):
        raise BadSample(BAD_CONVERSATION, "history is no list of questions and answers")
    asked = [*before, ["\n".join(filter(None, (question, more))), answer]]
    turns = [turn for user, reply in asked for turn in ({"role": "user", "content": user}, _reply(reply))]
    return [{"role": "system", "content": system}, *turns] if system else turns


def _reply(text: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _said(row: Mapping[str, Any], name: str) -> str | None:
    value = row.get(name)
    if value is not None and not isinstance(value, str):
        raise BadSample(BAD_CONVERSATION, f"{name} is {type(value).__name__}, not a text")
    return value


def marks_image(turns: Any) -> bool:
    """Whether a user's turn of a conversation, as `conversation_images` gives it, says that an image stands there;
    annotations are always of one."""
    return isinstance(turns, Mapping) or any(map(_is_marked, map(_of_user, turns)))


def _of_user(turn: Mapping[str, Any]) -> Any:
    """What a turn's user says; None of the others' turns."""
    role = turn.get("from", turn.get("role"))
    if role is None:
        return turn.get("user")
    return next((turn[name] for name in _SAID if name in turn), None) if str(role).lower() in _USERS else None


def _is_marked(said: Any) -> bool:
    parts = said if isinstance(said, list) else [said]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return _IMAGE in parts or any(isinstance(text, str) and _MARK in text for text in texts)


def _turn(turn: Any, named: list[str | None]) -> Any:
    if not isinstance(turn, Mapping):
        raise BadSample(BAD_CONVERSATION, f"a turn is {type(turn).__name__}, not an object")
    told = {name: said for name, said in turn.items() if said is not None}
    for name in _SAID:
        if isinstance(told.get(name), list):
            told[name] = [_part(part, named) for part in told[name]]
    return told


def _part(part: Any, named: list[str | None]) -> Any:
    if not isinstance(part, Mapping):
        return part
    told = {name: said for name, said in part.items() if said is not None}
    if told.get("type") not in _IMAGE_TYPES and not _is_gemini_image(told):
        return told
    named.append(_name(told))
    return dict(_IMAGE)


def _is_gemini_image(part: Mapping[Any, Any]) -> bool:
    """Whether a part without a type holds an image, or names its file; sounds and films say what they are."""
    held = next((part[name] for name in (*_INLINE, *_FILE) if name in part), None)
    if "type" in part or not isinstance(held, Mapping):
        return False
    kind = next((held[name] for name in _MIME if held.get(name)), None)
    return not kind or str(kind).lower().startswith("image/")


def _name(value: Any) -> str | None:
    """What a part calls its image."""
    if isinstance(value, str):
        return value or None
    if not isinstance(value, Mapping):
        return None
    data = value.get("data")
    if isinstance(data, str) and data and not data.startswith("data:") and any(value.get(name) for name in _MIME):
        return f"data:;base64,{data}"
    return next((found for name in _NAMES if (found := _name(value.get(name))) is not None), None)
