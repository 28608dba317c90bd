"""Placing within one document: the image of each node, or the reason why it gets none."""

import functools
import hashlib
from dataclasses import dataclass, field
from typing import Any

from mmcorpus.curation.documents.config import PlaceConfig
from mmcorpus.curation.documents.image_urls import INLINE
from mmcorpus.curation.documents.locate import SKIPPED
from mmcorpus.curation.documents.read_extracted import BAD_NODES, parse_nodes
from mmcorpus.curation.download import DownloadConfig
from mmcorpus.curation.download.images import BadImage
from mmcorpus.curation.download.resize import UprightResizer
from mmcorpus.curation.html.addresses import address_uid, decode_inline, shown_url
from mmcorpus.curation.html.nodes import ImageNode, Node, to_dict
from mmcorpus.curation.store.shards import SUCCESS


@dataclass(kw_only=True, slots=True)
class Placed:
    """An image node on its way into the tar."""

    number: int
    """The node's, in its document."""
    node: ImageNode
    address: str
    """The uid of its address."""
    status: str = SUCCESS
    error: str | None = None
    """`code: detail`; None for an image that is placed."""
    facts: dict[str, Any] = field(default_factory=dict)
    """The facts known of its address: `located_schema`'s columns."""
    data: bytes | None = None
    """The image of a `data:` address, as it is to be stored; others are read from the tar that `facts` names."""
    image: int | None = None
    """Its number in the tar."""

    def fail(self, status: str, error: str) -> None:
        """Leave it out."""
        self.status, self.error, self.data = status, error, None


@dataclass(kw_only=True, slots=True)
class Document:
    """A document on its way."""

    row: dict[str, Any]
    nodes: list[Node]
    images: list[Placed]
    error: str | None = None

    @property
    def wanted(self) -> list[Placed]:
        """The images that are to be read from a tar."""
        return [one for one in self.images if one.error is None and one.data is None]

    def placed_nodes(self) -> list[dict[str, Any]]:
        """The nodes as placed documents have them."""
        listed = [to_dict(node) for node in self.nodes]
        for one in self.images:
            sides = [one.facts.get("width"), one.facts.get("height")]
            size = {"size": sides} if all(sides) else {}  # as stored; the node's own width and height are the page's
            says = {"reason": one.error} if one.image is None else {"image": one.image, **size}
            listed[one.number] = {**listed[one.number], "url": shown_url(one.node.url), **says}
        return listed


class Placer:
    """Decides on a document's images by what is known of their addresses."""

    def __init__(self, config: PlaceConfig, download: DownloadConfig) -> None:
        self._config, self._download = config, download

    @functools.cached_property
    def _resizer(self) -> UprightResizer:  # its imports are heavy, and most pages have no image in an address
        return UprightResizer(self._download)

    def place(self, row: dict[str, Any], known: dict[str, dict[str, Any]]) -> Document:
        """The document of an extracted row, its images decided but for what reading them may show.

        Args:
            known: by uid, what is known of the addresses that the document has.
        """
        try:
            nodes = parse_nodes(row["nodes"])
        except ValueError as error:
            return Document(row=row, nodes=[], images=[], error=f"{BAD_NODES}: {str(error)[:200]}")
        images = []
        seen: dict[str, int] = {}
        for number, node in enumerate(nodes):
            if isinstance(node, ImageNode):
                one = Placed(number=number, node=node, address=address_uid(node.url))
                if (failure := self._decide(one, known.get(one.address), seen)) is not None:
                    one.fail(*failure)
                images.append(one)
        return Document(row=row, nodes=nodes, images=images)

    def _decide(self, one: Placed, fact: dict[str, Any] | None, seen: dict[str, int]) -> tuple[str, str] | None:
        """The status and error of an image that is not placed.

        seen: gives for the addresses and hashes of the images placed so far the node that has them.
        """
        first = self._config.repeats == "first"
        if fact is None:
            return SKIPPED, "not_listed"
        if fact["status"] == SKIPPED:
            return SKIPPED, fact["error_message"]
        if self._config.decorative and one.node.decorative is not None:
            return SKIPPED, f"decorative: {one.node.decorative}"
        if first and one.address in seen:
            return SKIPPED, f"repeated_on_page: of node {seen[one.address]}"
        one.facts = fact
        if fact["status"] == INLINE:
            if (failure := self._take_inline(one)) is not None:
                return failure
        elif fact["status"] != SUCCESS:
            return fact["status"], fact["error_message"]
        body = one.facts.get(self._download.compute_hash or "")
        if first and body is not None:
            if body in seen:
                one.facts = {}
                return SKIPPED, f"repeated_on_page: the bytes of node {seen[body]}"
            seen[body] = one.number
        seen.setdefault(one.address, one.number)
        return None

    def _take_inline(self, one: Placed) -> tuple[str, str] | None:
        """Decode, check and resize the image that stands in the address, as the download does to the others."""
        facts: dict[str, Any] = {}
        try:
            data, kind = decode_inline(one.node.url, self._download.max_bytes)
        except BadImage as bad:
            return "failed_to_download", str(bad)
        image, width, height, original_width, original_height, error = self._resizer(data, kind, facts)
        facts |= {"width": width, "height": height, "original_bytes": len(data)}
        facts |= {"original_width": original_width, "original_height": original_height}
        if self._download.compute_hash is not None:
            facts[self._download.compute_hash] = hashlib.new(self._download.compute_hash, data).hexdigest()
        one.facts, one.data = facts, image
        return None if image is not None else ("failed_to_resize", error or "undecodable")
