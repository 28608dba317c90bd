"""The extractors under one signature: a page's bytes and its address in, text and image addresses out."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.extraction.gold import INLINE

# trafilatura's own tags (TEI) beside HTML's
_INLINE: Final = INLINE | {"hi", "ref", "graphic"}


@dataclass(frozen=True, slots=True)
class Extraction:
    """What an extractor found."""

    text: str
    images: list[str]
    """As it names them: resolved or not."""


Extractor = Callable[[bytes, str], Extraction]
NOTHING: Final = Extraction("", [])


def ours() -> Extractor:
    """mmcorpus.curation.html, images that it marks as decorative left out."""
    from mmcorpus.curation.html import extract
    from mmcorpus.curation.html.nodes import ImageNode, TextNode

    def run(page: bytes, url: str) -> Extraction:
        nodes = extract(page, url).nodes
        text = "\n".join(node.text for node in nodes if isinstance(node, TextNode))
        return Extraction(text, [node.url for node in nodes if isinstance(node, ImageNode) and node.decorative is None])

    return run


def trafilatura(*, title: bool = False, **options: Any) -> Extractor:
    """trafilatura's `bare_extraction` with images and tables and without comments; `title` puts its title in front."""
    from trafilatura import bare_extraction

    def run(page: bytes, url: str) -> Extraction:
        found: Any = bare_extraction(
            page,
            url=url,
            include_images=True,
            include_tables=True,
            include_comments=False,
            with_metadata=title,
            **options,
        )
        if found is None:
            return NOTHING
        text = _flat(found.body)
        images = [str(image.get("src")) for image in found.body.iter("graphic") if image.get("src")]
        return Extraction(_titled(found.title, text) if title else text, images)

    return run


def resiliparse() -> Extractor:
    """resiliparse's `extract_plain_text` of the main content; it gives no images."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import detect_encoding
    from resiliparse.parse.html import HTMLTree

    def run(page: bytes, url: str) -> Extraction:
        tree = HTMLTree.parse_from_bytes(page, detect_encoding(page, from_html_meta=True) or "utf-8")
        text = extract_plain_text(
            tree, main_content=True, preserve_formatting=True, alt_texts=False, list_bullets=False, links=False
        )
        return Extraction(text, [])

    return run


def readability(*, title: bool = False) -> Extractor:
    """readability-lxml's summary with all images; `title` puts its title in front."""
    import lxml.html
    from readability import Document

    def run(page: bytes, url: str) -> Extraction:
        document = Document(page, url=url)
        summary = document.summary(html_partial=True, keep_all_images=True)
        if not summary.strip():
            return NOTHING
        tree = lxml.html.fromstring(summary)
        text = _flat(tree)
        images = [str(image.get("src")) for image in tree.iter("img") if image.get("src")]
        return Extraction(_titled(document.short_title(), text) if title else text, images)

    return run


EXTRACTORS: Final[dict[str, Callable[[], Extractor]]] = {
    "mmcorpus": ours,
    "trafilatura": trafilatura,
    "trafilatura+title": lambda: trafilatura(title=True),
    "trafilatura precision": lambda: trafilatura(favor_precision=True),
    "trafilatura recall": lambda: trafilatura(favor_recall=True),
    "trafilatura fast": lambda: trafilatura(fast=True),
    "resiliparse": resiliparse,
    "readability": readability,
    "readability+title": lambda: readability(title=True),
}


def _flat(tree: Any) -> str:
    """The text of an lxml tree, a line a block."""
    parts: list[str] = []
    for event, element in _events(tree):
        if not isinstance(element.tag, str):  # a comment or the like
            parts.append(element.tail or "")
            continue
        block = element.tag not in _INLINE
        if event == "start":
            parts += ["\n" if block else "", element.text or ""]
        else:
            parts += ["\n" if block else "", (element.tail or "") if element is not tree else ""]
    return "".join(parts)


def _events(tree: Any) -> Any:
    from lxml import etree

    return etree.iterwalk(tree, events=("start", "end", "comment", "pi"))


def _titled(title: str | None, text: str) -> str:
    """A title put before a text that does not begin with it."""
    return text if not title or text.lstrip().startswith(title.strip()) else f"{title}\n{text}"
