"""From what a reader finds to a row of extracted documents: one page, one row, whatever the page does."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Final

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.optout.decide import decide_page, image_decider
from mmcorpus.curation.crawl.optout.site_rules import SiteRules, host_of
from mmcorpus.curation.crawl.records import Failure, Page, Ready
from mmcorpus.curation.documents.shards import FAILED
from mmcorpus.curation.html.nodes import Node, TextNode, to_json
from mmcorpus.curation.store.shards import SUCCESS
from mmcorpus.curation.store.uid import document_uid

_MAX_MESSAGE: Final = 500
Metas = Sequence[tuple[str, str]]


class PageExtractor:
    """Makes rows. Holds what does not change from page to page."""

    def __init__(self, config: PagesConfig, sites: SiteRules, *, images: bool) -> None:
        from mmcorpus.curation.html import ExtractError, extract

        self.config, self.sites, self.images = config, sites, images
        self._extract: Callable[..., Any] = extract
        self._refused: type[Exception] = ExtractError

    def row(self, found: Page | Ready | Failure, aside: str | None = None) -> dict[str, Any]:
        """The row of a page, document or failure; with `aside`, why it was set aside, it is not read.

        Never raises for what it holds, except MemoryError where that is more than there is.
        """
        row: dict[str, Any] = {
            "uid": uid_of(found),
            "status": FAILED,
            "error_message": None,
            "url": found.url,
            "domain": domain_of(found.url) if found.url else None,
            "date": found.date,
            "file": found.file,
            "offset": found.offset,
            "length": found.length,
        }
        try:
            row |= self._contents(found) if aside is None else {"error_message": aside}
        except MemoryError:
            raise
        except self._refused as error:
            row["error_message"] = str(error)
        except Exception as error:  # whatever a page does to the extractor, it costs that page
            row["error_message"] = f"internal: {type(error).__name__}: {error}"
        if row["error_message"] is not None:
            row["error_message"] = row["error_message"][:_MAX_MESSAGE]
        return {name: _clean(value) for name, value in row.items()}

    def _contents(self, found: Page | Ready | Failure) -> dict[str, Any]:
        if isinstance(found, Failure):
            return {"error_message": f"{found.code}: {found.detail}"}
        more: dict[str, Any] = {}
        metas: Metas = ()
        headers: Metas = ()
        if isinstance(found, Page):
            page = self._extract(found.body, found.url, self.config.extraction, charset=found.charset)
            nodes, metas, headers = list(page.nodes), page.robots, found.headers
            more = {"title": page.title, "language": page.language, "charset": page.charset}
        else:
            nodes = found.nodes
            more = {"language": found.language}
        if not self.images:
            nodes = [node for node in nodes if isinstance(node, TextNode)]
        if not nodes:
            return {"error_message": "empty: no text on the page"}
        signal = image_decider(metas, headers, self.sites, self.config.opt_out)
        nodes = [_with_opt_out(node, signal) for node in nodes]
        texts = [node for node in nodes if isinstance(node, TextNode)]
        return {
            **more,
            "status": SUCCESS,
            "opt_out": decide_page(found.url or "", metas, headers, self.sites, self.config.opt_out),
            "nodes": to_json(nodes),
            "texts": len(texts),
            "images": len(nodes) - len(texts),
            "words": sum(len(node.text.split()) for node in texts),
        }


def _with_opt_out(node: Node, signal: Callable[[str], str | None]) -> Node:
    if isinstance(node, TextNode) or node.opt_out is not None:
        return node
    found = signal(node.url)
    return replace(node, opt_out=found) if found is not None else node


def uid_of(found: Page | Ready | Failure) -> str:
    """A document's identity: its corpus' own, else its address and the digest of what was read, with the date; of a
    record that cannot be read, where it lies."""
    if isinstance(found, Ready) and found.uid is not None:
        return found.uid
    digest = hashlib.blake2b(digest_size=16)
    if isinstance(found, Failure):
        digest.update(f"{found.file}\n{found.offset}\n{found.number}".encode("utf-8", "surrogatepass"))
    else:
        digest.update(f"{found.date}\n".encode("utf-8", "surrogatepass"))
        digest.update(found.body if isinstance(found, Page) else found.identity)
    return document_uid(found.url or "", digest.hexdigest())


def domain_of(url: str) -> str | None:
    """The host of an address, without `www.` and port; null if it has none."""
    return host_of(url).partition(":")[0].removeprefix("www.") or None


def _clean(value: Any) -> Any:
    """Texts as UTF-8 can hold them: lone surrogates of broken pages become replacement characters."""
    if isinstance(value, str) and not value.isascii():
        return value.encode("utf-8", "surrogatepass").decode("utf-8", "replace")
    return value
