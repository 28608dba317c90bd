"""Every way in which a page goes wrong (or looks wrong and is fine), with what a sound pipeline makes of it."""

import gzip
import random
import re
import textwrap
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Literal

from curation.miniweb.pages import content
from curation.miniweb.pages.content import Draft, Picture, Text
from curation.miniweb.pages.templates import Desk

CLOSED: Final = "closed.miniweb.test"
"""Its robots.txt forbids crawlers of AI companies and ours everything."""
QUIET: Final = "quiet.miniweb.test"
"""Its ai.txt forbids all use for training."""
MIRROR: Final = "mirror.miniweb.test"
"""Copies the pages of others."""
_SPAM: Final = "cheap prints buy prints online best prints cheap frames buy frames free shipping best price"
_LOREM: Final = (
    "Lorem ipsum dolor sit amet, consectetur adipiscing elit, sed do eiusmod tempor incididunt ut labore et dolore magna"
    " aliqua. Ut enim ad minim veniam, quis nostrud exercitation ullamco laboris nisi ut aliquip ex ea commodo consequat."
)


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
    languages: tuple[str, ...] = ("en",)
    host: str | None = None
    page: bool = True
    """False if there is no document to be had, so that its truth has no nodes."""
    note: str | None = None


# Changes of the content


def _shorten(desk: Desk) -> None:
    first = next(block for block in desk.draft.blocks if isinstance(block, Picture))
    desk.draft.blocks = [content.heading(1, desk.draft.title), replace(first, caption=None), content.paragraph("More soon.")]


def _not_found(desk: Desk) -> None:
    desk.draft.title = "Page not found"
    desk.draft.blocks = [
        content.heading(1, "Page not found"), content.paragraph("Sorry, we could not find what you were looking for.")
    ]  # fmt: skip


def _empty(desk: Desk) -> None:
    desk.draft.blocks = []


def _spam(desk: Desk) -> None:
    keep = [block for block in desk.draft.blocks if isinstance(block, Picture)]
    desk.draft.blocks = [
        content.heading(1, "Cheap prints, best prints"),
        *keep,
        *(content.paragraph(" ".join([_SPAM] * desk.rng.randint(4, 9))) for _ in range(4)),
    ]


def _lorem(desk: Desk) -> None:
    blocks = desk.draft.blocks
    desk.draft.blocks = [
        content.paragraph(_LOREM) if isinstance(block, Text) and block.tag == "p" and number > 1 else block
        for number, block in enumerate(blocks)
    ]


def _lists_only(desk: Desk) -> None:
    keep = [replace(block, caption=None) for block in desk.draft.blocks if isinstance(block, Picture)]
    items = [f"{desk.rng.choice(('Sheet', 'Print', 'Folder'))} {desk.rng.randint(1, 999)}" for _ in range(70)]
    desk.draft.blocks = [content.heading(1, "All sheets"), *keep, content.listing(items)]


def _no_pictures(desk: Desk) -> None:
    desk.draft.blocks = [block for block in desk.draft.blocks if isinstance(block, Text)]


def _many_pictures(desk: Desk) -> None:
    """Every picture again and again under other addresses, over 30 of them."""
    closing = desk.draft.blocks.pop()
    pictures = [
        replace(desk.picture(desk.shown[number % len(desk.shown)], caption=False, way="query"), caption=None)
        for number in range(36)
    ]
    numbered = [
        replace(picture, url=url, choices=(url,), markup=picture.markup.replace("fit=max", f"n={number}"))
        for number, picture in enumerate(pictures)
        for url in (picture.url.replace("fit=max", f"n={number}"),)
    ]
    desk.draft.blocks += [*numbered, closing]


def _dead_pictures(desk: Desk) -> None:
    desk.draft.routes.clear()
    desk.draft.blocks = [
        replace(block, spoil="dead", expect_stage="download", expect_rule="http_404")
        if isinstance(block, Picture) else block
        for block in desk.draft.blocks
    ]  # fmt: skip


def _edited(desk: Desk) -> None:
    """A word here and there differs."""
    swaps = (("collection", "set"), ("began", "started"), ("pictures", "images"), ("without a pause", "at once"))
    blocks: list[content.Block] = []
    for block in desk.draft.blocks:
        if isinstance(block, Text) and block.inner is None:
            text = block.text
            for old, new in swaps:
                text = text.replace(old, new, 1)
            block = replace(block, text=text)
        blocks.append(block)
    desk.draft.blocks = blocks


def _robots(directive: str) -> Callable[[Desk], None]:
    def opt_out(desk: Desk) -> None:
        desk.draft.head.append(f'<meta name="robots" content="{directive}">')

    return opt_out


# Changes of what is sent


def _header(value: str) -> Callable[[Draft, random.Random], None]:
    def send(draft: Draft, rng: random.Random) -> None:
        draft.headers["X-Robots-Tag"] = value

    return send


def _answer(status: int, content_type: str, body: bytes) -> Callable[[Draft, random.Random], None]:
    def send(draft: Draft, rng: random.Random) -> None:
        draft.status, draft.body = status, body
        draft.headers = {"Content-Type": content_type}

    return send


def _moved(draft: Draft, rng: random.Random) -> None:
    draft.status, draft.body = 301, b"<html><body>Moved <a href='/'>here</a></body></html>"
    draft.headers = {"Content-Type": "text/html", "Location": "/"}


def _script_only(draft: Draft, rng: random.Random) -> None:
    draft.body = (
        b"<!doctype html><html><head><meta charset=utf-8><title>App</title></head><body><noscript>You need to enable"
        b' JavaScript to run this app.</noscript><div id="root"></div><script src="/static/app.js"></script></body></html>'
    )


def _charset(name: str, *, meta: str | None, header: str | None, bom: bytes = b"") -> Callable[[Draft, random.Random], None]:
    """Sends the page in an encoding that only one of its three signs tells (a BOM beats the header, that the meta)."""

    def send(draft: Draft, rng: random.Random) -> None:
        text = draft.body.decode("utf-8")
        tag = "" if meta is None else f'<meta http-equiv="Content-Type" content="text/html; charset={meta}">'
        text = text.replace('<meta charset="utf-8">', tag, 1)
        draft.body = bom + text.encode(name, "xmlcharrefreplace")
        draft.headers["Content-Type"] = "text/html" if header is None else f"text/html; charset={header}"

    return send


def _soup(draft: Draft, rng: random.Random) -> None:
    """Markup as it was written by hand in 1999: no closing tags, capitals, bare attributes, strays."""
    text = draft.body.decode("utf-8")
    for closing in ("</p>", "</li>", "</td>", "</tr>", "</body>", "</html>", "</figcaption>"):
        text = text.replace(closing, "")
    text = re.sub(r'<(/?)(div|p|ul|h1|h2|table|tr|td)\b', lambda match: match[0].upper(), text)
    text = re.sub(r'(width|height)="(\d+)"', r"\1=\2", text)
    text = text.replace("<P>", "</B><FONT SIZE=2><P>", 3).replace("<!doctype html>", "")
    draft.body = text.replace("</DIV>", "</DIV></span>", 5).encode("utf-8")


def _cut_off(draft: Draft, rng: random.Random) -> None:
    """The answer ended within the footer."""
    end = max(draft.body.rfind(b"<footer"), draft.body.rfind(b'<div id="footer"'), draft.body.rfind(b'<div class="c9z"'))
    draft.body = draft.body[: end + 30]


def _deep(draft: Draft, rng: random.Random) -> None:
    body = draft.body.replace(b"<body>", b"<body>" + b"<div>" * 300, 1)
    draft.body = body.replace(b"</body>", b"</div>" * 300 + b"</body>", 1)


def _xhtml(draft: Draft, rng: random.Random) -> None:
    head = b'<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Strict//EN" "x.dtd">'
    draft.body = draft.body.replace(b"<!doctype html>", head, 1)
    draft.headers["Content-Type"] = "application/xhtml+xml"


def _zipped(draft: Draft, rng: random.Random) -> None:
    draft.body = gzip.compress(draft.body, mtime=0)
    draft.headers["Content-Encoding"] = "gzip"


def _chunked(draft: Draft, rng: random.Random) -> None:
    pieces = [draft.body[start : start + 4000] for start in range(0, len(draft.body), 4000)]
    draft.body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    draft.headers["Transfer-Encoding"] = "chunked"


def _entities(draft: Draft, rng: random.Random) -> None:
    """Half of the letters e in the text as numeric references."""
    text = draft.body.decode("utf-8")
    start = text.index("<body>")
    parts = re.split(r"(<script.*?</script>|<[^>]*>)", text[start:], flags=re.DOTALL)
    parts[::2] = [part.replace("e ", "&#101; ").replace("é", "&eacute;").replace(" – ", " &ndash; ") for part in parts[::2]]
    draft.body = (text[:start] + "".join(parts)).encode("utf-8")


_OPT_OUT: Final = "opt_out"
_GALLERIES: Final = "a document has 1-30 images (MM1, OBELICS)"

PAGE_SPOILERS: Final[dict[str, PageSpoiler]] = {
    # how a page is sent; all of these are good
    "utf16": PageSpoiler(
        send=_charset("utf-16-le", meta="utf-8", header="utf-8", bom=b"\xff\xfe"), expect="kept", note="a BOM beats all"
    ),
    "latin1_by_header": PageSpoiler(
        send=_charset("cp1252", meta="utf-8", header="iso-8859-1"), expect="kept", languages=("en", "de", "fr")
    ),
    "latin1_by_meta": PageSpoiler(send=_charset("cp1252", meta="windows-1252", header=None), expect="kept", languages=("es", "it")),
    "cyrillic_by_meta": PageSpoiler(send=_charset("cp1251", meta="windows-1251", header=None), expect="kept", languages=("ru",)),
    "japanese_by_header": PageSpoiler(send=_charset("cp932", meta=None, header="Shift_JIS"), expect="kept", languages=("ja",)),
    "chinese_by_meta": PageSpoiler(send=_charset("gb18030", meta="gb2312", header=None), expect="kept", languages=("zh",)),
    "utf8_untold": PageSpoiler(send=_charset("utf-8", meta=None, header=None), expect="kept", languages=("en", "ru")),
    "tag_soup": PageSpoiler(send=_soup, weight=2, expect="kept"),
    "cut_off": PageSpoiler(send=_cut_off, expect="kept"),
    "deep": PageSpoiler(send=_deep, expect="kept"),
    "xhtml": PageSpoiler(send=_xhtml, expect="kept"),
    "zipped": PageSpoiler(send=_zipped, expect="kept"),
    "chunked": PageSpoiler(send=_chunked, expect="kept"),
    "entities": PageSpoiler(send=_entities, expect="kept"),
    "noai_for_others": PageSpoiler(send=_header("otherbot: noai"), expect="kept"),
    # repeats
    "captured_twice": PageSpoiler(
        stage="capture", weight=3, partner="capture", note="of two captures of an address the later one stays"
    ),
    "near_duplicate": PageSpoiler(
        compose=_edited, stage="select", rule="near_text.rank", weight=3, partner="copy", host=MIRROR,
        note="of a page and its copies one survives, whichever the rule prefers",
    ),
    "same_images": PageSpoiler(
        stage="select", rule="same_images.rank", weight=2, partner="images",
        note="of pages with the same set of images one survives, whichever the rule prefers",
    ),
    # poor content
    "other_language": PageSpoiler(
        stage="select", rule="language.en", weight=6, languages=("de", "fr", "es", "it", "ru", "zh", "ja", "ar")
    ),
    "spam": PageSpoiler(compose=_spam, stage="select", weight=2, template="article"),
    "too_short": PageSpoiler(compose=_shorten, stage="select", weight=2, template="article"),
    "soft_404": PageSpoiler(compose=_not_found, stage="select", template="article"),
    "placeholder": PageSpoiler(compose=_lorem, stage="select", template="article"),
    "lists_only": PageSpoiler(compose=_lists_only, stage="select", weight=2, template="article"),
    "no_images": PageSpoiler(compose=_no_pictures, expect="no_images", weight=2, template="article", note=_GALLERIES),
    "many_images": PageSpoiler(compose=_many_pictures, stage="select", weight=2, template="article", note=_GALLERIES),
    "all_images_dead": PageSpoiler(compose=_dead_pictures, expect="no_images", template="article"),
    # opted out
    "noai_meta": PageSpoiler(compose=_robots("noai, noimageai"), rule=_OPT_OUT, weight=2),
    "noai_header": PageSpoiler(send=_header("noai"), rule=_OPT_OUT, weight=2),
    "noindex_meta": PageSpoiler(compose=_robots("NOINDEX,NOFOLLOW"), rule=_OPT_OUT),
    "noimageai_meta": PageSpoiler(compose=_robots("noimageai"), expect="no_images", rule=_OPT_OUT, weight=2),
    "noimageindex_header": PageSpoiler(send=_header("noimageindex"), expect="no_images", rule=_OPT_OUT),
    "robots_txt": PageSpoiler(rule=_OPT_OUT, host=CLOSED, weight=2),
    "ai_txt": PageSpoiler(rule=_OPT_OUT, host=QUIET),
    # no page at all
    "empty_page": PageSpoiler(compose=_empty, stage="extract", template="gallery", page=False),
    "empty_body": PageSpoiler(send=_answer(200, "text/html", b""), stage="extract", page=False),
    "script_only": PageSpoiler(send=_script_only, stage="extract", page=False),
    "page_404": PageSpoiler(send=_answer(404, "text/html", b"<h1>Not Found</h1><p>No such page."), stage="extract", page=False),
    "page_500": PageSpoiler(send=_answer(500, "text/html", b"<h1>Error</h1>"), stage="extract", page=False),
    "page_moved": PageSpoiler(send=_moved, stage="extract", page=False),
    "pdf": PageSpoiler(send=_answer(200, "application/pdf", b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n1 0 obj"), stage="extract", page=False),
    "json": PageSpoiler(send=_answer(200, "application/json", b'{"items": [{"id": 1}]}'), stage="extract", page=False),
    "image": PageSpoiler(send=_answer(200, "image/png", b"\x89PNG\r\n\x1a\n" + bytes(64)), stage="extract", page=False),
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
