"""The plan of the pages: which one gets which template, language and corruption: made from the configuration alone."""

import random
from dataclasses import dataclass, replace

from mmcorpus.curation.synthetic.common import stream
from mmcorpus.curation.synthetic.miniweb.config import MiniWebConfig
from mmcorpus.curation.synthetic.miniweb.pages.corruptions import PAGE_CORRUPTIONS
from mmcorpus.curation.synthetic.miniweb.pages.templates import TEMPLATES
from mmcorpus.curation.synthetic.miniweb.truth import CLEAN


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSlot:
    """One page, before it is written."""

    number: int
    spoil: str
    template: str
    language: str
    partner: int | None = None
    """The number of the clean page that it repeats."""


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
        corruption = PAGE_CORRUPTIONS.get(spoil)
        partner = next(partners, None) if corruption is not None and corruption.partner else None
        slots.append(
            PageSlot(
                number=number,
                spoil=CLEAN if corruption is not None and corruption.partner and partner is None else spoil,
                template=(corruption and corruption.template) or rng.choice(list(TEMPLATES)),
                language=rng.choice(corruption.languages) if corruption else "en",
                partner=partner,
            )
        )
    return [_as_original(slot, slots) for slot in slots]


def _as_original(slot: PageSlot, slots: list[PageSlot]) -> PageSlot:
    """A page that copies another's text is of its kind."""
    if slot.partner is None or PAGE_CORRUPTIONS[slot.spoil].partner == "images":
        return slot
    return replace(slot, template=slots[slot.partner].template)


def _corrupted(config: MiniWebConfig) -> list[str]:
    budget = round(config.pages * config.spoil)
    weighted = [name for name, corruption in PAGE_CORRUPTIONS.items() for _ in range(corruption.weight)]
    once = sorted(PAGE_CORRUPTIONS, key=lambda name: -PAGE_CORRUPTIONS[name].weight)
    rest = max(0, budget - len(once))
    return [*once[:budget], *(weighted[place % len(weighted)] for place in range(rest))]


def page_stream(config: MiniWebConfig, *purpose: object) -> random.Random:
    """A random stream of its own for each purpose, the same on every machine."""
    return stream(config.seed, "pages", *purpose)
