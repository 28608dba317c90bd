"""The captions of a cluster, merged."""

from pathlib import Path

from curation import storage
from curation.dedup import METHODS, deduplicate, write_annotations
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
