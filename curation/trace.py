"""One sample's whole story in a run's folder: where it came from, what judged it, what became of it (invariant 10)."""

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.scores import list_tables, read_origin, table_path
from mmcorpus.curation.store.shards import list_shards
from mmcorpus.curation.store.uid import is_uid

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

SEQUENCE_COLUMNS: Final[tuple[str, ...]] = (
    "sequence",
    "position",
    "copy",
    "part",
    "source",
    "kind",
    "shard",
    "tokens",
    "images",
    "length",
)


def trace(run_root: str, uid: str) -> dict[str, Any]:
    """What a run's folder knows of a sample, JSON-able.

    Returns:
        `uid`, and per source that has it under `sources`: `list` (rows of the URL list), `ledger` (by stage, its rows),
        `download` (the shard's row and its shard), `scores` (by scorer: values, reason, shard, version, model,
        parameters, fingerprint), `selection` and `heldout` (its count, or None). Under `plans`, by pack, the sequences
        that it is in. Sources that do not know the uid are left out.

    Raises:
        ValueError: not a uid.
    """
    if not is_uid(uid):
        raise ValueError(f"not a uid: {uid!r}; a uid is 32 lower-case hex digits")
    names = {name for part in ("lists", "shards", "scores", "ledger") for name in _names(run_root, part)}
    selections = storage.join(run_root, "selections")
    names |= {name.partition(".")[0] for name in storage.list_names(selections) if name.endswith(".parquet")}
    sources = {}
    for name in sorted(names):
        story = {
            "list": list(_list_rows(storage.join(run_root, "lists", name), uid)),
            "ledger": _ledger_rows(storage.join(run_root, "ledger", name), uid),
            "download": _download(storage.join(run_root, "shards", name), uid),
            "scores": _scores(storage.join(run_root, "scores", name), uid),
            "selection": _count(storage.join(selections, f"{name}.parquet"), uid),
            "heldout": _count(storage.join(selections, f"{name}.heldout.parquet"), uid),
        }
        if any(story.values()):
            sources[name] = story
    return {"uid": uid, "sources": sources, "plans": _plans(storage.join(run_root, "plans"), uid)}


def _names(run_root: str, part: str) -> list[str]:
    return storage.list_names(storage.join(run_root, part))


def _rows(path: str, uid: str, columns: list[str] | None = None) -> list[dict[str, Any]]:
    """The rows of a parquet file that are the sample's; none if the file has no uids."""
    if "uid" not in storage.read_schema(path).names:
        return []
    table = storage.read_table(path, columns)
    return table.filter(pc.fill_null(pc.equal(table["uid"], pa.scalar(uid)), False)).to_pylist()


def _list_rows(root: str, uid: str) -> Iterator[dict[str, Any]]:
    for name in storage.list_names(root):
        if name.endswith(".parquet"):
            yield from _rows(storage.join(root, name), uid)


def _ledger_rows(root: str, uid: str) -> dict[str, list[dict[str, Any]]]:
    stages = {}
    present = set(storage.list_names(root))
    for stage in ledger.STAGES:
        if f"{stage}.parquet" in present:
            rows = _rows(storage.join(root, f"{stage}.parquet"), uid)
            if rows:
                stages[stage] = [{key: row[key] for key in ("verdict", "rule", "value", "row")} for row in rows]
    return stages


def _download(root: str, uid: str) -> dict[str, Any] | None:
    for shard in list_shards(root):
        for row in _rows(shard.parquet, uid):
            return {"shard": shard.name, **row}
    return None


def _scores(root: str, uid: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for scorer, shards in list_tables(root).items():
        for shard in shards:
            path = table_path(root, scorer, shard)
            rows = _rows(path, uid)
            if rows:
                origin = read_origin(storage.read_schema(path))
                kept = {key: origin.get(key) for key in ("version", "model", "parameters", "fingerprint")}
                values = {name: value for name, value in rows[0].items() if name not in ("uid", "reason")}
                found[scorer] = {"shard": shard, **kept, "values": values, "reason": rows[0].get("reason")}
                break
    return found


def _count(path: str, uid: str) -> int | None:
    rows = _rows(path, uid) if storage.exists(path) else []
    return int(rows[0]["count"]) if rows else None


def _plans(root: str, uid: str) -> dict[str, list[dict[str, Any]]]:
    plans = {}
    for name in storage.list_names(root):
        if name.endswith(".parquet"):
            rows = _rows(storage.join(root, name), uid)
            if rows:
                plans[name.removesuffix(".parquet")] = [
                    {key: row[key] for key in SEQUENCE_COLUMNS if key in row} for row in rows
                ]
    return plans
