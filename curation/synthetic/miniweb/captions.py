"""Captions as the web has them: careless copies, other languages, and what stands in place of a description."""

import random
import re
from collections.abc import Mapping
from typing import Any, Final

from mmcorpus.filters.yaml_data import read_data

PHRASES: Final[dict[str, list[Any]]] = read_data(__package__, "captions.yaml")
LANGUAGES: Final[dict[str, dict[str, Any]]] = read_data(__package__, "languages.yaml")
"""By ISO 639-1 code."""


def small_edit(rng: random.Random, caption: str) -> str:
    """The caption as another site would have copied it: a word, the case or the punctuation differs."""
    edits = [
        caption.rstrip(".!") + rng.choice(PHRASES["endings"]),
        caption[:1].lower() + caption[1:].rstrip("."),
        "Image: " + caption,
        caption.replace(" ", "  ", 1).rstrip("."),
    ]
    edits += [re.sub(pattern, new, caption, count=1) for pattern, new in PHRASES["swaps"]]
    return rng.choice([edit for edit in edits if edit != caption])


def describe(kind: str, facts: Mapping[str, Any], code: str) -> str:
    """The picture's caption in the language of an ISO 639-1 code, made from the renderer's facts."""
    language = LANGUAGES[code]
    if kind != "scene":
        counted = facts["categories"] if kind == "chart" else facts.get("rows", ())
        return language[kind].format(time=facts.get("time"), count=len(counted))
    groups = [
        language["group"].format(
            count=group["count"], **{noun: language[noun][group[noun]] for noun in ("color", "shape", "place")}
        )
        for group in facts["groups"]
    ]
    return language["scene"].format(groups=language["joint"].join(groups))
