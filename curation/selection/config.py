"""The settings of a selection: what to keep, and how often."""

import json
from dataclasses import dataclass, field
from typing import Any, ClassVar

from mmcorpus.curation.selection.expression import columns_of, parse, split_clauses
from mmcorpus.filters import PROFILES


@dataclass(frozen=True, kw_only=True)
class SelectConfig:
    """What to keep. Clauses decide in order: profile, keep, require, intersect, subtract; then union, max_samples,
    held-out."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    keep: str | tuple[str, ...] = ()
    """Expressions that must all be true, e.g. `image.min_side >= 200 and caption.words > 2`; empty keeps everything."""
    profile: str | None = None
    """A published filter by name (`mmcorpus profiles` shows them), whose clauses come first, e.g. `mm1_images`."""
    intersect: tuple[str, ...] = ()
    """Selections (.parquet, .npy, .txt) that a sample must be in; it gets the smallest of their counts."""
    subtract: tuple[str, ...] = ()
    """Selections that a sample must not be in."""
    union: tuple[str, ...] = ()
    """Selections whose samples are kept whatever the clauses say, with at least the count they have there."""
    require: str | tuple[str, ...] = ()
    """Of the nodes of documents: expressions that must be true as well, and that drop the whole document where one of
    its nodes, kept or not, makes one false. A node for which one cannot be decided is dropped alone."""
    upsample: dict[str, int] = field(default_factory=dict)
    """Expression to factor: samples that meet it are counted so many times more; of several the largest factor."""
    max_samples: int | None = None
    """Keep at most so many, drawn by a hash of the uid; None for no limit."""
    heldout_fraction: float = 0.0
    """Share in [0, 1) of what is kept that goes to the held-out selection instead, drawn by a hash of the uid."""
    heldout_by: str | None = None
    """A column of hashes (32 hex digits) whose equals stay on one side, e.g. `same_image.cluster`; None: the uid."""
    salt: str = ""
    """Changes which samples `max_samples` and `heldout_fraction` draw."""

    def __post_init__(self) -> None:
        if self.profile is not None and self.profile not in PROFILES:
            raise ValueError(f"profile: unknown {self.profile!r}; there are {', '.join(PROFILES)}")
        for text in (*self._own, *self.upsample):
            parse(text)
        for text, factor in self.upsample.items():
            if factor < 1:
                raise ValueError(f"upsample: the factor of {text!r} is {factor}; use 1 or more, and `keep` to drop")
        if self.max_samples is not None and self.max_samples < 1:
            raise ValueError(f"max_samples: {self.max_samples} keeps nothing; use 1 or more, or null for no limit")
        if not 0 <= self.heldout_fraction < 1:
            raise ValueError(f"heldout_fraction: {self.heldout_fraction} is not in [0, 1)")

    @property
    def clauses(self) -> tuple[str, ...]:
        """Every condition in order, one at a time."""
        published = PROFILES[self.profile].clauses if self.profile else ()
        return (
            *(clause for text in (*published, *_texts(self.keep)) for clause in split_clauses(text)),
            *self.required,
            *(f"selected({json.dumps(path, ensure_ascii=False)})" for path in self.intersect),
            *(f"not selected({json.dumps(path, ensure_ascii=False)})" for path in self.subtract),
        )

    @property
    def required(self) -> tuple[str, ...]:
        """The conditions on whole documents, one at a time."""
        return tuple(clause for text in _texts(self.require) for clause in split_clauses(text))

    @property
    def _own(self) -> tuple[str, ...]:
        return (*_texts(self.keep), *_texts(self.require))

    @property
    def columns(self) -> tuple[str, ...]:
        """The score columns that deciding needs, without `uid`."""
        named = [name for text in (*self.clauses, *self.upsample) for name in columns_of(text)]
        named += [self.heldout_by] if self.heldout_by else []
        return tuple(dict.fromkeys(name for name in named if name != "uid"))


def _texts(given: str | tuple[str, ...]) -> tuple[str, ...]:
    """One expression or several, without blank ones."""
    return tuple(text for text in ((given,) if isinstance(given, str) else given) if text.strip())
