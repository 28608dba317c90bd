"""Makes the pages of a site: composes, corrupts, lays out and sends each of them."""

import html
import itertools
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from mmcorpus.curation.synthetic.miniweb.config import MiniWebConfig
from mmcorpus.curation.synthetic.miniweb.pages import content
from mmcorpus.curation.synthetic.miniweb.pages.chrome import Chrome
from mmcorpus.curation.synthetic.miniweb.pages.content import Block, Draft, Picture, Shown, Text, truth_nodes
from mmcorpus.curation.synthetic.miniweb.pages.embed import Embedder, foreign
from mmcorpus.curation.synthetic.miniweb.pages.plan import PageSlot, page_stream, plan_pages
from mmcorpus.curation.synthetic.miniweb.pages.prose import PEOPLE, PLACES, PROSE, Teller
from mmcorpus.curation.synthetic.miniweb.pages.templates import TEMPLATES, Desk
from mmcorpus.curation.synthetic.miniweb.truth import CLEAN

ENGLISH_ONLY: Final = ("dropped", "select", "language.en")
_FIRST_DAY: Final = datetime(2024, 2, 1, 6, tzinfo=UTC)
_REPEATED_IN: Final = 3
"""A paragraph is repeated if it stands on so many pages of a domain (OBELICS drops it from three on)."""


@dataclass(kw_only=True, slots=True)
class MadePage:
    """A page and what is true of it."""

    draft: Draft
    slot: PageSlot

    def texts(self) -> list[str]:
        """Its texts, captions among them."""
        return [node["text"] for node in truth_nodes(self.draft.blocks) if "text" in node]

    def truth(self, file: str, repeated: Counter[tuple[str, str]]) -> dict[str, Any]:
        """Its row of the truth; `repeated` counts the texts of each host."""
        draft, corruption = self.draft, self.slot.corruption
        expect, stage, rule = corruption.expect, corruption.stage, corruption.rule
        if expect == "kept" and draft.language != "en":
            expect, stage, rule = ENGLISH_ONLY
        nodes = list(truth_nodes(draft.blocks)) if corruption.page else []
        for node in nodes:
            if "text" in node and repeated[draft.host, same_text(node["text"])] >= _REPEATED_IN:
                node.update(spoil="repeated_paragraph")
        return {
            "page": draft.number,
            "url": draft.url,
            "date": draft.date,
            "file": file,
            "template": draft.template,
            "language": draft.language,
            "title": draft.title if corruption.page else None,
            "spoil": self.slot.spoil,
            "expect": expect,
            "expect_stage": stage,
            "expect_rule": rule,
            "duplicate_of": draft.duplicate_of,
            "nodes": nodes,
            "note": corruption.note,
        }


def make_pages(
    config: MiniWebConfig, shown: Sequence[Shown], corrupted: Sequence[Shown], read: Callable[[str], bytes]
) -> list[MadePage]:
    """The pages in order.

    shown: clean pictures of the site, to be shown. corrupted: pictures with faults, put among the clean ones.
    read: a body of the site, by its file.
    """
    slots = plan_pages(config)
    maker = _Maker(config, slots, shown, corrupted, read)
    for slot in sorted(slots, key=lambda slot: (slot.spoil != CLEAN, slot.number)):  # a copy after what it copies
        maker.make(slot)
    return [MadePage(draft=maker.drafts[slot.number], slot=slot) for slot in slots]


def same_text(text: str) -> str:
    """The text without case, punctuation and spacing: equal for texts that repeat each other."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def _round_robin(shown: Sequence[Shown], rng: random.Random) -> Iterator[Shown]:
    order = list(shown)
    rng.shuffle(order)
    while True:
        yield from order


class _Extras:
    """Faults planted among the content of clean pages: bad pictures, pictures and paragraphs seen too often."""

    def __init__(self, config: MiniWebConfig, shown: Sequence[Shown], corrupted: Sequence[Shown]) -> None:
        rng = page_stream(config, "extras")
        self._bad = _round_robin(corrupted, rng) if corrupted else None
        self._campaign, self._sponsor = self.everywhere = rng.sample(list(shown), 2)
        self._count = 0

    def add(self, desk: Desk) -> list[Block]:
        """The next page's share, in turn."""
        turn, self._count = self._count, self._count + 1
        found: list[Block] = []
        if turn % 2 == 0 and self._bad is not None:
            found.append(foreign(next(self._bad), desk.rng.choice(("", None, "picture"))))
        if turn % 4 == 1:
            campaign = foreign(self._campaign, "Our campaign")
            found.append(replace(campaign, spoil="url_on_many_pages", expect_rule="max_uses"))
        if turn % 4 == 2:
            way = desk.embedder.embed(desk.draft, self._sponsor, None, way="plain")
            found.append(replace(way, spoil="bytes_on_many_pages"))
        if turn % 4 == 3:
            pictures = [block for block in desk.draft.blocks if isinstance(block, Picture)]
            found.append(replace(desk.rng.choice(pictures), caption=None, spoil="repeated_on_page"))
        if turn % 3 == 0:
            found.append(content.paragraph(_house_notice(desk.draft.host)))
        return found


def _house_notice(host: str) -> str:
    """A paragraph that a site puts into many of its texts."""
    rng = random.Random(host)
    notice: str = PROSE["house_notice"]
    return notice.format(place=rng.choice(PLACES), person=rng.choice(PEOPLE))


class _Maker:
    """Makes pages one by one and remembers them for those that repeat them."""

    def __init__(
        self,
        config: MiniWebConfig,
        slots: Sequence[PageSlot],
        shown: Sequence[Shown],
        corrupted: Sequence[Shown],
        read: Callable[[str], bytes],
    ) -> None:
        self.drafts: dict[int, Draft] = {}
        self._config = config
        self._read = read
        self._slots = slots
        self._extras = _Extras(config, shown, corrupted)
        ordinary = [one for one in shown if one not in self._extras.everywhere]
        self._next = _round_robin(ordinary, page_stream(config, "pictures"))
        self._pictures: dict[int, list[Shown]] = {}

    def make(self, slot: PageSlot) -> None:
        """Make a page; its draft is then among `drafts`."""
        corruption = slot.corruption
        # A copy is written by the same hand as its original: it takes its stream of choices.
        origin = self._slots[slot.partner] if slot.partner is not None and corruption.partner != "images" else slot
        rng = page_stream(self._config, "page", origin.number)
        template = TEMPLATES[origin.template]
        wanted = corruption.pictures or rng.randint(*template.pictures)
        shown = self._pictures.setdefault(origin.number, [])
        shown += itertools.islice(self._next, max(0, wanted - len(shown)))
        draft = Draft(
            number=slot.number,
            host=corruption.host or template.host,
            path=template.path.format(slug=_slug(shown[0], origin.number)),
            template=slot.template,
            language=slot.language,
            date=_date(slot.number, earlier=corruption.partner == "capture"),
        )
        if rng.random() < 0.08:
            draft.base = f"http://{draft.host}/files/pages/"
        desk = Desk(
            draft=draft, shown=shown, teller=Teller(slot.language, rng), embedder=Embedder(rng, self._read), rng=rng
        )
        draft.blocks = template.compose(desk)
        draft.title = draft.blocks[0].text if isinstance(draft.blocks[0], Text) else ""
        self._repeat(slot, draft)
        corruption.compose(desk)
        if slot.spoil == CLEAN:
            draft.blocks[-1:] = [*self._extras.add(desk), draft.blocks[-1]]
        self._lay_out(slot, draft)
        corruption.send(draft, rng)
        self.drafts[slot.number] = draft

    def _repeat(self, slot: PageSlot, draft: Draft) -> None:
        """Give a page that repeats another its share of the other."""
        if slot.partner is None:
            return
        original = self.drafts[slot.partner]
        draft.duplicate_of = original.url
        if slot.corruption.partner == "capture":
            del draft.blocks[-1]  # it was shorter then
        elif slot.corruption.partner == "images":
            texts = [block for block in draft.blocks if isinstance(block, Text)]
            pictures = [
                replace(block, markup=f'<img src="{html.escape(block.url)}">', choices=(block.url,), caption=None)
                for block in original.blocks
                if isinstance(block, Picture)
            ]
            draft.blocks = [*texts[:2], *pictures, *texts[2:]]

    def _lay_out(self, slot: PageSlot, draft: Draft) -> None:
        rng = page_stream(self._config, "furniture", slot.number)
        others = list(itertools.islice(self._next, rng.randint(0, 3)))
        chrome = Chrome(draft, rng, others)
        body = TEMPLATES[draft.template].lay_out(draft.blocks, chrome)
        language = f' lang="{draft.language}"' if rng.random() < 0.8 else ""
        draft.body = chrome.page(body, language)


def _slug(shown: Shown, number: int) -> str:
    words = re.findall("[a-z]+", shown.captions[0].lower())[:5]
    return f"{'-'.join(words)}-{number:04d}"


def _date(number: int, *, earlier: bool) -> str:
    moment = _FIRST_DAY + timedelta(hours=3 * number, days=-28 if earlier else 0)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
