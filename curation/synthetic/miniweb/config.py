"""The configuration of a mini-web."""

import math
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import ClassVar, Final, Literal

from mmcorpus.curation.synthetic.miniweb.corruptions import CORRUPTIONS
from mmcorpus.curation.synthetic.render import BASIC_KINDS

KINDS: Final = (*BASIC_KINDS, "dial")
"""Of its pictures: those that need no engine, and the plainest of clocks where it is asked for."""
LONGEST_SIDE: Final = 2048
_PAGES_A_PAIR: Final = 1.5
"""More pages than so many a clean pair would show each picture in more than ten places."""


@dataclass(frozen=True, kw_only=True)
class MiniWebConfig:
    """A generated site: how many rows, how many of them corrupted, and how."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    pairs: int = 1500
    """Rows of `pairs.parquet`, corrupted ones included."""
    instructions: int = 300
    """Rows of `instructions.parquet`; none of them is corrupted."""
    pages: int = 0
    """Web pages around the pairs' pictures, as WARC files; the share `spoil` of them is corrupted."""
    seed: int = 0
    """Everything is drawn from it; another seed shares no picture."""
    spoil: float = 0.35
    """The corrupted share of the pairs, 0-0.9. The originals that copies and swaps need come from the clean rest."""
    kinds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(BASIC_KINDS, 1.0))
    """The kinds of pictures, by weight: `{scene: 7, clock: 1}` shows seven scenes for each clock, and nothing else."""
    instruction_kinds: dict[str, float] = field(default_factory=dict)
    """Those of `instructions`, where they differ; empty: as `kinds`."""
    captions: Literal["varied", "short"] = "varied"
    """`short`: each picture's shortest true caption, nearly all of it things to be seen: a tiny model learns from
    far fewer of them."""
    questions: Literal["all", "short", "seen", "annotations"] = "all"
    """Of `instructions`. `short`: four questions with short answers about each picture, in an order drawn for it, and
    a description, but none that asks to point: a tiny model learns to look from some thousands of them. `seen`:
    likewise, but nothing that small print alone answers (a chart is asked about by its colours, which stand for the
    names on it), and every clock is asked for the time: for models that see thumbnails. `annotations`: in Molmo's
    form, each a branch of a pack (docs/packing.md): captions, transcripts, the questions, points."""
    by_kind: bool = False
    """List the pairs of each kind by themselves as well (`pairs.clock.parquet`): sources that a recipe can mix, or
    learn from one after the other."""
    weights: dict[str, float] = field(default_factory=dict)
    """Relative shares of corruptions, by name, in place of their own; 0 leaves one out, others come at least once."""
    waits: int = 4
    """At most so many rows of each corruption that makes a client wait (`slow`, `drip`), however large the site."""
    sides: tuple[int, int] = (208, 512)
    """Shortest and longest side of clean pictures in pixels; aspect ratios reach from 1:2 to 2:1."""

    @property
    def listed_kinds(self) -> tuple[str, ...]:
        """The kinds whose pairs have a list of their own."""
        return tuple(kind for kind, weight in self.kinds.items() if weight and self.by_kind)

    def __post_init__(self) -> None:
        for name in ("pairs", "instructions", "pages", "waits"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}: must be 0 or more")
        if not 0 <= self.spoil <= 0.9:
            raise ValueError(f"spoil is {self.spoil}: must be a share from 0 to 0.9")
        if self.pages > _PAGES_A_PAIR * self.pairs * (1 - self.spoil) + 1e-6:
            raise ValueError(
                f"pages is {self.pages} with pairs {self.pairs}: too few pictures, each would stand on too many pages;"
                f" give at least {math.ceil(self.pages / _PAGES_A_PAIR / (1 - self.spoil))} pairs"
            )
        known: dict[str, tuple[Collection[str], str]] = {
            "kinds": (KINDS, "cannot be rendered"), "instruction_kinds": (KINDS, "cannot be rendered"),
            "weights": (CORRUPTIONS, "no such corruption"),
        }  # fmt: skip
        for field_name, (names, fault) in known.items():
            for name, weight in getattr(self, field_name).items():
                if name not in names:
                    raise ValueError(f"{field_name} names {name!r}: {fault}; there are {', '.join(names)}")
                if weight < 0:
                    raise ValueError(f"{field_name}.{name} is {weight}: must be 0 or more")
        if not any(self.kinds.values()):
            raise ValueError(f"kinds is {self.kinds}: at least one must have a weight above 0")
        if self.instruction_kinds and not any(self.instruction_kinds.values()):
            raise ValueError(
                f"instruction_kinds is {self.instruction_kinds}: give one a weight above 0, or leave it out"
            )
        shortest, longest = self.sides
        if not 64 <= shortest <= longest <= LONGEST_SIDE:
            raise ValueError(f"sides is {self.sides}: must be (shortest, longest) from 64 to {LONGEST_SIDE} pixels")
