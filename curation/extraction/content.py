"""Which parts of a page are its content: furniture goes; the smallest element with the prose that is left is the root."""

import re
from dataclasses import dataclass
from typing import Final

from curation.extraction import hints
from curation.extraction.config import ExtractConfig
from curation.extraction.features import CODE, H1, HEADINGS, PICTURE, Features
from curation.extraction.parse import TEXT, Tree

KEPT_FURNITURE: Final = 0.4
"""Share of the page's prose from which on an element that is named like furniture is none."""
LEFT: Final = 0.2
"""Share of the prose that must be left when all readers' comments (all furniture) are gone; else the names mislead."""
DESCENT: Final = 0.9
"""Share of an element's prose that a child must hold to stand for it."""
NAMED_DESCENT: Final = 0.6
"""The same for a child whose name or tag says that it is the content."""
LINKED: Final = 0.7
"""Share of a block's text in links from which on it is navigation."""
INDEX: Final = 0.6
"""The same of the whole root: the page is a list of links, which is its content then."""

_CONTAINERS: Final = frozenset(
    re.findall(
        r"\S+",
        "html body div main article section center form table tbody tr td header span font fieldset layer amp-body",
    )
)
_PRUNED: Final = frozenset(
    re.findall(
        r"\S+",
        "ul ol dl div section p table form center header h2 h3 h4 h5 h6 span td tr li aside nav",
    )
)
_WORD: Final = re.compile(r"\w+")


@dataclass(slots=True)
class Content:
    """Where the content stands in a tree."""

    parts: list[int]
    """The elements that hold it, in page order; none in another."""
    dropped: bytearray
    """By number: 1 for an element that goes with all that is in it."""
    counts: dict[str, int]
    """How many elements went, by reason."""


def find_content(tree: Tree, features: Features, config: ExtractConfig) -> Content:
    """The content of a page; of a page without prose, all but furniture."""
    dropped = bytearray(len(tree.tags))
    counts: dict[str, int] = {}
    body = _body(tree)
    if body < 0:
        return Content([], dropped, counts)
    prose = _drop_furniture(tree, features, body, dropped, counts)
    root = _root(tree, features, prose, body, dropped)
    parts = [*_lead(tree, features, body, root, dropped), root]
    if not config.links:
        _drop_links(tree, features, root, dropped, counts)
    return Content(parts, dropped, counts)


def _body(tree: Tree) -> int:
    for i, tag in enumerate(tree.tags):
        if tag == "body":
            return i
    return 0 if tree.tags else -1


def _drop_furniture(tree: Tree, features: Features, body: int, dropped: bytearray, counts: dict[str, int]) -> list[int]:
    """Marks what goes; gives the prose that is left in each element."""
    ends, weight = tree.ends, features.prose
    total = weight[body]
    if total < 200:
        weight, total = features.size, features.size[body]
    allowed = {hints.NEVER, hints.FURNITURE, hints.TALK}
    for kind in (hints.TALK, hints.FURNITURE):
        if total - _sum_of(tree, features, body, weight, kind) < LEFT * total:
            allowed.discard(kind)
    i, last = body + 1, ends[body]
    in_content = body  # up to where an element stands that is named content
    while i < last:
        found = features.hints[i]
        if found == hints.CONTENT and i >= in_content:
            in_content = ends[i]
        if tree.tags[i] == "header" and i >= in_content:
            found = hints.FURNITURE
        if found in allowed and (
            found == hints.TALK or weight[i] < (0.9 if found == hints.NEVER else KEPT_FURNITURE) * total or total == 0
        ):
            dropped[i] = 1
            counts[_NAMES[found]] = counts.get(_NAMES[found], 0) + 1
            i = ends[i]
        else:
            i += 1
    left = [0] * len(tree.tags)
    parents, own = tree.parents, _own(features.prose, tree)
    i = body
    while i < last:
        if dropped[i]:
            i = ends[i]
        else:
            left[i] = own[i]
            i += 1
    for i in range(last - 1, body, -1):
        left[parents[i]] += left[i]
    return left


_NAMES: Final = {hints.NEVER: "interface", hints.FURNITURE: "furniture", hints.TALK: "comments"}


def _own(sums: list[int], tree: Tree) -> list[int]:
    own = list(sums)
    for i in range(len(own) - 1, 0, -1):
        if tree.parents[i] >= 0:
            own[tree.parents[i]] -= sums[i]
    return own


def _sum_of(tree: Tree, features: Features, body: int, weight: list[int], kind: int) -> int:
    """Of the outermost elements of a kind of hint together."""
    i, last, found = body + 1, tree.ends[body], 0
    while i < last:
        if (features.hints[i] == kind and weight[i] < KEPT_FURNITURE * weight[body]) or (
            kind == hints.TALK and features.hints[i] == kind
        ):
            found += weight[i]
            i = tree.ends[i]
        else:
            i += 1
    return found


def _root(tree: Tree, features: Features, prose: list[int], body: int, dropped: bytearray) -> int:
    """Down from the body as long as one child has nearly all the prose."""
    root = body
    while True:
        best = -1
        i, last = root + 1, tree.ends[root]
        while i < last:
            if tree.tags[i] in _CONTAINERS and not dropped[i] and (best < 0 or prose[i] > prose[best]):
                best = i
            i = tree.ends[i]
        if best < 0 or not prose[best]:
            return root
        share = NAMED_DESCENT if features.hints[best] == hints.CONTENT else DESCENT
        if prose[best] < share * prose[root]:
            return root
        root = best


def _lead(tree: Tree, features: Features, body: int, root: int, dropped: bytearray) -> list[int]:
    """The headline, if it stands before the root, and the pictures and prose between the two."""
    if features.kinds[root] & H1:
        return []
    title = set(_WORD.findall((tree.title or "").lower()))
    headline = -1
    for i in range(root - 1, body, -1):
        if tree.tags[i] == "h1" and tree.ends[i] <= root:
            said = _WORD.findall(_text(tree, i).lower())
            if said and (not title or sum(word in title for word in said) >= 0.6 * len(said)):
                headline = i
                break
    return [headline] if headline >= 0 else []


def _text(tree: Tree, i: int) -> str:
    return " ".join("".join(tree.texts[i : tree.ends[i]]).split())


def _drop_links(tree: Tree, features: Features, root: int, dropped: bytearray, counts: dict[str, int]) -> None:
    """Blocks in the root that are links alone; none on a page that is an index."""
    size, links = features.size, features.links
    if size[root] and links[root] > INDEX * size[root]:
        return
    i, last = root + 1, tree.ends[root]
    while i < last:
        if dropped[i]:
            i = tree.ends[i]
            continue
        tag = tree.tags[i]
        if (
            tag in _PRUNED
            and size[i]
            and links[i] > LINKED * size[i]
            and features.anchors[i] >= 2
            and not features.kinds[i] & (CODE | PICTURE)
            and tag not in HEADINGS
            and tag != TEXT
        ):
            dropped[i] = 1
            counts["links"] = counts.get("links", 0) + 1
            i = tree.ends[i]
        else:
            i += 1
