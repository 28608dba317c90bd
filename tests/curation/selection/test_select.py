"""Selecting: every sample is kept or dropped by the first clause that it fails, and the sums add up."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.selection import (
    ExpressionError,
    SelectConfig,
    SelectReport,
    read_selection,
    select,
    select_table,
    write_selection,
)
from mmcorpus.curation.selection.evaluate import evaluate
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.uid import pair_uid

COUNT = 500
UIDS = [pair_uid(f"{number}", "") for number in range(COUNT)]


@pytest.fixture(scope="module")
def scores(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("scores"))
    rng = np.random.default_rng(0)
    columns = {
        "image": {
            "min_side": pa.array(rng.integers(50, 400, COUNT), pa.int32(), mask=rng.random(COUNT) < 0.1),
            "has_alpha": pa.array(rng.random(COUNT) < 0.2),
        },
        "caption": {"words": pa.array(rng.integers(0, 9, COUNT), pa.int32())},
        "same_image": {"cluster": pa.array([UIDS[number // 5 * 5] for number in range(COUNT)])},
    }
    for scorer, named in columns.items():
        table = pa.table({"uid": UIDS, **named})
        for shard in range(2):
            part = table.slice(shard * 250, 250)
            write_scores(root, f"{shard:05d}", part, Origin(scorer=scorer, version="1", fingerprint="f" * 16))
    return root


def run(config: SelectConfig, scores: str, out: Path) -> tuple[SelectReport, dict[str, int], list[dict[str, str]]]:
    report = select(
        config,
        scores,
        str(out / "s.parquet"),
        heldout_out=str(out / "h.parquet"),
        ledger_root=str(out / "ledger"),
        explain_out=str(out / "e.json"),
    )
    rows = ledger.read_stages(str(out / "ledger"))["select"].to_pylist()
    table = read_selection(str(out / "s.parquet"))
    assert sum(effect.in_order for effect in report.clauses) + report.kept + report.heldout == report.samples
    assert Counter(row["rule"] for row in rows if row["rule"]) == {
        effect.clause: effect.in_order for effect in report.clauses if effect.in_order
    }
    assert json.loads((out / "e.json").read_text())["kept"] == report.kept == table.num_rows
    assert ledger.check_balance(str(out / "ledger")) == []
    assert report.text()
    return report, dict(zip(table["uid"].to_pylist(), table["count"].to_pylist(), strict=True)), rows


def values_of(scores: str, *columns: str) -> dict[str, tuple[object, ...]]:
    from mmcorpus.curation.store.scores import load_scores

    table = load_scores(scores, columns=list(columns))
    return dict(zip(table["uid"].to_pylist(), zip(*(table[c].to_pylist() for c in columns), strict=True), strict=True))


def test_each_dropped_sample_names_the_first_clause_it_fails_and_the_value(scores: str, tmp_path: Path) -> None:
    config = SelectConfig(keep="image.min_side >= 200 and not image.has_alpha and caption.words > 2")
    report, kept, rows = run(config, scores, tmp_path)
    truth = values_of(scores, "image.min_side", "image.has_alpha", "caption.words")
    for row in rows:
        side, alpha, words = truth[row["uid"]]
        if side is None:
            expected = ("image.min_side >= 200", "unscored")
        elif side < 200:
            expected = ("image.min_side >= 200", f"image.min_side={side}")
        elif alpha:
            expected = ("not image.has_alpha", "image.has_alpha=true")
        elif words <= 2:
            expected = ("caption.words > 2", f"caption.words={words}")
        else:
            expected = (None, None)
        assert (row["rule"], row["value"]) == expected
        assert (row["uid"] in kept) == (expected[0] is None)
    sides = [side for side, _, _ in truth.values()]
    first = report.clauses[0]
    assert first.alone == first.in_order == sum(side is None or side < 200 for side in sides)
    assert first.unscored == sides.count(None)
    assert report.clauses[1].alone == sum(alpha for _, alpha, _ in truth.values())


def test_intersect_subtract_and_union_carry_counts(scores: str, tmp_path: Path) -> None:
    lists = {"a.npy": dict.fromkeys(UIDS[:100], 2) | {"f" * 32: 1}, "b.parquet": dict.fromkeys(UIDS[:10], 1)}
    lists["c.txt"] = {UIDS[5]: 3, UIDS[499]: 2, "e" * 32: 1}
    for name, counts in lists.items():
        table = pa.table({"uid": list(counts), "count": pa.array(list(counts.values()), pa.int32())})
        write_selection(str(tmp_path / name), table)
    paths = {name: str(tmp_path / name) for name in lists}
    config = SelectConfig(intersect=(paths["a.npy"],), subtract=(paths["b.parquet"],), union=(paths["c.txt"],))
    report, kept, rows = run(config, scores, tmp_path)
    assert kept == dict.fromkeys(UIDS[10:100], 2) | {UIDS[5]: 3, UIDS[499]: 2}
    assert (report.restored, report.missing) == (2, {paths["a.npy"]: 1, paths["c.txt"]: 1})
    by_uid = {row["uid"]: row for row in rows}
    assert by_uid[UIDS[200]]["rule"] == f'selected("{paths["a.npy"]}")'
    assert by_uid[UIDS[0]]["rule"] == f'not selected("{paths["b.parquet"]}")'
    assert by_uid[UIDS[0]]["value"] == f'selected("{paths["b.parquet"]}")=true'


def test_upsampling_multiplies_and_the_largest_factor_wins(scores: str, tmp_path: Path) -> None:
    config = SelectConfig(upsample={"caption.words > 3": 2, "caption.words > 6": 5, "image.min_side > 0": 1})
    report, kept, _ = run(config, scores, tmp_path)
    words = {uid: value for uid, (value,) in values_of(scores, "caption.words").items()}
    assert kept == {uid: 5 if word > 6 else 2 if word > 3 else 1 for uid, word in words.items()}
    assert report.copies == sum(kept.values())


def test_held_out_samples_are_kept_apart_and_clusters_stay_whole(scores: str, tmp_path: Path) -> None:
    config = SelectConfig(keep="caption.words > 2", heldout_fraction=0.3, heldout_by="same_image.cluster")
    report, kept, rows = run(config, scores, tmp_path)
    aside = set(read_selection(str(tmp_path / "h.parquet"))["uid"].to_pylist())
    assert len(aside) == report.heldout
    assert not aside & kept.keys()
    assert 0.15 < report.heldout / (report.heldout + report.kept) < 0.45
    clusters = {uid: cluster for uid, (cluster,) in values_of(scores, "same_image.cluster").items()}
    assert not {clusters[uid] for uid in aside} & {clusters[uid] for uid in kept}
    assert {row["uid"] for row in rows if row["value"] == "heldout"} == aside
    assert {row["verdict"] for row in rows if row["value"] == "heldout"} == {"kept"}
    other, _, _ = run(SelectConfig(heldout_fraction=0.3, salt="other"), scores, tmp_path)
    assert other.heldout != 0


def test_max_samples_draws_the_same_ones_every_time(scores: str, tmp_path: Path) -> None:
    report, kept, rows = run(SelectConfig(max_samples=50), scores, tmp_path)
    assert (report.kept, len(kept)) == (50, 50)
    assert {row["rule"] for row in rows} == {None, "max_samples=50"}
    assert run(SelectConfig(max_samples=50), scores, tmp_path)[1] == kept
    assert run(SelectConfig(max_samples=50, salt="x"), scores, tmp_path)[1] != kept


def test_a_profile_comes_before_keep(scores: str) -> None:
    clauses = SelectConfig(profile="mm1_images", keep=("a.b > 1 and a.c > 2", "a.d > 3")).clauses
    assert clauses[-3:] == ("a.b > 1", "a.c > 2", "a.d > 3")
    assert len(clauses) > 3


def test_the_order_of_shards_and_the_form_of_keep_do_not_matter(scores: str, tmp_path: Path) -> None:
    one = run(SelectConfig(keep="top(caption.words, 0.4) and image.min_side > 100"), scores, tmp_path)
    data = (tmp_path / "s.parquet").read_bytes()
    two = run(SelectConfig(keep=("top(caption.words, 0.4)", "image.min_side > 100")), scores, tmp_path)
    assert one[1] == two[1]
    assert (tmp_path / "s.parquet").read_bytes() == data
    assert pq.read_schema(tmp_path / "s.parquet").names == ["uid", "count"]
    cut = one[0].clauses[0].thresholds[0]
    assert (cut.column, cut.op) == ("caption.words", ">=")
    table = {uid: value for uid, (value,) in values_of(scores, "caption.words").items()}
    assert min(table[uid] for uid in one[1]) == cut.value


def test_a_uid_in_two_rows_is_counted_twice(tmp_path: Path) -> None:
    from mmcorpus.curation.selection import select_table

    table = pa.table({"uid": [UIDS[0], UIDS[1], UIDS[0]], "a.b": [1, 2, 1]})
    select_table(SelectConfig(keep="a.b >= 1"), table, str(tmp_path / "s.parquet"))
    found = read_selection(str(tmp_path / "s.parquet"))
    assert dict(zip(found["uid"].to_pylist(), found["count"].to_pylist(), strict=True)) == {UIDS[0]: 2, UIDS[1]: 1}


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"keep": "image.min_sid > 1"}, "nearest: image.min_side"),
        ({"keep": "url.logo"}, "run the scorer `url` first"),
        ({"keep": "image.min_side + 1"}, "a condition is needed"),
        ({"heldout_by": "image.nothing", "heldout_fraction": 0.1}, "heldout_by"),
    ],
)
def test_what_the_scores_lack_is_said_before_any_work(
    scores: str, tmp_path: Path, config: dict[str, object], problem: str
) -> None:
    with pytest.raises(ValueError, match=problem):
        select(SelectConfig(**config), scores, str(tmp_path / "s.parquet"), heldout_out=str(tmp_path / "h"))  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"keep": "a.b >"}, "syntax error"),
        ({"profile": "datacomp_basics"}, "datacomp_basic"),
        ({"upsample": {"a.b > 1": 0}}, "use 1 or more"),
        ({"max_samples": 0}, "keeps nothing"),
        ({"heldout_fraction": 1.0}, r"not in \[0, 1\)"),
    ],
)
def test_a_wrong_config_is_refused(config: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        SelectConfig(**config)  # type: ignore[arg-type]


def test_held_out_needs_a_place(scores: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no path"):
        select(SelectConfig(heldout_fraction=0.5), scores, str(tmp_path / "s.parquet"))


def test_an_expression_error_is_a_value_error() -> None:
    with pytest.raises(ExpressionError):
        evaluate("a.b", pa.table({"a.b": [1]}))


def test_required_clauses_name_the_nodes_that_drop_their_documents(tmp_path: Path) -> None:
    uids = [f"{number:032x}" for number in range(5)]
    table = pa.table({"uid": uids, "a.x": [9.0, 1.0, None, 9.0, 1.0], "a.ok": [True, True, True, False, False]})
    config = SelectConfig(keep="a.ok", require="a.x > 5 and a.x < 100")
    report = select_table(config, table, f"{tmp_path}/s.parquet", required_out=f"{tmp_path}/s.required.parquet")
    assert [effect.clause for effect in report.clauses] == ["a.ok", "a.x > 5", "a.x < 100"]
    assert storage.read_table(f"{tmp_path}/s.parquet")["uid"].to_pylist() == uids[:1], "an undecided node goes alone"
    assert storage.read_table(f"{tmp_path}/s.required.parquet").to_pylist() == [
        {"uid": uids[1], "rule": "a.x > 5"},
        {"uid": uids[4], "rule": "a.x > 5"},
    ], "whatever else dropped the node"
