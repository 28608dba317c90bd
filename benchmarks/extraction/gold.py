"""From a label and its page to the gold text and images, by a browser's parsing rules (html5lib)."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urldefrag, urljoin

from benchmarks.extraction.pages import Label

if TYPE_CHECKING:
    from bs4 import BeautifulSoup, Tag

UNSEEN: Final = frozenset(
    ["script", "style", "noscript", "template", "textarea", "select", "button", "head", "svg", "iframe"]
)
INLINE: Final = frozenset(
    re.findall(
        r"\w+",
        "a abbr acronym b bdi bdo big cite code data del dfn em font i img ins kbd label mark nobr q rb rp rt ruby s"
        " samp small span strike strong sub sup time tt u var wbr",
    )
)
_CHARSET: Final = re.compile(rb"charset\s*=\s*[\"']?\s*([\w:-]+)", re.IGNORECASE)
SPLIT: Final = ("srcset", "data-srcset", "data-lazy-srcset")


def parse(page: bytes) -> "BeautifulSoup":
    """The tree that a browser builds."""
    import warnings

    from bs4 import BeautifulSoup, XMLParsedAsHTMLWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)  # XHTML sent as text/html is HTML to a browser too
        return BeautifulSoup(decode(page), "html5lib")


def decode(page: bytes) -> str:
    """A page's text: UTF-8 if it is valid (a file saved as text outlives its headers), else what its meta says.

    >>> decode(b'<meta charset="iso-8859-1">caf\\xe9')
    '<meta charset="iso-8859-1">café'
    """
    import webencodings

    try:
        return page.decode("utf-8-sig")
    except UnicodeDecodeError:
        named = _CHARSET.search(page[:4096])
        encoding = webencodings.lookup(named[1].decode()) if named else None
        return webencodings.decode(page, encoding or "windows-1252")[0]


def gold_text(label: Label, tree: "BeautifulSoup") -> str:
    """The text under the label's selectors in page order: a line a block, white space as it is."""
    wanted = {id(tag) for selector in label.text for tag in tree.select(selector)}
    unwanted = {id(tag) for selector in label.without for tag in tree.select(selector)}
    parts = "".join(_walk(tree, wanted, unwanted, inside=False)).split("\n")
    return "\n".join(line for part in parts if (line := " ".join(part.split())))


def _walk(tag: "Tag", wanted: set[int], unwanted: set[int], *, inside: bool) -> Iterator[str]:
    # A stack of its own: real pages nest deeper than Python's.
    from bs4 import NavigableString, Tag
    from bs4.element import PreformattedString

    stack: list[tuple[object, bool]] = [(tag, inside)]
    while stack:
        node, counts = stack.pop()
        if isinstance(node, str) and not isinstance(node, NavigableString):
            yield node
        elif isinstance(node, NavigableString):
            if counts and not isinstance(node, PreformattedString):
                yield str(node).replace("\n", " ")
        elif isinstance(node, Tag) and node.name not in UNSEEN and id(node) not in unwanted:
            chosen = id(node) in wanted
            counts = counts or chosen
            block = chosen or (counts and node.name not in INLINE)
            if block:
                yield "\n"
                stack.append(("\n", True))
            stack.extend((child, counts) for child in reversed(node.contents))


def gold_images(label: Label, tree: "BeautifulSoup") -> list[frozenset[str]]:
    """Of each image, in page order, the absolute addresses that count as it."""
    base = base_of(label.url, tree)
    return [frozenset(absolute(base, address) for address in image) for image in label.images]


def base_of(url: str, tree: "BeautifulSoup") -> str:
    """What relative addresses of the page are resolved against."""
    from bs4 import Tag

    base = tree.find("base", href=True)
    return urljoin(url, str(base.get("href")).strip()) if isinstance(base, Tag) else url


def absolute(base: str, address: str) -> str:
    """An address to compare: joined, without fragment, percent-encoded where it is not ASCII, http and https alike."""
    return quote(urldefrag(urljoin(base, address.strip())).url, safe="%/:=&?~+!$,;'@()*[]|").replace(
        "http:", "https:", 1
    )


def addresses(tag: "Tag") -> list[tuple[str, str]]:
    """Attribute and value of all that may name an image in a tag; a srcset gives each of its candidates."""
    found = []
    for name, value in tag.attrs.items():
        if not isinstance(value, str) or name in ("class", "id", "alt", "title", "width", "height", "style", "sizes"):
            continue
        if name in SPLIT:
            candidates = (part.strip().split() for part in value.replace(",\n", ", ").split(", "))
            found += [(" ".join([name, *part[1:]]), part[0].rstrip(",")) for part in candidates if part]
        elif "/" in value or "." in value:
            found.append((name, value))
    return found


def pictures(label: Label, tree: "BeautifulSoup") -> list[tuple[str, list[tuple[str, str]]]]:
    """The images under the label's text selectors, `without` left out: name of the tag, what may name the image."""
    roots = {id(tag) for selector in label.text for tag in tree.select(selector)}
    unwanted = {id(tag) for selector in label.without for tag in tree.select(selector)}
    found = []
    for tag in tree.find_all(["img", "source", "amp-img", "video", "input"]):
        ancestors = {id(one) for one in tag.parents} | {id(tag)}
        if ancestors & roots and not ancestors & unwanted and addresses(tag):
            found.append((tag.name, addresses(tag)))
    return found


def problems(label: Label, page: bytes) -> list[str]:
    """What is wrong with a label: selectors that match nothing, no text, images not on the page or out of order."""
    tree = parse(page)
    found = [f"nothing matches {one!r}" for one in (*label.text, *label.without) if not tree.select(one)]
    if not gold_text(label, tree):
        found.append("no text")
    named = [value.strip() for tag in tree.find_all(True) for _, value in addresses(tag)]
    place = 0
    for image in label.images:
        for address in image:
            if address.strip() not in named:
                found.append(f"no attribute is the image {address!r}")
        try:
            place = (
                min(named.index(address.strip(), place) for address in image if address.strip() in named[place:]) + 1
            )
        except ValueError:
            if image[0].strip() in named:
                found.append(f"the image {image[0]!r} is not after the one before it")
    return found
