"""Lines that are no content though they stand in it: datelines, bylines, what a forum writes beside each post."""

import re
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from typing import Final

from mmcorpus.curation.html.features import HEADINGS
from mmcorpus.curation.html.nodes import PARAGRAPH, Node, TextNode
from mmcorpus.curation.html.parse import Tree

_SHORT: Final = 80
"""Characters of a line that may be boilerplate."""
_LONG: Final = 200
"""Characters of a paragraph that belongs to the text for sure: above the first and below the last, datelines stand."""
_POSTS: Final = 3
"""So many numbered posts make a thread; a short line as often in it is the forum's."""

_POST: Final = re.compile(
    r"(?:post|p|msg|message|comment|reply|edit|pid|entry)[-_]?(?:message)?[-_]?\d{2,}$", re.IGNORECASE
)
_DATE: Final = re.compile(
    r"\b(?:19|20)\d\d\b|\b\d{1,2}[./-]\d{1,2}[./-]\d{2,4}\b|\d{4}\s?[年년]|\b\d{1,2}:\d\d\b", re.IGNORECASE
)
_DATE_WORDS: Final = re.compile(
    r"\d+|[年月日年년월일시분]|\b(?:am|pm|a\.m|p\.m|utc|gmt|est|edt|pst|pdt|cet|cest|h|uhr|hrs?|st|nd|rd|th|de|of|the|on|at|in|by|um|le|à|am|vom|"
    r"jan\w*|feb\w*|fév\w*|mar\w*|mär\w*|apr\w*|avr\w*|abr\w*|ma[iy]o?|jun\w*|jui\w*|jul\w*|aug\w*|août|ago\w*|sep\w*|set\w*|o[ckt]t\w*|nov\w*|"
    r"de[czs]\w*|dé[cz]\w*|янв\w*|фев\w*|мар\w*|апр\w*|ма[яй]|июн\w*|июл\w*|авг\w*|сен\w*|окт\w*|ноя\w*|дек\w*|"
    r"mon\w*|tue\w*|wed\w*|thu\w*|fri\w*|sat\w*|sun\w*|publi\w*|posted|updated?|created|modified|last|submitted|written|edited|date|time|edit|"
    r"actualizado|aktualisiert|veröffentlicht|mis|jour|опубликовано|дата|发布|更新|时间|来源)\b|[^\w]+",
    re.IGNORECASE,
)
_BYLINE: Final = re.compile(
    r"(?:by|von|par|por|di|av|автор|作者|文|記者|기자)[\s:：]\s*\S+(?:\s\S+){0,4}", re.IGNORECASE
)
_NUMBER: Final = re.compile(r"\d+")


def is_thread(tree: Tree, first: int, last: int) -> bool:
    """True if the elements from `first` to before `last` hold a thread of posts."""
    posts = (
        i
        for i in range(first, last)
        if tree.attributes[i]
        and tree.tags[i] not in HEADINGS
        and any(name == "id" and value and _POST.match(value) for name, value in tree.attributes[i])
    )
    return len(list(islice(posts, _POSTS))) == _POSTS


def drop_lines(nodes: Sequence[Node], *, thread: bool) -> list[Node]:
    """The nodes without datelines and bylines at the ends (in a thread anywhere) and a thread's repeated lines."""
    long = [i for i, node in enumerate(nodes) if isinstance(node, TextNode) and len(node.text) >= _LONG]
    first, last = (long[0], long[-1]) if long else (len(nodes), -1)
    often: Counter[str] = Counter()
    if thread:
        often.update(_shape(node.text) for node in nodes if isinstance(node, TextNode) and _is_short(node))
    kept: list[Node] = []
    for i, node in enumerate(nodes):
        if isinstance(node, TextNode) and _is_short(node):
            if often[_shape(node.text)] >= _POSTS:
                continue
            outside = thread or i < first or i > last
            if outside and long and (is_dateline(node.text) or (i < first and _BYLINE.fullmatch(node.text))):
                continue
        kept.append(node)
    return kept


def is_dateline(text: str) -> bool:
    """True if a line says when, and next to nothing else.

    >>> is_dateline("Posted on 3 May 2019, 10:12"), is_dateline("In 2019 the mill burnt down")
    (True, False)
    """
    return _DATE.search(text) is not None and len(_DATE_WORDS.sub("", text)) <= len(text) // 4


def _is_short(node: TextNode) -> bool:
    return node.tag == PARAGRAPH and len(node.text) <= _SHORT


def _shape(text: str) -> str:
    return _NUMBER.sub("0", text)
