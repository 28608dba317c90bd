import dataclasses
from pathlib import Path

import pyarrow as pa
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.training.clip.pairs import PairSource, find_pairs
from tests.training.clip.conftest import MakePairs, samples, write_source


def test_each_pair_has_its_own_image_and_caption(squares: MakePairs) -> None:
    pairs = find_pairs({"a": squares("a", 10)})
    wanted = {sample.uid: sample for sample in samples(10)}
    assert pairs.table["uid"].to_pylist() == sorted(wanted)
    for row, uid in enumerate(pairs.table["uid"].to_pylist()):
        assert pairs.image(row) == wanted[uid].images[0].data
        assert pairs.caption(row) == wanted[uid].caption


def test_shards_and_their_order_are_not_seen(tmp_path: Path) -> None:
    made = samples(9)
    one = find_pairs({"s": write_source(tmp_path / "one", [made])})
    many = find_pairs({"s": write_source(tmp_path / "many", [made[6:], made[:2], made[2:6]])})
    assert one.digest() == many.digest()
    assert [one.image(row) for row in range(9)] == [many.image(row) for row in range(9)]


def test_only_what_is_selected_as_often_as_it_counts(tmp_path: Path) -> None:
    made = samples(5)
    pairs = find_pairs({"s": write_source(tmp_path / "s", [made], [made[3], made[1], made[3]])})
    assert sorted(pairs.table["uid"].to_pylist()) == sorted([made[1].uid, made[3].uid, made[3].uid])


def test_a_pair_in_two_sources_is_taken_once(tmp_path: Path) -> None:
    made = samples(4)
    first, second = (write_source(tmp_path / name, [made[:n]]) for name, n in (("a", 3), ("b", 4)))
    pairs = find_pairs({"a": first, "b": second})
    assert pairs.table["uid"].to_pylist() == sorted(sample.uid for sample in made)
    assert pairs.table["source"].to_pylist().count("b") == 1


def test_pairs_without_words_or_image_are_left_out(tmp_path: Path) -> None:
    made = samples(4)
    broken = [
        dataclasses.replace(made[0], caption=None),
        dataclasses.replace(made[1], caption=" \n"),
        dataclasses.replace(made[2], images=()),
        made[3],
    ]
    assert find_pairs({"s": write_source(tmp_path / "s", [broken])}).table["uid"].to_pylist() == [made[3].uid]


def test_what_was_found_is_kept_until_shards_or_selection_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = samples(6)
    source, kept = write_source(tmp_path / "s", [made[:3], made[3:]]), str(tmp_path / "pairs.parquet")
    first = find_pairs({"s": source}, kept)
    with monkeypatch.context() as patch:
        patch.setattr("mmcorpus.training.clip.pairs._in_shard", lambda *_: pytest.fail("read the tars again"))
        again = find_pairs({"s": source}, kept)
    assert again.table.equals(first.table)
    storage.write_bytes(source.selection, f"{made[0].uid}\n".encode())
    assert len(find_pairs({"s": source}, kept)) == 1
    write_source(tmp_path / "s", [made[:2], made[3:]])
    assert len(find_pairs({"s": source}, kept)) == 5


def test_a_damaged_shard_costs_itself_and_is_named(tmp_path: Path) -> None:
    made = samples(6)
    source = write_source(tmp_path / "s", [made[:3], made[3:]])
    (tmp_path / "s" / "00001.tar").write_bytes(b"not a tar at all" * 100)
    kept = str(tmp_path / "pairs.parquet")
    pairs = find_pairs({"s": source}, kept)
    assert sorted(pairs.table["uid"].to_pylist()) == sorted(sample.uid for sample in made[:3])
    assert len(pairs.failures) == 1
    assert "shard 00001 of s" in pairs.failures[0]
    assert not storage.exists(kept), "what is not whole must be looked for again"


def test_remote_shards(s3_root: str) -> None:
    made = samples(3)
    pairs = find_pairs({"s": write_source(f"{s3_root}/s", [made])}, f"{s3_root}/pairs.parquet")
    by_uid = {sample.uid: sample.images[0].data for sample in made}
    assert [pairs.image(row) for row in range(3)] == [by_uid[uid] for uid in pairs.table["uid"].to_pylist()]


def test_nothing_selected_is_an_empty_table(squares: MakePairs, tmp_path: Path) -> None:
    source = squares("s", 4)
    storage.write_bytes(str(tmp_path / "none.txt"), b"")
    pairs = find_pairs({"s": PairSource(shards=source.shards, selection=str(tmp_path / "none.txt"))})
    assert len(pairs) == 0
    assert isinstance(pairs.table, pa.Table)
