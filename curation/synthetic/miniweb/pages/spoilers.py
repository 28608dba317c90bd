"""Every way in which a page goes wrong (or looks wrong and is fine), with what a sound pipeline makes of it."""

import random
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from mmcorpus.curation.synthetic.miniweb.pages import composing, sending
from mmcorpus.curation.synthetic.miniweb.pages.content import Draft
from mmcorpus.curation.synthetic.miniweb.pages.templates import Desk

CLOSED: Final = "closed.miniweb.test"
"""Its robots.txt forbids crawlers of AI companies and ours everything."""
QUIET: Final = "quiet.miniweb.test"
"""Its ai.txt forbids all use for training."""
MIRROR: Final = "mirror.miniweb.test"
"""Copies the pages of others."""


def _nothing(desk: Desk) -> None:
    """The page's content stays as it is."""


def _as_it_is(draft: Draft, rng: random.Random) -> None:
    """The page's bytes stay as they are."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PageSpoiler:
    """A spoiler and what its pages should meet."""

    compose: Callable[[Desk], None] = _nothing
    """Changes the content: `desk.draft.blocks`, before it is laid out."""
    send: Callable[[Draft, random.Random], None] = _as_it_is
    """Changes what was laid out, or how it is sent."""
    weight: int = 1
    """Its share of the spoiled pages, relative to the others'."""
    expect: Literal["kept", "dropped", "no_images"] = "dropped"
    """`no_images`: none of its images may be used; the text may, where a document needs no images."""
    stage: str | None = None
    """Where it should be dropped: `extract` (or no document at all), `capture`, `list`, `select`; None: anywhere."""
    rule: str | None = None
    """The code or the column that drops it; None: any."""
    partner: Literal["", "capture", "copy", "images"] = ""
    """Which page it repeats: the same page at an earlier date, its content elsewhere, or its pictures under other
    text."""
    template: str | None = None
    """The kind of page that it needs."""
    pictures: int | None = None
    """How many it shows; None for what its template likes."""
    languages: tuple[str, ...] = ("en",)
    host: str | None = None
    page: bool = True
    """False if there is no document to be had, so that its truth has no nodes."""
    note: str | None = None


_OPT_OUT: Final = "opt_out"
_GALLERIES: Final = "a document has 1-30 images (MM1, OBELICS)"

PAGE_SPOILERS: Final[dict[str, PageSpoiler]] = {
    # how a page is sent; all of these are good
    "utf16": PageSpoiler(
        send=sending.charset("utf-16-le", meta="utf-8", header="utf-8", bom=b"\xff\xfe"),
        expect="kept",
        note="a BOM beats all",
    ),
    "latin1_by_header": PageSpoiler(
        send=sending.charset("cp1252", meta="utf-8", header="iso-8859-1"), expect="kept", languages=("en", "de", "fr")
    ),
    "latin1_by_meta": PageSpoiler(
        send=sending.charset("cp1252", meta="windows-1252", header=None), expect="kept", languages=("es", "it")
    ),
    "cyrillic_by_meta": PageSpoiler(
        send=sending.charset("cp1251", meta="windows-1251", header=None), expect="kept", languages=("ru",)
    ),
    "japanese_by_header": PageSpoiler(
        send=sending.charset("cp932", meta=None, header="Shift_JIS"), expect="kept", languages=("ja",)
    ),
    "chinese_by_meta": PageSpoiler(
        send=sending.charset("gb18030", meta="gb2312", header=None), expect="kept", languages=("zh",)
    ),
    "utf8_untold": PageSpoiler(
        send=sending.charset("utf-8", meta=None, header=None), expect="kept", languages=("en", "ru")
    ),
    "tag_soup": PageSpoiler(send=sending.soup, weight=2, expect="kept"),
    "cut_off": PageSpoiler(send=sending.cut_off, expect="kept"),
    "deep": PageSpoiler(send=sending.deep, expect="kept"),
    "xhtml": PageSpoiler(send=sending.xhtml, expect="kept"),
    "zipped": PageSpoiler(send=sending.zipped, expect="kept"),
    "chunked": PageSpoiler(send=sending.chunked, expect="kept"),
    "entities": PageSpoiler(send=sending.entities, expect="kept"),
    "noindex_for_others": PageSpoiler(send=sending.header("otherbot: noindex"), expect="kept"),
    # repeats
    "captured_twice": PageSpoiler(
        stage="capture",
        rule="earlier_capture",
        weight=3,
        partner="capture",
        note="of two captures of an address the later one stays",
    ),
    "near_duplicate": PageSpoiler(
        compose=composing.edited,
        stage="select",
        rule="near_text.rank",
        weight=3,
        partner="copy",
        host=MIRROR,
        note="of a page and its copies one survives, whichever the rule prefers",
    ),
    "same_images": PageSpoiler(
        stage="select",
        rule="same_images.rank",
        weight=2,
        partner="images",
        template="article",
        note="of pages with the same set of images one survives, whichever the rule prefers",
    ),
    # poor content
    "other_language": PageSpoiler(
        stage="select", rule="language.en", weight=6, languages=("de", "fr", "es", "it", "ru", "zh", "ja", "ar")
    ),
    "spam": PageSpoiler(compose=composing.spam, stage="select", weight=2, template="article"),
    "too_short": PageSpoiler(compose=composing.shorten, stage="select", weight=2, template="article"),
    "soft_404": PageSpoiler(compose=composing.not_found, stage="select", template="article"),
    "placeholder": PageSpoiler(compose=composing.lorem, stage="select", template="article"),
    "lists_only": PageSpoiler(compose=composing.lists_only, stage="select", weight=2, template="article"),
    "no_images": PageSpoiler(
        compose=composing.no_pictures, expect="no_images", weight=2, template="article", note=_GALLERIES
    ),
    "many_images": PageSpoiler(stage="select", weight=2, template="gallery", pictures=34, note=_GALLERIES),
    "all_images_dead": PageSpoiler(compose=composing.dead_pictures, expect="no_images", template="article"),
    # opted out
    "noai_meta": PageSpoiler(compose=composing.robots("noai, noimageai"), rule=_OPT_OUT, weight=2),
    "noai_header": PageSpoiler(send=sending.header("noai"), rule=_OPT_OUT, weight=2),
    "noindex_meta": PageSpoiler(compose=composing.robots("NOINDEX,NOFOLLOW"), rule=_OPT_OUT),
    "noimageai_meta": PageSpoiler(compose=composing.robots("noimageai"), expect="no_images", rule=_OPT_OUT, weight=2),
    "noimageindex_header": PageSpoiler(send=sending.header("noimageindex"), expect="no_images", rule=_OPT_OUT),
    "robots_txt": PageSpoiler(rule=_OPT_OUT, host=CLOSED, weight=2),
    "ai_txt": PageSpoiler(rule=_OPT_OUT, host=QUIET),
    # no page at all
    "empty_page": PageSpoiler(
        compose=composing.empty, template="gallery", page=False, note="boilerplate, and nothing else"
    ),
    "empty_body": PageSpoiler(send=sending.answer(200, "text/html", b""), stage="extract", page=False),
    "script_only": PageSpoiler(send=sending.script_only, stage="extract", page=False),
    "page_404": PageSpoiler(
        send=sending.answer(404, "text/html", b"<h1>Not Found</h1><p>No such page."), stage="extract", page=False
    ),
    "page_500": PageSpoiler(send=sending.answer(500, "text/html", b"<h1>Error</h1>"), stage="extract", page=False),
    "page_moved": PageSpoiler(send=sending.moved, stage="extract", page=False),
    "pdf": PageSpoiler(
        send=sending.answer(200, "application/pdf", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj"),
        stage="extract",
        page=False,
    ),
    "json": PageSpoiler(
        send=sending.answer(200, "application/json", b'{"items": [{"id": 1}]}'), stage="extract", page=False
    ),
    "image": PageSpoiler(
        send=sending.answer(200, "image/png", b"\x89PNG\r\n\x1a\n" + bytes(64)), stage="extract", page=False
    ),
    "corrupt_record": PageSpoiler(stage="extract", weight=2, page=False, note="its bytes in the file are damaged"),
}
"""By name; the name is the truth's `spoil`."""

ROBOTS_TXT: Final = textwrap.dedent("""\
    # No training, please.
    User-agent: GPTBot
    User-agent: CCBot
    User-agent: mmcorpus
    Disallow: /

    User-agent: *
    Disallow: /private/
    """)
AI_TXT: Final = textwrap.dedent("""\
    # Spawning AI
    User-Agent: *
    Disallow: /
    Disallow: *
    """)
OPEN_ROBOTS_TXT: Final = "User-agent: *\nDisallow: /search\nAllow: /\n"
