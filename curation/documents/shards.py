"""Shards of extracted documents: their columns, and their commit."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any, Final

import pyarrow as pa

from mmcorpus.curation.crawl.optout.site_rules import SiteFile, to_table
from mmcorpus.curation.crawl.records import Position
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import SUCCESS, Shard, commit_shard

FAILED: Final = "failed_to_extract"
SITES: Final = "sites"
"""The folder, below the documents, of the robots.txt and ai.txt files that the inputs carry."""
_FIELDS: Final[list[Any]] = [
    *(
        pa.field(name, pa.string())
        for name in ("key", "uid", "status", "error_message", "url", "domain", "date", "file")
    ),
    pa.field("offset", pa.int64()),
    pa.field("length", pa.int64()),
    *(pa.field(name, pa.string()) for name in ("charset", "language", "title", "opt_out")),
    pa.field("nodes", pa.large_string()),
    *(pa.field(name, pa.int32()) for name in ("texts", "images", "words")),
]
SCHEMA: Final = pa.schema(_FIELDS)


def part_name(file: int, part: int) -> str:
    """`000120003`: the fourth shard of the thirteenth file. Raises ValueError above 9,999."""
    if part > 9_999:
        raise ValueError("a file has at most 10,000 shards; make records_per_shard larger")
    return f"{file:05d}{part:04d}"


def file_of(name: str) -> int:
    """The number of the file that a part is of."""
    return int(name[:-4])


@dataclass(kw_only=True)
class Part:
    """A shard in the making."""

    name: str
    digits: int
    """Of a row's number in its key."""
    rows: list[dict[str, Any]] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    sites: list[SiteFile] = field(default_factory=list)
    size: int = 0
    """Bytes that it holds in memory, about."""

    def add(self, row: dict[str, Any]) -> None:
        """Append a row; its key is its number."""
        self.rows.append({**row, "key": f"{self.name}{len(self.rows):0{self.digits}d}"})
        self.size += len(row.get("nodes") or "") + 512

    def commit(self, root: str, file: str, after: Position | None, mark: dict[str, Any]) -> dict[str, int]:
        """Commit the shard and the sites' files of its records; returns counts.

        after: where the file's next shard begins; None if this is its last.
        """
        if self.sites:
            storage.write_table(storage.join(root, SITES, f"{self.name}.parquet"), to_table(self.sites))
        stats = commit_shard(
            Shard(root=root, name=self.name),
            pa.Table.from_pylist(self.rows, schema=SCHEMA),
            failures=[FAILED],
            others=dict(sorted(self.others.items())),
            texts=sum(row.get("texts") or 0 for row in self.rows),
            images=sum(row.get("images") or 0 for row in self.rows),
            opted_out=sum(row.get("opt_out") is not None for row in self.rows),
            file=file,
            file_mark=mark,
            next=None if after is None else list(after),
        )
        failed = {code: count for code, count in stats["status_dict"].items() if code != SUCCESS}
        return {"documents": stats["successes"], **failed}
