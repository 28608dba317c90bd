"""The ledger: of every sample, the stage, the verdict, the rule and the value that decided (DESIGN §3)."""

from collections.abc import Iterable
from typing import Final

import pyarrow as pa

from curation import storage

SCHEMA: Final = pa.schema(
    [
        ("uid", pa.string()),
        ("stage", pa.string()),
        ("verdict", pa.string()),
        ("rule", pa.string()),
        ("value", pa.string()),
        ("row", pa.int64()),
    ]
)
STAGES: Final = ("list", "download", "select", "split", "pack")
KEPT: Final = "kept"
DROPPED: Final = "dropped"


def entry(
    uid: str, stage: str, *, rule: str | None = None, value: str | None = None, row: int | None = None
) -> dict[str, object]:
    """One ledger row; a rule means that it dropped the sample."""
    return {
        "uid": uid,
        "stage": stage,
        "verdict": DROPPED if rule else KEPT,
        "rule": rule,
        "value": value,
        "row": row,
    }


def write_stage(root: str, stage: str, rows: Iterable[dict[str, object]] | pa.Table) -> pa.Table:
    """Write a stage's ledger under `root` (a source's ledger folder), sorted by uid then row; returns the table."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pylist(list(rows), schema=SCHEMA)
    table = table.select(SCHEMA.names).cast(SCHEMA).sort_by([("uid", "ascending"), ("row", "ascending")])
    storage.write_table(storage.join(root, f"{stage}.parquet"), table)
    return table


def read_stages(root: str) -> dict[str, pa.Table]:
    """The stages' tables that exist, in the order in which samples pass them."""
    present = set(storage.list_names(root))
    return {
        stage: storage.read_table(storage.join(root, f"{stage}.parquet"))
        for stage in STAGES
        if f"{stage}.parquet" in present
    }
