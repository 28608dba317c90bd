"""How far a stage is, as its folders show it."""

from pathlib import Path

import pytest

from mmcorpus.curation.engine.records import StageRecord
from mmcorpus.curation.store import storage
from mmcorpus.pipelines.run.state import RunState
from mmcorpus.pipelines.run.status import read_status


@pytest.mark.parametrize(
    ("stage", "inputs", "shards", "progress"),
    [
        ("pages/score", {"pages/trim": "x"}, {"pages": 5, "pages.trimmed": 3}, " (2 of 3 shards)"),
        ("pages.images/score", {"pages/place": "x"}, {"pages": 5, "pages.images": 4}, " (2 of 4 shards)"),
        ("pairs/score", {"pairs/download": "x"}, {"pairs": 6}, " (2 of 6 shards)"),
    ],
)
def test_scoring_is_of_the_shards_that_are_judged(
    tmp_path: Path, stage: str, inputs: dict[str, str], shards: dict[str, int], progress: str
) -> None:
    """A source's documents are judged as they were trimmed, not as they were placed."""
    for name, count in shards.items():
        for number in range(count):
            storage.write_json(str(tmp_path / f"shards/{name}/{number:05d}_stats.json"), {"successes": 1})
    output = f"scores/{stage.partition('/')[0]}/document"
    for number in range(2):
        storage.write_bytes(str(tmp_path / output / f"{number:05d}.parquet"), b"x")
    state = RunState(str(tmp_path), name="test")
    state.put(stage, StageRecord(fingerprint="x", status="interrupted", inputs=inputs, outputs=[output]))
    (found,) = read_status(str(tmp_path)).stages
    assert (found.name, found.progress) == (stage, progress)
