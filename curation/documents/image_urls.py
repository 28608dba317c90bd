"""Which addresses documents use, how often and how: counted by shard, merged by the first byte of the address's uid.

A shard's file is cut into 256 parts by that byte, so that a task merges its range of parts of every shard's file, and
what the tasks write is, one after the other, sorted by uid.
"""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.documents.config_images import ImageListConfig
from mmcorpus.curation.documents.read_extracted import parse_nodes, read_documents, surviving
from mmcorpus.curation.engine.items import threaded
from mmcorpus.curation.engine.partitions import PARTS, SUFFIX, read_parts, write_parts
from mmcorpus.curation.html.addresses import address_uid, is_inline, shown_url
from mmcorpus.curation.html.nodes import ImageNode
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.shards import Shard
from mmcorpus.filters.url import UrlScorer

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

INLINE: Final = "inline"
"""The rule of `data:` addresses: they need no download, and are placed all the same."""
_BLOCK: Final = 1 << 15
"""Rows decided at a time."""
_UNDECLARED: Final = 2**31 - 1
USES: Final = pa.schema(
    {
        "uid": pa.string(),
        "url": pa.string(),
        "pages": pa.int64(),
        "places": pa.int64(),
        "content": pa.bool_(),  # whether it is more than furniture in one of its places
        "decorative": pa.string(),
        "opt_out": pa.string(),
        "side": pa.int64(),  # each place's smaller declared side, and of these the largest
    }
)
DECIDED: Final = pa.schema({"uid": pa.string(), "rule": pa.string(), "value": pa.string()})


@dataclass(slots=True)
class _Use:
    url: str
    pages: int = 0
    places: int = 0
    last: str = ""
    """The document that was counted last."""
    content: bool = False
    decorative: str | None = None
    opt_out: str | None = None
    side: int = 0

    def add(self, document: str, node: ImageNode) -> None:
        self.pages += self.last != document
        self.last = document
        self.places += 1
        self.content |= node.decorative is None
        self.decorative = _least(self.decorative, node.decorative)
        self.opt_out = _least(self.opt_out, node.opt_out)
        sides = [side for side in (node.width, node.height) if side is not None]
        self.side = max(self.side, min(sides, default=_UNDECLARED))


def _least(first: str | None, second: str | None) -> str | None:
    """One of two reasons, whatever their order."""
    return min(filter(None, (first, second)), default=None)


@dataclass(frozen=True, kw_only=True)
class CountShard:
    """The work on one shard of documents: the file of what addresses it uses."""

    folder: str
    captures: str | None

    def path(self, shard: str) -> str:
        return storage.join(self.folder, f"{shard}{SUFFIX}")

    def run(self, shard: Shard) -> dict[str, int]:
        found: dict[str, _Use] = {}
        keys = set(surviving(shard, self.captures)["key"].to_pylist())
        places = 0
        for row in read_documents(shard, keys, ["key", "uid", "nodes"]):
            try:
                nodes = parse_nodes(row["nodes"])
            except ValueError:
                continue  # placing says so, document by document
            for node in nodes:
                if isinstance(node, ImageNode):
                    places += 1
                    uid = address_uid(node.url)
                    if uid not in found:
                        found[uid] = _Use(url=shown_url(node.url))
                    found[uid].add(row["uid"], node)
        names = sorted(found)
        columns = {name: [getattr(found[uid], name) for uid in names] for name in USES.names[1:]}
        table = pa.table({"uid": names, **columns}, schema=USES)
        edges = edges_of(table["uid"])
        parts = (table.slice(edges[part], edges[part + 1] - edges[part]) for part in range(PARTS))
        counts = {"documents": len(keys), "places": places}
        says = {**counts, "addresses": len(names)}
        write_parts(self.path(shard.name), USES, parts, says, compression="zstd")
        return counts


def edges_of(sorted_uids: pa.ChunkedArray) -> list[int]:
    """Where each of the 256 parts of sorted uids begins, and at the end their number."""
    first = (uids.encode(sorted_uids)["f0"] >> np.uint64(56)).astype(np.int64)
    return [int(edge) for edge in np.searchsorted(first, np.arange(PARTS + 1))]


@dataclass(frozen=True, kw_only=True)
class Merge:
    """The work on a range of parts: its addresses, what the rules say of them, and which of them are listed."""

    config: ImageListConfig
    counted: tuple[str, ...]
    """The shards' files."""
    out: str
    decided: str
    """The folder of what was decided."""

    def run(self, task: tuple[int, range]) -> dict[str, int]:
        number, parts = task
        table = pa.concat_tables(threaded(lambda path: read_parts(path, parts), self.counted))
        table = _merged(table)
        rules, values = decide(self.config, table)
        decided = pa.table([table["uid"], pa.array(rules, pa.string()), pa.array(values, pa.string())], schema=DECIDED)
        listed = table.filter(pc.is_null(decided["rule"])).select(["uid", "url", "pages", "places"])
        storage.write_table(storage.join(self.out, f"{number:05d}.parquet"), listed.combine_chunks())
        # Last: its presence is the commit of both.
        write_parts(storage.join(self.decided, f"{number:05d}{SUFFIX}"), DECIDED, [decided], {}, compression="zstd")
        return {"addresses": table.num_rows, "listed": listed.num_rows}


def _merged(table: pa.Table) -> pa.Table:
    """One row an address, sorted by uid."""
    how = {"url": "min", "pages": "sum", "places": "sum", "content": "any", "decorative": "min", "opt_out": "min"}
    grouped = table.group_by("uid").aggregate([*how.items(), ("side", "max")])
    grouped = grouped.rename_columns([name.rpartition("_")[0] or name for name in grouped.column_names])
    return grouped.select(USES.names).sort_by("uid")


def decide(config: ImageListConfig, table: pa.Table) -> tuple[list[str | None], list[str | None]]:
    """The rule that drops each address of a table of `USES`, None for none, and the value that decided."""
    judge = UrlScorer(whole_words=config.whole_words).load()
    rules: list[str | None] = []
    values: list[str | None] = []
    for start in range(0, table.num_rows, _BLOCK):
        block = table.slice(start, _BLOCK)
        words = judge({"url": block["url"].to_pylist()})
        for position, row in enumerate(block.to_pylist()):
            found = next((word for word in config.url_words if words[word][position]), None)
            rule, value = _decide(config, row, found)
            rules.append(rule)
            values.append(value)
    return rules, values


def _decide(config: ImageListConfig, row: dict[str, Any], word: str | None) -> tuple[str | None, str | None]:
    inline = is_inline(row["url"])
    if config.opt_out and row["opt_out"] is not None:
        return "opt_out", row["opt_out"]
    if config.decorative and not row["content"]:
        return "decorative", row["decorative"]
    if row["side"] < config.min_declared_side:
        return "declared_side", str(row["side"])
    if word is not None and not inline:
        return "url_word", word
    if config.max_uses is not None and row["places"] > config.max_uses:
        return "max_uses", str(row["places"])
    return (INLINE, row["url"]) if inline else (None, None)
