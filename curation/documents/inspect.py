"""One placed document as a person looks at it: each node, and what was decided on it."""

import json
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset as ds

from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import SUCCESS, EncodedImage, Shard, read_rows, read_samples
from mmcorpus.curation.store.uid import node_uid

pc: Any = pyarrow.compute  # its stubs do not know chunked columns
_NODE_STAGES = ("download", "select")


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedNode:
    """A node of a placed document and its fate."""

    number: int
    uid: str
    node: dict[str, Any]
    """As placed: `text` and `tag`; or `url`, `alt`, … with `image`, its number in the tar, or the `reason` for none."""
    image: EncodedImage | None
    kept: bool
    stage: str | None = None
    """The stage that dropped it; so the rule, and the value that decided."""
    rule: str | None = None
    value: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgedDocument:
    """A placed document, its nodes in page order."""

    row: dict[str, Any]
    """Its row in the shard, without the nodes."""
    nodes: tuple[JudgedNode, ...]


def read_document(shard: Shard, uid: str, *, images_ledger: str, paragraphs_ledger: str) -> JudgedDocument:
    """A placed document with what the ledgers of its nodes say; a stage that has not run dropped nothing.

    Args:
        shard: of placed documents, in `shards/<source>`.
        uid: the document's.
        images_ledger: `ledger/<source>.images`; paragraphs_ledger likewise.

    Raises:
        LookupError: the shard has no such document.
        tarfile.ReadError: its tar is damaged.
    """
    rows = read_rows(shard)
    found = rows.filter(pc.equal(rows["uid"], uid)).to_pylist()
    if not found:
        raise LookupError(f"{shard.parquet} has no document {uid}")
    row = found[0]
    nodes = json.loads(row.pop("nodes")) if row["status"] == SUCCESS else []
    names = [node_uid(uid, number) for number in range(len(nodes))]
    dropped: dict[str, dict[str, Any]] = {}
    for root in (images_ledger, paragraphs_ledger):
        dropped |= _dropped(root, names)
    sample = next(read_samples(shard, {uid}), None) if row["images"] else None
    images = sample.images if sample is not None else ()
    judged = []
    for number, (name, node) in enumerate(zip(names, nodes, strict=True)):
        entry = dropped.get(name, {})
        image = next(iter(images[node["image"] :]), None) if "image" in node else None
        says = {key: entry.get(key) for key in ("stage", "rule", "value")}
        judged.append(JudgedNode(number=number, uid=name, node=node, image=image, kept=not entry, **says))
    return JudgedDocument(row=row, nodes=tuple(judged))


def _dropped(root: str, names: list[str]) -> dict[str, dict[str, Any]]:
    """By uid, the ledger's row of the stage that dropped it; only the row groups with these uids are read."""
    found: dict[str, dict[str, Any]] = {}
    for stage in _NODE_STAGES:
        path = storage.join(root, f"{stage}.parquet")
        if storage.exists(path):
            fs, inner = storage.filesystem(path)
            table = ds.dataset(inner, filesystem=fs, format=ds.ParquetFileFormat(page_checksum_verification=True))
            wanted = ds.field("uid").isin(pa.array(names, pa.string())) & (ds.field("verdict") == ledger.DROPPED)
            found |= {row["uid"]: row for row in table.to_table(filter=wanted).to_pylist()}
    return found
