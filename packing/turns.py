"""Conversations as they are published: LLaVA's and ShareGPT's turns, chat messages, question and answer pairs.

Whatever the form, an image is written `<image>` where it stands among the text.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from mmcorpus.packing.chat import ANSWERS, Turns

IMAGE_MARK: Final = "<image>"
"""How LLaVA's conversations write the place of an image."""

_ROLES: Final = {
    **dict.fromkeys(("human", "user"), "user"),
    **dict.fromkeys(("gpt", "assistant", "chatgpt", "bard", "bing", "claude", "model", "bot"), ANSWERS),
    **dict.fromkeys(("system", "developer"), "system"),
}
"""Of LLaVA, ShareGPT (which names the assistant that was asked), OpenAI (`developer`), Gemini and Gemma (`model`)."""
_TOOLS: Final = frozenset({"tool", "function", "function_call", "function-call", "observation", "ipython"})
_SAID: Final = ("value", "content", "parts")
"""Where a turn has what it says."""
_GEMINI_TEXT: Final = frozenset({"text", "thoughtSignature", "thought_signature"})
_LISTS: Final = ("messages", "conversations", "conversation", "contents")
"""The keys of an object that holds the list."""


def parse_conversation(conversations: Any) -> Turns:
    """A conversation's turns, from JSON text or parsed.

    Read are `[{"from": "human"|"gpt"|"system", "value": …}, …]` (LLaVA, ShareGPT); `[{"role": …, "content": …}, …]`,
    the content a text or a list of parts (`{"type": "text", "text": …}`, `{"type": "image", …}`); `[{"role": …,
    "parts": [{"text": …}, {"type": "image"}]}, …]` (Gemini); `[{"user": …, "assistant": …}, …]` (The Cauldron,
    FineVision); and an object that holds one of these as `messages`, `conversations` or `contents`. Raises ValueError
    for anything else, for turns of tools, and for a conversation without an answer to learn from.
    """
    if isinstance(conversations, str):
        try:
            conversations = json.loads(conversations)
        except (ValueError, RecursionError) as error:
            raise ValueError(f"conversations is not JSON: {error}") from None
    if isinstance(conversations, Mapping):
        conversations = next((conversations[name] for name in _LISTS if name in conversations), None)
    if not isinstance(conversations, Sequence) or isinstance(conversations, str):
        raise ValueError("conversations is not a list of turns")
    turns: Turns = []
    for number, turn in enumerate(conversations):
        turns += _turns(number, turn)
    if not any(role == ANSWERS and text.strip() for role, text in turns):
        raise ValueError("no turn of the assistant says anything, so there is nothing to learn")
    return turns


def count_marks(turns: Turns) -> int:
    """How many images the user's turns mark."""
    return sum(text.count(IMAGE_MARK) for role, text in turns if role == "user")


def with_marks(turns: Turns, image_count: int) -> Turns:
    """The turns with a mark for each image at least: those that are missing open the first user turn, a line each."""
    missing = image_count - count_marks(turns)
    if missing <= 0:
        return turns
    place = next((number for number, (role, _) in enumerate(turns) if role == "user"), None)
    if place is None:
        place = int(turns[0][0] == "system")
        turns = [*turns[:place], ("user", ""), *turns[place:]]
    return [*turns[:place], ("user", f"{IMAGE_MARK}\n" * missing + turns[place][1]), *turns[place + 1 :]]


def _turns(number: int, turn: Any) -> Turns:
    """A turn, or a question and its answer."""
    if not isinstance(turn, Mapping):
        raise ValueError(f"turn {number} is not an object with 'from' and 'value', or 'role' and 'content'")
    if "from" not in turn and "role" not in turn and "user" in turn and "assistant" in turn:
        return [("user", _text(number, turn["user"])), (ANSWERS, _text(number, turn["assistant"]))]
    name = str(turn.get("from", turn.get("role"))).lower()
    if name in _TOOLS or turn.get("tool_calls") or turn.get("function_call"):
        raise ValueError(f"turn {number} is a tool's or calls one; conversations with tools are not packed")
    role = _ROLES.get(name)
    if role is None:
        raise ValueError(f"turn {number} needs 'from' (human, gpt or system) or 'role' (user, assistant or system)")
    return [(role, _text(number, next((turn[key] for key in _SAID if key in turn), None)))]


def _text(number: int, content: Any) -> str:
    """What a turn says."""
    if isinstance(content, str):
        return content
    if not isinstance(content, Sequence):
        raise ValueError(
            f"turn {number} says nothing: its 'value', 'content' or 'parts' is no text and no list of parts"
        )
    return "".join(_part(number, part) for part in content)


def _part(number: int, part: Any) -> str:
    if isinstance(part, str):
        return part
    part = part if isinstance(part, Mapping) else {}
    kind = part.get("type")
    untyped = kind is None and part.keys() <= _GEMINI_TEXT  # one with `thought` is none of what is said
    if (kind in ("text", "input_text", "output_text") or untyped) and isinstance(part.get("text"), str):
        return str(part["text"])
    if kind in ("image", "image_url", "input_image"):
        return IMAGE_MARK
    what = f"its type is {kind!r}" if kind else f"it has {', '.join(map(str, part)) or 'nothing'}"
    raise ValueError(f"turn {number} has a part that is neither text nor image ({what})")
