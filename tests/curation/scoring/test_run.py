"""Scoring: a row for every sample, one decode an image, resumable, the same bytes whatever happens."""

import hashlib
import io
import os
import signal
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mmcorpus.curation.scoring import batches
from mmcorpus.curation.scoring.batches import assemble, decode_batches, read_encoded, read_shard_rows, slices
from mmcorpus.curation.scoring.run import ScoreReport, check_scorers, score
from mmcorpus.curation.scoring.shard import Outputs, ScoreShard, ShardWork
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.scores import load_scores, read_scores
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter, add_member, list_shards, open_tar
from mmcorpus.curation.store.uid import pair_uid
from mmcorpus.filters import MAX_PIXELS, SCORERS, Scorer, judge_batch
from mmcorpus.filters.scorer import Batch, Columns

SHIPPED = [SCORERS[name]() for name in ("caption", "image", "language", "url")]


def jpeg(seed: int) -> bytes:
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((60 + seed % 7, 48)).save(file, "JPEG")
    return file.getvalue()


def write_shard(root: str, number: int, count: int = 6, spoil: bool = True) -> Shard:
    """A shard whose keys do not come in order, with a truncated image and one that is none."""
    shard = Shard(root=root, name=f"{number:05d}")
    with ShardWriter(shard) as writer:
        for place in sorted(range(count), key=lambda place: (place * 7 + 3) % max(count, 1)):
            data = jpeg(number * 100 + place)
            if spoil and place == 1:
                data = data[: len(data) // 2]
            if spoil and place == 2:
                data = b"<html>not found</html>"
            url, caption = f"http://example.com/{number}/{place}.jpg", f"A picture of the thing number {place}"
            writer.write(
                Sample(
                    key=f"{number:05d}{place:04d}",
                    uid=pair_uid(url, caption),
                    caption=caption,
                    images=(EncodedImage(extension="jpg", data=data),),
                    meta={"url": url, "original_width": 1000 + place, "original_height": 500},
                )
            )
    return shard


def digests(root: Path) -> dict[str, str]:
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*.parquet"))
    }


def run_here(shard: Shard, out: str, scorers: list[Scorer]) -> dict[str, Any]:
    work = ScoreShard(Outputs.of(scorers, scores=out), scorers, max_pixels=MAX_PIXELS, rows_per_batch=4)
    count = len(read_shard_rows(shard, set()).keys)
    return work(ShardWork(shard=shard, samples=count, scorers=tuple(scorer.name for scorer in scorers)))


@dataclass(frozen=True, kw_only=True)
class Bytes(Scorer):
    """Measures files without decoding them."""

    name: ClassVar[str] = "bytes"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("encoded",)

    def schema(self) -> pa.Schema:
        return pa.schema([("size", pa.int64())])

    def load(self) -> Callable[[Batch], Columns]:
        return lambda batch: {"size": [len(data) for data in batch["encoded"]]}


def test_a_scorer_of_files_sees_the_undecodable_too(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0)
    out = str(tmp_path / "scores")
    run_here(shard, out, [Bytes(), Bytes().named("again"), SCORERS["image"]()])
    table = read_scores(out, "bytes", "00000")
    assert table["size"].to_pylist()[2] == len(b"<html>not found</html>")
    assert table["size"].equals(read_scores(out, "again", "00000")["size"])
    assert table["reason"].null_count == 6


def test_samples_in_are_rows_out_in_key_order(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0)
    result = run_here(shard, str(tmp_path / "scores"), SHIPPED)
    assert result["error"] is None
    assert result["samples"] == 6
    assert (result["truncated"], result["not_an_image"]) == (1, 1)
    uids = [pair_uid(f"http://example.com/0/{n}.jpg", f"A picture of the thing number {n}") for n in range(6)]
    for scorer in SHIPPED:
        assert read_scores(str(tmp_path / "scores"), scorer.name, "00000")["uid"].to_pylist() == uids
    table = load_scores(str(tmp_path / "scores"))
    assert table["image.reason"].to_pylist() == [None, "truncated", "not_an_image", None, None, None]
    assert table["image.width"].to_pylist() == [1000, None, None, 1003, 1004, 1005]
    assert table["image.stored_width"].to_pylist() == [60 + n % 7 if n not in (1, 2) else None for n in range(6)]
    assert table["caption.words"].to_pylist() == [7] * 6
    assert set(table["language.code"].to_pylist()) == {"en"}


def test_each_image_is_decoded_once_for_all_scorers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0)
    decodes: list[int] = []
    real = batches.decode_image
    monkeypatch.setattr(batches, "decode_image", lambda data, **more: decodes.append(1) or real(data, **more))
    run_here(shard, str(tmp_path / "scores"), [*SHIPPED, Brightness()])
    assert len(decodes) == 6
    assert read_scores(str(tmp_path / "scores"), "brightness", "00000").num_rows == 6


def test_scorers_that_need_no_pixels_never_open_the_tar(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0)
    os.remove(shard.tar)
    result = run_here(shard, str(tmp_path / "scores"), [scorer for scorer in SHIPPED if scorer.name != "image"])
    assert result["error"] is None
    assert len(result["tables"]) == 3


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_a_damaged_tar_costs_the_image_scores_of_its_shard_alone(tmp_path: Path, share: float) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0)
    data = Path(shard.tar).read_bytes()
    Path(shard.tar).write_bytes(data[: int(len(data) * share)])
    result = run_here(shard, str(tmp_path / "scores"), SHIPPED)
    assert "00000.tar" in result["error"]
    assert sorted(result["tables"]) == ["caption", "language", "url"]


def test_a_tar_cut_between_two_samples_is_damaged_too(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0, spoil=False)
    with tarfile.open(shard.tar) as tar:
        cut = [member.offset for member in tar if member.name.endswith(".jpg")][3]
    Path(shard.tar).write_bytes(Path(shard.tar).read_bytes()[:cut])
    assert "3 of 6 samples are missing" in run_here(shard, str(tmp_path / "scores"), SHIPPED)["error"]


def test_a_broken_scorer_costs_its_own_table_alone(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0)
    result = run_here(shard, str(tmp_path / "scores"), [*SHIPPED, Brightness(broken=True)])
    assert result["error"].startswith("scorer brightness: ZeroDivisionError")
    assert sorted(result["tables"]) == ["caption", "image", "language", "url"]


def test_batches_end_at_rows_or_at_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0, spoil=False)
    rows = read_shard_rows(shard, {"caption", "image"})
    assert [batch.positions for batch in slices(rows, 4)] == [[0, 1, 2, 3], [4, 5]]

    def sizes(rows_per_batch: int) -> list[int]:
        found = decode_batches(read_encoded(shard, rows), rows, max_pixels=MAX_PIXELS, size=rows_per_batch)
        return [len(batch.positions) for batch in found]

    assert sizes(4) == [4, 2]
    monkeypatch.setattr(batches, "BATCH_BYTES", 60 * 48 * 3 * 2)
    assert sizes(256) == [2, 2, 2]


def test_an_empty_shard_gives_empty_tables(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0, count=0)
    storage.write_table(
        shard.parquet, pa.table({name: pa.array([], pa.string()) for name in ("key", "uid", "status", "url")})
    )
    result = run_here(shard, str(tmp_path / "scores"), SHIPPED)
    assert result["error"] is None
    assert load_scores(str(tmp_path / "scores")).num_rows == 0


def test_rows_that_failed_to_download_are_no_samples(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0, spoil=False)
    table = storage.read_table(shard.parquet)
    failed = table.slice(0, 1).to_pylist()[0] | {"key": "000009999", "status": "failed_to_download", "uid": "f" * 32}
    storage.write_table(shard.parquet, pa.concat_tables([table, pa.Table.from_pylist([failed], schema=table.schema)]))
    run_here(shard, str(tmp_path / "scores"), SHIPPED)
    assert load_scores(str(tmp_path / "scores")).num_rows == 6


def test_shards_without_uids_are_scored_under_those_of_url_and_caption(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0)
    run_here(shard, str(tmp_path / "before"), SHIPPED)
    storage.write_table(shard.parquet, storage.read_table(shard.parquet).drop_columns(["uid"]))
    assert run_here(shard, str(tmp_path / "after"), SHIPPED)["error"] is None
    assert digests(tmp_path / "after") == digests(tmp_path / "before")


def test_shards_without_keys_say_what_to_do(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0)
    storage.write_table(shard.parquet, storage.read_table(shard.parquet).drop_columns(["key"]))
    with pytest.raises(ValueError, match="has no column 'key'"):
        read_shard_rows(shard, set())


def retar(shard: Shard, change: Callable[[str, bytes], bytes | None]) -> None:
    """Write a shard's tar again, its members changed, or left out."""
    with tarfile.open(shard.tar) as tar:
        members = {one.name: tar.extractfile(one).read() for one in tar}  # type: ignore[union-attr]
    with open_tar(shard.tar) as tar:
        for name, data in members.items():
            if (changed := change(name, data)) is not None:
                add_member(tar, name, changed)


@pytest.mark.parametrize("ending", ["jpg", "json", "txt"])
@pytest.mark.parametrize("bad", [None, b"", b"{\xff"])
def test_a_member_that_is_missing_or_bad_costs_its_sample_at_most(
    tmp_path: Path, ending: str, bad: bytes | None
) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0, spoil=False)
    retar(shard, lambda name, data: bad if name == f"000000003.{ending}" else data)
    result = run_here(shard, str(tmp_path / "scores"), SHIPPED)
    assert result["error"] is None
    reasons = load_scores(str(tmp_path / "scores"))["image.reason"].to_pylist()
    assert [place for place, reason in enumerate(reasons) if reason] == ([3] if ending == "jpg" else [])


def test_a_sample_that_its_tar_never_held_costs_itself(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0, spoil=False)
    retar(shard, lambda name, data: None if name.startswith("000000003.") else data)
    result = run_here(shard, str(tmp_path / "scores"), SHIPPED)
    assert result["error"] is None
    assert load_scores(str(tmp_path / "scores"))["image.reason"].to_pylist() == [*[None] * 3, "empty", None, None]


def test_the_tar_of_another_shard_is_refused(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path / "shards"), 0, spoil=False)
    other = write_shard(str(tmp_path / "shards"), 1, spoil=False)
    os.replace(other.tar, shard.tar)
    error = run_here(shard, str(tmp_path / "scores"), SHIPPED)["error"]
    assert "none of its 6 samples has a success row" in error


def test_scorers_that_cannot_run_together_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no scorers were given"):
        check_scorers([])
    with pytest.raises(ValueError, match="two scorers are called 'caption'"):
        check_scorers([SCORERS["caption"](), SCORERS["caption"]()])
    with pytest.raises(ValueError, match="there are no complete shards"):
        score(str(tmp_path), str(tmp_path / "scores"), SHIPPED)


@dataclass(frozen=True, kw_only=True)
class Brightness(Scorer):
    name: ClassVar[str] = "brightness"
    version: ClassVar[str] = "1"
    inputs: ClassVar[tuple[str, ...]] = ("image",)
    broken: bool = False
    slow: float = 0.0
    marks: str = ""
    """A folder in which each process that judges leaves its number."""

    def schema(self) -> pa.Schema:
        return pa.schema({"mean": pa.float64()})

    def load(self) -> Callable[[Batch], Columns]:
        def judge(batch: Batch) -> Columns:
            if self.marks:
                Path(self.marks, str(os.getpid())).touch()
            time.sleep(self.slow)
            return {"mean": [float(image.pixels.mean()) / (0 if self.broken else 1) for image in batch["image"]]}

        return judge


@pytest.mark.usefixtures("ray_local")
def test_a_run_resumes_at_scorer_and_shard(tmp_path: Path) -> None:
    root, out = str(tmp_path / "shards"), str(tmp_path / "scores")
    for number in range(3):
        write_shard(root, number)
    scorers = [SCORERS["caption"](), SCORERS["image"]()]
    first = score(root, out, scorers, workers=2)
    assert first.ok
    assert (first.shards, first.skipped, first.samples) == (3, 0, 18)
    assert first.scored == {"caption": 18, "image": 12}
    assert first.unscored == {"caption": {}, "image": {"not_an_image": 3, "truncated": 3}}
    before = digests(tmp_path / "scores")
    ages = {path: path.stat().st_mtime_ns for path in (tmp_path / "scores").rglob("*.parquet")}

    os.remove(tmp_path / "scores" / "image" / "00001.parquet")
    (tmp_path / "scores" / "caption" / "00007.parquet").write_bytes(b"a shard that is gone")
    again = score(root, out, scorers, workers=1)
    assert digests(tmp_path / "scores") == before
    assert (again.skipped, again.scored, again.unscored) == (2, first.scored, first.unscored)
    touched = {path.name for path, age in ages.items() if path.stat().st_mtime_ns != age}
    assert touched == {"00001.parquet"}
    assert (tmp_path / "scores" / "caption" / "00001.parquet").stat().st_mtime_ns in ages.values()

    more = score(root, out, [*scorers, SCORERS["language"](languages=("de",))])  # type: ignore[call-arg]
    assert more.scored["language"] == 18
    assert score(root, out, [SCORERS["language"](languages=("en",))]).skipped == 0  # type: ignore[call-arg]
    assert "language.en" in load_scores(out).column_names


@pytest.mark.usefixtures("ray_local")
def test_a_bad_shard_is_named_and_the_run_goes_on(tmp_path: Path) -> None:
    root, out = str(tmp_path / "shards"), str(tmp_path / "scores")
    for number in range(3):
        write_shard(root, number, spoil=False)
    whole = Path(root, "00001.tar").read_bytes()
    Path(root, "00001.tar").write_bytes(whole[:3000])
    report = score(root, out, SHIPPED, workers=2)
    assert not report.ok
    assert list(report.failed) == ["00001"]
    assert report.scored == {"caption": 18, "image": 12, "language": 18, "url": 18}
    Path(root, "00001.tar").write_bytes(whole)
    mended = score(root, out, SHIPPED, workers=2)
    assert mended.ok
    assert mended.skipped == 2
    assert mended.scored["image"] == 18


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_bytes_do_not_depend_on_workers_or_killed_ones(tmp_path: Path) -> None:
    root = str(tmp_path / "shards")
    for number in range(6):
        write_shard(root, number)
    marks = tmp_path / "marks"
    marks.mkdir()
    scorers = [*SHIPPED, Brightness(slow=0.3, marks=str(marks))]
    for scorer_out, workers in (("one", 1), ("two", 2)):
        assert score(root, str(tmp_path / scorer_out), scorers, workers=workers, rows_per_batch=2).ok
    assert digests(tmp_path / "one") == digests(tmp_path / "two")

    for mark in marks.iterdir():
        mark.unlink()
    reports: list[ScoreReport] = []
    thread = threading.Thread(
        target=lambda: reports.append(score(root, str(tmp_path / "killed"), scorers, workers=2, rows_per_batch=2))
    )
    thread.start()
    deadline = time.monotonic() + 120
    while not list(marks.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(int(next(marks.iterdir()).name), signal.SIGKILL)
    thread.join(timeout=300)
    assert reports
    assert reports[0].ok
    assert digests(tmp_path / "killed") == digests(tmp_path / "one")
    load_scores(str(tmp_path / "killed"))


def test_scores_go_to_s3_and_come_from_it(s3_root: str, tmp_path: Path) -> None:
    local = write_shard(str(tmp_path), 0)
    for path in (local.tar, local.parquet, local.stats):
        storage.write_bytes(storage.join(s3_root, "shards", Path(path).name), Path(path).read_bytes())
    (shard,) = list_shards(storage.join(s3_root, "shards"))
    result = run_here(shard, storage.join(s3_root, "scores"), SHIPPED)
    assert result["error"] is None
    assert load_scores(storage.join(s3_root, "scores"))["image.max_side"].to_pylist()[0] == 1000


def test_judging_keeps_key_order_whatever_the_tars(tmp_path: Path) -> None:
    shard = write_shard(str(tmp_path), 0, spoil=False)
    rows = read_shard_rows(shard, {"caption", "image", "meta"})
    found = decode_batches(read_encoded(shard, rows), rows, max_pixels=MAX_PIXELS, size=2)
    scorer = SCORERS["image"]()
    judge = scorer.load()
    parts = [(batched.positions, judge_batch(scorer, judge, batched.batch)) for batched in found]
    table = assemble(scorer, parts, rows.columns["uid"])
    assert table["width"].to_pylist() == [1000 + place for place in range(6)]
