"""The captions of a cluster, merged."""

from pathlib import Path

import pytest

from mmcorpus.curation.dedup import METHODS, deduplicate, write_annotations
from mmcorpus.curation.store import storage
from tests.curation.dedup.corpus import make_rows, source_at


def test_one_image_under_several_captions(tmp_path: Path) -> None:
    sources = [source_at(tmp_path, name) for name in ("a", "b")]
    texts = ["A fox.", "a FOX", "Reynard himself", "A hare.", "A hare!", None]
    rows = list(zip(texts, ["s1", "s1", "s1", "s2", "s2", "s3"], strict=True))
    uids = make_rows(sources[0], [{"caption": text, "sha256": digest} for text, digest in rows], per_shard=2)
    more = make_rows(sources[1], [{"caption": "A red fox in snow", "sha256": "s1"}, {"caption": "B", "sha256": "s3"}])
    work = str(tmp_path / "dedup" / "same_file")
    deduplicate("same_file", METHODS["bytes"](), sources, work, survivor="caption.words")
    path = f"{work}/annotations.parquet"
    assert write_annotations("same_file", sources, path) == 1
    before = storage.read_bytes(path)
    (row,) = storage.read_table(path).to_pylist()
    assert row["uid"] == more[0]
    fox = min((0, 1), key=lambda number: uids[number])
    assert row["captions"][0] == "A red fox in snow"
    assert set(row["captions"]) == {"A red fox in snow", rows[fox][0], "Reynard himself"}
    assert row["uids"][0] == more[0]
    assert set(row["uids"]) == {more[0], uids[fox], uids[2]}
    write_annotations("same_file", sources, path)
    assert storage.read_bytes(path) == before


def test_copies_that_the_selection_would_drop_say_nothing(tmp_path: Path) -> None:
    source = source_at(tmp_path)
    texts = ["A fox in snow", "BUY FOXES CHEAP", "Reynard himself", "spam", "spam spam", "A hare runs", "SALE"]
    digests = ["s1", "s1", "s1", "s2", "s2", "s3", "s3"]
    make_rows(source, [{"caption": text, "sha256": d} for text, d in zip(texts, digests, strict=True)], per_shard=3)
    path = str(tmp_path / "dedup" / "same_file" / "annotations.parquet")

    def annotated(among: str | None) -> list[set[str]]:
        deduplicate("same_file", METHODS["bytes"](), [source], str(tmp_path / "dedup" / "same_file"), among=among)
        count = write_annotations("same_file", [source], path, among=among)
        rows = storage.read_table(path).to_pylist()
        assert count == len(rows)
        return [set(row["captions"]) for row in rows]

    good = "caption.words > 1 and not is_null(sha256) and caption != 'BUY FOXES CHEAP' and caption != 'spam spam'"
    # Of s2 nobody is good, of s3 one.
    assert annotated(good) == [{"A fox in snow", "Reynard himself"}]
    assert sorted(map(len, annotated(None))) == [2, 2, 3]


def test_copies_of_what_an_index_holds_have_no_image_here(tmp_path: Path) -> None:
    index, old, new = str(tmp_path / "index"), source_at(tmp_path, "old"), source_at(tmp_path, "new")
    make_rows(old, [{"caption": "A fox", "sha256": "s1"}])
    make_rows(new, [{"caption": text, "sha256": "s1"} for text in ("A vixen", "Reynard himself")])
    method = METHODS["bytes"]()
    deduplicate("same_file", method, [old], str(tmp_path / "one"), index=index, extend=True)
    deduplicate("same_file", method, [new], str(tmp_path / "two"), index=index)
    assert write_annotations("same_file", [new], str(tmp_path / "two" / "annotations.parquet")) == 0


def test_what_is_held_at_a_time_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = source_at(tmp_path)
    rows = [{"caption": f"picture {n % 50} seen {n % 3} times", "sha256": f"s{n % 50}"} for n in range(200)]
    make_rows(source, rows, per_shard=4)
    deduplicate("same_file", METHODS["bytes"](), [source], str(tmp_path / "work"))
    whole, spread = str(tmp_path / "whole.parquet"), str(tmp_path / "spread.parquet")
    assert write_annotations("same_file", [source], whole) == 50
    monkeypatch.setattr("mmcorpus.curation.dedup.annotations.HELD", 70)
    assert write_annotations("same_file", [source], spread) == 50
    assert storage.read_bytes(whole) == storage.read_bytes(spread)
    uids = storage.read_table(whole)["uid"].to_pylist()
    assert uids == sorted(uids)
    assert not (tmp_path / "spread.parquet.parts").exists()
