"""What we rely on in img2dataset, checked loudly; the shard files; every row in one place."""

import inspect
import io
import json
import tarfile
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.rebind import import_img2dataset, rebound
from mmcorpus.curation.download.shard import ShardDownloader
from mmcorpus.curation.download.writer import SampleWriter, keys_of, roll_forward, tar_members
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import Shard, list_shards, read_rows, read_samples
from tests.curation.download.conftest import Web, encoded, picture

import_img2dataset()


def test_img2dataset_is_the_version_that_we_know() -> None:
    assert version("img2dataset").startswith("1.47."), (
        "img2dataset changed: read its downloader.py, resizer.py and distributor.py against shard.py, "
        "resize.py and run.py of curation/download, then raise the version here"
    )


def test_img2dataset_still_calls_what_we_put_in_its_place() -> None:
    from img2dataset import distributor, downloader, resizer

    fetch = inspect.signature(downloader.download_image_with_retry)
    assert list(fetch.parameters) == [
        "row", "timeout", "retries", "user_agent_token", "disallowed_header_directives",
    ]  # fmt: skip
    assert next(iter(inspect.signature(downloader.compute_key).parameters)) == "key"
    assert list(inspect.signature(downloader.write_stats).parameters)[:2] == ["output_folder", "shard_id"]
    assert list(inspect.signature(resizer.Resizer.__call__).parameters) == ["self", "img_stream", "blurring_bbox_list"]
    assert list(inspect.signature(distributor.ray_distributor).parameters) == [
        "processes_count", "downloader", "reader", "_", "max_shard_retry",
    ]  # fmt: skip
    rebound(downloader.Downloader.download_shard, download_image_with_retry=None, compute_key=None, write_stats=None)
    rebound(distributor.ray_distributor, ray_download=None, ray=None)
    rebound(resizer.Resizer.__call__, A=None)


def test_rebound_refuses_names_that_are_not_used_and_leaves_the_module_alone() -> None:
    def function() -> object:
        return json.dumps(next(inner() for inner in (lambda: io.BytesIO,)))

    with pytest.raises(RuntimeError, match=r"does not use download_image; mmcorpus knows img2dataset 1\.47"):
        rebound(function, download_image=None)

    class Fake:
        @staticmethod
        def dumps(value: object) -> object:
            return value

    fake_io = type("FakeIO", (), {"BytesIO": "replaced in the lambda too"})
    assert rebound(function, json=Fake, io=fake_io)() == "replaced in the lambda too"
    assert json is not Fake


def shard_list(tmp_path: Path, urls: list[str]) -> tuple[str, tuple[str, ...]]:
    table = pa.table(
        {
            "uid": [f"{number:032x}" for number in range(len(urls))],
            "url": urls,
            "caption": [None if number == 1 else f"caption {number}" for number in range(len(urls))],
            "score": [0.5] * len(urls),
        }
    )
    path = str(tmp_path / "lists" / "00003.parquet")
    storage.write_table(path, table)
    return path, tuple(table.column_names)


def config(web: Web, **options: Any) -> DownloadConfig:
    defaults: dict[str, Any] = {
        "connect_to": web.connect_to, "number_sample_per_shard": 100, "retries": 0, "timeout": 2.0,
        "save_additional_columns": ("score",),
    }  # fmt: skip
    return DownloadConfig(**{**defaults, **options})


def test_a_shard_keeps_img2datasets_contract(tmp_path: Path, web: Web) -> None:
    data = encoded(picture(700, 500))
    urls = [web.add("/0.jpg", data), web.add("/1.jpg", data), web.url("/missing.jpg"), web.add("/3.html", b"<html>")]
    path, columns = shard_list(tmp_path, urls)
    out = str(tmp_path / "shards")
    stats = ShardDownloader(config=config(web, extract_exif=True), columns=columns, out_shards=out)((3, path))
    assert (stats["count"], stats["successes"], stats["failed_to_download"], stats["failed_to_resize"]) == (4, 2, 1, 1)
    assert stats["status_dict"] == {"success": 2, "http_404": 1, "not_an_image": 1}
    assert stats["end_time"] >= stats["start_time"]
    assert sorted(storage.list_names(out)) == ["00003.parquet", "00003.tar", "00003_stats.json"]
    shard = list_shards(out)[0]
    with tarfile.open(shard.tar) as tar:
        names = tar.getnames()
        assert {(member.mtime, member.uid, member.uname, member.mode) for member in tar} == {(0, 0, "", 0o644)}
    assert names == ["0000300.jpg", "0000300.txt", "0000300.json", "0000301.jpg", "0000301.json"]
    rows = read_rows(shard).to_pylist()
    assert [row["key"] for row in rows] == ["0000300", "0000301", "0000302", "0000303"]
    assert [row["status"] for row in rows] == ["success", "success", "failed_to_download", "failed_to_resize"]
    assert [row["error_message"] for row in rows] == [None, None, "http_404: Not Found", "not_an_image: html"]
    assert [row["original_bytes"] for row in rows] == [len(data), len(data), None, 6]
    assert rows[2]["final_url"] == urls[2]
    first = rows[0]
    assert (first["width"], first["height"], first["original_width"], first["original_height"]) == (512, 366, 700, 500)
    assert first["score"] == 0.5
    assert json.loads(first["exif"]) == {}
    samples = list(read_samples(shard))
    assert [sample.caption for sample in samples] == ["caption 0", None]
    assert samples[0].meta == first
    assert samples[0].uid == f"{0:032x}"


def test_a_committed_shard_is_left_alone(tmp_path: Path, web: Web) -> None:
    path, columns = shard_list(tmp_path, [web.add("/0.jpg", encoded(picture()))])
    download = ShardDownloader(config=config(web), columns=columns, out_shards=str(tmp_path / "shards"))
    assert download((3, path)) == download((3, path))
    assert web.requests == {"/0.jpg": 1}


def test_bytes_do_not_depend_on_threads_or_arrival(tmp_path: Path, web: Web) -> None:
    import random
    import time

    urls = []
    for number in range(60):
        data = encoded(picture(64 + number, 48, seed=number))

        def answer(handler: Any, data: bytes = data) -> None:
            from tests.curation.download.conftest import respond

            time.sleep(random.random() * 0.02)
            respond(handler, data, status=404 if len(data) % 5 == 0 else 200)

        urls.append(web.answer(f"/{number}.jpg", answer))
    path, columns = shard_list(tmp_path, urls)
    contents = set()
    for threads in (1, 3, 40):
        out = str(tmp_path / str(threads))
        ShardDownloader(config=config(web, thread_count=threads), columns=columns, out_shards=out)((3, path))
        shard = list_shards(out)[0]
        contents.add((storage.read_bytes(shard.tar), storage.read_bytes(shard.parquet)))
    assert len(contents) == 1


def test_a_full_disk_fails_the_shard_and_leaves_nothing(
    tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, columns = shard_list(tmp_path, [web.add(f"/{n}.jpg", encoded(picture())) for n in range(4)])
    out = str(tmp_path / "shards")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmcorpus.curation.download.writer.SampleWriter._keep", full)
    with pytest.raises(OSError, match=storage.DISK_FULL) as raised:
        ShardDownloader(config=config(web), columns=columns, out_shards=out)((3, path))
    assert raised.value.filename == f"{out}/00003.tar"
    assert list_shards(out) == []


def test_a_row_that_gets_lost_fails_the_shard(tmp_path: Path) -> None:
    shard = Shard(root=str(tmp_path), name="00000")
    writer = SampleWriter(shard, pa.schema([("key", pa.string())]), {}, expected=2)
    writer.write(None, "000", None, {"key": "000"})
    with pytest.raises(RuntimeError, match="1 of 2 rows came back"):
        writer.close()
    assert list(tmp_path.iterdir()) == []


def test_keys_are_img2datasets() -> None:
    from img2dataset.downloader import compute_key

    for per_shard, digits in ((1, 0), (10, 1), (1000, 3), (1001, 4), (10_000, 4)):
        expected = [compute_key(position, 12, digits, 5) for position in range(min(per_shard, 20))]
        assert keys_of(12, range(min(per_shard, 20)), per_shard) == expected


def test_doing_again_what_failed_changes_nothing_else(tmp_path: Path, web: Web) -> None:
    urls = [web.add(f"/{n}.jpg", encoded(picture(seed=n)), status=503 if n in (1, 4) else 200) for n in range(6)]
    urls[2] = web.url("/missing.jpg")
    path, columns = shard_list(tmp_path, urls)
    out = str(tmp_path / "shards")
    ShardDownloader(config=config(web), columns=columns, out_shards=out)((3, path))
    shard = list_shards(out)[0]
    rows, members = read_rows(shard).to_pylist(), list(tar_members(shard))
    web.requests.clear()
    web.add("/1.jpg", encoded(picture(seed=1)))
    again = ShardDownloader(config=config(web), columns=columns, out_shards=out, retry=True)
    again((3, path))
    assert web.requests == {"/1.jpg": 1, "/4.jpg": 1}
    assert read_rows(shard).to_pylist() == rows, "the first version stays until the second is complete"
    assert roll_forward(out) == ["00003"]
    assert roll_forward(out) == []
    merged = read_rows(shard).to_pylist()
    assert [row["status"] == "success" for row in merged] == [True, True, False, True, False, True]
    assert merged[4]["error_message"] == "http_503: Service Unavailable"
    assert [row for n, row in enumerate(merged) if n != 1] == [row for n, row in enumerate(rows) if n != 1]
    new = list(tar_members(shard))
    assert [member for member in new if member[0] != "0000301"] == members
    assert [name for _, name, _ in new][3:6] == ["0000301.jpg", "0000301.json", "0000303.jpg"]
    assert storage.read_json(shard.stats)["status_dict"] == {"http_404": 1, "http_503": 1, "success": 4}

    fresh = str(tmp_path / "fresh")
    ShardDownloader(config=config(web), columns=columns, out_shards=fresh)((3, path))
    for one, other in ((shard.tar, f"{fresh}/00003.tar"), (shard.parquet, f"{fresh}/00003.parquet")):
        assert Path(one).read_bytes() == Path(other).read_bytes(), "as if it had never failed"


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_a_replacement_cut_short_is_finished(tmp_path: Path, web: Web, moved: int) -> None:
    flaky = web.add("/0.jpg", status=500)
    path, columns = shard_list(tmp_path, [flaky, web.add("/1.jpg", encoded(picture()))])
    out = str(tmp_path / "shards")
    ShardDownloader(config=config(web), columns=columns, out_shards=out)((3, path))
    web.add("/0.jpg", encoded(picture(seed=5)))
    ShardDownloader(config=config(web), columns=columns, out_shards=out, retry=True)((3, path))
    for name in ("00003.tar", "00003.parquet")[:moved]:
        storage.move(f"{out}/_retry/{name}", f"{out}/{name}")
    roll_forward(out)
    shard = list_shards(out)[0]
    assert [sample.key for sample in read_samples(shard)] == ["0000300", "0000301"]
    assert read_rows(shard)["status"].to_pylist() == ["success", "success"]
    assert storage.read_json(shard.stats)["successes"] == 2
    assert sorted(storage.list_names(out)) == ["00003.parquet", "00003.tar", "00003_stats.json"]


def test_shards_on_s3_are_the_same_bytes(tmp_path: Path, web: Web, s3_root: str) -> None:
    urls = [web.add(f"/{n}.jpg", encoded(picture(seed=n)), status=503 if n == 1 else 200) for n in range(4)]
    path, columns = shard_list(tmp_path, urls)
    remote, local = f"{s3_root}/shards", str(tmp_path / "shards")
    for out in (remote, local):
        web.add("/1.jpg", status=503)
        ShardDownloader(config=config(web), columns=columns, out_shards=out)((3, path))
        web.add("/1.jpg", encoded(picture(seed=1)))
        ShardDownloader(config=config(web), columns=columns, out_shards=out, retry=True)((3, path))
        assert roll_forward(out) == ["00003"]
        assert sorted(storage.list_names(out)) == ["00003.parquet", "00003.tar", "00003_stats.json"]
    for name in ("00003.tar", "00003.parquet"):
        assert storage.read_bytes(f"{remote}/{name}") == storage.read_bytes(f"{local}/{name}")
    assert [sample.caption for sample in read_samples(list_shards(remote)[0])][3] == "caption 3"
