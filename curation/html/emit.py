"""From the parts of a tree that are content to a document's nodes, in page order."""

import functools
import re
from dataclasses import dataclass
from typing import Final

from mmcorpus.curation.html.config import ExtractConfig
from mmcorpus.curation.html.content import Content
from mmcorpus.curation.html.features import CODE, HEADING, HEADINGS, INLINE, PARAGRAPH, SECTION, TABLE, Features
from mmcorpus.curation.html.images import IMAGES, ImageReader
from mmcorpus.curation.html.nodes import ImageNode, Node
from mmcorpus.curation.html.parse import TEXT, Attributes, Tree
from mmcorpus.curation.html.writer import LINE_BREAK, Writer

_LISTS: Final = frozenset(["ul", "ol", "dl"])
_CAPTION: Final = re.compile(
    r"(?:^|[\s_-])(?:wp-?caption-?text|thumb-?caption|(?:image|img|photo|picture|media|figure|gallery|article__)?-?caption(?:-?text)?|figcaption)(?=[\s_-]|$)",
    re.IGNORECASE,
)
_NEAR: Final = 100
"""Elements after an image among which its figure's caption is looked for, and characters of a text of it."""
_NEAR_ABOVE: Final = 5
_LARGE_CELL: Final = 1_000
"""Bytes of text a row from which on a table lays out a page."""


@dataclass(slots=True)
class _Frame:
    """An element that is open: what to do when it ends."""

    end: int
    tag: str
    start: int = 0
    """Number of nodes when it began."""


def emit(tree: Tree, features: Features, content: Content, base: str, config: ExtractConfig) -> list[Node]:
    """The nodes of the content."""
    emitter = _Emitter(tree, features, content, base, config)
    for first, last in content.parts:
        emitter.read(first, last)
    return emitter.out.nodes


class _Emitter:
    def __init__(self, tree: Tree, features: Features, content: Content, base: str, config: ExtractConfig) -> None:
        self.tree, self.features, self.content = tree, features, content
        self.reader = ImageReader(base, config)
        self.out = Writer()
        self.frames: list[_Frame] = []
        self.muted = 0  # inside a noscript or button: images alone
        self.sources: list[Attributes] = []
        self.spare: ImageNode | None = None
        self.unread = False  # the last image tag named no address but a placeholder's
        self.fresh = False  # no text since the last image

    def read(self, first: int, last: int) -> None:
        """Emit the elements from `first` to before `last`."""
        tags, ends, texts, dropped = self.tree.tags, self.tree.ends, self.tree.texts, self.content.dropped
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
                    if not out.filled and not text.isspace():
                        out.filled, self.fresh = True, False
                i += 1
            elif tag in INLINE:
                i = self._inline(i, tag)
            else:
                i = self._open(i, tag)
        while frames:
            self._close(frames.pop())
        out.flush()
        out.flush_lines()

    def _inline(self, i: int, tag: str) -> int:
        tree, out = self.tree, self.out
        if tag == "br":
            out.pieces.append("\n" if out.code else LINE_BREAK)
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
            out.pieces.append("“")
        elif self._is_caption(i):
            out.flush()
            out.caption += 1
            self.frames.append(_Frame(tree.ends[i], "caption-class", len(out.nodes)))
        return i + 1

    def _is_caption(self, i: int) -> bool:
        if not self.fresh or self.out.caption or self.out.lists or self.out.tables:
            return False
        return any(name == "class" and value and _CAPTION.search(value) for name, value in self.tree.attributes[i])

    def _open(self, i: int, tag: str) -> int:
        tree, out = self.tree, self.out
        end = tree.ends[i]
        if tag == "video":
            if (poster := self.reader.poster(tree.attributes[i])) is not None:
                self._place(poster)
            return end
        if tag in ("source", "track", "col", "colgroup"):
            return end
        out.flush()
        opened = tag
        if tag in HEADINGS:
            out.flush_lines()
            out.heading = tag
        elif tag in _LISTS and (out.tables or out.lists or self._is_simple(i)):
            if not out.lists and not out.tables:
                out.flush_lines()
            out.lists.append(tag)
        elif tag == "table" and not out.tables and not out.lists and self._is_data(i):
            out.flush_lines()
            out.tables += 1
        elif tag == "pre":
            out.flush_lines()
            out.code += 1
        elif tag == "blockquote":
            out.flush_lines()
            out.quotes += 1
        elif tag == "figcaption" or self._is_caption(i):
            out.caption += 1
            opened = "figcaption"
        elif tag in ("td", "th") and out.tables:
            out.cells.append([])
        elif tag == "hr":
            out.flush_lines()
            return end
        elif tag != "figure" and not (out.tables and tag in ("tr", "caption")):
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
        out.flush()
        if tag in HEADINGS:
            out.heading = ""
        elif tag in _LISTS:
            if out.lists:
                kind = out.lists.pop()
                if not out.lists and not out.tables:
                    out.write_lines(kind)
        elif tag == "table":
            if out.tables:
                out.tables -= 1
                out.write_lines("table")
        elif tag in ("tr", "caption"):
            out.end_row()
        elif tag == "pre":
            out.code -= 1
        elif tag == "blockquote":
            out.quotes -= 1
        elif tag in ("figcaption", "caption-class"):
            out.caption -= 1
        elif tag == "figure":
            out.caption_figure(frame.start)

    # Lists and tables

    def _is_simple(self, i: int) -> bool:
        """True if a list is one: no headings, tables, code in it, and no page laid out by it."""
        features = self.features
        if features.kinds[i] & (HEADING | TABLE | CODE | SECTION):
            return False
        return self.tree.tags[i] != "dl" or not features.kinds[i] & PARAGRAPH

    def _is_data(self, i: int) -> bool:
        """True if a table is one, and does not lay out the page."""
        features, tree = self.features, self.tree
        if features.kinds[i] & (HEADING | TABLE | CODE | SECTION):
            return False
        inside = tree.tags[i + 1 : tree.ends[i]]
        rows, cells = inside.count("tr"), inside.count("td") + inside.count("th")
        return rows > 0 and cells > rows and features.size[i] <= _LARGE_CELL * rows

    # Images

    def _image(self, i: int) -> None:
        tree = self.tree
        sources, self.sources = self.sources, []
        image = self.reader.read(
            tree.attributes[i],
            sources if tree.tags[tree.parents[i]] == "picture" else (),
            functools.partial(self._figcaption, i),
        )
        if self.muted and self.fresh and not self.unread:
            # A noscript's picture right after an image is that image again.
            return
        if image is None or image.decorative == "placeholder":
            self.unread = not self.fresh or self.unread
            self.fresh = True
            if image is None:
                return
        self._place(image)

    def _figcaption(self, i: int) -> str:
        """The beginning of the caption of the figure around an image, if it stands near; empty without one."""
        tree = self.tree
        above = i
        for _ in range(_NEAR_ABOVE):
            above = tree.parents[above]
            if above < 0:
                return ""
            if tree.tags[above] == "figure":
                break
        else:
            return ""
        last = min(tree.ends[above], i + _NEAR)
        caption = next((k for k in range(i + 1, last) if tree.tags[k] == "figcaption"), None)
        if caption is None:
            return ""
        return "".join(text[:_NEAR] for text in tree.texts[caption : min(tree.ends[caption], caption + _NEAR)])

    def _place(self, image: ImageNode) -> None:
        out = self.out
        if image.decorative is not None and out.filled:
            out.later.append(image)
            return
        out.flush()
        if out.lists or out.tables:
            out.flush_lines()
        previous = out.nodes[-1] if out.nodes else None
        if isinstance(previous, ImageNode) and previous.url == image.url:
            return
        if isinstance(previous, ImageNode) and previous.decorative == "placeholder" and self.unread:
            out.nodes.pop()
        self.unread = image.decorative == "placeholder"
        out.nodes.append(image)
        self.fresh = True
