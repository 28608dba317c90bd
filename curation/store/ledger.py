"""The ledger: of every sample, the stage, the verdict, the rule and the value that decided (DESIGN §3)."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute

from mmcorpus.curation.store import storage

pc: Any = pyarrow.compute  # its stubs do not know chunked columns

_TEXTS: Final[dict[str, Any]] = dict.fromkeys(("uid", "stage", "verdict", "rule", "value"), pa.string())
SCHEMA: Final = pa.schema({**_TEXTS, "row": pa.int64()})
STAGES: Final = ("index", "extract", "capture", "list", "download", "write", "trim", "select", "split", "pack")
KEPT: Final = "kept"
DROPPED: Final = "dropped"
HELDOUT: Final = "heldout"
"""The value, in stage `select`, of a sample that is kept for the held-out selection."""


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


def verdicts_of(rows: pa.Table, stage: str) -> pa.Table:
    """A stage's ledger from rows of `uid` and `error_message` (`code: detail`; null for what is kept)."""
    messages: Any = rows["error_message"]
    return verdicts(rows["uid"], stage, pc.list_element(pc.split_pattern(messages, ":", max_splits=1), 0), messages)


def verdicts(uid: Any, stage: str, rule: Any, value: Any) -> pa.Table:
    """A stage's ledger from columns; a null rule means that the sample was kept."""
    names = pa.repeat(stage, len(uid))
    verdict = pc.if_else(pc.is_null(rule), KEPT, DROPPED)
    columns: list[Any] = [uid, names, verdict, rule, value, pa.nulls(len(uid), pa.int64())]
    return pa.Table.from_arrays(columns, schema=SCHEMA)


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


@dataclass(frozen=True, kw_only=True, slots=True)
class StageCount:
    """One stage of the funnel."""

    stage: str
    entered: int
    """Rows that came in: kept + the sum of `dropped`."""
    kept: int
    heldout: int
    """Of those kept, the samples that go to the held-out selection."""
    dropped: dict[str, int]
    """Rows by the rule that dropped them: the most frequent first, equals by name."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Imbalance:
    """A place where samples in = samples kept + samples dropped by reason does not hold."""

    root: str
    stage: str
    problem: str
    samples: int
    examples: tuple[str, ...]
    """Up to five uids."""

    def __str__(self) -> str:
        return f"{self.root}, stage {self.stage}: {self.samples:,} {self.problem}, e.g. {', '.join(self.examples)}"


def funnel(roots: str | Sequence[str]) -> list[StageCount]:
    """Counts of samples that entered, stayed and left at each stage, summed over the sources' ledger folders."""
    sources = [read_stages(root) for root in ([roots] if isinstance(roots, str) else roots)]
    rows = []
    for stage in STAGES:
        tables = [stages[stage] for stages in sources if stage in stages]
        if tables:
            table = pa.concat_tables(tables)
            kept = _where(table, "verdict", KEPT)
            rows.append(
                StageCount(
                    stage=stage,
                    entered=table.num_rows,
                    kept=kept.num_rows,
                    heldout=_where(kept, "value", HELDOUT).num_rows if stage == "select" else 0,
                    dropped=dropped_by(table),
                )
            )
    return rows


def dropped_by(table: pa.Table) -> dict[str, int]:
    """A stage's rows by the rule that dropped them: the most frequent first, equals by name."""
    counted = _where(table, "verdict", DROPPED)["rule"].value_counts().to_pylist()
    dropped = {str(item["values"]): int(item["counts"]) for item in counted}
    return dict(sorted(dropped.items(), key=lambda item: (-item[1], item[0])))


def check_balance(roots: str | Sequence[str]) -> list[Imbalance]:
    """Every breach of invariant 1 in the sources' ledgers; empty if each sample is accounted for.

    Each row must say kept without a rule or dropped with one, and what a stage keeps must be, uid by uid and as often,
    what the next one got. The pack stage may get the selection with its held-out samples or without them.
    """
    found: list[Imbalance] = []
    for root in [roots] if isinstance(roots, str) else roots:
        before: tuple[str, pa.Table] | None = None
        for stage, table in read_stages(root).items():
            clear = pc.or_(
                pc.and_(pc.equal(table["verdict"], pa.scalar(KEPT)), pc.is_null(table["rule"])),
                pc.and_(pc.equal(table["verdict"], pa.scalar(DROPPED)), pc.is_valid(table["rule"])),
            )
            unclear = table.filter(pc.invert(pc.fill_null(clear, False)))["uid"].to_pylist()
            found += _imbalance(root, stage, "rows are neither kept nor dropped by a rule", unclear)
            if before is not None:
                found += _compare(root, *before, stage, table)
            before = stage, _where(table, "verdict", KEPT)
    return found


def _compare(root: str, earlier: str, kept: pa.Table, stage: str, table: pa.Table) -> list[Imbalance]:
    entered = table["uid"]
    candidates = [kept["uid"]]
    if earlier == "select":
        candidates.append(kept.filter(pc.fill_null(pc.not_equal(kept["value"], pa.scalar(HELDOUT)), True))["uid"])
    # Both are sorted by uid, so equal columns mean equal multisets.
    if any(entered.equals(expected) for expected in candidates):
        return []
    lost, extra = _oftener(candidates[-1], entered), _oftener(entered, candidates[0])
    return [
        *_imbalance(root, stage, f"samples that {earlier} kept did not arrive", lost),
        *_imbalance(root, stage, f"samples arrived that {earlier} did not keep", extra),
    ]


def _oftener(first: Any, second: Any) -> list[Any]:
    """The uids that the first has more often than the second, sorted."""
    left, right = (pa.table({"uid": uids}).group_by("uid").aggregate([([], "count_all")]) for uids in (first, second))
    both = left.join(right, keys="uid", join_type="left outer", right_suffix="_right").sort_by("uid")
    return both.filter(pc.greater(both["count_all"], pc.fill_null(both["count_all_right"], 0)))["uid"].to_pylist()


def _imbalance(root: str, stage: str, problem: str, uids: Sequence[object]) -> list[Imbalance]:
    if not uids:
        return []
    return [Imbalance(root=root, stage=stage, problem=problem, samples=len(uids), examples=tuple(map(str, uids[:5])))]


def _where(table: pa.Table, column: str, value: str) -> pa.Table:
    return table.filter(pc.fill_null(pc.equal(table[column], pa.scalar(value)), False))
