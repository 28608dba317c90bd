"""DataComp's image-based filter: the clusters that the target hits are kept, the same whoever works and resumes."""

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.curation.scoring import image_based
from mmcorpus.curation.scoring.image_based import ImageBasedConfig, image_based_filter
from mmcorpus.curation.selection import SelectConfig, select
from mmcorpus.curation.store.embeddings import write_embeddings
from mmcorpus.curation.store.scores import Origin, load_scores

CONFIG = ImageBasedConfig(clusters=12, samples_per_cluster=50)
CENTRES = np.eye(8, dtype=np.float32)[:4]


def pool(root: str, shards: int = 3, rows: int = 40) -> list[int]:
    """Shards of embeddings around four directions, one row in ten without any; returns each sample's direction."""
    rng, kinds = np.random.default_rng(0), []
    for shard in range(shards):
        vectors, uids = [], []
        for row in range(rows):
            kind = int(rng.integers(4))
            vector = CENTRES[kind] + rng.normal(scale=0.05, size=8).astype(np.float32)
            vectors.append(None if row % 10 == 9 else (vector / np.linalg.norm(vector)).astype(np.float16))
            uids.append(hashlib.md5(f"{shard} {row}".encode()).hexdigest())
            kinds.append(kind)
        schema = pa.schema({"uid": pa.string(), "image": pa.list_(pa.float16(), 8)})
        table = pa.table({"uid": uids, "image": vectors}, schema=schema)
        origin = Origin(scorer="clip", version="1", model="tiny", fingerprint="0" * 16)
        write_embeddings(root, f"{shard:05d}", table, origin)
    return kinds


@pytest.mark.usefixtures("ray_local")
def test_what_the_target_hits_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    embeddings, scores, target = (str(tmp_path / name) for name in ("embeddings", "scores", "target.npy"))
    kinds = pool(embeddings)
    np.save(target, 3 * CENTRES[[1, 1, 3]])
    report = image_based_filter(CONFIG, embeddings, scores, target)
    assert (report.samples, report.targets, report.clusters, report.clusters_hit) == (108, 3, 12, 2)
    table = load_scores(scores)
    kept, hit = 0, {}
    for row, kind in enumerate(kinds):
        targets = table["image_based.targets"][row].as_py()
        if row % 10 == 9:
            assert table["image_based.reason"][row].as_py() == "no_embedding"
            assert targets is None
            continue
        assert table["image_based.similarity"][row].as_py() > 0.9
        if targets:  # as many as point where this sample does
            assert targets == {1: 2, 3: 1}[kind]
            hit[table["image_based.cluster"][row].as_py()] = targets
            kept += 1
    assert sorted(hit.values()) == [1, 2]
    assert report.kept == kept > 0
    assert select(SelectConfig(keep="image_based.targets > 0"), scores, str(tmp_path / "kept.parquet")).kept == kept

    before = {path.name: path.read_bytes() for path in (tmp_path / "scores" / "image_based").iterdir()}
    assert sorted(before) == ["00000.parquet", "00001.parquet", "00002.parquet"]
    (tmp_path / "scores" / "image_based" / "00001.parquet").unlink()
    assert image_based_filter(CONFIG, embeddings, scores, target, workers=1) == report
    assert before == {path.name: path.read_bytes() for path in (tmp_path / "scores" / "image_based").iterdir()}
    with monkeypatch.context() as patched:
        patched.setattr(image_based, "run_pending", None)  # nothing is left to do
        assert image_based_filter(CONFIG, embeddings, scores, target) == report

    np.save(target, CENTRES[[0]])
    assert image_based_filter(CONFIG, embeddings, scores, target).clusters_hit == 1
    assert image_based_filter(CONFIG, embeddings, scores, embeddings).clusters_hit == 12

    pool(embeddings, rows=50)  # the same shards by the same model, with more samples
    assert image_based_filter(CONFIG, embeddings, scores, target).samples == 135
    assert load_scores(scores).num_rows == 150


def test_what_is_missing_is_said(tmp_path: Path) -> None:
    embeddings, scores, target = (str(tmp_path / name) for name in ("embeddings", "scores", "target.npy"))
    with pytest.raises(ValueError, match="give that scorer `save_embeddings: true`"):
        image_based_filter(CONFIG, embeddings, scores, target)
    pool(embeddings, shards=1)
    np.save(target, np.zeros(3))
    with pytest.raises(ValueError, match=r"array of shape \(3,\); give \[targets, dimensions\]"):
        image_based_filter(CONFIG, embeddings, scores, target)
    np.save(target, np.ones((3, 5)))
    with pytest.raises(ValueError, match="embeddings have 5 numbers, the pool's 8"):
        image_based_filter(CONFIG, embeddings, scores, target)
    with pytest.raises(ValueError, match="clusters is 0; give 1 or more"):
        ImageBasedConfig(clusters=0)
