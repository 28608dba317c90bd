"""Every way in which a page goes wrong (or looks wrong and is fine), with the fate that a sound pipeline gives it."""

import functools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final, Literal

from mmcorpus.curation.synthetic.miniweb.pages import composing, sending
from mmcorpus.curation.synthetic.miniweb.pages.content import Draft
from mmcorpus.curation.synthetic.miniweb.pages.templates import Desk
from mmcorpus.filters.yaml_data import read_data


@dataclass(frozen=True, kw_only=True, slots=True)
class PageCorruption:
    """A corruption and the fate of its pages; the fields are those of corruptions.yaml."""

    compose: Callable[[Desk], None] = lambda desk: None
    send: Callable[[Draft, random.Random], None] = lambda draft, rng: None
    weight: int = 1
    expect: Literal["kept", "dropped", "no_images"] = "dropped"
    stage: str | None = None
    rule: str | None = None
    partner: Literal["capture", "copy", "images"] | None = None
    template: str | None = None
    pictures: int | None = None
    languages: Sequence[str] = ("en",)
    host: str | None = None
    page: bool = True
    note: str | None = None


def _function(module: ModuleType, entry: str | dict[str, dict[str, Any]]) -> Any:
    """A function of a module by its name, with arguments where there are some."""
    if isinstance(entry, str):
        return getattr(module, entry)
    ((name, arguments),) = entry.items()
    return functools.partial(getattr(module, name), **arguments)


def _read(entry: dict[str, Any]) -> PageCorruption:
    modules = {"compose": composing, "send": sending}
    functions = {key: _function(module, entry[key]) for key, module in modules.items() if key in entry}
    return PageCorruption(**{**entry, **functions})


PAGE_CORRUPTIONS: Final = {name: _read(entry) for name, entry in read_data(__package__, "corruptions.yaml").items()}
"""By name; the name is the truth's `spoil`."""
