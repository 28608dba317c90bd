"""A selection becomes shards: the right samples, as often as they count, the same bytes every time."""

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from PIL import Image

from mmcorpus.curation.selection.reshard import plan_outputs, reshard, write_output
from mmcorpus.curation.sources import IndexConfig, index
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import (
    EncodedImage,
    Sample,
    Shard,
    ShardWriter,
    list_shards,
    read_rows,
    read_samples,
)
from mmcorpus.curation.store.uid import pair_uid
from tests.processes import kill, wait_until

SIZES = (7, 5, 9)


def sample_uid(shard: int, number: int) -> str:
    return pair_uid(f"http://site/{shard}/{number}.jpg", "a caption")


def make_shards(root: str, sizes: tuple[int, ...] = SIZES, image_bytes: int = 20) -> list[str]:
    uids = []
    for shard, size in enumerate(sizes):
        with ShardWriter(Shard(root=root, name=f"{shard:05d}")) as writer:
            for number in range(size):
                uid = sample_uid(shard, number)
                uids.append(uid)
                image = EncodedImage(extension="jpg", data=uid.encode() * image_bytes)
                meta = {"url": f"http://site/{shard}/{number}.jpg", "width": 3} | ({"extra": 1} if number == 3 else {})
                writer.write(
                    Sample(key=f"{shard:05d}{number:04d}", uid=uid, caption=f"{number}", images=(image,), meta=meta)
                )
    return uids


def selection(counts: dict[str, int]) -> pa.Table:
    return pa.table({"uid": list(counts), "count": pa.array(list(counts.values()), pa.int32())})


def digest(root: str) -> dict[str, str]:
    return {
        name: hashlib.sha256(storage.read_bytes(storage.join(root, name))).hexdigest()
        for name in storage.list_names(root)
    }


@pytest.mark.usefixtures("in_process")
class TestWithoutRay:
    def test_writes_the_selected_samples_as_often_as_they_count(self, tmp_path: Path) -> None:
        root, out = str(tmp_path / "in"), str(tmp_path / "out")
        uids = make_shards(root)
        counts = {uid: 1 + position % 3 for position, uid in enumerate(uids) if position % 4}
        report = reshard(root, selection({**counts, "f" * 32: 2}), out, samples_per_shard=4)
        total = sum(counts.values())
        assert (report.samples, report.shards, report.missing) == (total, -(-total // 4), ("f" * 32,))
        written = [sample for shard in list_shards(out) for sample in read_samples(shard)]
        assert Counter(sample.uid for sample in written) == counts
        assert [read_rows(shard).num_rows for shard in list_shards(out)][:-1] == [4] * (report.shards - 1)
        assert [sample.uid for sample in written] == [uid for uid in uids if uid in counts for _ in range(counts[uid])]
        for sample in written:
            assert sample.images[0].data == sample.uid.encode() * 20
            assert sample.key.endswith(f"-{sample.meta['copy']}" if sample.meta["copy"] else sample.key[-4:])
        assert len({sample.key for sample in written}) == total
        copies = Counter((sample.uid, sample.meta["copy"]) for sample in written)
        assert copies == {(uid, copy): 1 for uid, count in counts.items() for copy in range(count)}

    def test_a_rerun_writes_nothing_and_another_selection_is_refused(self, tmp_path: Path) -> None:
        root, out = str(tmp_path / "in"), str(tmp_path / "out")
        uids = make_shards(root)
        first = reshard(root, selection(dict.fromkeys(uids, 1)), out, samples_per_shard=6)
        times = {name: os.stat(os.path.join(out, name)).st_mtime_ns for name in os.listdir(out)}
        again = reshard(root, selection(dict.fromkeys(uids, 1)), out, samples_per_shard=6)
        assert (again.resumed, again.samples) == (first.shards, len(uids))
        assert times == {name: os.stat(os.path.join(out, name)).st_mtime_ns for name in os.listdir(out)}
        for other, size in ((selection(dict.fromkeys(uids, 2)), 6), (selection(dict.fromkeys(uids, 1)), 5)):
            with pytest.raises(ValueError, match="resharded samples made from something else"):
                reshard(root, other, out, samples_per_shard=size)
        with pytest.raises(ValueError, match="without a record"):
            reshard(root, selection(dict.fromkeys(uids, 1)), root)

    def test_a_damaged_tar_costs_only_the_outputs_that_need_it_and_is_named(self, tmp_path: Path) -> None:
        root, out = str(tmp_path / "in"), str(tmp_path / "out")
        uids = make_shards(root, (4, 4, 4))
        whole = (tmp_path / "in/00001.tar").read_bytes()
        (tmp_path / "in/00001.tar").write_bytes(whole[:3000])
        report = reshard(root, selection(dict.fromkeys(uids, 1)), out, samples_per_shard=4)
        assert list(report.failed) == ["00001"]
        assert "00001.tar" in report.failed["00001"]
        assert [shard.name for shard in list_shards(out)] == ["00000", "00002"]
        assert not [name for name in os.listdir(out) if name.endswith(".partial")]
        (tmp_path / "in/00001.tar").write_bytes(whole)
        assert reshard(root, selection(dict.fromkeys(uids, 1)), out, samples_per_shard=4).resumed == 2
        assert len(list_shards(out)) == 3

    def test_an_input_whose_rows_cannot_be_read_is_named_and_its_samples_are_missing(self, tmp_path: Path) -> None:
        root, out = str(tmp_path / "in"), str(tmp_path / "out")
        uids = make_shards(root, (3, 3))
        (tmp_path / "in/00000.parquet").write_bytes(b"PAR1 broken")
        report = reshard(root, selection(dict.fromkeys(uids, 1)), out)
        assert list(report.unreadable) == ["00000"]
        assert sorted(report.missing) == sorted(uids[:3])
        assert report.samples == 3

    def test_a_sample_that_its_tar_lacks_costs_itself(self, tmp_path: Path) -> None:
        root, out = str(tmp_path / "in"), str(tmp_path / "out")
        make_shards(root, (3, 2))
        smaller = io.BytesIO()
        with tarfile.open(tmp_path / "in/00000.tar") as old, tarfile.open(fileobj=smaller, mode="w") as new:
            for member in old.getmembers()[3:]:
                new.addfile(member, old.extractfile(member))
        (tmp_path / "in/00000.tar").write_bytes(smaller.getvalue())
        counts = {sample_uid(0, 0): 2, **{sample_uid(0, n): 1 for n in (1, 2)}, sample_uid(1, 0): 1}
        for _ in range(2):
            report = reshard(root, selection(counts), out)
            assert (report.samples, report.not_written, report.failed) == (3, 2, {})
        shard = list_shards(out)[0]
        rows = read_rows(shard).to_pylist()
        assert [row["uid"] for row in rows] == [sample_uid(0, n) for n in (1, 2, 0, 0)] + [sample_uid(1, 0)]
        assert {row["error_message"] for row in rows if row["status"] == "failed_to_read"} == {
            "not_in_tar: 00000.tar lacks it"
        }
        assert [sample.uid for sample in read_samples(shard)] == [
            row["uid"] for row in rows if row["status"] == "success"
        ]
        (tmp_path / "in/00000.tar").write_bytes(smaller.getvalue()[:3584])  # cut between two samples
        again = reshard(root, selection(counts), str(tmp_path / "again"))
        assert "it ends early" in again.failed["00000"]

    def test_a_uid_in_two_input_shards_is_taken_from_the_first(self, tmp_path: Path) -> None:
        root, again = str(tmp_path / "in"), str(tmp_path / "again")
        uids = make_shards(root, (3,))
        reshard(root, selection(dict.fromkeys(uids, 2)), again, samples_per_shard=2)
        report = reshard(again, selection(dict.fromkeys(uids, 1)), str(tmp_path / "out"))
        assert (report.samples, report.missing) == (3, ())

    def test_to_and_from_s3(self, tmp_path: Path, s3_root: str) -> None:
        uids = make_shards(f"{s3_root}/in")
        make_shards(str(tmp_path / "in"))
        reshard(f"{s3_root}/in", selection(dict.fromkeys(uids, 2)), f"{s3_root}/out", samples_per_shard=10)
        reshard(str(tmp_path / "in"), selection(dict.fromkeys(uids, 2)), str(tmp_path / "out"), samples_per_shard=10)
        assert digest(f"{s3_root}/out") == digest(str(tmp_path / "out"))

    def test_nothing_selected_writes_no_shards(self, tmp_path: Path) -> None:
        make_shards(str(tmp_path / "in"))
        report = reshard(str(tmp_path / "in"), selection({}), str(tmp_path / "out"))
        assert (report.shards, report.samples) == (0, 0)


def test_the_plan_splits_copies_between_output_shards(tmp_path: Path) -> None:
    make_shards(str(tmp_path), (2,))
    table = selection({sample_uid(0, 0): 5, sample_uid(0, 1): 2})
    outputs, missing, unreadable = plan_outputs(str(tmp_path), table, str(tmp_path / "out"), 3)
    spans = [[(part.first.tolist(), part.last.tolist()) for part in output.parts] for output in outputs]
    assert spans == [[([0], [3])], [([3, 0], [5, 1])], [([1], [2])]]
    assert (missing, unreadable) == ((), {})
    assert write_output(outputs[1])["samples"] == 3


@pytest.mark.slow
def test_a_sample_whose_image_is_gone_since_it_was_indexed_is_a_row_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number in range(3):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / "in" / f"{number}.png")
        (tmp_path / "in" / f"{number}.txt").write_text(f"photo {number}")
    index(IndexConfig(), [f"{tmp_path}/in"], f"{tmp_path}/shards", f"{tmp_path}/ledger", workers=0)
    (shard,) = list_shards(f"{tmp_path}/shards")
    uids = read_rows(shard)["uid"].to_pylist()
    (tmp_path / "in" / "1.png").write_bytes(b"another file")
    (output,), _, _ = plan_outputs(shard.root, selection({**dict.fromkeys(uids, 1), uids[1]: 2}), f"{tmp_path}/out", 9)
    write_output(output)
    said = "missing_image: 1 of 1 are gone or have changed since"
    rows = read_rows(output.shard).to_pylist()
    assert sorted((row["uid"], row["error_message"]) for row in rows) == sorted(
        [(uids[0], None), (uids[1], said), (uids[1], said), (uids[2], None)]
    )
    assert all(len(sample.images) == 1 for sample in read_samples(output.shard))


def test_the_bytes_do_not_depend_on_the_number_of_workers(ray_local: None, tmp_path: Path) -> None:
    uids = make_shards(str(tmp_path / "in"))
    table = selection({uid: 1 + position % 2 for position, uid in enumerate(uids)})
    for workers in (1, 2):
        report = reshard(
            str(tmp_path / "in"), table, str(tmp_path / f"{workers}"), samples_per_shard=4, workers=workers
        )
        assert not report.failed
    assert digest(str(tmp_path / "1")) == digest(str(tmp_path / "2"))


KILLED = """
import ray, sys
from mmcorpus.curation.selection.reshard import reshard
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
reshard(sys.argv[1], sys.argv[2], sys.argv[3], samples_per_shard=10)
"""


@pytest.mark.soak
def test_a_killed_run_goes_on_to_the_same_bytes(ray_local: None, tmp_path: Path) -> None:
    root, out, whole = (str(tmp_path / name) for name in ("in", "out", "whole"))
    uids = make_shards(root, (100,) * 4, image_bytes=3000)
    storage.write_table(str(tmp_path / "all.parquet"), selection(dict.fromkeys(uids, 1)))
    run = subprocess.Popen(
        [sys.executable, "-c", KILLED, root, str(tmp_path / "all.parquet"), out], start_new_session=True
    )
    wait_until(lambda: list_shards(out), run)
    kill(run, group=True)
    committed = len(list_shards(out))
    assert 1 <= committed < 40, "it was killed in the midst"
    report = reshard(root, str(tmp_path / "all.parquet"), out, samples_per_shard=10)
    assert report.resumed >= committed
    assert not report.failed
    reshard(root, str(tmp_path / "all.parquet"), whole, samples_per_shard=10)
    left = {name for name in os.listdir(out) if name.endswith(".partial")}
    assert {name: value for name, value in digest(out).items() if name not in left} == digest(whole)
