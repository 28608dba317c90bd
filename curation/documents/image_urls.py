"""The image addresses of documents: their uses counted by shard, merged by the first byte of the address's uid.

A shard's file is cut into 256 parts by that byte, so that a task merges its range of parts of every shard's file, and
what the tasks write is, one after the other, sorted by uid.
"""

import itertools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.documents.config import ImageListConfig
from mmcorpus.curation.documents.read_extracted import parse_nodes, read_documents, surviving
from mmcorpus.curation.engine.items import task_path
from mmcorpus.curation.engine.partitions import PARTS, SUFFIX, read_parts, write_parts
from mmcorpus.curation.html.addresses import address_uid, is_inline, shown_url
from mmcorpus.curation.html.nodes import ImageNode
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.shards import Shard
from mmcorpus.curation.store.storage import threaded
from mmcorpus.filters.url import UrlScorer

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

INLINE: Final = "inline"
"""The rule of `data:` addresses: they need no download, and are placed all the same."""
_BLOCK: Final = 1 << 15
"""Rows counted, and decided, at a time."""
_UNDECLARED: Final = 2**31 - 1
USES: Final = pa.schema(
    {
        "uid": pa.string(),
        "url": pa.string(),
        "pages": pa.int64(),
        "places": pa.int64(),
        "content": pa.bool_(),  # whether it is more than page chrome in one of its places
        "decorative": pa.string(),
        "opt_out": pa.string(),
        "side": pa.int64(),  # each place's smaller declared side, and of these the largest
    }
)
DECIDED: Final = pa.schema({"uid": pa.string(), "rule": pa.string(), "value": pa.string()})


@dataclass(frozen=True, kw_only=True)
class CountShard:
    """The work on one shard of documents: the file of the addresses that it uses."""

    folder: str
    captures: str | None

    def path(self, shard: str) -> str:
        return storage.join(self.folder, f"{shard}{SUFFIX}")

    def run(self, shard: Shard) -> dict[str, int]:
        keys = set(surviving(shard, self.captures)["key"].to_pylist())
        tables = [USES.empty_table()]
        places = _places(read_documents(shard, keys, ["key", "uid", "nodes"]))
        while block := list(itertools.islice(places, _BLOCK)):
            tables.append(_merged(pa.Table.from_pylist(block, schema=USES)))
        table = _merged(pa.concat_tables(tables))
        edges = _edges(table["uid"])
        parts = (table.slice(start, end - start) for start, end in itertools.pairwise(edges))
        counts = {"documents": len(keys), "places": pc.sum(table["places"], min_count=0).as_py()}
        write_parts(self.path(shard.name), USES, parts, {**counts, "addresses": len(table)}, compression="zstd")
        return counts


def _places(documents: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each place of an image, as a row of `USES`; a document counts at the first place of an address in it."""
    last: dict[str, str] = {}
    for row in documents:
        try:
            nodes = parse_nodes(row["nodes"])
        except ValueError:
            continue  # placing says so, document by document
        for node in nodes:
            if isinstance(node, ImageNode):
                address = address_uid(node.url)
                sides = [side for side in (node.width, node.height) if side is not None]
                yield {
                    "uid": address,
                    "url": shown_url(node.url),
                    "pages": int(last.get(address) != row["uid"]),
                    "places": 1,
                    "content": node.decorative is None,
                    "decorative": node.decorative or None,
                    "opt_out": node.opt_out or None,
                    "side": min(sides, default=_UNDECLARED),
                }
                last[address] = row["uid"]


def _merged(table: pa.Table) -> pa.Table:
    """One row an address, sorted by uid: its places added up."""
    how = {"url": "min", "pages": "sum", "places": "sum", "content": "any", "decorative": "min", "opt_out": "min"}
    grouped = table.group_by("uid").aggregate([*how.items(), ("side", "max")])
    grouped = grouped.rename_columns([name.rpartition("_")[0] or name for name in grouped.column_names])
    return grouped.select(USES.names).sort_by("uid")


def _edges(sorted_uids: pa.ChunkedArray) -> list[int]:
    """The row at which each of the 256 parts of sorted uids begins, and at the end their number."""
    first = (uids.encode(sorted_uids)["f0"] >> np.uint64(56)).astype(np.int64)
    return [int(edge) for edge in np.searchsorted(first, np.arange(PARTS + 1))]


@dataclass(frozen=True, kw_only=True)
class Merge:
    """The work on a range of parts: its addresses, the rules' verdict on each, and those that are listed."""

    config: ImageListConfig
    counted: tuple[str, ...]
    """The shards' files."""
    tasks: tuple[range, ...]
    """The parts of each task."""
    out: str
    decided: str
    """The folder of the verdicts."""

    def run(self, task: int) -> dict[str, int]:
        parts = self.tasks[task]
        table = _merged(pa.concat_tables(threaded(lambda path: read_parts(path, parts), self.counted)))
        verdicts = decide(self.config, table)
        rules, values = (pa.array([verdict[place] for verdict in verdicts], pa.string()) for place in (0, 1))
        decided = pa.table([table["uid"], rules, values], schema=DECIDED)
        listed = table.filter(pc.is_null(decided["rule"])).select(["uid", "url", "pages", "places"])
        storage.write_table(storage.join(self.out, f"{task:05d}.parquet"), listed.combine_chunks())
        # Last: its presence is the commit of both.
        write_parts(task_path(self.decided, task), DECIDED, [decided], {}, compression="zstd")
        return {"addresses": table.num_rows, "listed": listed.num_rows}


def decide(config: ImageListConfig, table: pa.Table) -> list[tuple[str | None, str | None]]:
    """The rule that drops each address of a table of `USES`, None for none, and the value that decided."""
    judge = UrlScorer(whole_words=config.whole_words).load()
    verdicts: list[tuple[str | None, str | None]] = []
    for start in range(0, table.num_rows, _BLOCK):
        block = table.slice(start, _BLOCK)
        words = judge({"url": block["url"].to_pylist()})
        for position, row in enumerate(block.to_pylist()):
            found = next((word for word in config.url_words if words[word][position]), None)
            verdicts.append(_decide(config, row, found))
    return verdicts


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
