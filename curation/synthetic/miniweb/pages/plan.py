"""The plan of the pages: which one gets which template, language and corruption: made from the configuration alone."""

import random
from dataclasses import dataclass, replace
from typing import Final

from mmcorpus.curation.synthetic.common import stream
from mmcorpus.curation.synthetic.miniweb.config import MiniWebConfig
from mmcorpus.curation.synthetic.miniweb.pages.corruptions import PAGE_CORRUPTIONS, PageCorruption
from mmcorpus.curation.synthetic.miniweb.pages.templates import TEMPLATES
from mmcorpus.curation.synthetic.miniweb.truth import CLEAN

_PLAIN: Final = PageCorruption(expect="kept")


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSlot:
    """One page, before it is written."""

    number: int
    spoil: str
    template: str
    language: str
    partner: int | None = None
    """The number of the clean page that it repeats."""

    @property
    def corruption(self) -> PageCorruption:
        return PAGE_CORRUPTIONS.get(self.spoil, _PLAIN)


def plan_pages(config: MiniWebConfig) -> list[PageSlot]:
    """The pages in order; the same share is corrupted as of the pairs, in every way once while there is room."""
    rng = page_stream(config, "plan")
    names = _corrupted(config)
    names += [CLEAN] * (config.pages - len(names))
    rng.shuffle(names)
    clean = [number for number, spoil in enumerate(names) if spoil == CLEAN]
    rng.shuffle(clean)
    partners = iter(clean)
    slots = []
    for number, spoil in enumerate(names):
        corruption = PAGE_CORRUPTIONS.get(spoil, _PLAIN)
        partner = next(partners, None) if corruption.partner else None
        slots.append(
            PageSlot(
                number=number,
                spoil=CLEAN if corruption.partner and partner is None else spoil,
                template=corruption.template or rng.choice(list(TEMPLATES)),
                language="en" if spoil == CLEAN else rng.choice(corruption.languages),
                partner=partner,
            )
        )
    return [  # a page that copies another's text is of its kind
        slot
        if slot.partner is None or slot.corruption.partner == "images"
        else replace(slot, template=slots[slot.partner].template)
        for slot in slots
    ]


def _corrupted(config: MiniWebConfig) -> list[str]:
    budget = round(config.pages * config.spoil)
    weighted = [name for name, corruption in PAGE_CORRUPTIONS.items() for _ in range(corruption.weight)]
    once = sorted(PAGE_CORRUPTIONS, key=lambda name: -PAGE_CORRUPTIONS[name].weight)
    rest = max(0, budget - len(once))
    return [*once[:budget], *(weighted[place % len(weighted)] for place in range(rest))]


def page_stream(config: MiniWebConfig, *purpose: object) -> random.Random:
    """A random stream of its own for each purpose, the same on every machine."""
    return stream(config.seed, "pages", *purpose)
