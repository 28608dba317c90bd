"""SemDeDup over embeddings on disk: near vectors are found, chains are cut, k-means repeats itself."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.curation.dedup import deduplicate
from mmcorpus.curation.dedup.semantic import Semantic
from mmcorpus.curation.store.embeddings import write_embeddings
from mmcorpus.curation.store.scores import Origin, list_tables, read_scores, table_path
from tests.curation.dedup.corpus import found, make_rows, source_at

ORIGIN = Origin(scorer="clip", version="1", fingerprint="f")


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def corpus(folder: Path, vectors: np.ndarray, known: np.ndarray) -> list[str]:
    source = source_at(folder)
    uids = make_rows(source, [{"caption": "a"}] * len(vectors), per_shard=100)
    for shard in list_tables(source.scores)["caption"]:
        own = read_scores(source.scores, "caption", shard)["uid"]
        places = [uids.index(uid) for uid in own.to_pylist()]
        flat = pa.array(vectors[places].astype(np.float16).ravel())
        image = pa.FixedSizeListArray.from_arrays(flat, vectors.shape[1], mask=pa.array(~known[places]))
        table = pa.table({"uid": own, "image": image})
        assert source.embeddings is not None
        write_embeddings(source.embeddings, shard, table, ORIGIN)
    return uids


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    rng = np.random.default_rng(0)
    base = unit(rng.normal(size=(300, 32)))
    return np.concatenate([base, unit(base[:60] + 0.02 * rng.normal(size=(60, 32)))]).astype(np.float32)


def test_near_vectors_are_found_within_their_cluster(vectors: np.ndarray, tmp_path: Path) -> None:
    known = np.ones(360, bool)
    known[7] = False
    uids = corpus(tmp_path, vectors, known)
    source = source_at(tmp_path)
    method = Semantic(cosine=0.97, clusters=3)
    report = deduplicate("alike", method, [source], str(tmp_path / "w"))
    assert (report.samples, report.unknown) == (360, 1)
    rows = found("alike", source)
    pairs = [number for number in range(60) if number != 7]
    together = [rows[uids[number]][2] == rows[uids[300 + number]][2] for number in pairs]
    # Two of a pair may lie on either side of a border between clusters; nothing else is lost.
    assert sum(together) >= 56
    assert report.duplicates == sum(together)
    assert rows[uids[7]] == (None, None, None)
    assert deduplicate("one", Semantic(cosine=0.97, clusters=1), [source], str(tmp_path / "v")).duplicates == 59


def test_a_chain_of_likenesses_is_cut_where_it_leaves_the_survivor(tmp_path: Path) -> None:
    turn = np.radians(np.arange(0, 60, 5))
    vectors = np.stack([np.cos(turn), np.sin(turn)], axis=1)
    uids = corpus(tmp_path, vectors, np.ones(12, bool))
    source = source_at(tmp_path)
    deduplicate("alike", Semantic(cosine=0.99, clusters=1), [source], str(tmp_path / "w"))
    rows = found("alike", source)
    for number, uid in enumerate(uids):
        survivor = uids.index(rows[uid][2])
        assert abs(number - survivor) <= 1  # 5 degrees are a cosine of 0.996, 10 of 0.985


def test_the_same_bytes_again(vectors: np.ndarray, tmp_path: Path) -> None:
    written = []
    for folder in (tmp_path / "a", tmp_path / "b"):
        corpus(folder, vectors, np.ones(360, bool))
        source = source_at(folder)
        deduplicate("alike", Semantic(clusters=4), [source], str(folder / "w"))
        written.append(
            [Path(table_path(source.scores, "alike", s)).read_bytes() for s in list_tables(source.scores)["alike"]]
        )
    assert written[0] == written[1]


def test_embeddings_that_were_not_saved_are_asked_for(tmp_path: Path) -> None:
    source = source_at(tmp_path)
    make_rows(source, [{"caption": "a"}] * 3)
    with pytest.raises(ValueError, match="save_embeddings: true"):
        deduplicate("alike", Semantic(), [source], str(tmp_path / "w"))


@pytest.mark.parametrize("wrong", [{"cosine": 0.0}, {"cosine": 1.5}, {"clusters": 0}])
def test_a_wrong_parameter_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Semantic(**wrong)  # type: ignore[arg-type]


def test_many_equal_vectors_are_compared_once(tmp_path: Path) -> None:
    vectors = np.repeat(np.array([[1.0, 0.0], [0.0, 1.0], [0.02, 1.0]]), 60, axis=0)
    uids = corpus(tmp_path, vectors, np.ones(180, bool))
    source = source_at(tmp_path)
    report = deduplicate("alike", Semantic(cosine=0.99, clusters=1), [source], str(tmp_path / "w"))
    assert report.candidates == 3  # rows of the one bucket
    rows = found("alike", source)
    assert {rows[uid][2] for uid in uids[:60]} == {min(uids[:60])}
    assert {rows[uid][2] for uid in uids[60:]} == {min(uids[60:])}
    assert sorted(rows[uid][1] for uid in uids[60:]) == list(range(120))
