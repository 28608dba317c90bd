"""Features of each element for the choice of content: its text, its links, its prose, the kinds of blocks in it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from mmcorpus.curation.html.hints import TELLING, hint
from mmcorpus.curation.html.images import IMAGES
from mmcorpus.curation.html.parse import TEXT, Tree, names

INLINE: Final = names(
    "a abbr acronym b bdi bdo big cite code data del dfn em font i img amp-img ins kbd mark nobr q rb rt ruby"
    " s samp small span strike strong sub sup time tt u var wbr br picture source noscript button math mi mo"
    " mn mrow msup msub mfrac mtext mstyle semantics label #text"
)
HEADINGS: Final = frozenset(["h1", "h2", "h3", "h4", "h5", "h6"])

HEADING: Final = 1
TABLE: Final = 2
LIST: Final = 4
CODE: Final = 8
SECTION: Final = 16
PICTURE: Final = 32
H1: Final = 64
HEADER_CELL: Final = 128
PARAGRAPH: Final = 256
ANSWER: Final = 512

_KINDS: Final[dict[str, int]] = {
    **dict.fromkeys(HEADINGS, HEADING),
    "h1": HEADING | H1,
    "table": TABLE,
    "ul": LIST,
    "ol": LIST,
    "dl": LIST,
    "pre": CODE,
    **dict.fromkeys(["article", "section", "main", "hr", "fieldset", "blockquote", "figure"], SECTION),
    **dict.fromkeys(IMAGES, PICTURE),
    "th": HEADER_CELL,
    "caption": HEADER_CELL,
    "p": PARAGRAPH,
    "dd": ANSWER,
}
_SENTENCE: Final = re.compile(r"[.!?。！？।؟۔။…:;,،、，][\s\"'”’»)\]]|[。！？。、，।။]|[.!?…]$")
LONG: Final = 80
"""Bytes of text beside links from which on a block reads as prose; about 12 words."""
SHORT: Final = 25
"""Bytes from which on it does if it has a sentence's punctuation."""


@dataclass(slots=True)
class Features:
    """Lists by the tree's numbers; sums are over the whole subtree."""

    size: list[int]
    """Bytes of visible text as UTF-8, so that a Han character counts for three."""
    links: list[int]
    """Of them, in links."""
    prose: list[int]
    """Of them, in blocks that read as prose, links left out."""
    kinds: list[int]
    """Kinds of blocks in it, itself not counted: bits."""
    hints: list[int]
    """`hints.hint` of each element."""
    anchors: list[int]
    """Number of links."""


def measure(tree: Tree) -> Features:
    """Two passes over the lists: down (where a text stands), then up (sums)."""
    tags, parents, texts, attributes = tree.tags, tree.parents, tree.texts, tree.attributes
    count = len(tags)
    size, links, prose, kinds, hints = [0] * count, [0] * count, [0] * count, [0] * count, [0] * count
    anchors, linked, blocks = [0] * count, [False] * count, [0] * count
    own, own_links, sentence = [0] * count, [0] * count, [False] * count
    search: Callable[[str], object] = _SENTENCE.search
    kind = _KINDS.get
    for i in range(count):
        parent, tag = parents[i], tags[i]
        if tag == TEXT:
            text = " ".join(texts[i].split())
            if not text:
                continue
            number = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
            size[i] = number
            block = blocks[parent]
            own[block] += number
            if linked[parent]:
                links[i] = number
                own_links[block] += number
            elif not sentence[block] and number > 2 and search(text):
                sentence[block] = True
            continue
        given = attributes[i]
        blocks[i] = blocks[parent] if tag in INLINE else i
        if given:
            hints[i] = hint(tag, given)
        elif tag in TELLING:
            hints[i] = hint(tag, ())
        if linked[parent]:
            linked[i] = True
        elif tag == "a" and any(name == "href" for name, _ in given):
            linked[i] = True
            anchors[i] = 1
    for i in range(count - 1, 0, -1):
        parent = parents[i]
        if parent < 0:
            continue
        tag = tags[i]
        if number := size[i]:
            size[parent] += number
            if links[i]:
                links[parent] += links[i]
            if tag == TEXT:
                continue
            if own[i] and tag not in HEADINGS:
                linked_too = own_links[i]
                plain = own[i] - linked_too
                if plain > linked_too and (plain >= LONG or (plain >= SHORT and sentence[i])):
                    prose[i] += plain
            if prose[i]:
                prose[parent] += prose[i]
        if anchors[i]:
            anchors[parent] += anchors[i]
        kinds[parent] |= kinds[i] | kind(tag, 0)
    return Features(size, links, prose, kinds, hints, anchors)
