"""A deduplication's sources: the columns of a shard's rows, from its parquet, scores and embeddings."""

import hashlib
import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.embeddings import read_embeddings
from mmcorpus.curation.store.scores import read_origin, read_scores, table_path
from mmcorpus.curation.store.shards import SUCCESS, Shard, read_rows, read_samples, read_schema, shard_at

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

EMBEDDINGS: Final = "embeddings"


@dataclass(frozen=True, kw_only=True, slots=True)
class Source:
    """One source of a run."""

    name: str
    shards: str
    """The folder of its shards, `shards/<source>`."""
    scores: str
    """Of its score tables, `scores/<source>`; the clusters become one more."""
    embeddings: str | None = None
    """Of its embeddings, `embeddings/<source>`."""

    def root(self, kind: str) -> str:
        """The folder of its score tables (`scores`) or of its `embeddings`."""
        if kind != EMBEDDINGS:
            return self.scores
        if self.embeddings is None:
            raise ValueError(f"source {self.name} has no embeddings; have its scorer save them")
        return self.embeddings


def read_columns(source: Source, shard: str, columns: Sequence[str]) -> pa.Table:
    """`uid` and the columns of a shard's `success` rows, in key order as the score tables have them.

    A column that the shard's parquet lacks is null; a score or an embedding must be there.

    Raises:
        ValueError: a score table is not there or not of this shard.
    """
    rows, of_scorer = _by_place(columns)
    place = shard_at(source.shards, shard)
    there = set(read_schema(place).names)
    table = read_rows(place, ["key", "status", "uid", *(name for name in rows if name in there)])
    table = table.filter(pc.and_(pc.equal(table["status"], SUCCESS), pc.is_valid(table["uid"]))).sort_by("key")
    found: dict[str, Any] = {"uid": table["uid"].cast(pa.string())}
    for name in rows:
        found[name] = table[name] if name in there else pa.nulls(len(table), pa.string())
    for (kind, scorer), names in of_scorer.items():
        other = _read_other(source, kind, scorer, shard, names)
        if not other["uid"].cast(pa.string()).equals(found["uid"]):
            raise ValueError(
                f"the {kind} of {scorer} for shard {shard} of {source.name} are not of the samples that the shard "
                "has now; score it again"
            )
        prefix = f"{EMBEDDINGS}." if kind == EMBEDDINGS else ""
        found |= {f"{prefix}{scorer}.{name}": other[name] for name in names}
    return pa.table({name: found[name] for name in dict.fromkeys(("uid", *columns))}).combine_chunks()


def has_images(root: str, shard: str) -> bool:
    """Whether the images of a shard under a folder are there."""
    return storage.exists(shard_at(root, shard).images)


def images_of(root: str, shard: str, uids: Collection[str]) -> dict[str, bytes]:
    """By uid the first image's file of some samples of a shard; without those that it does not hold (any more).

    The tar is read once, from its begin to the last sample that is wanted.

    Raises:
        tarfile.ReadError: the tar is damaged.
    """
    found: dict[str, bytes] = {}
    if not uids or not has_images(root, shard):
        return found
    wanted = set(uids)
    for sample in read_samples(shard_at(root, shard), wanted):
        if sample.images:
            found[sample.uid] = sample.images[0].data
        wanted.discard(sample.uid)
        if not wanted:
            break
    return found


def input_files(source: Source, shard: str, columns: Sequence[str]) -> list[str]:
    """The files that `read_columns` reads."""
    tables = (table_path(source.root(kind), scorer, shard) for kind, scorer in _by_place(columns)[1])
    place = Shard(root=source.shards, name=shard)
    return [place.parquet if storage.exists(place.parquet) else place.tar, *tables]


def mark(files: Iterable[str]) -> str:
    """16 hex digits that change when one of the files is written again: of sizes and times (or the store's ETags)."""
    seen = []
    for path in files:
        fs, inner = storage.filesystem(path)
        fs.invalidate_cache()
        try:
            info = fs.info(inner)
        except FileNotFoundError:
            seen.append("missing")
            continue
        times = [str(info[name]) for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified") if name in info]
        seen.append(f"{info.get('size')} {times[0] if times else ''}")
    return hashlib.blake2b(json.dumps(seen).encode(), digest_size=8).hexdigest()


def scores_made_by(source: Source, shard: str, columns: Sequence[str]) -> dict[str, str]:
    """By scorer whose columns are read, the fingerprint of its table for a shard."""
    made = {}
    for kind, scorer in _by_place(columns)[1]:
        schema = storage.read_schema(table_path(source.root(kind), scorer, shard))
        made[f"{kind}.{scorer}"] = str(read_origin(schema).get("fingerprint"))
    return made


def _by_place(columns: Sequence[str]) -> tuple[list[str], dict[tuple[str, str], list[str]]]:
    """The columns of the parquet, and by (`scores` or `embeddings`, scorer) those of other tables."""
    rows: list[str] = []
    others: dict[tuple[str, str], list[str]] = {}
    for column in columns:
        name = column.removeprefix(f"{EMBEDDINGS}.")
        kind = "scores" if name == column else EMBEDDINGS
        scorer, dot, own = name.partition(".")
        if dot:
            others.setdefault((kind, scorer), []).append(own)
        elif column != "uid":
            rows.append(column)
    return rows, others


def _read_other(source: Source, kind: str, scorer: str, shard: str, names: list[str]) -> pa.Table:
    if kind == EMBEDDINGS:
        return read_embeddings(source.root(kind), scorer, shard, names)
    try:
        return read_scores(source.scores, scorer, shard, ["uid", *names])
    except FileNotFoundError:
        raise ValueError(
            f"there are no scores of {scorer} for shard {shard} of {source.name}; run that scorer first"
        ) from None
