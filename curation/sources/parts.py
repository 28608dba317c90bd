"""Images that a conversation's turns name themselves: parts of chat messages, as the model servers' APIs have them."""

from collections.abc import Mapping
from typing import Any, Final

from mmcorpus.curation.sources.found import BAD_CONVERSATION, BadSample

_IMAGE_TYPES: Final = frozenset({"image", "image_url", "input_image"})
_IMAGE: Final = {"type": "image"}
_MARK: Final = "<image>"
_USERS: Final = ("human", "user")
_NAMES: Final = ("image", "image_url", "url", "path", "base64", "data", "source")


def conversation_images(value: Any) -> tuple[Any, list[str | None]]:
    """A conversation without the images in it, and what its parts call these, in order: a path, an address, base64, or
    None for a part that says only that an image stands there.

    Read are lists of turns, objects that hold one as `messages` or `conversations`, and objects of parallel lists; an
    object of `annotations` stays as it is (docs/packing.md). What a turn says is left to those who lay it out
    (`packing/turns.py`); nulls, which tables put where JSON has nothing, are taken out.

    Raises:
        BadSample: it is no list of turns.
    """
    if isinstance(value, Mapping) and isinstance(value.get("annotations"), list) and value["annotations"]:
        return value, []
    if isinstance(value, Mapping):
        value = next((value[name] for name in ("messages", "conversations", "conversation") if name in value), value)
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


def marks_image(turns: Any) -> bool:
    """Whether a user's turn of a conversation, as `conversation_images` gives it, says that an image stands there;
    annotations are always of one."""
    return isinstance(turns, Mapping) or any(map(_is_marked, map(_of_user, turns)))


def _of_user(turn: Mapping[str, Any]) -> Any:
    """What a turn's user says; None of the others' turns."""
    role = turn.get("from", turn.get("role"))
    if role is None:
        return turn.get("user")
    return turn.get("value", turn.get("content")) if str(role).lower() in _USERS else None


def _is_marked(said: Any) -> bool:
    parts = said if isinstance(said, list) else [said]
    texts = [part.get("text") if isinstance(part, Mapping) else part for part in parts]
    return _IMAGE in parts or any(isinstance(text, str) and _MARK in text for text in texts)


def _turn(turn: Any, named: list[str | None]) -> Any:
    if not isinstance(turn, Mapping):
        raise BadSample(BAD_CONVERSATION, f"a turn is {type(turn).__name__}, not an object")
    told = {name: said for name, said in turn.items() if said is not None}
    for name in ("content", "value"):
        if isinstance(told.get(name), list):
            told[name] = [_part(part, named) for part in told[name]]
    return told


def _part(part: Any, named: list[str | None]) -> Any:
    if not isinstance(part, Mapping):
        return part
    told = {name: said for name, said in part.items() if said is not None}
    if told.get("type") not in _IMAGE_TYPES:
        return told
    named.append(_name(told))
    return dict(_IMAGE)


def _name(value: Any) -> str | None:
    """What a part calls its image."""
    if isinstance(value, str):
        return value or None
    if isinstance(value, Mapping):
        return next((found for name in _NAMES if (found := _name(value.get(name))) is not None), None)
    return None
