"""The mixture: how often the samples of each source are used, so that the sources have their shares.

A share is of positions, of samples, or of sequences. Of sequences a source has as many as it would fill by itself, by
whichever limit is scarcest: captions of which sixteen fill the images of a sequence to two thirds of its positions
count half as much again as by positions.

Example: source a has 100 positions, b 300, shares 1 : 1, the whole keeps its size. Each is to have 200, so a sample of
a is used twice, and two in three of b.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt

from mmcorpus.packing import numbers

MixBy = Literal["positions", "samples", "sequences"]
MixOver = Literal["refuse", "warn", "cap"]


@dataclass(frozen=True, kw_only=True)
class MixGroup:
    """Sources that share a rate by the roots of their sizes, as Molmo's do (allenai/molmo, `data/__init__.py`)."""

    __pydantic_config__: ClassVar[dict[str, Any]] = {"extra": "forbid"}

    rate: float
    """The group's share; those of all groups need not add up to 1."""
    sources: tuple[str, ...]
    """Its sources; one with n samples gets √n of the rate to another's √m."""
    sizes: dict[str, int] = field(default_factory=dict)
    """By source, the size that counts instead of its number of samples, e.g. `{dv_qa: 10000}`."""

    def __post_init__(self) -> None:
        numbers.share("mix_groups.rate", self.rate)
        if not self.sources:
            raise ValueError("pack.mix_groups has a group without sources")
        for name, size in self.sizes.items():
            numbers.whole(f"mix_groups.sizes.{name}", size, 1, 10**15)
            if name not in self.sources:
                raise ValueError(
                    f"pack.mix_groups gives {name!r} a size; give it to one of the group's: {', '.join(self.sources)}"
                )

    def shares(self, samples: Mapping[str, int]) -> dict[str, float]:
        """Of each of its sources, with so many samples."""
        roots = {name: math.sqrt(self.sizes.get(name, samples[name])) for name in self.sources}
        return {name: self.rate * root / sum(roots.values()) for name, root in roots.items()}


@dataclass(kw_only=True)
class Amount:
    """The size of a source's selection, repeats counted."""

    samples: int = 0
    """Parts of documents, renderings and copies each for one."""
    positions: int = 0
    images: int = 0
    crops: int = 0

    def add(self, counts: npt.NDArray[np.int64], **sizes: npt.NDArray[np.int64]) -> None:
        """Take in rows, each so many times."""
        self.samples += int(counts.sum())
        for name, own in sizes.items():
            setattr(self, name, getattr(self, name) + int((counts * own).sum()))

    def __add__(self, other: "Amount") -> "Amount":
        return Amount(**{own.name: getattr(self, own.name) + getattr(other, own.name) for own in fields(self)})

    def by(self, unit: MixBy, limits: Mapping[str, int | None]) -> float:
        """The amount in this unit."""
        if unit == "sequences":
            return max(getattr(self, name) / most for name, most in limits.items() if most)
        return float(getattr(self, unit))


def factors(
    shares: Mapping[str, float],
    amounts: Mapping[str, Amount],
    *,
    unit: MixBy,
    limits: Mapping[str, int | None],
    epochs: float,
) -> dict[str, float]:
    """By how much the counts of each source's samples are to be multiplied."""
    there = {name: amount.by(unit, limits) for name, amount in amounts.items()}
    whole = sum(there.values()) * epochs
    return {name: shares[name] / sum(shares.values()) * whole / own for name, own in there.items()}


def over_cap(multiplied: Mapping[str, float], most: float) -> str:
    """A message that names the sources whose samples would be used more than `most` times; empty if there are none."""
    over = [f"{name} {factor:.3g}" for name, factor in multiplied.items() if factor > most * (1 + 1e-9)]
    if not over:
        return ""
    return (
        f"pack.mix_most_seen is {most:g}, and the mixture asks for more uses of each sample of {', '.join(over)}; give "
        "these a smaller share, lower pack.epochs, or say `mix_over: cap`, which lets them have less"
    )
