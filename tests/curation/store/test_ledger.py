"""The ledger counts what it says, and a breach of invariant 1 does not go unseen."""

from pathlib import Path

import pyarrow as pa
import pytest

from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.ledger import StageCount, check_balance, entry, funnel, write_stage

A, B, C, D = (digit * 32 for digit in "abcd")


def write_source(root: str, pack: tuple[str, ...] = (A, B)) -> None:
    write_stage(root, "list", [entry(A, "list", row=0), entry(A, "list", rule="repeated", row=1),
                               entry(B, "list", row=2), entry(C, "list", row=3), entry(D, "list", row=4)])  # fmt: skip
    failed = entry(D, "download", rule="http_404", value="http_404: Not Found")
    write_stage(root, "download", [*(entry(uid, "download") for uid in (A, B, C)), failed])
    select = [entry(A, "select"), entry(B, "select", value=ledger.HELDOUT)]
    write_stage(root, "select", [*select, entry(C, "select", rule="image.min_side >= 200", value="image.min_side=64")])
    write_stage(root, "pack", [entry(uid, "pack") for uid in pack])


def test_the_funnel_counts_by_stage_and_rule_over_sources(tmp_path: Path) -> None:
    roots = [str(tmp_path / "one"), str(tmp_path / "two")]
    for root in roots:
        write_source(root)
    assert funnel(roots[0])[1] == StageCount(stage="download", entered=4, kept=3, heldout=0, dropped={"http_404": 1})
    assert funnel(roots) == [
        StageCount(stage="list", entered=10, kept=8, heldout=0, dropped={"repeated": 2}),
        StageCount(stage="download", entered=8, kept=6, heldout=0, dropped={"http_404": 2}),
        StageCount(stage="select", entered=6, kept=4, heldout=2, dropped={"image.min_side >= 200": 2}),
        StageCount(stage="pack", entered=4, kept=4, heldout=0, dropped={}),
    ]


@pytest.mark.parametrize("pack", [(A, B), (A,)])
def test_a_whole_run_balances_with_its_held_out_samples_or_without(tmp_path: Path, pack: tuple[str, ...]) -> None:
    write_source(str(tmp_path), pack)
    assert check_balance(str(tmp_path)) == []


@pytest.mark.parametrize(
    ("pack", "problem"),
    [((), "did not arrive"), ((B,), "did not arrive"), ((A, C), "did not keep"), ((A, A), "did not keep")],
)
def test_a_lost_a_foreign_or_a_doubled_sample_is_named(tmp_path: Path, pack: tuple[str, ...], problem: str) -> None:
    write_source(str(tmp_path), pack)
    found = check_balance(str(tmp_path))
    assert len(found) == 1
    assert problem in str(found[0])
    assert found[0].stage == "pack"


def test_a_row_without_a_clear_verdict_is_found(tmp_path: Path) -> None:
    write_source(str(tmp_path))
    table = storage.read_table(str(tmp_path / "select.parquet"))
    unruled = table.set_column(table.column_names.index("rule"), "rule", pa.nulls(3, pa.string()))
    storage.write_table(str(tmp_path / "select.parquet"), unruled)
    assert [(found.stage, found.examples) for found in check_balance(str(tmp_path))] == [("select", (C,))]


def test_rows_messages_become_verdicts_also_where_nothing_failed() -> None:
    rows = pa.table({"uid": ["a", "b"], "error_message": pa.array([None, "http_404: Not Found: at all"], pa.string())})
    kept = {"uid": "a", "stage": "download", "verdict": "kept", "rule": None, "value": None, "row": None}
    lost = {"verdict": "dropped", "rule": "http_404", "value": "http_404: Not Found: at all"}
    assert ledger.verdicts_of(rows, "download").to_pylist() == [kept, {**kept, "uid": "b", **lost}]
    assert ledger.verdicts_of(rows.slice(0, 1), "download").to_pylist() == [kept]
