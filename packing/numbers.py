"""The ranges of settings that are numbers, and what is said of one that is out of them, or no number."""

from collections.abc import Mapping
from typing import Any, Final

MOST_POSITIONS: Final = 1 << 22
"""Of a sequence: what is counted by length is held as an array of so many."""
MOST_IMAGES: Final = 1 << 16
MOST_CROPS: Final = 1 << 20
MOST_COPIES: Final = 1 << 20
"""More of one sample than anybody asks for."""
_SHARE: Final = 1e-9, 1e9
"""Shares are relative to each other: beyond this they are a mistake, and their sum would lose the small ones."""

WHOLE: Final[Mapping[str, tuple[int, int]]] = {
    "context_length": (2, MOST_POSITIONS),
    "tokens_per_image": (1, MOST_POSITIONS),
    "max_images": (1, MOST_IMAGES),
    "max_crops": (1, MOST_CROPS),
    "window_shards": (1, 2**31 - 1),
    "seed": (0, 2**63 - 1),
    "sequences_per_shard": (1, 10**6),
    "image_side": (1, 1 << 14),
    "render.variants": (1, 1024),
    "render.hint_characters": (1, 10**6),
}
"""By setting of a pack, the least and the largest whole number."""


def whole(name: str, value: Any, least: int | None = None, most: int | None = None) -> None:
    """Raise ValueError unless `pack.<name>` is a whole number from `least` to `most`, by default those of WHOLE."""
    low, high = WHOLE[name] if least is None or most is None else (least, most)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise ValueError(f"pack.{name} is {value!r}; give a whole number from {low} to {high}")


def within(name: str, value: Any, least: float, most: float) -> None:
    """Raise ValueError unless `pack.<name>` is a number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise ValueError(f"pack.{name} is {value!r}; give a number from {least:g} to {most:g}")


def share(name: str, value: Any) -> None:
    """Raise ValueError unless `pack.<name>` is a share of a mixture; shares need not add up to 1."""
    within(name, value, *_SHARE)
