"""Scorers that read what others found out: which tables these are, and a shard's columns of them."""

from collections.abc import Sequence
from typing import Any

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import read_origin, read_scores, shards_of, table_path
from mmcorpus.filters.scorer import Scorer


def with_tables_read(scorers: Sequence[Scorer], root: str) -> list[Scorer]:
    """The scorers, those that read tables told which these are, so that they are stale once those are others.

    Args:
        root: the source's scores, `scores/<source>`.

    Raises:
        ValueError: a scorer reads tables of one that has not run, or that runs at the same time.
    """
    found: list[Scorer] = []
    for scorer in scorers:
        tables: dict[str, str] = {}
        for column in scorer.reads():
            other = column.partition(".")[0]
            shards = shards_of(root, other)
            if not shards or any(other == beside.name for beside in scorers):
                raise ValueError(
                    f"scorer {scorer.name!r} reads {column}, and there is no table of {other!r} under {root} yet; "
                    f"score with {other!r} first"
                )
            tables[other] = str(read_origin(storage.read_schema(table_path(root, other, shards[0]))).get("fingerprint"))
        found.append(scorer.reading(tables) if tables else scorer)
    return found


def read_columns(root: str, shard: str, columns: Sequence[str], uids: Sequence[str]) -> list[dict[str, Any]]:
    """Of each sample of a shard, the columns (`SCORER.column`) of its scorers' tables.

    Raises:
        ValueError: a scorer has no table of this shard, or no such column.
    """
    found: dict[str, dict[str, Any]] = {}
    for column in columns:
        scorer, _, name = column.partition(".")
        try:
            table = read_scores(root, scorer, shard)
        except FileNotFoundError:
            raise ValueError(f"the scorer {scorer!r} has no table of shard {shard} under {root}; score again") from None
        if name not in table.column_names:
            there = ", ".join(one for one in table.column_names if one != "uid")
            raise ValueError(f"scores of {scorer} under {root} have no column {name!r}; they have {there}")
        found[column] = dict(zip(table["uid"].to_pylist(), table[name].to_pylist(), strict=True))
    return [{column: found[column].get(uid) for column in columns} for uid in uids]
