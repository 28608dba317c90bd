"""Every way in which a row goes wrong (or looks wrong and is fine), with the truth that it creates.

A corruption is an entry in corruptions.yaml, which says what a sound pipeline should make of its rows, and a function
of its name that changes a clean page in place (or an answer, in the entry).
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal

from mmcorpus.curation.synthetic.miniweb.corruptions import answers, captions, copies, pictures
from mmcorpus.curation.synthetic.miniweb.page import Page
from mmcorpus.filters.yaml_data import read_data

__all__ = ["CORRUPTIONS", "Corruption"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Corruption:
    """A corruption and the fate of its rows under the demo's rules; the fields are those of corruptions.yaml."""

    apply: Callable[[Page], None]
    weight: int
    stage: Literal["list", "download", "select"] | None = None
    rule: str | None = None
    partner: Literal["copy", "repeat", "swap"] | None = None
    waits: bool = False
    note: str | None = None


_FUNCTIONS: Final = vars(captions) | vars(copies) | vars(pictures) | vars(answers)


def _read(name: str, entry: dict[str, Any]) -> Corruption:
    applied = next((key for key in ("answer", "route") if key in entry), name)
    fields = {key: value for key, value in entry.items() if key != applied}
    return Corruption(apply=functools.partial(_FUNCTIONS[applied], **entry.get(applied, {})), **fields)


CORRUPTIONS: Final = {name: _read(name, entry) for name, entry in read_data(__package__, "corruptions.yaml").items()}
"""By name; the name is the truth's `spoil`."""
