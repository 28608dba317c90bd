"""DataComp's metadata (Gadre et al. 2023, arXiv 2304.14108): parquet of uid, url, text, sizes, and the subset's `.npy`.

`OUT/metadata/00000.parquet` is what its filters read, under its names; `OUT/subset.npy`, what its resharder takes,
lists the uids sorted as `u8,u8`, each as often as it is used. Scores stand in columns that are asked for, such as
DataComp's `clip_l14_similarity_score`. The images stay in the shards.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.store import storage
from mmcorpus.curation.store import uid_arrays as uids
from mmcorpus.curation.store.scores import read_scores, table_path
from mmcorpus.curation.store.shards import SUCCESS, Shard, read_rows, read_schema
from mmcorpus.packing.export.items import Kind, kind_of
from mmcorpus.packing.export.run import NOT_HELD, Exporter, Written

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

METADATA: Final = "metadata"
SUBSET: Final = "subset.npy"
_COLUMNS: Final = {
    "uid": ("uid", pa.string()),
    "url": ("url", pa.string()),
    "text": ("caption", pa.string()),
    "original_width": ("original_width", pa.int64()),
    "original_height": ("original_height", pa.int64()),
    "sha256": ("sha256", pa.string()),
}
"""DataComp's columns, each with ours and its type; null where the shards have none."""
_COUNT: Final = "count"


@dataclass(frozen=True, kw_only=True)
class DatacompExporter(Exporter):
    """Writes it."""

    scores: str | None = None
    """A folder of scores of the same shards."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """More columns: `{clip_l14_similarity_score: clip_l14.similarity}`, scorer and column."""

    kind: ClassVar[str] = "datacomp"
    holds: ClassVar[frozenset[Kind]] = frozenset({"pair"})

    def __post_init__(self) -> None:
        if self.columns and self.scores is None:
            raise ValueError(f"{', '.join(self.columns)} come from scores: name their folder too")
        for name, source in self.columns.items():
            if not all(source.partition(".")):
                raise ValueError(f"column {name!r} is {source!r}; write it as SCORER.COLUMN, e.g. clip_l14.similarity")
            if name in _COLUMNS or name == _COUNT:
                raise ValueError(f"column {name!r} is one of DataComp's own; give the score another name")

    def prepare(self, out: str, shards: Sequence[Shard]) -> "DatacompExporter":
        for source in self.columns.values():
            scorer, _, column = source.partition(".")
            path = table_path(str(self.scores), scorer, shards[0].name)
            there = storage.read_schema(path).names if storage.exists(path) else []
            if column not in there:
                raise ValueError(f"there are no scores {source} of {shards[0].parquet} under {self.scores} ({path})")
        return self

    def write_shard(self, out: str, shard: Shard, counts: Mapping[str, int]) -> Written:
        there = set(read_schema(shard).names)
        if (kind := kind_of(shard)) != "pair":
            return Written(left_out={f"{NOT_HELD}: {kind}": sum(counts.values())})
        ours = list(dict.fromkeys(own for own, _ in _COLUMNS.values() if own in there))
        rows = read_rows(shard, [*ours, "status"])
        rows = rows.filter(pc.equal(rows["status"], SUCCESS))
        rows = rows.filter(pc.is_in(rows["uid"], value_set=pa.array(list(counts), pa.string())))
        table = {
            name: rows[own].cast(kind) if own in there else pa.nulls(len(rows), kind)
            for name, (own, kind) in _COLUMNS.items()
        }
        for name, source in self.columns.items():
            scorer, _, column = source.partition(".")
            scored = read_scores(str(self.scores), scorer, shard.name, ["uid", column])
            places = pc.index_in(rows["uid"].combine_chunks(), value_set=scored["uid"].combine_chunks())
            table[name] = scored[column].take(places)
        times = [counts[uid] for uid in rows["uid"].to_pylist()]
        table[_COUNT] = pa.array(times, pa.int32())
        storage.write_table(storage.join(out, METADATA, f"{shard.name}.parquet"), pa.table(table))
        return Written(samples=sum(times))

    def finish(self, out: str, names: Sequence[str]) -> None:
        pairs = []
        for name in names:
            path = storage.join(out, METADATA, f"{name}.parquet")
            if storage.exists(path):
                table = storage.read_table(path, columns=["uid", _COUNT])
                pairs.append(np.repeat(uids.encode(table["uid"]), table[_COUNT].to_numpy()))
        uids.write_npy(storage.join(out, SUBSET), np.concatenate(pairs) if pairs else np.empty(0, uids.PAIR))
