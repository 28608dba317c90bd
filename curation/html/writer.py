"""Blocks, lists and tables as they are written down."""

from dataclasses import dataclass, field, replace
from typing import Final

from mmcorpus.curation.html.nodes import ImageNode, Node, TextNode

LINE_BREAK: Final = "\x00"
"""A `<br>` in a block's text; parsers let no NUL through."""
_INDENT: Final = 8
"""Levels of nested lists that show."""


@dataclass(slots=True)
class Writer:
    """The nodes so far, and the block, list or table that is open."""

    nodes: list[Node] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)
    """Of the block that is open."""
    lines: list[str] = field(default_factory=list)
    """Of the list or table that is open."""
    cells: list[list[str]] = field(default_factory=list)
    """Of the row that is open, the lines of each."""
    later: list[ImageNode] = field(default_factory=list)
    """Page chrome inside a block, which must not split it."""
    lists: list[str] = field(default_factory=list)
    """Tags of the lists that are open."""
    tables: int = 0
    quotes: int = 0
    code: int = 0
    heading: str = ""
    caption: int = 0
    filled: bool = False
    """There is text in the block that is open."""
    figured: int = 0
    """Nodes up to which figures have their captions."""

    def end_row(self) -> None:
        """End a row of a table."""
        cells = [" ".join(cell) for cell in self.cells]
        filled = [cell for cell in cells if cell]
        if filled:
            self.lines.append(" | ".join(cells) if len(filled) > 1 else filled[0])
        self.cells.clear()

    def write_lines(self, tag: str) -> None:
        """End a list or table, or a piece of one."""
        self.end_row()
        if self.lines:
            self._write("\n".join(self.lines), tag)
            self.lines.clear()

    def flush_lines(self) -> None:
        """End the piece of a list or table that stands before something that cannot be a line of it."""
        self.write_lines("table" if self.tables else self.lists[0] if self.lists else "p")

    def flush(self) -> None:
        """End a block."""
        if self.pieces:
            text = "".join(self.pieces)
            self.pieces.clear()
            self.filled = False
            self._end(text)
        if self.later:
            self.nodes += self.later
            self.later.clear()

    def _end(self, text: str) -> None:
        if self.code:
            lines = [line.rstrip() for line in text.replace("\r", "").split("\n")]
            text = "\n".join(lines).strip("\n").replace(LINE_BREAK, "\n")
            if text.strip():
                self._write(text, "pre")
        elif self.tables:
            if not self.cells:
                self.cells.append([])
            self.cells[-1] += text.replace(LINE_BREAK, " ").split()
        elif self.lists:
            line = " ".join(text.replace(LINE_BREAK, " ").split())
            if line:
                self.lines.append("  " * min(len(self.lists) - 1, _INDENT) + line)
        else:
            self._paragraphs(text)

    def _paragraphs(self, text: str) -> None:
        tag = self.heading or ("figcaption" if self.caption else "blockquote" if self.quotes else "p")
        lines: list[str] = []
        for part in [*text.split(LINE_BREAK), ""]:
            line = " ".join(part.split())
            if line:
                lines.append(line)
            elif lines:
                self._write("\n".join(lines), tag)
                lines = []

    def _write(self, text: str, tag: str) -> None:
        nodes = self.nodes
        if tag == "figcaption" and nodes and isinstance(nodes[-1], ImageNode) and nodes[-1].caption is None:
            nodes[-1] = replace(nodes[-1], caption=text)
        nodes.append(TextNode(text=text, tag=tag))

    def caption_figure(self, start: int) -> None:
        """Give the images of a figure, whose nodes begin at `start`, its caption."""
        nodes = self.nodes
        start, self.figured = max(start, self.figured), len(nodes)
        captions = [n.text for n in nodes[start:] if isinstance(n, TextNode) and n.tag == "figcaption"]
        for place, node in enumerate(nodes[start:], start):
            if captions and isinstance(node, ImageNode) and node.caption is None:
                nodes[place] = replace(node, caption="\n".join(captions))
