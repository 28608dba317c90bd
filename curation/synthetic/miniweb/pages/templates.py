"""Eight kinds of web page: the content of each, in its order, and the parts of its layout (templates.yaml)."""

import html
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from mmcorpus.curation.synthetic.miniweb.pages import content
from mmcorpus.curation.synthetic.miniweb.pages.chrome import Chrome, join_lines
from mmcorpus.curation.synthetic.miniweb.pages.content import Block, Draft, Picture, Shown, Text
from mmcorpus.curation.synthetic.miniweb.pages.embed import Embedder
from mmcorpus.curation.synthetic.miniweb.pages.prose import ENGLISH, PEOPLE, Teller
from mmcorpus.filters.yaml_data import read_data


@dataclass(kw_only=True, slots=True)
class Desk:
    """A template's tools to write a page with."""

    draft: Draft
    shown: Sequence[Shown]
    teller: Teller
    embedder: Embedder
    rng: random.Random

    def picture(self, shown: Shown, *, caption: bool | None = None) -> Picture:
        """A picture with an alt text as sites have them, and a caption if wanted (None: perhaps)."""
        alt = self.rng.choice((shown.captions[0], shown.captions[0], "", None, "photo"))
        captioned = self.rng.random() < 0.6 if caption is None else caption
        return self.embedder.embed(self.draft, shown, alt, caption=self.teller.caption(shown) if captioned else None)

    def opening(self) -> Text:
        """The paragraph that a page begins with."""
        return content.paragraph(self.teller.opening())

    def heading(self, shown: Shown) -> Text:
        """A subheading that names the picture."""
        return content.heading(2, self.teller.heading(shown))

    def about(self, shown: Shown, *, sentences: int = 3) -> Text:
        """A paragraph on the next picture of the page."""
        return content.paragraph(self.teller.about(shown, sentences=sentences))

    def facts(self, shown: Shown) -> Text:
        """A table of what is known of a picture."""
        rows = [("Size", _size(shown)), ("No.", f"{self.draft.number:04d}")]
        if self.teller.language == ENGLISH:
            rows += [(question.rstrip("?"), answer) for question, answer in shown.qa[:3]]
        return content.table(rows, header=False)


@dataclass(frozen=True, kw_only=True)
class Template:
    """A kind of page."""

    host: str
    path: str
    """With `{slug}`."""
    pictures: tuple[int, int]
    """At least and at most so many."""
    layout: str
    """The markup of the page's body."""
    each: str = ""
    """The markup of one of several parts."""
    between: Callable[[Desk], Iterator[Block]]
    """The blocks between title and closing."""
    parts: Callable[[Sequence[Block], Chrome, str], dict[str, str]]
    """The parts of the content, by gap of the layout, with `each` for one of several."""

    def compose(self, desk: Desk) -> list[Block]:
        """The content of a page, its title first."""
        title = content.heading(1, desk.teller.title(desk.shown[0]))
        return [title, *self.between(desk), content.paragraph(desk.teller.closing())]

    def lay_out(self, blocks: Sequence[Block], chrome: Chrome) -> str:
        """The markup of the page's body."""
        parts = self.parts(blocks, chrome, join_lines(self.each))
        return chrome.fill(self.layout, title=_joined(blocks[:1]), blocks=_joined(blocks), **parts)


def _compose_article(desk: Desk) -> Iterator[Block]:
    yield desk.opening()
    for number, shown in enumerate(desk.shown):
        if number and desk.rng.random() < 0.5:
            yield desk.heading(shown)
        pair: list[Block] = [desk.about(shown), desk.picture(shown)]
        yield from pair if desk.rng.random() < 0.7 else pair[::-1]
    said = desk.teller.aside()
    if said:
        yield content.quote(said)


def _compose_news(desk: Desk) -> Iterator[Block]:
    first, *others = desk.shown
    yield desk.opening()
    yield desk.picture(first, caption=True)
    yield desk.about(first)
    for shown in others:
        yield desk.about(shown)
        yield desk.picture(shown, caption=True)


def _compose_gallery(desk: Desk) -> Iterator[Block]:
    yield desk.opening()
    for shown in desk.shown:
        yield desk.picture(shown, caption=True)
    yield desk.about(desk.shown[0])


def _compose_thread(desk: Desk) -> Iterator[Block]:
    yield desk.opening()
    for shown in desk.shown:
        yield desk.about(shown)
        yield desk.picture(shown, caption=False)


def _compose_wiki(desk: Desk) -> Iterator[Block]:
    first, *others = desk.shown
    yield desk.picture(first, caption=False)
    yield desk.facts(first)
    yield desk.opening()
    yield desk.about(first)
    for shown in others:
        yield desk.heading(shown)
        yield desk.picture(shown, caption=True)
        yield desk.about(shown)
    rows = ((str(number), desk.teller.caption(shown)) for number, shown in enumerate(desk.shown, 1))
    yield content.table([("Sheet", "What it shows"), *rows])


def _compose_docs(desk: Desk) -> Iterator[Block]:
    yield desk.opening()
    for shown in desk.shown:
        yield desk.heading(shown)
        yield desk.about(shown, sentences=2)
        seed = shown.facts.get("seed", 0)
        yield content.code(f'sheet = draw(kind="{shown.kind}", seed={seed})\nsheet.show()  # {shown.size}')
        yield desk.picture(shown)
    rows = ((f"sheet_{number}", _size(shown), desk.teller.caption(shown)) for number, shown in enumerate(desk.shown, 1))
    yield content.table([("Name", "Size", "Shows"), *rows])


def _compose_shop(desk: Desk) -> Iterator[Block]:
    for shown in desk.shown:
        yield desk.picture(shown, caption=False)
    yield content.paragraph(f"€ {desk.rng.randint(4, 90)}.{desk.rng.choice(('00', '50', '95'))}")
    yield desk.opening()
    for shown in desk.shown[:3]:
        yield desk.about(shown)
    yield desk.facts(desk.shown[0])


def _compose_recipe(desk: Desk) -> Iterator[Block]:
    first, *others = desk.shown
    yield desk.picture(first, caption=False)
    yield desk.opening()
    yield content.listing([desk.teller.caption(shown) for shown in desk.shown])
    for shown in others:
        yield desk.heading(shown)
        yield desk.about(shown)
        yield desk.picture(shown)
    steps = [text for text in (desk.teller.aside() for _ in range(3)) if text]
    if steps:
        yield content.listing(steps, ordered=True)


def _size(shown: Shown) -> str:
    return "{} x {}".format(*(shown.size or (0, 0)))


def _joined(blocks: Iterable[Block]) -> str:
    return "\n".join(block.html for block in blocks)


def _parts_article(blocks: Sequence[Block], chrome: Chrome, each: str) -> dict[str, str]:
    rest = blocks[1:]
    half = len(rest) // 2
    return {"inside": f"{_joined(rest[:half])}{chrome.advert()}{_joined(rest[half:])}"}


def _parts_news(blocks: Sequence[Block], chrome: Chrome, each: str) -> dict[str, str]:
    lead, rest = blocks[1], blocks[2:]
    assert isinstance(lead, Text)
    third = max(1, len(rest) // 3)
    parts = [each.format(part=_joined(rest[start : start + third])) for start in range(0, len(rest), third)]
    return {"lead": html.escape(lead.text, quote=False), "inside": chrome.advert().join(parts)}


def _parts_gallery(blocks: Sequence[Block], chrome: Chrome, each: str) -> dict[str, str]:
    name = chrome.rng.choice(("gallery-grid", "photos", "row"))
    cells = [
        each.format(name=name, picture=block.html) if isinstance(block, Picture) else block.html for block in blocks
    ]
    return {"name": name, "cells": "".join(cells)}


def _parts_thread(blocks: Sequence[Block], chrome: Chrome, each: str) -> dict[str, str]:
    posts: list[list[Block]] = [[]]
    for block in blocks[1:]:
        if isinstance(block, Text) and block.tag == "p" and posts[-1]:
            posts.append([])
        posts[-1].append(block)
    made = (
        each.format(
            number=number, person=chrome.rng.choice(PEOPLE), count=chrome.rng.randint(1, 999), text=_joined(post)
        )
        for number, post in enumerate(posts, 1)
    )
    return {"posts": "".join(made)}


def _parts_wiki(blocks: Sequence[Block], chrome: Chrome, each: str) -> dict[str, str]:
    _, lead, facts, opening, *rest = blocks
    assert isinstance(facts, Text)
    sections = [block.text for block in rest if isinstance(block, Text) and block.tag == "h2"]
    contents = "".join(each.format(number=number, name=html.escape(name)) for number, name in enumerate(sections))
    return {
        "lead": lead.html,
        "facts": str(facts.inner),
        "opening": opening.html,
        "contents": contents,
        "rest": _joined(rest),
    }


def _parts_docs(blocks: Sequence[Block], chrome: Chrome, each: str) -> dict[str, str]:
    return {"chapters": "".join(each.format(number=number) for number in range(1, chrome.rng.randint(20, 60)))}


def _parts_shop(blocks: Sequence[Block], chrome: Chrome, each: str) -> dict[str, str]:
    first = next(number for number, block in enumerate(blocks) if number and not isinstance(block, Picture))
    pictures = "".join(each.format(picture=block.html) for block in blocks[1:first])
    return {"pictures": pictures, "price": blocks[first].html, "rest": _joined(blocks[first + 1 :])}


_KINDS: Final = {
    "article": (_compose_article, _parts_article),
    "news": (_compose_news, _parts_news),
    "gallery": (_compose_gallery, _parts_gallery),
    "thread": (_compose_thread, _parts_thread),
    "wiki": (_compose_wiki, _parts_wiki),
    "docs": (_compose_docs, _parts_docs),
    "shop": (_compose_shop, _parts_shop),
    "recipe": (_compose_recipe, lambda blocks, chrome, each: {}),
}
TEMPLATES: Final = {
    name: Template(between=between, parts=parts, **read_data(__package__, "templates.yaml")[name])
    for name, (between, parts) in _KINDS.items()
}
"""By name."""
