"""The report's section on the data filtering network."""

import json
from pathlib import Path

import pyarrow as pa
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.pipelines.report import dfn
from tests.training.clip.conftest import samples, write_source


@pytest.fixture
def run(tmp_path: Path) -> str:
    """A run of 20 pairs: the first 6 were learned from, odd ones are swapped, scores rise with the number."""
    root, made = str(tmp_path / "run"), samples(20)
    write_source(f"{root}/shards/pairs", [made])
    storage.write_bytes(f"{root}/recipe.yaml", b"name: x\nweb: {generate: {}}\n")
    recall = {f"{way}_r{k}": 0.25 for way in ("image_to_text", "text_to_image") for k in (1, 5)}
    lines = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0}, {"step": 2, "heldout_loss": 1.5, **recall}]
    storage.write_bytes(f"{root}/dfn/metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    uids = [sample.uid for sample in made]
    table = pa.table({"uid": uids, "similarity": pa.array([number / 20 for number in range(20)], pa.float32())})
    origin = Origin(scorer="dfn", version="1", fingerprint="0" * 16)
    write_scores(f"{root}/scores/pairs", "00000", table, origin)
    storage.write_table(f"{root}/selections/pairs.trusted.parquet", pa.table({"uid": uids[:6]}))
    spoils = ["swapped_caption" if number % 2 else "clean" for number in range(20)]
    captions = [sample.caption for sample in made]
    truth = {"uid": uids, "spoil": spoils, "caption": captions, "true_caption": [f"true {c}" for c in captions]}
    storage.write_table(f"{root}/web/truth.parquet", pa.table(truth))
    return root


def test_the_worst_mistakes_are_of_pairs_not_learned_from(run: str) -> None:
    found = dfn.section(run, ["pairs"], 8)
    assert found is not None
    made = samples(20)
    lowest, highest = found["galleries"]
    assert [card.uid for card in lowest["cards"]] == [made[number].uid for number in range(6, 20, 2)]
    assert [card.uid for card in highest["cards"]] == [made[number].uid for number in range(19, 6, -2)]
    assert "true A" in highest["cards"][0].note
    assert all(card.picture.startswith("data:image/jpeg") for card in lowest["cards"])
    assert "7 true, 7 swapped" in found["texts"][0]
    assert dict(found["figures"])["image → text R@1"] == "25.0%"
    assert len(found["charts"]) == 2


def test_without_the_truth_both_ends_are_shown(run: str) -> None:
    storage.remove(f"{run}/web")
    found = dfn.section(run, ["pairs"], 8)
    assert found is not None
    lowest, highest = found["galleries"]
    made = samples(20)
    assert [card.uid for card in lowest["cards"]] == [made[number].uid for number in range(6, 16)]
    assert [card.uid for card in highest["cards"]] == [made[number].uid for number in range(19, 9, -1)]
    assert found["texts"] == []


def test_without_a_network_there_is_no_section(tmp_path: Path) -> None:
    assert dfn.section(str(tmp_path), [], 8) is None
