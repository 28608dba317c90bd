"""Score tables: `ROOT/<scorer>/<shard>.parquet`, one row a sample, that say what judged them (DESIGN §3).

A table holds `uid`, the scorer's columns and `reason`, in the shard's key order. Its schema metadata `mmcorpus` is
JSON: scorer, version, model, parameters, fingerprint, and what the table counts (`rows`, `reasons`).
"""

import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from mmcorpus.curation.store import storage
from mmcorpus.filters.scorer import REASON, Scorer, origin_of

METADATA_KEY: Final = b"mmcorpus"
_SUFFIX: Final = ".parquet"
_STATS: Final = "_stats.json"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The origin of a table: enough to make it again."""

    scorer: str
    version: str
    model: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    fingerprint: str

    @classmethod
    def of(cls, scorer: Scorer) -> "Origin":
        """The origin of the tables of a scorer with its parameters."""
        model, parameters = origin_of(scorer, scorer.parameters())
        return cls(
            scorer=scorer.name,
            version=scorer.version,
            model=model,
            parameters=parameters,
            fingerprint=scorer.fingerprint(),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class TableInfo:
    """The metadata of a table on disk."""

    fingerprint: str
    rows: int
    reasons: dict[str, int]
    """How many rows could not be scored, by the code that the reason begins with."""
    indexed: str = ""
    """Of a shard of references what it was indexed from (`engine/output.py:indexed_from`); empty of others."""


def table_path(root: str, scorer: str, shard: str) -> str:
    """The path of a scorer's table for a shard."""
    return storage.join(root, scorer, shard + _SUFFIX)


def write_scores(root: str, shard: str, table: pa.Table, origin: Origin, indexed: str = "") -> TableInfo:
    """Commit the table of one shard atomically: `uid`, the scorer's columns, `reason` (added, all null, if absent).

    Args:
        root: the source's scores, `scores/<source>`.
        table: one row a sample, in the shard's key order. Equal tables give equal bytes.
        indexed: see `TableInfo`.
    """
    if "uid" not in table.column_names:
        raise ValueError(f"scores of {origin.scorer} for shard {shard}: the table has no column uid")
    if REASON not in table.column_names:
        table = table.append_column(REASON, pa.nulls(table.num_rows, pa.string()))
    names = [name for name in table.column_names if name not in ("uid", REASON)]
    table = table.select(["uid", *names, REASON]).combine_chunks()
    counts = Counter(str(reason).partition(":")[0] for reason in table[REASON].drop_null().to_pylist())
    reasons = dict(sorted(counts.items()))
    info = TableInfo(fingerprint=origin.fingerprint, rows=table.num_rows, reasons=reasons, indexed=indexed)
    says = {name: value for name, value in asdict(info).items() if name != "indexed" or value}
    table = table.replace_schema_metadata(metadata({**asdict(origin), **says}))
    storage.write_table(table_path(root, origin.scorer, shard), table)
    return info


def metadata(says: dict[str, Any]) -> dict[bytes, bytes]:
    """Schema metadata of a table that says this of itself."""
    return {METADATA_KEY: json.dumps(says, sort_keys=True, ensure_ascii=False).encode()}


def read_scores(root: str, scorer: str, shard: str, columns: list[str] | None = None) -> pa.Table:
    """One shard's table, column names as the scorer has them."""
    return storage.read_table(table_path(root, scorer, shard), columns=columns)


def read_origin(schema: pa.Schema) -> dict[str, Any]:
    """The metadata of a score table's schema; empty if it has none."""
    text = (schema.metadata or {}).get(METADATA_KEY)
    return json.loads(text) if text else {}


def is_made_by(origin: Origin, root: str, shard: str) -> bool:
    """Whether a shard's table is there and is of this origin."""
    info = _read_info(table_path(root, origin.scorer, shard))
    return info is not None and info.fingerprint == origin.fingerprint


def shards_of(root: str, scorer: str) -> list[str]:
    """The shards that have a table (or embeddings, if `root` is theirs) of a scorer, sorted."""
    names = storage.list_names(storage.join(root, scorer))
    return sorted(name.removesuffix(_SUFFIX) for name in names if name.endswith(_SUFFIX))


def list_tables(root: str) -> dict[str, list[str]]:
    """By scorer, the shards that have a table, sorted; scorers without a table are left out."""
    names = storage.list_names(root)
    shards = storage.threaded(lambda name: shards_of(root, name), names)
    return {name: found for name, found in zip(names, shards, strict=True) if found}


def tables_done(
    root: str, shards: dict[str, int], scorers: Sequence[Scorer], indexed: str = ""
) -> dict[str, dict[str, TableInfo]]:
    """By scorer and shard, the tables that are up to date; only their footers are read.

    Left out are tables made with other parameters, those with fewer or more rows than the shard has samples now, and
    those of shards that have been indexed from other files since.

    Args:
        root: the source's scores, `scores/<source>`.
        shards: how many samples each shard has, by name (the `successes` of its stats file).
        indexed: what shards of references are indexed from now; see `TableInfo`.
    """
    done = {}
    for scorer in scorers:
        fingerprint, there = scorer.fingerprint(), [name for name in shards_of(root, scorer.name) if name in shards]
        infos = storage.threaded(_read_info, [table_path(root, scorer.name, shard) for shard in there])
        done[scorer.name] = {
            shard: info
            for shard, info in zip(there, infos, strict=True)
            if info is not None
            and info.fingerprint == fingerprint
            and info.rows == shards[shard]
            and info.indexed in ("", indexed)  # earlier versions' say nothing
        }
    return done


def _read_info(path: str) -> TableInfo | None:
    """What a table says of itself; None if there is none, or it is no score table of ours, which makes it stale."""
    try:
        says = read_origin(storage.read_schema(path))
        indexed = says.get("indexed", "")
        return TableInfo(fingerprint=says["fingerprint"], rows=says["rows"], reasons=says["reasons"], indexed=indexed)
    except (FileNotFoundError, pa.ArrowInvalid, KeyError, ValueError):
        return None


def load_scores(root: str, scorers: Sequence[str] | None = None, columns: Sequence[str] | None = None) -> pa.Table:
    """The scores of a source in one table: `uid` and `scorer.column`, a row for every sample that has any score.

    Rows come in order of shard, then key. A sample of a shard that one of the scorers could not read is null there.

    Args:
        root: the source's scores, `scores/<source>`.
        scorers: whose columns; None for all there are, or for those that `columns` names.
        columns: which, as `scorer.column`; None for all of `scorers`, reasons included.

    Raises:
        ValueError: a scorer has no tables, or no such column; the message says which scorer to run.
    """
    on_disk = list_tables(root)
    wanted = _wanted(root, on_disk, scorers, columns)
    shards = sorted(set().union(*on_disk.values()))
    every = sorted({*shards, *_shards_beside(root)})
    schemas = {name: storage.read_schema(table_path(root, name, on_disk[name][0])) for name in wanted}
    for name, names in wanted.items():
        there = [column for column in schemas[name].names if column != "uid"]
        unknown = sorted(set(names or ()) - set(there))
        if unknown:
            raise ValueError(
                f"scores of {name} under {root} have no column {unknown[0]!r}; they have {', '.join(there)}"
            )
        wanted[name] = there if names is None else names
    places = {name: set(found) for name, found in on_disk.items()}
    for name in wanted:
        if lacking := [shard for shard in every if shard not in places[name]]:
            _log.warning(
                "%s: of %s shards %s have no table of the scorer %s, and their samples no score: %s%s; `mmcorpus "
                "score` makes it", root, f"{len(every):,}", f"{len(lacking):,}", name, ", ".join(lacking[:5]),
                " …" if len(lacking) > 5 else "",
            )  # fmt: skip
    if unseen := len(every) - len(shards):
        _log.warning(
            "%s: of %s of them nobody has a table, so that their samples are not even looked at", root, f"{unseen:,}"
        )
    parts = storage.threaded(lambda shard: _load_shard(root, shard, wanted, schemas, places), shards)
    return pa.concat_tables(parts)


def _shards_beside(root: str) -> list[str]:
    """The shards that lie in `shards/<source>` where the scores are a run's `scores/<source>`; empty elsewhere."""
    above, _, source = root.rstrip("/").rpartition("/")
    folder, _, scores = above.rpartition("/")
    if scores != "scores":
        return []
    names = storage.list_names(storage.join(folder, "shards", source))
    return [name.removesuffix(_STATS) for name in names if name.endswith(_STATS)]


def _wanted(
    root: str, on_disk: dict[str, list[str]], scorers: Sequence[str] | None, columns: Sequence[str] | None
) -> dict[str, list[str] | None]:
    """By scorer, its columns to load, None for all."""
    if not on_disk:
        raise ValueError(f"there are no scores under {root}; make them with: mmcorpus score")
    wanted: dict[str, list[str] | None] = {}
    if columns is None:
        wanted = dict.fromkeys(on_disk if scorers is None else scorers)
    for column in dict.fromkeys(columns or ()):
        scorer, _, name = column.partition(".")
        if column != "uid" and (scorers is None or scorer in scorers):
            wanted[scorer] = [*(wanted.get(scorer) or ()), name]
    for scorer in wanted:
        if scorer not in on_disk:
            raise ValueError(
                f"there are no scores of {scorer!r} under {root} (there are: {', '.join(on_disk)}); "
                f"run the scorer {scorer!r} first: mmcorpus score"
            )
    return wanted


def _load_shard(
    root: str,
    shard: str,
    wanted: dict[str, list[str] | None],
    schemas: dict[str, pa.Schema],
    on_disk: dict[str, set[str]],
) -> pa.Table:
    have = {name for name, shards in on_disk.items() if shard in shards}
    tables = {name: read_scores(root, name, shard, ["uid", *(wanted[name] or ())]) for name in wanted if name in have}
    any_table = tables or {"": read_scores(root, min(have), shard, ["uid"])}
    uids = max((table["uid"] for table in any_table.values()), key=len)
    arrays: dict[str, Any] = {"uid": uids}
    for name, names in wanted.items():
        if name in tables and not uids.equals(tables[name]["uid"]):
            own = tables[name]["uid"].combine_chunks()
            tables[name] = tables[name].take(pc.index_in(uids.combine_chunks(), value_set=own))
        for column in names or ():
            kind = schemas[name].field(column).type
            arrays[f"{name}.{column}"] = (
                tables[name][column].cast(kind) if name in tables else pa.nulls(len(uids), kind)
            )
    return pa.table(arrays)
