"""Reading extracted documents: those of a shard that `capture` left, a few in memory at a time."""

import json
import posixpath
from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.documents.site_optout import digest_of_site_optouts, overlay, read_site_optouts
from mmcorpus.curation.engine.made_from import digest_of
from mmcorpus.curation.html.nodes import Node, from_json
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import METADATA_KEY, read_scores, table_path
from mmcorpus.curation.store.shards import SUCCESS, Shard, list_shards, read_rows
from mmcorpus.curation.store.storage import threaded

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

CAPTURE: Final = "capture"
"""The ledger's stage, and the score table that says which captures stay: rank 0, or no address to compare (null)."""
BATCH_DOCUMENTS: Final = 64
"""Rows read at a time: pages with images in their addresses may have megabytes."""
BAD_NODES: Final = "bad_nodes"
"""The code of a document whose nodes cannot be read."""


def surviving(shard: Shard, captures: str | None) -> pa.Table:
    """`key` and `uid` of a shard's documents that go on, by key.

    Args:
        captures: the scores with the table `capture`; None takes every document that was extracted.

    Raises:
        ValueError: the table is not of the documents that the shard has now.
    """
    rows = read_rows(shard, ["key", "uid", "status"])
    rows = rows.filter(pc.equal(rows["status"], SUCCESS)).sort_by("key").select(["key", "uid"])
    if captures is None:
        return rows
    table = read_scores(captures, CAPTURE, shard.name, ["uid", "rank"])
    if not table["uid"].cast(pa.string()).equals(rows["uid"].cast(pa.string())):
        raise ValueError(
            f"{table_path(captures, CAPTURE, shard.name)} is not of the documents that {shard.parquet} has now; "
            "run the capture stage again"
        )
    return rows.filter(pc.fill_null(pc.equal(table["rank"], 0), True))


def read_documents(
    shard: Shard, keys: Collection[str], columns: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """The documents of a shard with these keys, in the file's order; `columns` must have the key.

    Their `opt_out` and their nodes' hold their sites' opt-outs, too.
    """
    optouts = read_site_optouts(shard)
    wanted = None if columns is None else list(columns)
    with storage.open_parquet(shard.parquet) as table:
        for batch in table.iter_batches(BATCH_DOCUMENTS, columns=wanted):
            for row in batch.to_pylist():
                if row["key"] in keys:
                    yield overlay(row, optouts[row["key"]]) if row["key"] in optouts else row


def parse_nodes(text: str | None) -> list[Node]:
    """A document's nodes, their texts such as Arrow can hold. Raises ValueError if they cannot be read."""
    try:
        if text and "\\ud" in text.lower():  # half of a surrogate pair, escaped, is no text
            text = json.dumps(json.loads(text), ensure_ascii=False).encode("utf-8", "replace").decode()
        return from_json(text or "")
    except RecursionError:
        raise ValueError("nested too deeply") from None


def digest_of_shards(root: str) -> str:
    """16 hex digits of what is committed under `root`: the stats of every shard and the sizes of its files."""
    fs, inner = storage.filesystem(root)
    shards = list_shards(root)
    infos = fs.ls(inner, detail=True) if shards else []
    sizes = {posixpath.basename(str(info["name"])): info.get("size") for info in infos}
    stats = threaded(lambda shard: storage.read_json(shard.stats), shards)
    return digest_of(
        [
            [shard.name, said, sizes.get(f"{shard.name}.parquet"), sizes.get(f"{shard.name}.tar")]
            for shard, said in zip(shards, stats, strict=True)
        ],
        digest_of_site_optouts(root),
    )


def digest_of_captures(captures: str | None, shards: Sequence[Shard]) -> str:
    """16 hex digits of what the tables `capture` of these shards say made them; a missing one says nothing."""
    if captures is None:
        return ""
    return digest_of(threaded(lambda shard: _made_by(captures, shard.name), shards))


def _made_by(captures: str, shard: str) -> str:
    try:
        metadata = storage.read_schema(table_path(captures, CAPTURE, shard)).metadata or {}
    except FileNotFoundError:
        return ""
    return str(metadata.get(METADATA_KEY, b""), "utf-8", "replace")
