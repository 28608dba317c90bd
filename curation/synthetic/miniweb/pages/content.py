"""The content of a page: blocks of text and pictures in reading order, and the truth of each."""

import html
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from mmcorpus.curation.synthetic.miniweb.site import Route


@dataclass(frozen=True, kw_only=True, slots=True)
class Shown:
    """A picture of the site's pairs, for pages to show."""

    url: str
    """Its address in the list of pairs."""
    file: str | None
    """Its body, relative to the site's folder; None if there is nothing to have."""
    content_type: str = "image/jpeg"
    size: tuple[int, int] | None = None
    kind: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    captions: tuple[str, ...] = ()
    qa: tuple[tuple[str, str], ...] = ()
    spoil: str | None = None
    """The corruption of its row among the pairs; None for a clean one."""
    expect_stage: str | None = None
    expect_rule: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """A block of text."""

    tag: str
    """As `mmcorpus.curation.documents.TextNode.tag` has it."""
    text: str
    """As a reader sees it; lists, tables and code with line breaks."""
    inner: str | None = None
    """Its markup inside the block's own tags; None for the text, escaped."""
    spoil: str | None = None

    @property
    def html(self) -> str:
        inner = html.escape(self.text, quote=False) if self.inner is None else self.inner
        return f"<{self.tag}>{inner}</{self.tag}>"


@dataclass(frozen=True, kw_only=True, slots=True)
class Picture:
    """A picture in its place; its caption, if it has one, is text that follows it."""

    url: str
    """Absolute: the best of the addresses that its markup names."""
    choices: tuple[str, ...]
    """All addresses that show it, `url` first."""
    markup: str
    """From `<img` or `<picture` to its end."""
    caption: str | None = None
    spoil: str | None = None
    """Its fault; None for a good one."""
    expect_stage: str | None = None
    """The stage that should drop a corrupted one: `download`, `trim`; None: anywhere."""
    expect_rule: str | None = None

    @property
    def html(self) -> str:
        if self.caption is None:
            return self.markup
        return f"<figure>{self.markup}<figcaption>{html.escape(self.caption, quote=False)}</figcaption></figure>"


Block = Text | Picture


@dataclass(kw_only=True, slots=True)
class Draft:
    """A page in the making; corruptions change it."""

    number: int
    host: str
    path: str
    template: str
    language: str
    """ISO 639-1."""
    date: str
    """Of the capture, ISO 8601, UTC."""
    title: str = ""
    blocks: list[Block] = field(default_factory=list)
    head: list[str] = field(default_factory=list)
    """Further markup of the head."""
    base: str | None = None
    """The address that `<base>` names."""
    headers: dict[str, str] = field(default_factory=lambda: {"Content-Type": "text/html; charset=utf-8"})
    status: int = 200
    body: bytes = b""
    """As it is sent."""
    routes: dict[str, Route] = field(default_factory=dict)
    """Routes of the site for it, by address: its pictures."""
    duplicate_of: str | None = None
    """The address of the page that it repeats."""

    @property
    def url(self) -> str:
        return f"http://{self.host}{self.path}"


def heading(level: int, text: str) -> Text:
    return Text(tag=f"h{level}", text=text)


def paragraph(text: str, *, spoil: str | None = None) -> Text:
    return Text(tag="p", text=text, spoil=spoil)


def listing(items: Iterable[str], *, ordered: bool = False) -> Text:
    items = list(items)
    inner = "".join(f"\n<li>{html.escape(item, quote=False)}</li>" for item in items)
    return Text(tag="ol" if ordered else "ul", text="\n".join(items), inner=inner + "\n")


def table(rows: Iterable[Iterable[str]], *, header: bool = True) -> Text:
    rows = [list(row) for row in rows]
    lines = []
    for number, row in enumerate(rows):
        tag = "th" if header and number == 0 else "td"
        lines.append("<tr>" + "".join(f"<{tag}>{html.escape(cell, quote=False)}</{tag}>" for cell in row) + "</tr>")
    return Text(tag="table", text="\n".join("\t".join(row) for row in rows), inner="\n".join(lines))


def code(text: str) -> Text:
    return Text(tag="pre", text=text, inner=f"<code>{html.escape(text, quote=False)}</code>")


def quote(text: str) -> Text:
    return Text(tag="blockquote", text=text, inner=f"<p>{html.escape(text, quote=False)}</p>")


def truth_nodes(blocks: Iterable[Block]) -> Iterator[dict[str, Any]]:
    """The nodes that a reader would name, in order, with what should become of each."""
    for block in blocks:
        if isinstance(block, Text):
            if block.text:
                yield {"text": block.text, "tag": block.tag, "spoil": block.spoil}
            continue
        yield {name: getattr(block, name) for name in ("url", "choices", "spoil", "expect_stage", "expect_rule")}
        if block.caption is not None:
            yield {"text": block.caption, "tag": "figcaption"}
