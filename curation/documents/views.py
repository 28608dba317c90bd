"""Views: shards without tars whose rows are the nodes of placed documents, or the documents as they were trimmed."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.documents.config import Beside
from mmcorpus.curation.documents.locate import image_fields
from mmcorpus.curation.documents.place_document import Document
from mmcorpus.curation.download import DownloadConfig
from mmcorpus.curation.html.addresses import shown_url
from mmcorpus.curation.html.nodes import Node, TextNode
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import SUCCESS, Shard, list_shards, read_rows
from mmcorpus.curation.store.storage import threaded
from mmcorpus.curation.store.uid import node_uid

_NODE_FIELDS: Final[list[Any]] = [
    *((name, pa.string()) for name in ("key", "uid", "status", "error_message", "document")),
    ("node", pa.int32()),
    *((name, pa.string()) for name in ("domain", "url", "caption")),
]
PARAGRAPHS: Final = pa.schema([*_NODE_FIELDS, ("tag", pa.string())])


def images_schema(download: DownloadConfig) -> pa.Schema:
    """The columns of the view of images: `image` is its number in the tar, `address` the uid of its address."""
    own: list[Any] = [("alt", pa.string()), ("address", pa.string()), ("image", pa.int32())]
    return pa.schema([*_NODE_FIELDS, *own, *image_fields(download)])


def node_key(key: str, number: int) -> str:
    """The key of a node's row: of its document's key and its number in the document."""
    return f"{key}-{number:05d}"


def count_codes(root: str) -> Counter[str]:
    """The rows of all committed shards by the code of their error, `success` for those without."""
    total: Counter[str] = Counter()
    for stats in threaded(lambda shard: storage.read_json(shard.stats), list_shards(root)):
        total.update(stats["status_dict"])
    return total


def download_ledger(root: str) -> pa.Table:
    """The ledger's stage `download` of the view of images: a row for each image node."""

    def verdicts(shard: Shard) -> pa.Table:
        return ledger.verdicts_of(read_rows(shard, ["uid", "error_message"]), "download")

    return pa.concat_tables([ledger.SCHEMA.empty_table(), *threaded(verdicts, list_shards(root))])


def texts_beside(nodes: Sequence[Node], order: Sequence[Beside]) -> dict[int, str | None]:
    """By the number of each image, its text: the first of `order` that it has."""
    after: list[str | None] = [None] * len(nodes)
    text: str | None = None
    for number in range(len(nodes) - 1, -1, -1):
        after[number], node = text, nodes[number]
        text = node.text if isinstance(node, TextNode) else text
    found: dict[int, str | None] = {}
    before: str | None = None
    for number, node in enumerate(nodes):
        if isinstance(node, TextNode):
            before = node.text
            continue
        texts = {"figcaption": node.caption, "next": after[number], "previous": before, "alt": node.alt}
        found[number] = next((texts[place] for place in order if texts[place]), None)
    return found


def image_rows(document: Document, order: Sequence[Beside], names: Sequence[str]) -> Iterator[dict[str, Any]]:
    """The rows of a document's images in their view; `names` are the columns that the download records."""
    texts = texts_beside(document.nodes, order)
    for one in document.images:
        yield {
            **_node_row(document, one.number),
            **{name: one.facts.get(name) for name in names},
            "status": one.status,
            "error_message": one.error,
            "url": shown_url(one.node.url),
            "caption": texts[one.number],
            "alt": one.node.alt,
            "address": one.address,
            "image": one.image,
        }


def paragraph_rows(document: Document) -> Iterator[dict[str, Any]]:
    """The rows of a document's texts in their view."""
    for number, node in enumerate(document.nodes):
        if isinstance(node, TextNode):
            yield {**_node_row(document, number), "status": SUCCESS, "caption": node.text, "tag": node.tag}


def _node_row(document: Document, number: int) -> dict[str, Any]:
    row = document.row
    return {
        "key": node_key(row["key"], number),
        "uid": node_uid(row["uid"], number),
        "error_message": None,
        "document": row["uid"],
        "node": number,
        "domain": row.get("domain"),
        "url": row.get("url"),
    }
