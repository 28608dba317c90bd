"""JSON that others wrote, of bounded depth, so that what takes such a value apart may call itself a level at a time."""

import json
from typing import Any, Final

MAX_DEPTH: Final = 100
"""Lists and objects one in another."""


def json_value(text: str | bytes) -> Any:
    """What a JSON text says. Raises ValueError for what is none, or is nested more than `MAX_DEPTH` deep."""
    try:
        value = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    opened = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if opened > MAX_DEPTH and _is_deeper(value, MAX_DEPTH):
        raise _too_deep()
    return value


def _too_deep() -> ValueError:
    return ValueError(f"it is nested more than {MAX_DEPTH} deep")


def _is_deeper(value: Any, most: int) -> bool:
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else None
    return inside is not None and (most == 0 or any(_is_deeper(one, most - 1) for one in inside))
