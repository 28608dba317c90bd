"""From text to a tree in flat lists, in page order: what a browser would build, without what no reader sees."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from curation.extraction.config import ExtractConfig, ExtractError

UNSEEN: Final = frozenset(
    re.findall(
        r"\S+",
        "script style template textarea select iframe object applet canvas svg audio noembed noframes datalist"
        " dialog annotation annotation-xml rp map",
    )
)
"""Left out with all that is in them; `video` stays for its poster, `noscript` and `button` for their images."""
TEXT: Final = "#text"

Attributes = Sequence[tuple[str, str | None]]


@dataclass(slots=True)
class Tree:
    """Elements and texts by number, in page order; a parent's number is less than its children's."""

    tags: list[str] = field(default_factory=list)
    """Of each node; `TEXT` for texts."""
    parents: list[int] = field(default_factory=list)
    """The root's is -1."""
    ends: list[int] = field(default_factory=list)
    """The number after the last node in it: a subtree is `range(i, ends[i])`."""
    attributes: list[Attributes] = field(default_factory=list)
    """Of each node; empty for texts."""
    texts: list[str] = field(default_factory=list)
    """Of each node; empty for elements."""
    title: str | None = None
    base: str | None = None
    language: str | None = None
    robots: list[tuple[str, str]] = field(default_factory=list)
    """Name (lower case) and content of the `meta` tags that speak to crawlers, in page order."""
    metas: dict[str, str] = field(default_factory=dict)
    """Content of the first `meta` of each name or property (lower case): `og:image`, `og:title` …"""


class _Builder:
    """Takes the parser's events; the methods are what turbohtml's SAX interface calls."""

    def __init__(self, config: ExtractConfig) -> None:
        self.tree = Tree()
        self.stack: list[int] = []
        self.unseen = 0  # depth inside what is left out
        self.limit = config.max_nodes
        self.events = 0
        self.in_title = False
        self.title: list[str] = []
        self.in_head = False

    def start_element(self, tag: str, attributes: Attributes) -> None:
        self.events += 1
        if self.events > self.limit:
            raise ExtractError("too_many_nodes", f"more than {self.limit:,}")
        if self.unseen:
            self.unseen += 1
            return
        if tag in UNSEEN:
            self.unseen = 1
            return
        if tag == "meta" or tag == "base" or tag == "html" or tag == "title":
            self._declare(tag, attributes)
        tree, stack = self.tree, self.stack
        number = len(tree.tags)
        tree.parents.append(stack[-1] if stack else -1)
        tree.tags.append(tag)
        tree.attributes.append(attributes)
        tree.texts.append("")
        tree.ends.append(number + 1)
        stack.append(number)

    def end_element(self, tag: str) -> None:
        if self.unseen:
            self.unseen -= 1
            return
        tree = self.tree
        tree.ends[self.stack.pop()] = len(tree.tags)
        if tag == "title" and self.in_title:
            self.in_title = False
            tree.title = " ".join("".join(self.title).split()) or None

    def characters(self, data: str) -> None:
        if self.unseen:
            return
        if self.in_title:
            self.title.append(data)
            return
        self.events += 1
        if self.events > self.limit:
            raise ExtractError("too_many_nodes", f"more than {self.limit:,}")
        tree = self.tree
        number = len(tree.tags)
        tree.parents.append(self.stack[-1] if self.stack else -1)
        tree.tags.append(TEXT)
        tree.attributes.append(())
        tree.texts.append(data)
        tree.ends.append(number + 1)

    def comment(self, data: str) -> None:
        pass

    def doctype(self, name: str, public_id: str | None, system_id: str | None) -> None:
        pass

    def processing_instruction(self, target: str, data: str) -> None:
        pass

    def _declare(self, tag: str, attributes: Attributes) -> None:
        tree = self.tree
        if tag == "title":
            self.in_title = tree.title is None and not self.title
            return
        values: dict[str, Any] = dict(attributes)
        if tag == "html":
            tree.language = (values.get("lang") or values.get("xml:lang") or "").strip() or None
        elif tag == "base":
            if tree.base is None and values.get("href"):
                tree.base = values["href"]
        else:
            name = (values.get("name") or values.get("property") or values.get("itemprop") or "").strip().lower()
            content = (values.get("content") or "").strip()
            if name == "robots" or name.endswith("bot") or name.startswith("tdm-"):
                tree.robots.append((name, content))
            elif name and content and name not in tree.metas:
                tree.metas[name] = content
            equivalent = (values.get("http-equiv") or "").strip().lower()
            if equivalent == "content-language" and content and tree.language is None:
                tree.language = content.partition(",")[0].strip() or None
            elif equivalent == "x-robots-tag":
                tree.robots.append((equivalent, content))


def parse(text: str, config: ExtractConfig) -> Tree:
    """The tree of a page, by the standard's rules of construction (HTML §13.2.6).

    Raises:
        ExtractError: `too_many_nodes`.
    """
    from turbohtml.saxparse import sax_parse

    builder = _Builder(config)
    sax_parse(text, builder)  # type: ignore[arg-type]  # has all the methods, without the price of a base class
    return builder.tree
