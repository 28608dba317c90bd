"""The download stage on Ray: resumed, retried, refused, accounted for."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mmcorpus.curation.download import DownloadConfig, ListError, download
from mmcorpus.curation.download.lists import normalise
from mmcorpus.curation.download.run import NODE_LOSSES, _Bar, _download_shard, _Window
from mmcorpus.curation.download.shard import ShardDownloader
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.ledger import read_stages
from mmcorpus.curation.store.shards import list_shards, read_rows, read_samples
from tests.curation.download.conftest import Web, encoded, picture, rotated
from tests.processes import interruptible, wait_until

ROWS = 25


@pytest.fixture
def source(web: Web, tmp_path: Path) -> str:
    """A list of 25 images, some of which fail, one rotated, one listed twice."""
    rows = []
    for number in range(ROWS):
        url = web.add(f"/{number}.jpg", encoded(picture(60 + number, 40, seed=number)))
        rows.append({"url": url, "caption": f"caption {number}"})
    web.add("/3.jpg", rotated(6))
    web.add("/5.jpg", status=503)
    web.add("/7.jpg", b"<html>")
    web.routes.pop("/9.jpg")
    rows[11]["url"] = f"http://127.0.0.1:{web.port}/11.jpg"
    rows.append(dict(rows[0]))
    path = str(tmp_path / "list.jsonl")
    storage.write_bytes(path, "".join(json.dumps(row) + "\n" for row in rows).encode())
    return path


@pytest.fixture
def config(web: Web) -> DownloadConfig:
    return DownloadConfig(connect_to=web.connect_to, number_sample_per_shard=10, retries=0, timeout=5.0, thread_count=8)


def places(root: Path | str) -> tuple[str, str, str]:
    return storage.join(str(root), "shards"), storage.join(str(root), "lists"), storage.join(str(root), "ledger")


def shard_bytes(root: Path | str) -> dict[str, bytes]:
    """The tars and parquets of a source; stats hold times."""
    out = places(root)[0]
    return {
        name: storage.read_bytes(storage.join(out, name))
        for name in storage.list_names(out)
        if name.endswith((".tar", ".parquet"))
    }


CODES = {"http_503": 1, "http_404": 1, "not_an_image": 1, "private_address": 1}


@pytest.mark.usefixtures("ray_local")
def test_a_list_becomes_shards_and_every_row_is_accounted_for(
    source: str, config: DownloadConfig, tmp_path: Path, web: Web, capfd: pytest.CaptureFixture[str]
) -> None:
    report = download(config, source, *places(tmp_path))
    assert (report.listed, report.list_drops, report.shards) == (26, {"listed_twice": 1}, 3)
    assert report.codes == CODES
    assert report.status == {"success": 21, "failed_to_download": 3, "failed_to_resize": 1}
    assert (report.fetched, report.successes, report.failed_shards) == (25, 21, ())
    assert report.images_per_second > 0
    assert report.bytes > 0
    assert "download: 25/25 image" in capfd.readouterr().err
    assert "/11.jpg" not in web.requests
    stages = read_stages(places(tmp_path)[2])
    kept = {row["uid"] for row in stages["list"].to_pylist() if row["verdict"] == "kept"}
    entered = stages["download"].to_pylist()
    assert {row["uid"] for row in entered} == kept
    assert len(entered) == len(kept) == 25
    assert Counter(row["rule"] for row in entered) == {None: 21, **CODES}
    assert {row["value"] for row in entered if row["rule"] == "http_404"} == {"http_404: Not Found"}
    shards = list_shards(places(tmp_path)[0])
    in_tars = [sample.uid for shard in shards for sample in read_samples(shard)]
    assert sorted(in_tars) == sorted(row["uid"] for row in entered if row["verdict"] == "kept")
    turned = read_rows(shards[0]).to_pylist()[3]
    assert (turned["original_width"], turned["original_height"], turned["orientation"]) == (60, 40, 6)

    web.requests.clear()
    again = download(config, source, *places(tmp_path), progress=False)
    assert not web.requests
    assert (again.fetched, again.codes, again.status) == (0, report.codes, report.status)


@pytest.mark.usefixtures("ray_local")
def test_an_interrupted_download_resumes_to_the_same_shards(
    source: str, config: DownloadConfig, tmp_path: Path
) -> None:
    download(config, source, *places(tmp_path / "a"), progress=False)
    other = replace(config, thread_count=2, processes_count=1)
    download(other, source, *places(tmp_path / "b"), progress=False)
    out = Path(places(tmp_path / "b")[0])
    (out / "00001_stats.json").unlink()
    (out / "00001.parquet").unlink()
    (out / "00001.tar").write_bytes(b"half")
    (out / "00001.tar.abc.partial").write_bytes(b"left by a killed worker")
    report = download(other, source, *places(tmp_path / "b"), progress=False)
    assert report.fetched == 10
    assert shard_bytes(tmp_path / "a") == shard_bytes(tmp_path / "b")
    assert not list(out.glob("*.partial"))


@pytest.mark.usefixtures("ray_local")
def test_retry_failed_fetches_only_what_can_pass(source: str, config: DownloadConfig, tmp_path: Path, web: Web) -> None:
    first = download(config, source, *places(tmp_path / "a"), progress=False)
    before = shard_bytes(tmp_path / "a")
    web.add("/5.jpg", encoded(picture(65, 40, seed=5)))
    web.requests.clear()
    second = download(config, source, *places(tmp_path / "a"), retry_failed=True, progress=False)
    assert web.requests == {"/5.jpg": 1}
    assert second.fetched == 1
    assert second.successes == first.successes + 1
    assert second.codes == {code: count for code, count in CODES.items() if code != "http_503"}
    after = shard_bytes(tmp_path / "a")
    assert {name for name in after if after[name] != before[name]} == {"00000.tar", "00000.parquet"}
    download(config, source, *places(tmp_path / "fresh"), progress=False)
    assert after == shard_bytes(tmp_path / "fresh")
    rules = Counter(read_stages(places(tmp_path / "a")[2])["download"]["rule"].to_pylist())
    assert rules[None] == second.successes


@pytest.mark.usefixtures("ray_local")
def test_shards_of_other_lists_or_options_are_not_mixed(source: str, config: DownloadConfig, tmp_path: Path) -> None:
    download(config, source, *places(tmp_path), progress=False)
    with pytest.raises(ValueError, match=r"shards made with other options; remove it, or choose another folder"):
        download(replace(config, image_size=64), source, *places(tmp_path), progress=False)
    lines = Path(source).read_text().splitlines()
    Path(source).write_text("\n".join(lines[:5]))
    with pytest.raises(ValueError, match="shards made with another list"):
        download(config, source, *places(tmp_path), progress=False)


@pytest.mark.usefixtures("ray_local")
def test_a_missing_list_stops_before_any_work(config: DownloadConfig, tmp_path: Path) -> None:
    with pytest.raises(ListError, match="there is no URL list"):
        download(config, str(tmp_path / "none.csv"), *places(tmp_path))
    assert not (tmp_path / "shards").exists()


def test_without_ray_it_says_so(config: DownloadConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(RuntimeError, match=r"Ray is not running here: call ray\.init\(\)"):
        download(config, "list.csv", *places(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeError, match=r"not installed: pip install 'mmcorpus\[curate\]'"):
        download(config, "list.csv", *places(tmp_path))


def _dies_once(downloader: ShardDownloader, row: tuple[int, str]) -> dict[str, Any]:
    """Shard 0's worker dies the first time, shard 1's every time, as a decoder's crash would."""
    mark = f"{downloader.out_shards}.died"
    if row[0] == 1 or (row[0] == 0 and not os.path.exists(mark)):
        Path(mark).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return _download_shard(downloader, row)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_shard_whose_worker_dies_is_retried_then_named(
    source: str, config: DownloadConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr("mmcorpus.curation.download.run._download_shard", _dies_once)
    report = download(config, source, *places(tmp_path), progress=False)
    assert [failure.shard for failure in report.failed_shards] == ["00001"]
    assert "Crashed" in report.failed_shards[0].error or "died" in report.failed_shards[0].error
    assert report.shards == 2
    rules = Counter(read_stages(places(tmp_path)[2])["download"]["rule"].to_pylist())
    assert rules["shard_failed"] == 10
    assert rules.total() == 25
    monkeypatch.undo()
    report = download(config, source, *places(tmp_path), progress=False)
    assert (report.failed_shards, report.fetched, report.shards) == ((), 10, 3)
    download(config, source, *places(tmp_path / "fresh"), progress=False)
    assert shard_bytes(tmp_path) == shard_bytes(tmp_path / "fresh")


RUN = """
import json, sys
import ray
from mmcorpus.curation.download import DownloadConfig, download
ray.init(num_cpus=2, include_dashboard=False, object_store_memory=100_000_000, log_to_driver=False)
config = DownloadConfig(**json.loads(sys.argv[1]))
try:
    download(config, *sys.argv[2:], progress=False)
except KeyboardInterrupt:
    sys.exit(130)
"""


def start(config: DownloadConfig, source: str, root: Path) -> subprocess.Popen[bytes]:
    options = {"connect_to": config.connect_to, "number_sample_per_shard": 10, "retries": 0, "thread_count": 2}
    return subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(options), source, *places(root)],
        stdout=subprocess.DEVNULL,
        stderr=None,  # pytest shows it if the test fails
        start_new_session=True,
        preexec_fn=interruptible,
        env={**os.environ, "RAY_raylet_start_wait_time_s": "120"},
    )


def in_this_process(config: DownloadConfig, source: str, root: Path) -> dict[str, bytes]:
    """The shards of a source made one after the other, without Ray."""
    shards, lists, ledger = places(root)
    listed = normalise(config, source, lists, ledger)
    downloader = ShardDownloader(config=config, columns=listed.columns, out_shards=shards)
    for number in range(listed.shards):
        downloader((number, listed.path(number)))
    return shard_bytes(root)


def slow_source(web: Web, tmp_path: Path) -> str:
    rows = []
    for number in range(80):
        data = encoded(picture(60, 40, seed=number))

        def answer(handler: Any, data: bytes = data) -> None:
            from tests.curation.download.conftest import respond

            time.sleep(0.05)
            respond(handler, data)

        rows.append({"url": web.answer(f"/{number}.jpg", answer), "caption": str(number)})
    path = tmp_path / "list.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize(
    ("kill", "committed"), [(signal.SIGKILL, 3), pytest.param(signal.SIGINT, 1, marks=pytest.mark.soak)]
)
def test_killed_and_run_again_gives_the_same_shards(
    web: Web, tmp_path: Path, kill: signal.Signals, committed: int
) -> None:
    config = DownloadConfig(connect_to=web.connect_to, number_sample_per_shard=10, retries=0)
    source = slow_source(web, tmp_path)
    out = Path(places(tmp_path / "a")[0])
    process = start(config, source, tmp_path / "a")
    wait_until(lambda: web.requests.total() > 4 and len(list(out.glob("*_stats.json"))) >= committed, process)
    os.killpg(process.pid, kill) if kill == signal.SIGKILL else process.send_signal(kill)
    code = process.wait(60)
    assert code == (130 if kill == signal.SIGINT else -signal.SIGKILL)
    survived = {path.name: path.stat().st_mtime_ns for path in out.glob("*_stats.json")}
    assert committed <= len(survived) < 8
    download(config, source, *places(tmp_path / "a"), progress=False)
    for name, changed in survived.items():
        assert (out / name).stat().st_mtime_ns == changed, "a committed shard was made again"
    assert len(list_shards(str(out))) == 8
    assert not list(out.glob("*.partial"))
    assert shard_bytes(tmp_path / "a") == in_this_process(config, source, tmp_path / "b")


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_lists_and_shards_on_s3(s3_root: str, source: str, config: DownloadConfig, tmp_path: Path, web: Web) -> None:
    storage.write_bytes(f"{s3_root}/in/list.jsonl", Path(source).read_bytes())
    download(config, f"{s3_root}/in", *places(s3_root), progress=False)
    assert len(shard_bytes(s3_root)) == 6
    assert shard_bytes(s3_root) == in_this_process(config, source, tmp_path / "a")
    web.add("/5.jpg", encoded(picture(65, 40, seed=5)))
    download(config, f"{s3_root}/in", *places(s3_root), retry_failed=True, progress=False)
    assert shard_bytes(s3_root) == in_this_process(config, source, tmp_path / "b")
    rules = Counter(read_stages(places(s3_root)[2])["download"]["rule"].to_pylist())
    assert rules == {None: 22, **{code: count for code, count in CODES.items() if code != "http_503"}}


def test_config_mistakes_are_named() -> None:
    for options, message in (
        ({"timeout": 0}, "timeout is 0"),
        ({"encode_format": "png"}, "encode_quality is 95; for png give 0 to 9"),
        ({"connect_to": {"a.test": "localhost:80"}}, r"connect_to\['a.test'\]"),
        ({"connect_to": {"a.test": "127.0.0.1"}}, "give an address and a port"),
        ({"save_additional_columns": ("url",)}, "which shards use themselves"),
        ({"max_aspect_ratio": 0.5}, "at least 1"),
        ({"max_pixels": 10**9}, "at most"),
        ({"user_agent_token": "a\r\nb"}, "control characters"),
        ({"number_sample_per_shard": 0}, "give 1 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            DownloadConfig(**options)  # type: ignore[arg-type]


def test_config_reads_from_yaml_types_and_lists_what_is_volatile() -> None:
    from pydantic import TypeAdapter, ValidationError

    from mmcorpus.curation.download import VOLATILE

    adapter = TypeAdapter(DownloadConfig)
    assert adapter.validate_python({"connect_to": {"a": "127.0.0.1:80"}, "save_additional_columns": ["x"]}) == (
        DownloadConfig(connect_to={"a": "127.0.0.1:80"}, save_additional_columns=("x",))
    )
    with pytest.raises(ValidationError):
        adapter.validate_python({"imagesize": 3})
    assert set(DownloadConfig.__dataclass_fields__) >= VOLATILE


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("url,caption\n", "list.csv: the list has no rows, so there is nothing to download"),
        ("url,caption\n,a\nftp://a.test/b,c\n", r"none of its 2 rows can be downloaded \(1 bad_url, 1 no_url\)"),
    ],
)
def test_a_list_with_nothing_to_fetch_is_an_error(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "list.csv"
    path.write_text(text)
    for _ in range(2):  # the second time, the normalised list is there already
        with pytest.raises(ListError, match=message):
            download(DownloadConfig(caption_col="caption"), str(path), *places(tmp_path))


class LosingRay:
    """Ray as `_Window` sees it, on which the first tries of every task end with the loss of their node."""

    class exceptions:
        RayError = RuntimeError
        NodeDiedError = type("NodeDiedError", (RuntimeError,), {})

    def __init__(self, losses: int) -> None:
        self.losses, self.tries = losses, Counter[int]()

    def put(self, value: Any) -> Any:
        return value

    def remote(self, downloader: Any, row: tuple[int, str]) -> tuple[int, int]:
        self.tries[row[0]] += 1
        return row[0], self.tries[row[0]]

    def wait(self, references: list[Any], **_: Any) -> tuple[list[Any], list[Any]]:
        return references[:1], references[1:]

    def get(self, reference: tuple[int, int]) -> dict[str, Any]:
        if reference[1] <= self.losses:
            raise self.exceptions.NodeDiedError("the node is gone")
        return {"status_dict": {"success": 3}, "successes": 3}


@pytest.mark.parametrize(("losses", "failed"), [(0, 0), (NODE_LOSSES, 0), (NODE_LOSSES + 1, 2)])
def test_the_loss_of_a_node_is_not_a_shards_fault(losses: int, failed: int) -> None:
    bar = _Bar(6, False)
    window = _Window(2, {0: 3, 1: 3}, bar)
    window.ray = window.task = LosingRay(losses)
    for number in range(2):
        window.remote(SimpleNamespace(retry=False), (number, "list"))  # type: ignore[arg-type]
    window.get([])
    assert len(window.failed) == failed
    assert bar.rows == 6 - 3 * failed
