"""A document as text for the terminal: what was dropped stands in its place, marked, with the rule that dropped it."""

import textwrap
from collections.abc import Iterator
from typing import Final

from mmcorpus.curation.documents.inspect import JudgedDocument, JudgedNode

WIDTH: Final = 100
MAX_CHARACTERS: Final = 2_000
"""Of a node; a page has megabytes of text where it wants to."""
_AS_IT_IS: Final = frozenset({"ul", "ol", "dl", "table", "pre"})
"""Tags whose lines stay as they are."""


def document_lines(document: JudgedDocument) -> Iterator[str]:
    """A placed document, a node after the other: texts, and images as `[image]`; dropped ones after a `-`."""
    kept = sum(node.kept for node in document.nodes)
    yield f"  page, {kept:,} of {len(document.nodes):,} nodes kept:"
    for node in document.nodes:
        yield ""
        mark = "    " if node.kept else "  - "
        if not node.kept:
            why = node.value if (node.value or "").startswith(node.rule or "") else f"{node.rule}: {node.value}"
            yield f"{mark}({node.number}, dropped: {why})"
        yield from (mark + line for line in _body(node))


def _body(judged: JudgedNode) -> Iterator[str]:
    node = judged.node
    if "text" not in node:
        told = [f"[image] {node['url']}", *(f"{name}: {node[name]}" for name in ("alt", "caption") if node.get(name))]
        yield "  ".join(" ".join(part.split()) for part in told)
        return
    text, tag = node["text"], node.get("tag", "p")
    cut = text[:MAX_CHARACTERS] + ("…" if len(text) > MAX_CHARACTERS else "")
    head = "#" * int(tag[1]) + " " if len(tag) == 2 and tag[0] == "h" and tag[1] in "123456" else ""
    for line in (head + cut).split("\n"):
        printed = "".join(character if character.isprintable() else " " for character in line)
        yield from [printed] if tag in _AS_IT_IS else textwrap.wrap(printed, WIDTH)
