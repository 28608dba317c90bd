"""Shards are img2dataset's, beside its own; every row in one place; rows done again."""

import json
import random
import socket
import tarfile
import time
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.resize import import_resizer
from mmcorpus.curation.download.shard import ShardDownloader
from mmcorpus.curation.download.writer import keys_of, roll_forward, tar_members
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import list_shards, read_rows, read_samples
from tests.curation.download.conftest import Web, encoded, picture

import_resizer()


def test_img2dataset_is_the_version_that_we_know() -> None:
    assert version("img2dataset").startswith("1.47."), (
        "img2dataset changed: read its downloader.py and resizer.py against shard.py and resize.py of "
        "curation/download, then raise the version here"
    )


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


def test_a_shard_is_what_img2dataset_writes(tmp_path: Path, web: Web) -> None:
    from img2dataset.downloader import Downloader
    from img2dataset.resizer import Resizer
    from img2dataset.writer import WebDatasetSampleWriter

    bodies = [encoded(picture(700, 500, seed=n), exif=exif()) for n in range(3)]
    urls = [web.add(f"/{n}.jpg", body) for n, body in enumerate(bodies)] + [web.url("/missing.jpg")]
    urls = [url.replace("img.test", f"127.0.0.1:{web.port}") for url in urls]
    path, columns = shard_list(tmp_path, urls)
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    made = config(web, extract_exif=True, allow_private=True)
    stats = ShardDownloader(config=made, columns=columns, out_shards=str(ours))((3, path))
    theirs.mkdir()
    with pa.ipc.new_file(str(tmp_path / "3.arrow"), storage.read_table(path).schema) as file:
        file.write_table(storage.read_table(path))
    Downloader(
        sample_writer_class=WebDatasetSampleWriter, resizer=Resizer(512, "keep_ratio_largest", True), thread_count=1,
        save_caption=True, extract_exif=True, output_folder=str(theirs), column_list=list(columns), timeout=5,
        number_sample_per_shard=100, oom_shard_count=5, compute_hash="sha256", verify_hash_type=None,
        encode_format="jpg", retries=0, user_agent_token=None, disallowed_header_directives=None,
    ).download_shard((3, str(tmp_path / "3.arrow")))  # fmt: skip
    assert {path.name for path in ours.iterdir()} == {path.name for path in theirs.iterdir()}
    (our_rows, our_files), (their_rows, their_files) = (
        (storage.read_table(f"{root}/00003.parquet"), dict(files_of(root / "00003.tar"))) for root in (ours, theirs)
    )
    assert our_rows.schema.names[: len(their_rows.schema.names)] == their_rows.schema.names
    for name in set(their_rows.schema.names) - {"error_message"}:  # theirs is what urllib says
        assert our_rows.schema.field(name).type == their_rows.schema.field(name).type
        assert our_rows[name].to_pylist() == their_rows[name].to_pylist(), name
    assert json.loads(our_rows["exif"][0].as_py())["Image Make"] == "a camera"
    assert our_files.keys() == their_files.keys() - {"0000301.txt"}, "no file for a caption that is null"
    for name in our_files:
        assert name.endswith(".json") or our_files[name] == their_files[name], name
    their_stats = storage.read_json(f"{theirs}/00003_stats.json")
    assert set(stats) == {*their_stats, "bytes"}
    same = ("count", "successes", "failed_to_download", "failed_to_resize")
    assert [stats[name] for name in same] == [their_stats[name] for name in same] == [4, 3, 1, 0]


def exif() -> Image.Exif:
    found = Image.Exif()
    found[0x010F] = "a camera"
    return found


def files_of(tar: Path) -> Iterator[tuple[str, bytes]]:
    with tarfile.open(tar) as opened:
        for member in opened:
            extracted = opened.extractfile(member)
            assert extracted is not None
            yield member.name, extracted.read()


def test_a_committed_shard_is_left_alone(tmp_path: Path, web: Web) -> None:
    path, columns = shard_list(tmp_path, [web.add("/0.jpg", encoded(picture()))])
    download = ShardDownloader(config=config(web), columns=columns, out_shards=str(tmp_path / "shards"))
    assert download((3, path)) == download((3, path))
    assert web.requests == {"/0.jpg": 1}


def test_what_was_refused_by_a_server_that_ended_with_the_caller_is_not_committed(tmp_path: Path, web: Web) -> None:
    """A worker that outlives its killed driver by a moment finds the sites that it served gone."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        gone = server.getsockname()
    path, columns = shard_list(tmp_path, [web.add("/0.jpg", encoded(picture()))])
    shards = str(tmp_path / "shards")
    here = ShardDownloader(config=config(web), columns=columns, out_shards=shards, served=(gone,))
    with pytest.raises(ConnectionRefusedError):
        here((3, path))
    assert list_shards(shards) == []
    replace(here, served=tuple(config(web).routes.values()))((3, path))
    assert len(list_shards(shards)) == 1


def test_bytes_do_not_depend_on_threads_or_arrival(tmp_path: Path, web: Web) -> None:
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
    urls = [web.add(f"/{n}.jpg", encoded(picture())) for n in range(4)]
    path, columns = shard_list(tmp_path, [*urls, web.drip("/slow", b"HTTP/1.1 200 OK\r\n\r\n")])
    out = str(tmp_path / "shards")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mmcorpus.curation.download.writer.SampleWriter._keep", full)
    start = time.monotonic()
    with pytest.raises(OSError, match=storage.DISK_FULL) as raised:
        ShardDownloader(config=config(web, total_timeout=30.0), columns=columns, out_shards=out)((3, path))
    assert time.monotonic() - start < 10, "it waited for the server that never ends"
    assert raised.value.filename == f"{out}/00003.tar"
    assert list_shards(out) == []


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
