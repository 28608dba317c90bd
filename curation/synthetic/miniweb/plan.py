"""The plan of the rows: the picture and corruption of each, from the configuration alone, before anything is drawn."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from mmcorpus.curation.synthetic.common import stream
from mmcorpus.curation.synthetic.miniweb.config import KINDS, MiniWebConfig
from mmcorpus.curation.synthetic.miniweb.corruptions import CORRUPTIONS
from mmcorpus.curation.synthetic.miniweb.truth import CLEAN
from mmcorpus.curation.synthetic.render.canvas import ASPECTS, draw_size

_SMALLEST_COPY: Final = 0.7
"""Copies shrink to this share at most (corruptions/copies.py), so originals are drawn larger by its inverse: a copy is
then told from its original by likeness, not by size."""

_PICTURES_A_PAGE: Final = 4
"""So many different pictures for each page are plenty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Slot:
    """One row of a list, before it is drawn."""

    list: str
    row: int
    spoil: str
    kind: str
    seed: int
    size: tuple[int, int]
    captions: str
    """The true captions that it may be listed with: `varied` (any) or `short`."""
    questions: str = "all"
    """Of an instruction: `all`, `short` or `seen`."""
    on_pages: bool = False
    """Web pages may show its picture: what is known of it is needed again."""
    partner: "Slot | None" = None
    """Whose picture it copies or whose caption it takes; drawn clean."""

    @property
    def number(self) -> str:
        """Names the row in its addresses."""
        return f"{self.list[0]}{self.row:06d}"


def plan_site(config: MiniWebConfig) -> list[Slot]:
    """The slots of both lists, `pairs` first, each in row order."""
    names = [name for name, count in corruption_counts(config).items() for _ in range(count)]
    names += [CLEAN] * (config.pairs - len(names))
    stream(config.seed, "spread").shuffle(names)
    slots = [_slot(config, "pairs", row, name) for row, name in enumerate(names)]
    _pair_up(config, slots)
    for place in [place for place, slot in enumerate(slots) if slot.spoil == CLEAN][: _PICTURES_A_PAGE * config.pages]:
        slots[place] = replace(slots[place], on_pages=True)
    return slots + [_slot(config, "instructions", row, CLEAN) for row in range(config.instructions)]


def corruption_counts(config: MiniWebConfig) -> dict[str, int]:
    """The number of rows of each corruption: one each (a swap takes two) while the budget lasts, the rest by weight.

    Rows that a limit takes away (`waits`, an odd swap) stay clean.
    """
    budget = round(config.pairs * config.spoil)
    weights = {name: config.weights.get(name, float(corruption.weight)) for name, corruption in CORRUPTIONS.items()}
    counts = dict.fromkeys(CORRUPTIONS, 0)
    for name in sorted((name for name, weight in weights.items() if weight > 0), key=lambda name: -weights[name]):
        least = 2 if CORRUPTIONS[name].partner == "swap" else 1
        counts[name] = least if sum(counts.values()) + least <= budget else 0
    _share(counts, weights, budget - sum(counts.values()))
    for name, corruption in CORRUPTIONS.items():
        if corruption.waits:
            counts[name] = min(counts[name], config.waits)
        if corruption.partner == "swap":
            counts[name] -= counts[name] % 2
    return counts


def _share(counts: dict[str, int], weights: Mapping[str, float], rest: int) -> None:
    """Add `rest` rows to the counts in proportion to the weights, the largest remainders rounded up."""
    total = sum(weights.values())
    if rest <= 0 or total <= 0:
        return
    exact = {name: rest * weight / total for name, weight in weights.items()}
    for name in exact:
        counts[name] += math.floor(exact[name])
    left = rest - sum(math.floor(value) for value in exact.values())
    for name in sorted(exact, key=lambda name: (math.floor(exact[name]) - exact[name], name))[:left]:
        counts[name] += 1


def _slot(config: MiniWebConfig, listed_in: str, row: int, spoil: str) -> Slot:
    rng = stream(config.seed, listed_in, row)
    kinds = (listed_in == "instructions" and config.instruction_kinds) or config.kinds
    return Slot(
        list=listed_in,
        row=row,
        spoil=spoil,
        kind=rng.choices(KINDS, [kinds.get(kind, 0.0) for kind in KINDS])[0],
        seed=rng.getrandbits(48),
        size=draw_size(rng, config.sides, ASPECTS[:-1]),
        captions=config.captions,
        questions=config.questions,
    )


def _pair_up(config: MiniWebConfig, slots: list[Slot]) -> None:
    """Give every slot that needs one its partner: swaps exchange among themselves, copies take a clean row each."""
    rng = stream(config.seed, "partners")
    swaps = [slot for slot in slots if slot.spoil != CLEAN and CORRUPTIONS[slot.spoil].partner == "swap"]
    rng.shuffle(swaps)
    for first, second in zip(swaps[::2], swaps[1::2], strict=True):
        slots[first.row] = replace(first, partner=second)
        slots[second.row] = replace(second, partner=first)
    clean = [slot.row for slot in slots if slot.spoil == CLEAN]
    copies = [slot for slot in slots if slot.spoil != CLEAN and CORRUPTIONS[slot.spoil].partner in ("copy", "repeat")]
    copies.sort(key=lambda slot: CORRUPTIONS[slot.spoil].partner == "copy")  # repeats first: they may move an original
    repeats = sum(CORRUPTIONS[slot.spoil].partner == "repeat" for slot in copies)
    if copies and len(clean) < max(1, repeats):
        raise ValueError(
            f"pairs is {config.pairs} with spoil {config.spoil}: {len(clean)} clean rows are too few to copy"
        )
    rng.shuffle(clean)
    larger = math.ceil(config.sides[0] / _SMALLEST_COPY) + 1
    for number, slot in enumerate(copies):
        place = number % len(clean)
        original, copy = slots[clean[place]], slot
        if CORRUPTIONS[slot.spoil].partner == "repeat" and copy.row < original.row:
            original, copy = replace(slot, spoil=CLEAN), replace(original, spoil=slot.spoil)
            clean[place] = original.row
        if number < len(clean):
            sides = (larger, max(larger, config.sides[1]))
            size = draw_size(stream(config.seed, "original", original.row), sides, ASPECTS[:-1])
            original = replace(original, size=size)
        slots[original.row] = original
        slots[copy.row] = replace(copy, partner=original)
