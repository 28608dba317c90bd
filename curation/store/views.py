"""Views: folders of rows beside shards of documents; trimmed documents read with all that was known of each node."""

import json
from collections.abc import Collection, Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import SUCCESS, VIEW_FILE, Level, Shard, read_rows, shard_at

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

FACTS: Final = ("original_width", "original_height", "original_format", "sha256")
"""Columns that the view of images adds to an image's node, where the download recorded them."""
Nodes = list[dict[str, Any]]


def view_root(placed: str, name: str) -> str:
    """The folder of a view of the documents in `placed`."""
    return f"{placed.rstrip('/')}.{name}"


def write_view_file(root: str, of: str, level: Level, **says: Any) -> None:
    """Say that the folder is a view of the folder `of`, which lies beside it."""
    check_beside(root, of)
    name = of.rstrip("/").rpartition("/")[2]
    storage.write_json(storage.join(root, VIEW_FILE), {"of": f"../{name}", "level": level, **says})


def check_beside(root: str, of: str) -> None:
    """Raise ValueError for a view that does not lie beside the folder that it speaks of."""
    if root.rstrip("/").rpartition("/")[0] != of.rstrip("/").rpartition("/")[0]:
        raise ValueError(f"{root} does not lie beside {of}, whose view it is to be")


def read_kept(shard: Shard, uids: Collection[str]) -> Iterator[tuple[dict[str, Any], Nodes]]:
    """Each of some documents of a shard: its row without `nodes`, and its nodes in page order.

    A text has `text` and `tag`; an image has `url`, `image` (its number in the shard's tar), what else the page said of
    it (`alt`, `caption`, `title`, `width`, `height`), and FACTS. `shard` may be of trimmed documents, or of documents
    that were resharded, whose nodes have it all.

    Raises:
        ValueError: the shard has no documents.
        Damaged: they are a view's, whose `view.json` is gone, or their tar is.
    """
    rows = read_rows(shard)
    if "nodes" not in rows.column_names:
        raise ValueError(f"{shard.parquet} has no documents (no column nodes); give shards/<source>.trimmed")
    wanted = pa.array(list(uids), pa.string())
    rows = rows.filter(pc.and_(pc.equal(rows["status"], SUCCESS), pc.is_in(rows["uid"], value_set=wanted)))
    if not shard.level and not storage.exists(shard.tar):
        why = f"it is gone, or {shard.tar} is: nothing says where the documents' images are"
        why += " (what is only extracted has none yet: give a run's shards/<source>.trimmed)"
        raise storage.Damaged(storage.join(shard.root, VIEW_FILE), "view of documents", why)
    placed, facts = _placed(shard, rows["uid"]), _facts(shard, rows["uid"])
    for batch in rows.to_batches(max_chunksize=256):
        for row in batch.to_pylist():
            nodes: Nodes = json.loads(row.pop("nodes"))
            there = {node["image"]: node for node in json.loads(placed.get(row["uid"], "[]")) if "image" in node}
            for node in nodes:
                if "image" in node:
                    node |= {**there.get(node["image"], {}), **facts.get((row["uid"], node["image"]), {})}
            yield row, nodes


def _placed(shard: Shard, uids: Any) -> dict[str, str]:
    """By uid, the nodes as placed; nothing for documents that are no view's."""
    if shard.level != "document":
        return {}
    rows = read_rows(Shard(root=shard.of, name=shard.name), ["uid", "nodes"])
    rows = rows.filter(pc.is_in(rows["uid"], value_set=uids.combine_chunks()))
    return dict(zip(rows["uid"].to_pylist(), rows["nodes"].to_pylist(), strict=True))


def _facts(shard: Shard, uids: Any) -> dict[tuple[str, int], dict[str, Any]]:
    """By document and number in the tar, what the view of images records; nothing where there is no such view."""
    root = view_root(shard.of, "images")
    if shard.level != "document" or not storage.exists(storage.join(root, VIEW_FILE)):
        return {}
    view = shard_at(root, shard.name)
    names = [name for name in FACTS if name in storage.read_schema(view.parquet).names]
    rows = read_rows(view, ["document", "image", "status", *names])
    rows = rows.filter(
        pc.and_(pc.equal(rows["status"], SUCCESS), pc.is_in(rows["document"], value_set=uids.combine_chunks()))
    )
    return {
        (row["document"], row["image"]): {name: row[name] for name in names if row[name] is not None}
        for row in rows.to_pylist()
    }
