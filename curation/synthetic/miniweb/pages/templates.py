"""Eight kinds of web page: what each says about its pictures, in which order, and how it is laid out."""

import html
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from mmcorpus.curation.synthetic.miniweb.pages import content
from mmcorpus.curation.synthetic.miniweb.pages.content import Block, Draft, Picture, Shown, Text
from mmcorpus.curation.synthetic.miniweb.pages.embed import Embedder
from mmcorpus.curation.synthetic.miniweb.pages.frames import PEOPLE
from mmcorpus.curation.synthetic.miniweb.pages.furniture import Furniture
from mmcorpus.curation.synthetic.miniweb.pages.prose import ENGLISH, Teller


@dataclass(kw_only=True, slots=True)
class Desk:
    """What a template writes a page with."""

    draft: Draft
    shown: Sequence[Shown]
    teller: Teller
    embedder: Embedder
    rng: random.Random
    extra: list[Block] = field(default_factory=list)
    """Blocks to put among the content, before its last one: spoiled pictures, paragraphs that return."""

    def picture(self, shown: Shown, *, caption: bool | None = None, way: str | None = None) -> Picture:
        """A picture with an alt text as sites have them, and a caption if wanted (None: perhaps)."""
        alt = self.rng.choice((shown.captions[0], shown.captions[0], "", None, "photo"))
        captioned = self.rng.random() < 0.6 if caption is None else caption
        return self.embedder.embed(
            self.draft, shown, alt, caption=self.teller.caption(shown) if captioned else None, way=way
        )


class Template(NamedTuple):
    """A kind of page."""

    host: str
    path: str
    """With `{slug}`."""
    pictures: tuple[int, int]
    """At least and at most so many."""
    compose: Callable[[Desk], list[Block]]
    layout: Callable[[Sequence[Block], Furniture, random.Random], str]
    """The markup of the page's body."""


def _article(desk: Desk) -> list[Block]:
    tell = desk.teller
    blocks: list[Block] = [content.heading(1, tell.title(desk.shown[0])), content.paragraph(tell.opening())]
    for number, shown in enumerate(desk.shown):
        if number and desk.rng.random() < 0.5:
            blocks.append(content.heading(2, tell.heading(shown)))
        pair: list[Block] = [content.paragraph(tell.about(shown)), desk.picture(shown)]
        blocks += pair if desk.rng.random() < 0.7 else pair[::-1]
    said = tell.aside()
    blocks += [content.quote(said)] if said else []
    return [*blocks, content.paragraph(tell.closing())]


def _news(desk: Desk) -> list[Block]:
    tell = desk.teller
    blocks: list[Block] = [
        content.heading(1, tell.title(desk.shown[0])),
        content.paragraph(tell.opening()),
        desk.picture(desk.shown[0], caption=True),
        content.paragraph(tell.about(desk.shown[0])),
    ]
    for shown in desk.shown[1:]:
        blocks += [content.paragraph(tell.about(shown)), desk.picture(shown, caption=True)]
    return [*blocks, content.paragraph(tell.closing())]


def _gallery(desk: Desk) -> list[Block]:
    tell = desk.teller
    blocks: list[Block] = [content.heading(1, tell.title(desk.shown[0])), content.paragraph(tell.opening())]
    blocks += [desk.picture(shown, caption=True) for shown in desk.shown]
    return [*blocks, content.paragraph(tell.about(desk.shown[0])), content.paragraph(tell.closing())]


def _thread(desk: Desk) -> list[Block]:
    tell = desk.teller
    blocks: list[Block] = [content.heading(1, tell.title(desk.shown[0])), content.paragraph(tell.opening())]
    for shown in desk.shown:
        blocks += [content.paragraph(tell.about(shown)), desk.picture(shown, caption=False)]
    return [*blocks, content.paragraph(tell.closing())]


def _wiki(desk: Desk) -> list[Block]:
    tell, first = desk.teller, desk.shown[0]
    blocks: list[Block] = [
        content.heading(1, tell.title(first)),
        desk.picture(first, caption=False),
        content.table(_facts(desk, first), header=False),
        content.paragraph(tell.opening()),
        content.paragraph(tell.about(first)),
    ]
    for shown in desk.shown[1:]:
        blocks += [content.heading(2, tell.heading(shown)), desk.picture(shown, caption=True)]
        blocks += [content.paragraph(tell.about(shown))]
    rows = [("Sheet", "What it shows"), *((str(n), tell.caption(shown)) for n, shown in enumerate(desk.shown, 1))]
    return [*blocks, content.table(rows), content.paragraph(tell.closing())]


def _docs(desk: Desk) -> list[Block]:
    tell = desk.teller
    blocks: list[Block] = [content.heading(1, tell.title(desk.shown[0])), content.paragraph(tell.opening())]
    for shown in desk.shown:
        call = f'sheet = draw(kind="{shown.kind}", seed={shown.facts.get("seed", 0)})\nsheet.show()  # {shown.size}'
        blocks += [
            content.heading(2, tell.heading(shown)),
            content.paragraph(tell.about(shown, sentences=2)),
            content.code(call),
            desk.picture(shown),
        ]
    rows = [("Name", "Size", "Shows")]
    rows += [
        (f"sheet_{n}", "{} x {}".format(*(shown.size or (0, 0))), tell.caption(shown))
        for n, shown in enumerate(desk.shown, 1)
    ]
    return [*blocks, content.table(rows), content.paragraph(tell.closing())]


def _shop(desk: Desk) -> list[Block]:
    tell, first = desk.teller, desk.shown[0]
    blocks: list[Block] = [content.heading(1, tell.title(first))]
    blocks += [desk.picture(shown, caption=False) for shown in desk.shown]
    blocks += [content.paragraph(f"€ {desk.rng.randint(4, 90)}.{desk.rng.choice(('00', '50', '95'))}")]
    blocks += [content.paragraph(tell.opening())]
    blocks += [content.paragraph(tell.about(shown)) for shown in desk.shown[:3]]
    return [*blocks, content.table(_facts(desk, first), header=False), content.paragraph(tell.closing())]


def _recipe(desk: Desk) -> list[Block]:
    tell, first = desk.teller, desk.shown[0]
    blocks: list[Block] = [
        content.heading(1, tell.title(first)),
        desk.picture(first, caption=False),
        content.paragraph(tell.opening()),
        content.listing([tell.caption(shown) for shown in desk.shown]),
    ]
    for shown in desk.shown[1:]:
        blocks += [content.heading(2, tell.heading(shown)), content.paragraph(tell.about(shown)), desk.picture(shown)]
    steps = [text for text in (tell.aside() for _ in range(3)) if text]
    return [*blocks, *([content.listing(steps, ordered=True)] if steps else []), content.paragraph(tell.closing())]


def _facts(desk: Desk, shown: Shown) -> list[tuple[str, str]]:
    """What a table says of a picture."""
    rows = [("Size", "{} x {}".format(*(shown.size or (0, 0)))), ("No.", f"{desk.draft.number:04d}")]
    if desk.teller.language == ENGLISH:
        rows += [(question.rstrip("?"), answer) for question, answer in shown.qa[:3]]
    return rows


def _joined(blocks: Sequence[Block]) -> str:
    return "\n".join(block.html for block in blocks)


def _lay_article(blocks: Sequence[Block], furniture: Furniture, rng: random.Random) -> str:
    title, rest = blocks[0].html, list(blocks[1:])
    half = len(rest) // 2
    inside = f"{_joined(rest[:half])}{furniture.advert()}{_joined(rest[half:])}"
    return (
        f'{furniture.cookies()}{furniture.header()}<main id="content">{furniture.crumbs()}<article class="post">{title}'
        f'{furniture.byline(rng.choice(PEOPLE))}<div class="entry-content">{inside}</div>{furniture.share()}</article>'
        f"{furniture.related()}{furniture.comments()}</main>{furniture.sidebar()}{furniture.footer()}"
    )


def _lay_news(blocks: Sequence[Block], furniture: Furniture, rng: random.Random) -> str:
    title, lead, rest = blocks[0].html, blocks[1], list(blocks[2:])
    assert isinstance(lead, Text)
    standfirst = f'<p class="standfirst">{html.escape(lead.text, quote=False)}</p>'
    third = max(1, len(rest) // 3)
    parts = [_joined(rest[start : start + third]) for start in range(0, len(rest), third)]
    body = furniture.advert().join(f'<div class="story__section">{part}</div>' for part in parts)
    return (
        f'{furniture.header()}<div class="layout"><div class="story" id="content">{furniture.crumbs()}{title}'
        f"{standfirst}{furniture.byline(rng.choice(PEOPLE))}{furniture.share()}{body}</div>{furniture.sidebar()}</div>"
        f"{furniture.related()}{furniture.comments()}{furniture.footer()}{furniture.cookies()}"
    )


def _lay_gallery(blocks: Sequence[Block], furniture: Furniture, rng: random.Random) -> str:
    name = rng.choice(("gallery-grid", "photos", "row"))
    cells = [
        f'<div class="{name}-item">{block.html}</div>' if isinstance(block, Picture) else block.html for block in blocks
    ]
    return (
        f'{furniture.header()}<section id="content" class="{name}">{"".join(cells)}</section>{furniture.share()}'
        f"{furniture.related()}{furniture.footer()}{furniture.cookies()}"
    )


def _lay_thread(blocks: Sequence[Block], furniture: Furniture, rng: random.Random) -> str:
    posts: list[str] = []
    post: list[Block] = []
    for block in blocks[1:]:
        if isinstance(block, Text) and block.tag == "p" and post:
            posts.append(_joined(post))
            post = []
        post.append(block)
    posts.append(_joined(post))
    avatar = '<img class="avatar" src="/static/avatars/none.png" width="48" height="48" alt="avatar">'
    shown = "".join(
        f'<div class="post" id="post-{number}"><div class="postprofile">{avatar}<b>{rng.choice(PEOPLE)}</b><br>'
        f'Posts: {rng.randint(1, 999)}</div><div class="postbody"><div class="content">{text}</div>'
        '<ul class="post-buttons"><li><a href="#">Quote</a></li><li><a href="#">Report</a></li></ul></div></div>'
        for number, text in enumerate(posts, 1)
    )
    pages = '<div class="pagination">Page 1 of 3 <a href="?page=2">2</a> <a href="?page=2">Next</a></div>'
    return (
        f'{furniture.header()}{furniture.crumbs()}<div id="content">{blocks[0].html}{pages}{shown}{pages}</div>'
        f"{furniture.footer()}{furniture.cookies()}"
    )


def _lay_wiki(blocks: Sequence[Block], furniture: Furniture, rng: random.Random) -> str:
    title, lead, facts, rest = blocks[0], blocks[1], blocks[2], blocks[3:]
    assert isinstance(facts, Text)
    box = (
        f'<table class="infobox"><tbody><tr><td colspan="2">{lead.html}</td></tr></tbody></table>'
        f'<table class="infobox infobox-facts">{facts.inner}</table>'
    )
    sections = [block.text for block in rest if isinstance(block, Text) and block.tag == "h2"]
    toc = "".join(f'<li><a href="#s{number}">{html.escape(name)}</a></li>' for number, name in enumerate(sections))
    return (
        f'<div id="mw-page">{furniture.header()}<div id="content" class="mw-body">{title.html}'
        f'<div class="mw-jump">Jump to navigation</div><div class="mw-parser-output">{box}{rest[0].html}'
        f'<div id="toc" class="toc"><h2>Contents</h2><ul>{toc}</ul></div>{_joined(rest[1:])}</div>'
        '<div id="catlinks" class="catlinks">Categories: <a href="/c/sheets">Sheets</a></div>'
        f"</div>{furniture.sidebar()}{furniture.footer()}</div>"
    )


def _lay_docs(blocks: Sequence[Block], furniture: Furniture, rng: random.Random) -> str:
    tree = "".join(
        f'<li class="toctree-l1"><a href="/guide/{n}">Chapter {n}</a></li>' for n in range(1, rng.randint(20, 60))
    )
    steps = '<div class="prev-next"><a href="/guide/1">Previous</a> <a href="/guide/3">Next</a></div>'
    return (
        f'<div class="grid">{furniture.header()}<nav class="sphinxsidebar"><ul>{tree}</ul></nav>'
        f'<div role="main" class="document">{furniture.crumbs()}<div class="body">{_joined(blocks)}</div>{steps}</div>'
        f"{furniture.footer()}</div>{furniture.cookies()}"
    )


def _lay_shop(blocks: Sequence[Block], furniture: Furniture, rng: random.Random) -> str:
    first = next(number for number, block in enumerate(blocks) if number and not isinstance(block, Picture))
    shown = "".join(f'<div class="product-gallery__image">{block.html}</div>' for block in blocks[1:first])
    rest = blocks[first:]
    buy = '<form class="cart"><input type="number" value="1"><button>Add to cart</button></form>'
    return (
        f'{furniture.header()}{furniture.crumbs()}<div class="product" id="content">{blocks[0].html}<div>{shown}</div>'
        f'<div class="summary">{rest[0].html}{buy}</div><div class="description">{_joined(rest[1:])}</div></div>'
        f"{furniture.related()}{furniture.comments()}{furniture.footer()}{furniture.cookies()}"
    )


def _lay_recipe(blocks: Sequence[Block], furniture: Furniture, rng: random.Random) -> str:
    return (
        f'{furniture.cookies()}{furniture.header()}<table width="100%"><tr><td class="main" valign="top">'
        f"{_joined(blocks)}</td><td>{furniture.sidebar()}</td></tr></table>{furniture.share()}{furniture.comments()}"
        f"{furniture.footer()}"
    )


TEMPLATES: Final[dict[str, Template]] = {
    "article": Template("blog.miniweb.test", "/{slug}.html", (1, 4), _article, _lay_article),
    "news": Template("news.miniweb.test", "/local/2024/{slug}", (2, 4), _news, _lay_news),
    "gallery": Template("gallery.miniweb.test", "/albums/{slug}/index.html", (5, 9), _gallery, _lay_gallery),
    "thread": Template("forum.miniweb.test", "/viewtopic/{slug}", (2, 4), _thread, _lay_thread),
    "wiki": Template("wiki.miniweb.test", "/wiki/{slug}", (2, 4), _wiki, _lay_wiki),
    "docs": Template("docs.miniweb.test", "/guide/chapters/{slug}.html", (1, 3), _docs, _lay_docs),
    "shop": Template("shop.miniweb.test", "/products/{slug}", (1, 4), _shop, _lay_shop),
    "recipe": Template("howto.miniweb.test", "/projects/{slug}.htm", (2, 4), _recipe, _lay_recipe),
}
"""By name."""
