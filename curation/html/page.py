"""A page's bytes to its main content: texts and images in page order."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from mmcorpus.curation.html.config import ExtractConfig, ExtractError
from mmcorpus.curation.html.content import find_content
from mmcorpus.curation.html.emit import emit
from mmcorpus.curation.html.encoding import decode_html
from mmcorpus.curation.html.features import measure
from mmcorpus.curation.html.images import mark_repeated
from mmcorpus.curation.html.lines import drop_lines, is_thread
from mmcorpus.curation.html.nodes import ImageNode, Node
from mmcorpus.curation.html.parse import parse
from mmcorpus.curation.html.urls import base_url

_DEFAULT: Final = ExtractConfig()
_BINARY: Final = (
    b"%PDF-",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"RIFF",
    b"\x7fELF",
    b"OggS",
    b"ID3",
)
_LOOK: Final = 2_000


@dataclass(frozen=True, kw_only=True, slots=True)
class Extracted:
    """The contents of a page."""

    nodes: list[Node]
    """Its main content in page order; may be empty."""
    title: str | None
    """Of the browser's window."""
    language: str | None
    """As the page declares it (`de-AT`)."""
    base_url: str
    """The address against which its relative ones were resolved."""
    charset: str
    """The WHATWG name of its encoding; of a page that came as text, `utf-8`."""
    robots: tuple[tuple[str, str], ...]
    """Name and content of its `meta` tags for crawlers (`robots`, `googlebot`, `tdm-reservation` …), in page order."""
    counts: dict[str, int] = field(default_factory=dict)
    """Elements left out by reason (`boilerplate`, `comments`, `links`, `interface`), and `decorative` images kept."""


def extract(html: bytes | str, url: str, config: ExtractConfig = _DEFAULT, *, charset: str | None = None) -> Extracted:
    """The main content of a page with its images where they stood.

    Args:
        html: the page as it came, or as text.
        url: where it came from.
        charset: of the response's header; see `encoding.decode_html`.

    Raises:
        ExtractError: the page cannot be read: `empty`, `not_html`, `too_large`, `too_many_nodes`.
    """
    if len(html) > config.max_bytes:
        raise ExtractError("too_large", f"{len(html):,} of {config.max_bytes:,}")
    if isinstance(html, bytes):
        if html.startswith(_BINARY):
            raise ExtractError("not_html", f"begins with {html[:8]!r}")
        text, name = decode_html(html, charset, tld=_tld(url))
    else:
        text, name = html.removeprefix("\ufeff"), "utf-8"
    if not text or text.isspace():
        raise ExtractError("empty", f"{len(html):,} bytes")
    if "<" not in text:
        raise ExtractError("not_html", "no tag in it")
    if text.count("\0", 0, _LOOK) > len(text[:_LOOK]) // 10:
        raise ExtractError("not_html", "binary")
    tree = parse(text, config)
    base = base_url(url, tree.base)
    features = measure(tree)
    content = find_content(tree, features, config)
    nodes = emit(tree, features, content, base, config)
    if content.parts:
        thread = is_thread(tree, content.parts[0][0], content.parts[-1][1])
        nodes = drop_lines(mark_repeated(nodes), thread=thread)
    counts = Counter(content.counts)
    counts["decorative"] = sum(isinstance(node, ImageNode) and node.decorative is not None for node in nodes)
    return Extracted(
        nodes=nodes,
        title=tree.title,
        language=tree.language,
        base_url=base,
        charset=name,
        robots=tuple(tree.robots),
        counts=dict(counts),
    )


def _tld(url: str) -> str | None:
    try:
        host = urlsplit(url).hostname or ""
        label = host.rpartition(".")[2].encode("idna").decode("ascii").lower()
    except (ValueError, UnicodeError):
        return None
    return label if label.isalpha() or label.startswith("xn--") else None
