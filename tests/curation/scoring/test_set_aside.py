"""Scorers that one sample stalls or kills: it alone has no scores, and its shard is finished without it."""

import ctypes
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from mmcorpus.curation.engine.budget import SampleBudget, use_budget
from mmcorpus.curation.scoring import batches, run
from mmcorpus.curation.scoring.run import score
from mmcorpus.curation.scoring.shard import ScoreShard
from mmcorpus.curation.store.scores import read_scores
from mmcorpus.filters import SCORERS, Scorer, judge_batch
from mmcorpus.filters.scorer import Batch, Columns
from tests.curation.scoring.test_run import digests, write_shard

BUDGET = SampleBudget(cpu_seconds=1, memory_gib=1)
CPU, MEMORY, DIED = "cpu_limit: over 1 s", "memory_limit", "worker_died: twice"


def loop() -> None:
    while True:
        pass


def crash() -> None:
    ctypes.string_at(0)


def stall() -> None:
    pow(3, 10**9)


def hog() -> None:
    held = []
    while True:
        held.append(bytes(1 << 26))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True, kw_only=True)
class Fragile(Scorer):
    """A scorer of one's own, in which some captions meet what a user's code can do."""

    name: ClassVar[str] = "fragile"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("caption",)
    seen: str
    """A file that gets a line a caption."""

    def schema(self) -> pa.Schema:
        return pa.schema([("length", pa.int64()), ("batch", pa.int64())])

    def parameters(self) -> dict[str, Any]:
        return {}

    def load(self) -> Callable[[Batch], Columns]:
        deeds = {"0 number 3": crash, "0 number 1": loop, "1 number 2": stall, "1 number 4": hog, "2 number 5": kill}

        def judge(batch: Batch) -> Columns:
            for caption in batch["caption"]:
                with open(self.seen, "a") as file:
                    file.write(f"{caption}\n")
                for ending, deed in deeds.items():
                    if caption.endswith(ending):
                        deed()
            size = len(batch["caption"])
            return {"length": [len(caption) for caption in batch["caption"]], "batch": [size] * size}

        return judge


def corpus(root: Path) -> str:
    from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
    from mmcorpus.curation.store.uid import pair_uid
    from tests.curation.scoring.test_run import jpeg

    for number in range(4):
        with ShardWriter(Shard(root=str(root), name=f"{number:05d}")) as writer:
            for place in range(6):
                caption = f"A picture of {number} number {place}"
                image = EncodedImage(extension="jpg", data=jpeg(place))
                writer.write(
                    Sample(key=f"{place:09d}", uid=pair_uid(f"u{number}", caption), caption=caption, images=(image,))
                )
    return str(root)


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_a_users_scorer_that_stalls_crashes_and_hogs(tmp_path: Path) -> None:
    shards, seen = corpus(tmp_path / "shards"), tmp_path / "seen"
    for workers in (1, 2):
        out = tmp_path / f"scores{workers}"
        with use_budget(BUDGET):
            report = score(shards, str(out), [Fragile(seen=str(seen)), SCORERS["caption"]()], workers=workers)
        assert report.ok, report.failed
        assert report.unscored["fragile"] == {"cpu_limit": 2, "memory_limit": 1, "worker_died": 2}
        assert report.scored == {"fragile": 19, "caption": 24}
    assert digests(tmp_path / "scores1") == digests(tmp_path / "scores2")
    tables = [read_scores(str(tmp_path / "scores1"), "fragile", f"{number:05d}").to_pydict() for number in range(4)]
    assert [table["reason"] for table in tables] == [
        [None, CPU, None, DIED, None, None],
        [None, None, CPU, None, MEMORY, None],
        [None, None, None, None, None, DIED],
        [None] * 6,
    ]
    # Whatever was tried, those that are left were judged together.
    assert [table["batch"] for table in tables][::2] == [[4, None, 4, None, 4, 4], [5, 5, 5, 5, 5, None]]
    seen.write_text("")
    with use_budget(BUDGET):
        again = score(shards, str(tmp_path / "scores1"), [Fragile(seen=str(seen)), SCORERS["url"]()])
    assert again.unscored["fragile"] == {"cpu_limit": 2, "memory_limit": 1, "worker_died": 2}
    assert not seen.read_text()
    (tmp_path / "scores1/fragile/00002.parquet").unlink()  # a run that ended before it was committed
    with use_budget(BUDGET):
        assert score(shards, str(tmp_path / "scores1"), [Fragile(seen=str(seen))]).ok
    assert "2 number 5" not in seen.read_text()
    assert seen.read_text().count("\n") == 5
    assert digests(tmp_path / "scores1" / "fragile") == digests(tmp_path / "scores2" / "fragile")


def fragile_decode(data: bytes, **more: Any) -> Any:
    if data.startswith(b"<html>"):
        kill()
    return DECODE(data, **more)


DECODE = batches.decode_image


class Decoding(ScoreShard):
    """Decodes with a decoder that one file kills."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        batches.decode_image = fragile_decode  # type: ignore[attr-defined]


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("models", [None, 1])
def test_an_image_that_kills_the_decoder(
    models: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_clip: str
) -> None:
    """Once a worker decodes for itself, and once for a model that is held apart."""
    for number in range(2):
        write_shard(str(tmp_path / "shards"), number)
    monkeypatch.setattr(run, "ScoreShard", Decoding)
    out = str(tmp_path / "scores")
    scorers = [SCORERS["image"](), SCORERS["clip"](model_name=tiny_clip)]
    with use_budget(SampleBudget(cpu_seconds=60)):
        report = score(str(tmp_path / "shards"), out, scorers, model_workers=models)
    assert report.ok, report.failed
    for scorer in ("image", "clip"):
        reasons = [read_scores(out, scorer, f"{number:05d}")["reason"].to_pylist() for number in range(2)]
        assert reasons == [[None, "truncated", DIED, None, None, None]] * 2


@dataclass(frozen=True, kw_only=True)
class Hungry(Scorer):
    """Fills the memory at one caption."""

    name: ClassVar[str] = "hungry"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("caption",)

    def schema(self) -> pa.Schema:
        return pa.schema([("length", pa.int64())])

    def load(self) -> Callable[[Batch], Columns]:
        def judge(batch: Batch) -> Columns:
            if "much" in batch["caption"]:
                raise MemoryError("not enough")
            return {"length": [len(caption) for caption in batch["caption"]]}

        return judge


def test_rows_that_are_set_aside_are_not_shown_and_memory_is_a_reason() -> None:
    scorer = Hungry()
    batch = {"caption": ["one", "much", "three"]}
    assert judge_batch(scorer, scorer.load(), batch).to_pydict() == {
        "length": [3, None, 5], "reason": [None, "memory_limit", None]
    }  # fmt: skip
    aside = {1: "worker_died: twice"}
    assert judge_batch(scorer, scorer.load(), batch, aside).to_pydict() == {
        "length": [3, None, 5], "reason": [None, "worker_died: twice", None]
    }  # fmt: skip
    with pytest.raises(MemoryError):
        judge_batch(scorer, scorer.load(), {"caption": ["much", "much"]})
