"""From the parts of a tree that are content to a document's nodes, in page order."""

import re
from dataclasses import dataclass, field, replace
from typing import Final

from curation.documents.nodes import ImageNode, Node, TextNode
from curation.extraction.config import ExtractConfig
from curation.extraction.content import Content
from curation.extraction.features import (
    CODE,
    HEADING,
    HEADINGS,
    INLINE,
    PARAGRAPH,
    SECTION,
    TABLE,
    Features,
)
from curation.extraction.images import IMAGES, ImageReader
from curation.extraction.parse import TEXT, Attributes, Tree

_LISTS: Final = frozenset(["ul", "ol", "dl"])
_BREAK: Final = "\x00"
"""A `<br>` in a block's text; parsers let no NUL through."""
_CAPTION: Final = re.compile(
    r"(?:^|[\s_-])(?:wp-?caption-?text|thumb-?caption|(?:image|img|photo|picture|media|figure|gallery|article__)?-?caption(?:-?text)?|figcaption)(?=[\s_-]|$)",
    re.IGNORECASE,
)
_INDENT: Final = 8
"""Levels of nested lists that show."""
_LARGE_CELL: Final = 1_000
"""Bytes of text a row from which on a table lays out a page."""


@dataclass(slots=True)
class _Frame:
    """An element that is open: what to do when it ends."""

    end: int
    tag: str
    start: int = 0
    """Number of nodes when it began."""


@dataclass(slots=True)
class _Writer:
    nodes: list[Node] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    """Of the block that is open."""
    lines: list[str] = field(default_factory=list)
    """Of the list or table that is open."""
    cells: list[str] = field(default_factory=list)
    later: list[ImageNode] = field(default_factory=list)
    """Furniture inside a block, which must not split it."""
    lists: list[str] = field(default_factory=list)
    """Tags of the lists that are open."""
    tables: int = 0
    quotes: int = 0
    code: int = 0
    heading: str = ""
    caption: int = 0
    images_at: int = 0


def emit(tree: Tree, features: Features, content: Content, base: str, config: ExtractConfig) -> list[Node]:
    """The nodes of the content."""
    return _Emitter(tree, features, content, base, config).run()


class _Emitter:
    def __init__(self, tree: Tree, features: Features, content: Content, base: str, config: ExtractConfig) -> None:
        self.tree, self.features, self.content = tree, features, content
        self.reader = ImageReader(base, config)
        self.out = _Writer()
        self.frames: list[_Frame] = []
        self.muted = 0  # inside a noscript or button: images alone
        self.sources: list[Attributes] = []
        self.spare: ImageNode | None = None
        self.unread = False  # the last image tag named no address but a placeholder's
        self.fresh = False  # no text since the last image
        self.filled = False  # there is text in the block that is open
        self.figured = 0  # nodes up to which figures have their captions

    def run(self) -> list[Node]:
        for first, last in self.content.parts:
            self._part(first, last)
        return self.out.nodes

    def _part(self, first: int, last: int) -> None:
        tree, dropped = self.tree, self.content.dropped
        tags, ends, texts = tree.tags, tree.ends, tree.texts
        frames, out = self.frames, self.out
        i = first
        while i < last:
            while frames and frames[-1].end <= i:
                self._close(frames.pop())
            if dropped[i]:
                i = ends[i]
                continue
            tag = tags[i]
            if tag == TEXT:
                if not self.muted:
                    text = texts[i]
                    out.pieces.append(text)
                    if not self.filled and not text.isspace():
                        self.filled, self.fresh = True, False
                i += 1
            elif tag in INLINE:
                i = self._inline(i, tag)
            else:
                i = self._open(i, tag)
        while frames:
            self._close(frames.pop())
        self._flush()
        self._flush_lines()

    def _inline(self, i: int, tag: str) -> int:
        tree = self.tree
        if tag == "br":
            self.out.pieces.append("\n" if self.out.code else _BREAK)
        elif tag in IMAGES:
            self._image(i)
            return tree.ends[i] if tag != "img" else i + 1
        elif tag == "noscript" or tag == "button":
            self.muted += 1
            self.frames.append(_Frame(tree.ends[i], tag))
        elif tag == "picture":
            self.sources = []
        elif tag == "source":
            self.sources.append(tree.attributes[i])
        elif tag == "q":
            self.frames.append(_Frame(tree.ends[i], tag))
            self.out.pieces.append("“")
        elif self._is_caption(i):
            self._flush()
            self.out.caption += 1
            self.frames.append(_Frame(tree.ends[i], "caption-class", len(self.out.nodes)))
        return i + 1

    def _is_caption(self, i: int) -> bool:
        if not self.fresh or self.out.caption or self.out.lists or self.out.tables:
            return False
        return any(name == "class" and value and _CAPTION.search(value) for name, value in self.tree.attributes[i])

    def _open(self, i: int, tag: str) -> int:
        tree, out = self.tree, self.out
        end = tree.ends[i]
        if tag == "video":
            poster = self.reader.poster(tree.attributes[i])
            if poster is not None:
                self._place(poster)
            return end
        if tag in ("source", "track", "col", "colgroup"):
            return end
        self._flush()
        opened = tag
        if tag in HEADINGS:
            self._flush_lines()
            out.heading = tag
        elif tag in _LISTS and (out.tables or out.lists or self._is_simple(i)):
            if not out.lists and not out.tables:
                self._flush_lines()
            out.lists.append(tag)
        elif tag == "table" and not out.tables and not out.lists and self._is_data(i):
            self._flush_lines()
            out.tables += 1
        elif tag == "pre":
            self._flush_lines()
            out.code += 1
        elif tag == "blockquote":
            self._flush_lines()
            out.quotes += 1
        elif tag == "figure":
            pass
        elif tag == "figcaption" or self._is_caption(i):
            out.caption += 1
            opened = "figcaption"
        elif tag in ("td", "th", "tr", "caption") and out.tables:
            pass
        elif tag == "hr":
            self._flush_lines()
            return end
        else:
            opened = "block"
        self.frames.append(_Frame(end, opened, len(out.nodes)))
        return i + 1

    def _close(self, frame: _Frame) -> None:
        out, tag = self.out, frame.tag
        if tag in ("noscript", "button"):
            self.muted -= 1
            return
        if tag == "q":
            out.pieces.append("”")
            return
        self._flush()
        if tag in HEADINGS:
            out.heading = ""
        elif tag in _LISTS:
            if out.lists:
                kind = out.lists.pop()
                if not out.lists and not out.tables:
                    self._write_lines(kind)
        elif tag == "table":
            if out.tables:
                out.tables -= 1
                self._write_lines("table")
        elif tag in ("td", "th"):
            if out.tables:
                pass
        elif tag in ("tr", "caption"):
            self._end_row()
        elif tag == "pre":
            out.code -= 1
        elif tag == "blockquote":
            out.quotes -= 1
        elif tag in ("figcaption", "caption-class"):
            out.caption -= 1
        elif tag == "figure":
            self._caption_figure(frame.start)

    # Lists and tables

    def _is_simple(self, i: int) -> bool:
        """Whether a list is one: no headings, tables, code in it, and no page laid out by it."""
        features = self.features
        if features.kinds[i] & (HEADING | TABLE | CODE | SECTION):
            return False
        return self.tree.tags[i] != "dl" or not features.kinds[i] & PARAGRAPH

    def _is_data(self, i: int) -> bool:
        """Whether a table is one, and does not lay out the page."""
        features, tree = self.features, self.tree
        if features.kinds[i] & (HEADING | TABLE | CODE | SECTION):
            return False
        rows = cells = 0
        for tag in tree.tags[i + 1 : tree.ends[i]]:
            if tag == "tr":
                rows += 1
            elif tag == "td" or tag == "th":
                cells += 1
        return rows > 0 and cells > rows and features.size[i] <= _LARGE_CELL * rows

    def _end_row(self) -> None:
        out = self.out
        filled = [cell for cell in out.cells if cell]
        if filled:
            out.lines.append(" | ".join(out.cells) if len(filled) > 1 else filled[0])
        out.cells.clear()

    def _write_lines(self, tag: str) -> None:
        out = self.out
        if out.cells:
            self._end_row()
        if out.lines:
            self._write("\n".join(out.lines), tag)
            out.lines.clear()

    def _flush_lines(self) -> None:
        """Ends the piece of a list or table that stands before something that cannot be a line of it."""
        out = self.out
        self._write_lines("table" if out.tables else out.lists[0] if out.lists else "p")

    # Text

    def _flush(self) -> None:
        out = self.out
        if not out.pieces:
            if out.later:
                self._write_later()
            return
        text = "".join(out.pieces)
        out.pieces.clear()
        self.filled = False
        if out.code:
            lines = [line.rstrip() for line in text.replace("\r", "").split("\n")]
            text = "\n".join(lines).strip("\n").replace(_BREAK, "\n")
            if text.strip():
                self._write(text, "pre")
        elif out.tables:
            out.cells.append(" ".join(text.replace(_BREAK, " ").split()))
        elif out.lists:
            line = " ".join(text.replace(_BREAK, " ").split())
            if line:
                out.lines.append("  " * min(len(out.lists) - 1, _INDENT) + line)
        else:
            self._paragraphs(text)
        if out.later:
            self._write_later()

    def _paragraphs(self, text: str) -> None:
        out = self.out
        tag = out.heading or ("figcaption" if out.caption else "blockquote" if out.quotes else "p")
        if _BREAK not in text:
            line = " ".join(text.split())
            if line:
                self._write(line, tag)
            return
        lines: list[str] = []
        for part in [*text.split(_BREAK), ""]:
            line = " ".join(part.split())
            if line:
                lines.append(line)
            elif lines:
                self._write("\n".join(lines), tag)
                lines = []

    def _write(self, text: str, tag: str) -> None:
        nodes = self.out.nodes
        if tag == "figcaption" and nodes and isinstance(nodes[-1], ImageNode) and nodes[-1].caption is None:
            nodes[-1] = replace(nodes[-1], caption=text)
        nodes.append(TextNode(text=text, tag=tag))

    def _caption_figure(self, start: int) -> None:
        nodes = self.out.nodes
        start, self.figured = max(start, self.figured), len(nodes)
        caption = "\n".join(
            node.text for node in nodes[start:] if isinstance(node, TextNode) and node.tag == "figcaption"
        )
        for place in range(start, len(nodes)):
            node = nodes[place]
            if caption and isinstance(node, ImageNode) and node.caption is None:
                nodes[place] = replace(node, caption=caption)

    # Images

    def _image(self, i: int) -> None:
        tree = self.tree
        sources, self.sources = self.sources, []
        image = self.reader.read(tree.attributes[i], sources if tree.tags[tree.parents[i]] == "picture" else ())
        if self.muted and self.fresh and not self.unread:
            # A noscript's picture right after an image is that image again.
            return
        if image is None or image.decorative == "placeholder":
            self.unread = not self.fresh or self.unread
            self.fresh = True
            if image is None:
                return
        self._place(image)

    def _place(self, image: ImageNode) -> None:
        out = self.out
        if image.decorative is not None and self.filled:
            out.later.append(image)
            return
        self._flush()
        if out.lists or out.tables:
            self._flush_lines()
        previous = out.nodes[-1] if out.nodes else None
        if isinstance(previous, ImageNode) and previous.url == image.url:
            return
        if isinstance(previous, ImageNode) and previous.decorative == "placeholder" and self.unread:
            out.nodes.pop()
        self.unread = image.decorative == "placeholder"
        out.nodes.append(image)
        self.fresh = True

    def _write_later(self) -> None:
        self.out.nodes.extend(self.out.later)
        self.out.later.clear()
