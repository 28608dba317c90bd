"""Score tables: what they say of themselves, and how they join."""

from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import (
    Origin,
    list_tables,
    load_scores,
    read_origin,
    read_scores,
    table_path,
    tables_done,
    write_scores,
)
from mmcorpus.filters import SCORERS
from mmcorpus.filters.language import LanguageScorer

UIDS = [f"{number:032x}" for number in range(6)]


def origin(name: str, fingerprint: str = "f" * 16) -> Origin:
    return Origin(scorer=name, version="1", fingerprint=fingerprint)


def write(root: str, scorer: str, shard: str, uids: Sequence[str], **columns: Sequence[object]) -> None:
    write_scores(
        root,
        shard,
        pa.table({"uid": list(uids), **{name: list(column) for name, column in columns.items()}}),
        origin(scorer),
    )


def test_a_table_says_what_made_it(tmp_path: Path) -> None:
    scorer = LanguageScorer(languages=("en", "de"))
    table = pa.table({"reason": ["blank", None, "error: x: y"], "code": [None, "en", None], "uid": UIDS[:3]})
    info = write_scores(str(tmp_path), "00000", table, Origin.of(scorer))
    assert info.reasons == {"blank": 1, "error": 1}
    path = table_path(str(tmp_path), "language", "00000")
    says = read_origin(storage.read_schema(path))
    assert says["parameters"] == {"languages": ["en", "de"]}
    assert says["fingerprint"] == scorer.fingerprint()
    assert says["model"].startswith("lid.176.ftz@sha256:")
    assert says["rows"] == 3
    assert read_scores(str(tmp_path), "language", "00000").column_names == ["uid", "code", "reason"]
    first = storage.read_bytes(path)
    write_scores(str(tmp_path), "00000", table, Origin.of(scorer))
    assert storage.read_bytes(path) == first


def test_only_tables_of_the_same_parameters_and_samples_are_done(tmp_path: Path) -> None:
    scorer = SCORERS["caption"]()
    root = str(tmp_path)
    for shard, uids, fingerprint in (
        ("00000", UIDS[:2], scorer.fingerprint()),
        ("00001", UIDS[:2], "0" * 16),
        ("00002", UIDS[:1], scorer.fingerprint()),
        ("00009", UIDS[:2], scorer.fingerprint()),
    ):
        write_scores(root, shard, pa.table({"uid": uids}), origin("caption", fingerprint))
    (tmp_path / "caption" / "00004.parquet").write_bytes(b"no parquet")
    sizes = dict.fromkeys(["00000", "00001", "00002", "00003", "00004"], 2)
    assert list(tables_done(root, sizes, [scorer])["caption"]) == ["00000"]


def test_tables_of_what_was_indexed_from_other_files_are_not_done(tmp_path: Path) -> None:
    scorer, root = SCORERS["caption"](), str(tmp_path)
    for shard, indexed in (("00000", ""), ("00001", "now"), ("00002", "before")):
        write_scores(root, shard, pa.table({"uid": UIDS[:2]}), Origin.of(scorer), indexed)
    says = read_origin(storage.read_schema(table_path(root, "caption", "00000")))
    assert "indexed" not in says, "tables of downloads are as they were"
    sizes = dict.fromkeys(["00000", "00001", "00002"], 2)
    assert list(tables_done(root, sizes, [scorer], "now")["caption"]) == ["00000", "00001"]


def test_scorers_join_by_uid_whatever_the_order(tmp_path: Path) -> None:
    root = str(tmp_path)
    write(root, "a", "00000", UIDS[:3], x=[0, 1, 2])
    write(root, "b", "00000", UIDS[:3], y=["p", "q", None])
    write(root, "c", "00000", [UIDS[2], UIDS[0]], z=[2.5, 0.5])
    write(root, "a", "00001", UIDS[3:5], x=[3, 4])
    write(root, "b", "00001", UIDS[3:5], y=["r", "s"])
    write(root, "c", "00001", [UIDS[4], UIDS[3]], z=[4.5, 3.5])
    table = load_scores(root)
    assert table.column_names == ["uid", "a.x", "a.reason", "b.y", "b.reason", "c.z", "c.reason"]
    assert table["uid"].to_pylist() == UIDS[:5]
    assert table["a.x"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["b.y"].to_pylist() == ["p", "q", None, "r", "s"]
    assert table["c.z"].to_pylist() == [0.5, None, 2.5, 3.5, 4.5]
    assert load_scores(root, ["b"]).column_names == ["uid", "b.y", "b.reason"]
    assert load_scores(root, columns=["c.z", "uid", "a.x"]).column_names == ["uid", "c.z", "a.x"]
    assert load_scores(root, columns=[]).column_names == ["uid"]


def test_a_shard_that_one_scorer_lacks_is_null_there_named_and_never_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    root = str(tmp_path)
    write(root, "a", "00000", UIDS[:2], x=[0, 1])
    write(root, "a", "00001", UIDS[2:4], x=[2, 3])
    write(root, "b", "00001", UIDS[2:4], y=[7, 8])
    table = load_scores(root, columns=["b.y"])
    assert table.to_pydict() == {"uid": UIDS[:4], "b.y": [None, None, 7, 8]}
    assert "of 2 shards 1 have no table of the scorer b, and their samples no score: 00000;" in caplog.text
    caplog.clear()
    load_scores(root, columns=["a.x"])
    assert not caplog.text


def test_repeated_uids_stay_apart(tmp_path: Path) -> None:
    root = str(tmp_path)
    write(root, "a", "00000", [UIDS[0], UIDS[0]], x=[1, 2])
    write(root, "b", "00000", [UIDS[0], UIDS[0]], y=[3, 4])
    assert load_scores(root).select(["a.x", "b.y"]).to_pylist() == [{"a.x": 1, "b.y": 3}, {"a.x": 2, "b.y": 4}]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    root = str(tmp_path)
    with pytest.raises(ValueError, match=r"there are no scores under .*mmcorpus score"):
        load_scores(root)
    write(root, "a", "00000", UIDS[:1], x=[1])
    with pytest.raises(ValueError, match="run the scorer 'image' first"):
        load_scores(root, ["a", "image"])
    with pytest.raises(ValueError, match=r"scores of a under .* have no column 'y'; they have x, reason"):
        load_scores(root, columns=["a.y"])
    with pytest.raises(ValueError, match="has no column uid"):
        write_scores(root, "00000", pa.table({"x": [1]}), origin("a"))
    assert list_tables(root) == {"a": ["00000"]}


def test_empty_tables_join(tmp_path: Path) -> None:
    root = str(tmp_path)
    empty = pa.table({"uid": pa.array([], pa.string()), "x": pa.array([], pa.int32())})
    write_scores(root, "00000", empty, origin("a"))
    assert load_scores(root).num_rows == 0


def test_scores_live_on_s3(s3_root: str) -> None:
    write(s3_root, "a", "00000", UIDS[:2], x=[0, 1])
    assert load_scores(s3_root)["a.x"].to_pylist() == [0, 1]
    assert list_tables(s3_root) == {"a": ["00000"]}


def test_a_shard_of_which_nobody_has_a_table_is_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = str(tmp_path / "scores" / "pairs")
    write(root, "a", "00000", UIDS[:2], x=[0, 1])
    for name in ("00000", "00001"):
        storage.write_json(str(tmp_path / "shards" / "pairs" / f"{name}_stats.json"), {})
    assert load_scores(root, columns=["a.x"])["a.x"].to_pylist() == [0, 1]
    assert "of 2 shards 1 have no table of the scorer a, and their samples no score: 00001; `mmcorpus" in caplog.text
    assert "of 1 of them nobody has a table" in caplog.text
