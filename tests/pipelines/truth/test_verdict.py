"""Caught, caught otherwise, missed, wrongly dropped: against a small truth."""

from pathlib import Path
from typing import Any

import pyarrow as pa

from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.synthetic.miniweb.truth import SCHEMA
from mmcorpus.pipelines.truth.verdict import CorruptionVerdict, SelectionVerdict, compare_with_truth


def truth_row(
    row: int, spoil: str, stage: str | None = None, rule: str | None = None, copies: int | None = None
) -> Any:
    return dict.fromkeys(SCHEMA.names) | {
        "row": row,
        "list": "pairs",
        "uid": f"{row:032x}",
        "spoil": spoil,
        "expect": "dropped" if stage else "kept",
        "expect_stage": stage,
        "expect_rule": rule,
        "duplicate_of": None if copies is None else f"{copies:032x}",
    }


def verdicts(folder: Path, rows: list[Any], dropped: dict[int, tuple[str, str]]) -> dict[str, CorruptionVerdict]:
    storage.write_table(str(folder / "truth.parquet"), pa.Table.from_pylist(rows, schema=SCHEMA))
    left = [row["row"] for row in rows]
    for stage in ("list", "download", "select", "pack"):
        entries = []
        for row in left:
            at, rule = dropped.get(row, ("", ""))
            number = row if stage == "list" else None
            entries.append(ledger.entry(f"{row:032x}", stage, rule=rule if at == stage else None, row=number))
        ledger.write_stage(str(folder / "ledger" / "web"), stage, entries)
        left = [row for row in left if dropped.get(row, ("", ""))[0] != stage]
    found = compare_with_truth(str(folder), str(folder / "truth.parquet"), {"web": "pairs"})
    return {verdict.spoil: verdict for verdict in found}


def test_each_row_is_counted_once_under_its_spoiler(tmp_path: Path) -> None:
    rows = [
        truth_row(0, "clean"),
        truth_row(1, "clean"),
        truth_row(2, "http_404", "download", "http_404"),
        truth_row(3, "http_404", "download", "http_404"),
        truth_row(4, "icon", "select", "image.min_side"),
        truth_row(5, "icon", "select", "image.min_side"),
        truth_row(6, "icon", "select", "image.min_side"),
        truth_row(7, "listed_twice", "list", "listed_twice"),
        truth_row(8, "clean"),
    ]
    dropped = {
        1: ("select", "image.blur >= 2"),
        2: ("download", "http_404"),
        3: ("download", "timeout"),
        4: ("select", "image.min_side >= 100 and image.width > 3"),
        5: ("select", "url.matches == 0"),
        7: ("list", "listed_twice"),
        8: ("pack", "too_long"),
    }
    found = verdicts(tmp_path, rows, dropped)
    assert next(iter(found)) == "clean"
    clean, missing, icon = found["clean"], found["http_404"], found["icon"]
    assert (clean.listed, clean.kept, clean.wrongly_dropped) == (3, 2, 1)
    assert clean.other_rules == {"select: image.blur >= 2": 1}
    assert (missing.caught, missing.caught_otherwise, missing.missed) == (1, 1, 0)
    assert (icon.caught, icon.caught_otherwise, icon.missed) == (1, 1, 1)
    assert found["listed_twice"].caught == 1
    assert icon.as_dict()["other_rules"] == {"select: url.matches == 0": 1}


def test_of_a_picture_and_its_copies_any_one_may_live(tmp_path: Path) -> None:
    rule = "same_image.rank == 0"
    rows = [
        truth_row(0, "clean"),
        truth_row(1, "copy", "select", "same_image.rank", copies=0),
        truth_row(2, "copy", "select", "same_image.rank", copies=0),
        truth_row(3, "clean"),
        truth_row(4, "copy", "select", "same_image.rank", copies=3),
    ]
    found = verdicts(tmp_path, rows, {0: ("select", rule), 1: ("select", rule)})
    assert (found["clean"].kept, found["clean"].wrongly_dropped) == (2, 0)
    assert (found["copy"].caught, found["copy"].missed) == (2, 1)


def test_another_selection_from_the_same_samples_counts_in_place_of_the_first(tmp_path: Path) -> None:
    rows = [
        truth_row(0, "clean"),
        truth_row(1, "clean"),
        truth_row(2, "http_404", "download", "http_404"),
        truth_row(3, "swapped_caption", "select"),
        truth_row(4, "swapped_caption", "select"),
        truth_row(5, "icon", "select", "image.min_side"),
    ]
    verdicts(tmp_path, rows, {2: ("download", "http_404"), 5: ("select", "image.min_side >= 100")})
    judge = "bottom(seen.ppl, 0.95)"
    entries = [
        ledger.entry(f"{row:032x}", "select", rule=judge if row in (1, 3, 4) else None) for row in (0, 1, 3, 4, 5)
    ]
    ledger.write_stage(str(tmp_path / "ledger" / "by_model"), "select", entries)
    truth, lists = str(tmp_path / "truth.parquet"), {"web": "pairs"}
    first, again = (
        SelectionVerdict.of(name, compare_with_truth(str(tmp_path), truth, lists, by))
        for name, by in (("web", None), ("by_model", "by_model"))
    )
    assert (first.clean, first.swapped, first.spoiled) == ((0, 2), (0, 2), (1, 1))
    assert (again.clean, again.swapped, again.spoiled) == ((1, 2), (2, 2), (0, 1))
