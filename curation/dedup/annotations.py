"""One image under several captions, as several annotations of one image: what Molmo trains on (arXiv 2409.17146 §3).

`annotations.parquet` of a pass: `uid` (string, of a cluster's survivor), `captions` (list<string>, the survivor's own
first, then the others by rank, each once) and `uids` (list<string>, whose they are). A row for every cluster of which
two samples have different captions; of all other samples the caption is their own. Copies that do not meet the pass's
`among` are left out, as the selection would drop them. Rows by uid. The packer reads it: packing/annotations.py.
"""

from collections.abc import Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.parquet as pq

from mmcorpus.curation.dedup.keys import Place
from mmcorpus.curation.dedup.sources import Source, read_columns
from mmcorpus.curation.dedup.survivors import columns_read
from mmcorpus.curation.engine.partitions import PARTS, SUFFIX, read_parts, write_split
from mmcorpus.curation.selection.evaluate import evaluate
from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.scores import shards_of
from mmcorpus.filters.caption import text_hash

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

SCHEMA: Final = pa.schema({"uid": pa.string(), "captions": pa.list_(pa.string()), "uids": pa.list_(pa.string())})
_COPY: Final = pa.schema({"cluster": pa.string(), "rank": pa.int32(), "uid": pa.string(), "caption": pa.string()})
FILE: Final = "annotations.parquet"
HELD: Final = 250_000
"""Samples with duplicates that are held at a time."""
_ROW_GROUP: Final = 50_000

Copy = tuple[str, int, str, str | None]
"""cluster, rank, uid, caption."""


def write_annotations(name: str, sources: Sequence[Source], path: str, *, among: str | None = None) -> int:
    """Merge the captions of each cluster that the pass `name` found; returns how many images have several.

    Captions that differ in case, punctuation and spacing alone count once. `among` is the pass's. Samples without
    duplicates take no memory; the others pass through files beside `path`, cut by the cluster's uid.
    """
    places = [(source, shard) for source in sources for shard in shards_of(source.scores, name)]
    folder = f"{path}.parts"
    storage.remove(folder)
    files = _spread(name, places, among, folder)
    count, waiting = 0, list[dict[str, Any]]()
    with storage.atomic_write(path) as file, pq.ParquetWriter(file, SCHEMA, **storage.TABLE) as writer:
        for part in range(PARTS):
            waiting += _merged(files, part)
            if len(waiting) >= _ROW_GROUP or part == PARTS - 1:
                count += len(waiting)
                writer.write_table(pa.Table.from_pylist(waiting, schema=SCHEMA))
                waiting = []
    storage.remove(folder)
    return count


def _spread(name: str, places: Sequence[Place], among: str | None, folder: str) -> list[str]:
    """Write the copies of all shards to files of about HELD rows, by the first two digits of their cluster's uid."""
    files: list[str] = []
    held: list[pa.Table] = []
    for first in range(0, len(places), storage.THREADS):
        held += storage.threaded(lambda place: _copies(name, *place, among), places[first : first + storage.THREADS])
        if sum(table.num_rows for table in held) < HELD and first + storage.THREADS < len(places):
            continue
        files.append(storage.join(folder, f"{len(files):05d}{SUFFIX}"))
        table = pa.concat_tables(held).combine_chunks()
        part = (uids.encode(table["cluster"])["f0"] >> np.uint64(56)).astype(np.int64)
        write_split(files[-1], table, part, PARTS, {"rows": table.num_rows}, compression="zstd")
        held = []
    return files


def _copies(name: str, source: Source, shard: str, among: str | None) -> pa.Table:
    """The samples of a shard that have duplicates, and that meet `among`; columns _COPY."""
    copies, cluster, rank = (f"{name}.{column}" for column in ("copies", "cluster", "rank"))
    columns = dict.fromkeys((copies, cluster, rank, "caption", *columns_read(among)))
    table = read_columns(source, shard, list(columns))
    table = table.filter(pc.fill_null(pc.greater(table[copies], 1), False))
    if among is not None:
        table = table.filter(pc.fill_null(evaluate(among, table), False))
    return table.select([cluster, rank, "uid", "caption"]).rename_columns(_COPY.names).cast(_COPY)


def _merged(files: Sequence[str], part: int) -> Iterator[dict[str, Any]]:
    """The rows of the clusters whose uid begins with `part`'s two digits, by uid."""
    tables = [read_parts(path, [part]) for path in files]
    copies = sorted(
        row for table in tables for row in zip(*(column.to_pylist() for column in table.columns), strict=True)
    )
    for _, members in groupby(copies, key=itemgetter(0)):
        row = _merge(list(members))
        if row is not None:
            yield row


def _merge(members: Sequence[Copy]) -> dict[str, Any] | None:
    """The row of a cluster, its members by rank; None if they say one thing, or the survivor is in an index alone."""
    different: dict[str, tuple[str, str]] = {}
    for _, _, uid, caption in members:
        if caption and caption.strip():
            different.setdefault(text_hash(caption), (caption, uid))
    if len(different) < 2 or members[0][1] > 0:
        return None
    captions, whose = zip(*different.values(), strict=True)
    return {"uid": members[0][0], "captions": list(captions), "uids": list(whose)}
