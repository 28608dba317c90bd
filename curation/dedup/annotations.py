"""One image under several captions, as several annotations of one image: what Molmo trains on (arXiv 2409.17146).

`annotations.parquet` of a pass: `uid` (string, of a cluster's survivor), `captions` (list<string>, the survivor's own
first, then the others by rank, each once) and `uids` (list<string>, whose they are). A row for every cluster of which
two samples have different captions; of all other samples the caption is their own. Rows by uid.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

import pyarrow as pa
import pyarrow.compute

from curation import storage
from curation.dedup.sources import Source, read_columns
from curation.scores import list_tables
from filters.caption import text_hash

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

SCHEMA = pa.schema(
    [
        pa.field("uid", pa.string()),
        pa.field("captions", pa.list_(pa.string())),
        pa.field("uids", pa.list_(pa.string())),
    ]
)


def write_annotations(name: str, sources: Sequence[Source], path: str) -> int:
    """Merge the captions of each cluster that the pass `name` found; returns how many images have several.

    Captions that differ in case, punctuation and spacing alone count once. Samples without duplicates take no memory.
    """
    parts = [_copies(name, source, shard) for source in sources for shard in list_tables(source.scores).get(name, [])]
    rows = sorted((row for part in parts for row in part), key=itemgetter(0, 1, 2))
    merged = [row for _, members in groupby(rows, key=itemgetter(0)) if (row := _merge(list(members))) is not None]
    storage.write_table(path, pa.Table.from_pylist(merged, schema=SCHEMA))
    return len(merged)


def _copies(name: str, source: Source, shard: str) -> Iterator[tuple[str, int, str, str | None]]:
    """(cluster, rank, uid, caption) of a shard's samples that have duplicates."""
    columns = [f"{name}.{column}" for column in ("copies", "cluster", "rank")]
    table = read_columns(source, shard, [*columns, "caption"])
    table = table.filter(pc.fill_null(pc.greater(table[columns[0]], 1), False))
    values = (table[column].to_pylist() for column in (columns[1], columns[2], "uid", "caption"))
    return zip(*values, strict=True)


def _merge(members: list[tuple[str, int, str, str | None]]) -> dict[str, Any] | None:
    """The row of a cluster, its members by rank; None if they say one thing."""
    different: dict[str, tuple[str, str]] = {}
    for _, _, uid, caption in members:
        if caption and caption.strip():
            different.setdefault(text_hash(caption), (caption, uid))
    if len(different) < 2:
        return None
    captions, uids = zip(*different.values(), strict=True)
    return {"uid": members[0][0], "captions": list(captions), "uids": list(uids)}
