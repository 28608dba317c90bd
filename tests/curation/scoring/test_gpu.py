"""Models fed by decoders: the tables are those of workers that do it all, whoever dies."""

import hashlib
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.curation.scoring.gpu import _pack, _unpack
from mmcorpus.curation.scoring.run import score
from mmcorpus.curation.store.embeddings import read_embeddings
from mmcorpus.curation.store.scores import load_scores, read_scores, shards_of
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.filters import SCORERS
from mmcorpus.filters.clip import ClipScorer, ConceptConfig
from mmcorpus.filters.model import ModelScorer
from mmcorpus.filters.scorer import Batch, Columns
from tests.processes import kill, wait_until


@dataclass(frozen=True, kw_only=True)
class Mean(ModelScorer):
    """The mean of the pixels, in two halves; kills its model once, at a mean above `deadly`, if that is set."""

    deadly: float | None = None
    mark: str = ""
    broken: bool = False

    name: ClassVar[str] = "mean"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("image",)

    def schema(self) -> pa.Schema:
        return pa.schema({"mean": pa.float64()})

    def load_prepare(self) -> Callable[[Batch], Columns]:
        return lambda batch: {"pixels": np.stack([image.pixels[:8, :8] for image in batch["image"]])}

    def load_model(self) -> Callable[[Columns], Columns]:
        if self.broken:
            raise ValueError("there are no weights")

        def judge(columns: Columns) -> Columns:
            means = np.asarray(columns["pixels"]).mean((1, 2, 3))
            if self.deadly is not None and means.max() > self.deadly and not os.path.exists(self.mark):
                Path(self.mark).touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return {"mean": means.tolist()}

        return judge


def write_shards(root: str, shards: int, count: int = 9) -> None:
    import io

    from PIL import Image

    for number in range(shards):
        with ShardWriter(Shard(root=root, name=f"{number:05d}")) as writer:
            for place in range(count):
                file = io.BytesIO()
                shade = np.full((40, 48, 3), number * 20 + place, np.uint8)
                shade[place : place + 9, :20] += 60
                Image.fromarray(shade).save(file, "PNG")
                data = file.getvalue()[: 40 if place == 4 else None]
                writer.write(
                    Sample(
                        key=f"{number:05d}{place:04d}",
                        uid=hashlib.md5(f"{number} {place}".encode()).hexdigest(),
                        caption=None if place == 2 else f"a picture of {place} things " * (1 + place),
                        images=(EncodedImage(extension="png", data=data),),
                    )
                )


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.parquet"))
    }


def test_messages_keep_their_arrays_apart() -> None:
    message = {"pixels": np.arange(12, dtype=np.uint8).reshape(3, 4), "table": pa.table({"a": [1, None]}), "text": "x"}
    found = next(_unpack(_pack(message)))
    assert np.array_equal(found["pixels"], message["pixels"])
    assert not found["pixels"].flags.owndata
    assert found["table"].equals(message["table"])
    assert found["text"] == "x"


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_the_tables_do_not_depend_on_who_holds_the_models(tmp_path: Path, tiny_clip: str) -> None:
    root = str(tmp_path / "shards")
    write_shards(root, 3)
    concepts = {"dark": ConceptConfig(positive=("a dark picture",), negative=("a bright picture",))}
    scorers = [
        ClipScorer(model_name=tiny_clip, save_embeddings=True, concepts=concepts),
        ClipScorer(model_name=tiny_clip, batch_size=2).named("small_batches"),
        SCORERS["image"](),
        SCORERS["caption"](),
    ]
    reports = {}
    for name, more in {"fused": {"workers": 1}, "fed": {"model_workers": 1}}.items():
        out = tmp_path / name
        given: dict[str, Any] = {"embeddings_root": str(out / "embeddings"), "rows_per_batch": 4, **more}
        reports[name] = score(root, str(out / "scores"), scorers, **given)
    assert digests(tmp_path / "fused") == digests(tmp_path / "fed")
    assert len(digests(tmp_path / "fed")) == 3 * 5
    assert reports["fed"].scored == reports["fused"].scored
    assert reports["fed"].unscored["clip"] == {"no_caption": 3, "truncated": 3}
    scores, embeddings = str(tmp_path / "fed" / "scores"), str(tmp_path / "fed" / "embeddings")
    table = read_embeddings(embeddings, "clip", "00001")
    assert table["uid"].equals(read_scores(scores, "clip", "00001")["uid"])
    assert [row for row in range(9) if table["image"][row].as_py() is None] == [4]
    assert [row for row in range(9) if table["text"][row].as_py() is None] == [2, 4]
    assert "clip.dark" in load_scores(scores).column_names

    # What is lost is made again, and embeddings count among it.
    os.remove(tmp_path / "fed" / "embeddings" / "clip" / "00002.parquet")
    again = score(root, scores, scorers, embeddings_root=embeddings, rows_per_batch=4)
    assert again.skipped == 2
    assert shards_of(embeddings, "clip") == ["00000", "00001", "00002"]
    assert digests(tmp_path / "fused") == digests(tmp_path / "fed")


@pytest.mark.usefixtures("ray_local")
def test_bad_shards_and_broken_models_are_told_apart(tmp_path: Path) -> None:
    root, out = str(tmp_path / "shards"), str(tmp_path / "scores")
    write_shards(root, 2)
    tar = tmp_path / "shards" / "00001.tar"
    tar.write_bytes(tar.read_bytes()[: tar.stat().st_size // 2])
    report = score(root, out, [Mean(), SCORERS["caption"]()], model_workers=1)
    assert list(report.failed) == ["00001"]
    assert "00001.tar" in report.failed["00001"]
    assert report.scored == {"mean": 8, "caption": 16}
    with pytest.raises(RuntimeError, match="could not be set up: ValueError: there are no weights"):
        score(root, out, [Mean(broken=True)], model_workers=1)


def test_embeddings_need_a_place(tmp_path: Path, tiny_clip: str) -> None:
    with pytest.raises(ValueError, match="scorer 'clip' saves embeddings; give embeddings_root"):
        score(str(tmp_path), str(tmp_path), [ClipScorer(model_name=tiny_clip, save_embeddings=True)])


@pytest.mark.usefixtures("ray_local")
def test_a_gpu_that_is_not_there_is_said_before_any_work(tmp_path: Path) -> None:
    write_shards(str(tmp_path / "shards"), 1, 2)
    with pytest.raises(ValueError, match="device is cuda, but Ray's cluster has no GPU"):
        score(str(tmp_path / "shards"), str(tmp_path / "scores"), [Mean(device="cuda")])


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_a_model_that_dies_once_costs_nothing(tmp_path: Path) -> None:
    root = str(tmp_path / "shards")
    write_shards(root, 4)
    score(root, str(tmp_path / "fused"), [Mean()])
    deadly = Mean(deadly=45.0, mark=str(tmp_path / "died"))
    report = score(root, str(tmp_path / "fed"), [deadly], model_workers=1, rows_per_batch=3)
    assert (tmp_path / "died").exists()
    assert report.ok
    for name in ("00000", "00001", "00002", "00003"):
        one, other = (read_scores(str(tmp_path / where), "mean", name) for where in ("fused", "fed"))
        assert one.equals(other)


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize(("model_workers", "kill_after"), [(None, 5), (1, 11)])
def test_killed_and_run_again_the_tables_are_the_same(
    tmp_path: Path, tiny_clip: str, model_workers: int | None, kill_after: int
) -> None:
    root = str(tmp_path / "shards")
    write_shards(root, 8, 30)
    program = f"""
    import sys, ray
    from mmcorpus.curation.scoring.run import score
    from mmcorpus.filters import SCORERS
    from mmcorpus.filters.clip import ClipScorer

    ray.init(num_cpus=2, include_dashboard=False, object_store_memory=150_000_000, log_to_driver=False)
    scorers = [ClipScorer(model_name={tiny_clip!r}, save_embeddings=True), SCORERS["image"]()]
    score({root!r}, sys.argv[1] + "/scores", scorers, embeddings_root=sys.argv[1] + "/embeddings",
          model_workers={model_workers}, rows_per_batch=8)
    """
    code = textwrap.dedent(program)

    whole, broken = tmp_path / "whole", tmp_path / "broken"
    process = subprocess.Popen([sys.executable, "-c", code, str(broken)], stderr=subprocess.DEVNULL)
    wait_until(lambda: len(list(broken.rglob("*.parquet"))) >= kill_after, process, 400)
    kill(process)
    clip = ClipScorer(model_name=tiny_clip, save_embeddings=True)
    scorers = [clip, SCORERS["image"]()]
    given: dict[str, Any] = {"model_workers": model_workers, "rows_per_batch": 8}
    again = score(root, str(broken / "scores"), scorers, embeddings_root=str(broken / "embeddings"), **given)
    assert again.ok
    assert 0 < again.skipped < 8, "it was killed in the midst"
    score(root, str(whole / "scores"), scorers, embeddings_root=str(whole / "embeddings"), rows_per_batch=8)
    assert digests(broken) == digests(whole)
    assert len(digests(whole)) == 8 * 3
