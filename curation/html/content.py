"""The content of a page: boilerplate goes; the smallest element with the prose left is the root."""

import functools
import re
from dataclasses import dataclass
from itertools import islice
from typing import Final

from mmcorpus.curation.html import hints
from mmcorpus.curation.html.config import ExtractConfig
from mmcorpus.curation.html.features import CODE, H1, PICTURE, Features
from mmcorpus.curation.html.images import IMAGES
from mmcorpus.curation.html.parse import TEXT, Tree, names

KEPT_BOILERPLATE: Final = 0.4
"""Share of the page's prose from which on an element that is named like boilerplate is none."""
HIDDEN: Final = 0.9
"""The same of one that is hidden."""
LITTLE: Final = 2_000
"""Bytes of prose on a page below which all text beside links is weighed instead."""
ENOUGH: Final = 500
"""Bytes of prose that make an article, however much its readers wrote below."""
TILES: Final = 4
"""So many links with pictures are a list of other pages."""
APART: Final = 0.3
"""Share of linked text from which on what follows the root is none of the content."""
SPREAD: Final = 2.0
"""Times the root's prose that the element may hold that has the headline too, to stand for it."""
LEFT: Final = 0.2
"""Share of the prose that must be left when all readers' comments (all boilerplate) are gone; else names mislead."""
DESCENT: Final = 0.9
"""Share of an element's prose that a child must hold to stand for it."""
NAMED_DESCENT: Final = 0.6
"""The same for a child whose name or tag says that it is the content."""
LINKED: Final = 0.7
"""Share of a block's text in links from which on it is navigation."""
INDEX: Final = 0.6
"""The same of the whole root: the page is a list of links, which is its content then."""

_CONTAINERS: Final = names(
    "html body div main article section center form table tbody tr td header span font fieldset layer amp-body"
)
_PRUNED: Final = names("ul ol dl div section p table form center header aside nav")
_HEADLINES: Final = 20
_HERO: Final = re.compile(
    r"(?:^|[\s_-])(?:wp-post-image|post-?thumbnail|featured-?(?:image|media|img)|header-?image|hero-?(?:image|img)?|"
    r"lead-?(?:image|img|media|art)|(?:article|post|entry)-?(?:image|img|photo))(?=[\s_-]|$)",
    re.IGNORECASE,
)
_WORD: Final = re.compile(r"\w+")
_NAMES: Final = {hints.NEVER: "interface", hints.BOILERPLATE: "boilerplate", hints.TALK: "comments"}


@dataclass(slots=True)
class Content:
    """The place of the content in a tree."""

    parts: list[tuple[int, int]]
    """First number and the one after the last, in page order, none in another."""
    dropped: bytearray
    """By number: 1 for an element that goes with all that is in it."""
    counts: dict[str, int]
    """Elements that went, by reason."""


def find_content(tree: Tree, features: Features, config: ExtractConfig) -> Content:
    """The content of a page; of a page without prose, all but boilerplate."""
    dropped = bytearray(len(tree.tags))
    counts: dict[str, int] = {}
    if not tree.tags:
        return Content([], dropped, counts)
    body = tree.tags.index("body") if "body" in tree.tags else 0
    prose = _drop_boilerplate(tree, features, body, dropped, counts)
    root = _root(tree, features, prose, body, dropped)
    parts = _with_headline(tree, features, prose, body, root)
    parts = _hero(tree, body, parts[0][0], dropped) + parts
    if not config.links:
        _drop_links(tree, features, parts, dropped, counts)
    return Content(parts, dropped, counts)


def _drop_boilerplate(
    tree: Tree, features: Features, body: int, dropped: bytearray, counts: dict[str, int]
) -> list[int]:
    """Mark what goes; returns the prose that is left in each element."""
    ends, tags, weight = tree.ends, tree.tags, features.prose
    total = weight[body]
    if total < LITTLE:
        # Hardly any prose: a gallery, a shop, a list. What is no link counts then.
        weight = [size - links for size, links in zip(features.size, features.links, strict=True)]
        total = weight[body]
    flagged = [i for i, found in enumerate(features.hints) if found or tags[i] in ("header", "blockquote", "figure")]
    misnamed = {
        kind
        for kind in (hints.TALK, hints.BOILERPLATE)
        if (left := total - _sum_of(tree, features, flagged, weight, total, kind)) < LEFT * total
        and (kind == hints.BOILERPLATE or left < ENOUGH)
    }
    removed = [0] * len(tags)
    content = quote = skip = body  # where an element ends that is named content, a quote, one that goes
    for i in flagged:
        if i < skip or i <= body:
            continue
        found = features.hints[i]
        if found == hints.CONTENT:
            content = max(content, ends[i])
        elif tags[i] == "blockquote" or tags[i] == "figure":
            quote = max(quote, ends[i])
        elif tags[i] == "header" and i >= content:
            found = hints.BOILERPLATE
        goes = found != hints.NONE and found != hints.CONTENT and found not in misnamed
        if goes and found != hints.TALK:
            goes = weight[i] < (HIDDEN if found == hints.NEVER else KEPT_BOILERPLATE) * total or not total
            goes = goes and not (i < quote and tags[i] in ("aside", "footer"))
        if goes:
            dropped[i] = 1
            counts[_NAMES[found]] = counts.get(_NAMES[found], 0) + 1
            removed[tree.parents[i]] += features.prose[i]
            skip = ends[i]
    for i in range(len(tags) - 1, body, -1):
        if removed[i]:
            removed[tree.parents[i]] += removed[i]
    return [all_ - gone for all_, gone in zip(features.prose, removed, strict=True)]


def _sum_of(tree: Tree, features: Features, flagged: list[int], weight: list[int], total: int, kind: int) -> int:
    """The weight of the outermost elements of a kind of hint together."""
    found = skip = 0
    for i in flagged:
        if i >= skip and features.hints[i] == kind and (kind == hints.TALK or weight[i] < KEPT_BOILERPLATE * total):
            found += weight[i]
            skip = tree.ends[i]
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


def _with_headline(tree: Tree, features: Features, prose: list[int], body: int, root: int) -> list[tuple[int, int]]:
    """The root; where the headline stands before it, from there on, and what else of the content follows the root."""
    if features.kinds[root] & H1:
        return [(root, tree.ends[root])]
    title = set(_WORD.findall((tree.title or "").lower()))
    before = (i for i in range(root - 1, body, -1) if tree.tags[i] == "h1" and tree.ends[i] <= root)
    for headline in islice(before, _HEADLINES):
        said = _WORD.findall("".join(tree.texts[headline : min(tree.ends[headline], headline + 200)]).lower())
        if said and (not title or sum(word in title for word in said) >= 0.6 * len(said)):
            break
    else:
        return [(root, tree.ends[root])]
    both = tree.parents[headline]
    while tree.ends[both] <= root:
        both = tree.parents[both]
    if prose[both] > SPREAD * prose[root]:
        return [(headline, tree.ends[headline]), (root, tree.ends[root])]
    # What stands before the headline in it is no content; what follows the root is if it is no list of links.
    parts = [(headline, tree.ends[root])]
    article = prose[root] >= ENOUGH
    i = root
    while i != both:
        following, end = tree.ends[i], tree.ends[tree.parents[i]]
        while following < end:
            size, links = features.size[following], features.links[following]
            if links < APART * size and (prose[following] >= max(ENOUGH / 2, size / 2) or not article):
                parts.append((following, tree.ends[following]))
            following = tree.ends[following]
        i = tree.parents[i]
    return parts


def _hero(tree: Tree, body: int, first: int, dropped: bytearray) -> list[tuple[int, int]]:
    """The picture above the headline that a template names the lead."""

    @functools.cache
    def leads(k: int) -> bool:
        return any(name == "class" and value and _HERO.search(value) for name, value in tree.attributes[k])

    i = body + 1
    while i < first:
        if dropped[i]:
            i = tree.ends[i]
            continue
        if tree.tags[i] in IMAGES:
            above = tree.parents[i]
            if leads(i) or leads(above) or leads(tree.parents[above]):
                return [(i, tree.ends[i])]
        i += 1
    return []


def _drop_links(
    tree: Tree, features: Features, parts: list[tuple[int, int]], dropped: bytearray, counts: dict[str, int]
) -> None:
    """Blocks in the content that are links alone; none on a page that is an index."""
    size, links = features.size, features.links
    little = sum(features.prose[first] for first, _ in parts) < ENOUGH
    texts = [i for first, last in parts for i in range(first, last) if tree.tags[i] == TEXT and size[i]]
    if sum(links[i] for i in texts) > INDEX * sum(size[i] for i in texts):
        return
    for first, last in parts:
        i = first
        while i < last:
            if dropped[i]:
                i = tree.ends[i]
            elif (
                tree.tags[i] in _PRUNED
                and links[i] > LINKED * size[i]
                and features.anchors[i] >= 2
                and features.hints[i] != hints.CONTENT
                and not features.kinds[i] & CODE
                and not (features.kinds[i] & PICTURE and (little or features.anchors[i] < TILES))
            ):
                dropped[i] = 1
                counts["links"] = counts.get("links", 0) + 1
                i = tree.ends[i]
            else:
                i += 1
