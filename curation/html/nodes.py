"""The nodes of a document: texts and images in page order, and how they are written down."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

PARAGRAPH: Final = "p"
BREAK: Final = "\n\n"
"""Stands between two texts that are joined."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TextNode:
    """A block of text: a paragraph, a heading, a list, a table."""

    text: str
    """White space as a reader sees it; never empty. Line breaks stay in lists, tables and code."""
    tag: str = PARAGRAPH
    """Its tag on the page: `p`, `h1` … `h6`, `ul`, `ol`, `dl`, `pre`, `table`, `blockquote`, `figcaption`."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageNode:
    """An image where it stood."""

    url: str
    """Absolute; `http:`, `https:` or `data:`."""
    alt: str | None = None
    caption: str | None = None
    """The text of its figure's caption, which is a text node too."""
    title: str | None = None
    width: int | None = None
    """In CSS pixels, as the page declares it; so is the height."""
    height: int | None = None
    decorative: str | None = None
    """The reason why it seems to be page chrome (`spacer`, `icon`, `tracking`, …); None for content."""
    opt_out: str | None = None
    """The opt-out signal that concerns it, e.g. `meta robots: noimageai`; None without one."""


Node = TextNode | ImageNode


def to_json(nodes: Iterable[Node]) -> str:
    """Nodes as JSON text: a list of objects, texts with `text`, images with `url`; what is None is left out."""
    return json.dumps([to_dict(node) for node in nodes], ensure_ascii=False)


def to_dict(node: Node) -> dict[str, Any]:
    """A node as `to_json` writes it."""
    # dataclasses.asdict copies deeply, which took a tenth of a page's time.
    return {name: value for name in node.__slots__ if (value := getattr(node, name)) is not None}


def from_json(text: str) -> list[Node]:
    """The nodes that `to_json` wrote. Raises ValueError for anything else."""
    try:
        return [ImageNode(**item) if "url" in item else TextNode(**item) for item in json.loads(text)]
    except (TypeError, KeyError) as error:
        raise ValueError(f"not a document's nodes: {error}") from None
