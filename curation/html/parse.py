"""From text to a tree in flat lists, in page order: what a browser would build, without what no reader sees."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

from mmcorpus.curation.html.config import ExtractConfig, ExtractError


def names(text: str) -> frozenset[str]:
    """The names in a text, separated by blanks."""
    return frozenset(text.split())


UNSEEN: Final = names(
    "script style template textarea select iframe object applet canvas svg audio noembed noframes datalist"
    " dialog annotation annotation-xml rp map"
)
"""Left out with all that is in them; `video` stays for its poster, `noscript` and `button` for their images."""
TEXT: Final = "#text"
_DECLARING: Final = frozenset(["html", "base", "meta", "title"])

_AGAIN: Final = re.compile(r"<(?:[bB][oO][dD][yY]|[hH][tT][mM][lL])[\s/]")
_MOST: Final = 20
_REST: Final = re.compile(r"""(?:[^>=]++|=\s*+(?:"[^"]*+"|'[^']*+')?)*+""")
"""Of a tag, without the bracket that ends it: one in a value in quotes does not."""
_VALUE: Final = re.compile(r"""=\s*+(?:"[^"]*+"|'[^']*+')""")
_MOST_ATTRIBUTES: Final = 1_000

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


class _Handler:
    """The handlers of turbohtml's SAX interface; closures over the lists, which is a third faster than methods."""

    def __init__(self, tree: Tree, limit: int) -> None:
        stack: list[int] = []
        unseen = code = count = 0  # depth inside what is left out, inside <pre>; events so far
        last, space = -1, False  # the last text; whether white space stood since then
        title: list[str] = []
        in_title = False
        tags, parents, ends, texts, attributes = tree.tags, tree.parents, tree.ends, tree.texts, tree.attributes

        def start_element(tag: str, given: Attributes) -> None:
            nonlocal unseen, code, count, in_title
            count += 1
            if count > limit:
                raise ExtractError("too_many_nodes", f"more than {limit:,}")
            if unseen:
                unseen += 1
                return
            if tag in UNSEEN:
                unseen = 1
                return
            if tag in _DECLARING:
                in_title = tag == "title" and not title
                _declare(tree, tag, given)
            elif tag == "pre":
                code += 1
            number = len(tags)
            parents.append(stack[-1] if stack else -1)
            tags.append(tag)
            attributes.append(given)
            texts.append("")
            ends.append(number + 1)
            stack.append(number)

        def end_element(tag: str) -> None:
            nonlocal unseen, code, in_title
            if unseen:
                unseen -= 1
                return
            ends[stack.pop()] = len(tags)
            if tag == "title":
                if in_title:
                    tree.title = " ".join("".join(title).split()) or None
                in_title = False
            elif tag == "pre":
                code -= 1

        def characters(data: str) -> None:
            nonlocal count, last, space
            if unseen:
                return
            if not code:
                # White space between elements is no node of its own: it goes to the texts before and after it.
                if data.isspace():
                    if not space and last >= 0:
                        texts[last] += " "
                    space = True
                    return
                if space:
                    data, space = " " + data, False
            if in_title:
                title.append(data)
                return
            count += 1
            if count > limit:
                raise ExtractError("too_many_nodes", f"more than {limit:,}")
            last = len(tags)
            parents.append(stack[-1] if stack else -1)
            tags.append(TEXT)
            attributes.append(())
            texts.append(data)
            ends.append(last + 1)

        self.start_element, self.end_element, self.characters = start_element, end_element, characters
        self.comment = self.doctype = self.processing_instruction = lambda *_: None


def _declare(tree: Tree, tag: str, given: Attributes) -> None:
    values: dict[str, Any] = dict(given)
    if tag == "html":
        tree.language = (values.get("lang") or values.get("xml:lang") or "").strip() or None
    elif tag == "base":
        if tree.base is None and values.get("href"):
            tree.base = values["href"]
    elif tag == "meta":
        name = (values.get("name") or "").strip().lower()
        content = (values.get("content") or "").strip()
        if name == "robots" or name.endswith("bot") or name.startswith("tdm-"):
            tree.robots.append((name, content))
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

    # Each further <body> and <html> lends its attributes to the first, by a search through all of them.
    again = list(islice(_AGAIN.finditer(text), _MOST + 1))
    if len(again) > _MOST:
        first = again[_MOST - 1].end()
        text = text[:first] + _AGAIN.sub("<span ", text[first:])
    for found in reversed(again[:_MOST]):
        if _has_many_attributes(text, found.end()):
            text = f"{text[: found.start()]}<span {text[found.end() :]}"
    tree = Tree()
    sax_parse(text, _Handler(tree, config.max_nodes))  # type: ignore[arg-type]  # has all the methods, if no base
    return tree


def _has_many_attributes(text: str, at: int) -> bool:
    """Whether a tag has more attributes than any that somebody wrote; `at` is where they begin."""
    rest = _REST.match(text, at)
    assert rest is not None
    given = rest[0]
    return len(given) > _MOST_ATTRIBUTES and len(_VALUE.sub("", given).replace("/", " ").split()) > _MOST_ATTRIBUTES
