"""The download stage on Ray: resumed, retried, refused, accounted for."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.download import DownloadConfig, ListError, download
from mmcorpus.curation.download.lists import normalise
from mmcorpus.curation.download.shard import ShardDownloader
from mmcorpus.curation.engine.output import RECORD
from mmcorpus.curation.engine.tasks import WORKER_DIED
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
    (out / "00001.tar.0123456789ab.partial").write_bytes(b"left by a killed worker")
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
    first = download(config, source, *places(tmp_path), progress=False)
    before = files_under(tmp_path)
    lines = Path(source).read_text()
    for name, value in (("image_size", 64), ("number_sample_per_shard", 5)):
        with pytest.raises(
            ValueError, match=rf"made from something else \({name} changed from .* to {value}\); name another folder"
        ):
            download(replace(config, **{name: value}), source, *places(tmp_path), progress=False)
    for other in ("".join(lines.splitlines(keepends=True)[:5]), lines.replace("caption 24", "x") + lines):
        Path(source).write_text(other)
        for _ in range(2):
            with pytest.raises(ValueError, match="holds shards of another list; name another folder"):
                download(config, source, *places(tmp_path), progress=False)
        assert files_under(tmp_path) == before, "a refusal changes nothing"
    Path(source).write_text(lines)
    again = download(config, source, *places(tmp_path), progress=False)
    assert (again.fetched, again.codes, again.list_drops) == (0, first.codes, first.list_drops)


@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize("old", [8, 20, 24])
def test_a_list_that_grew_goes_on_to_what_it_gives_at_once(
    old: int, source: str, config: DownloadConfig, tmp_path: Path, web: Web
) -> None:
    lines = Path(source).read_text().splitlines(keepends=True)
    Path(source).write_text("".join(lines[:old]))
    download(config, source, *places(tmp_path / "grown"), progress=False)
    asked = Counter(web.requests)
    Path(source).write_text("".join(lines))
    report = download(config, source, *places(tmp_path / "grown"), progress=False)
    assert report.fetched == 25 - old
    assert (Counter(web.requests) - asked).total() <= 25 - old, "nothing is fetched twice, not even what failed"
    whole = download(config, source, *places(tmp_path / "whole"), progress=False)
    assert (report.listed, report.status, report.codes, report.list_drops) == (
        whole.listed, whole.status, whole.codes, whole.list_drops,
    )  # fmt: skip
    assert shard_bytes(tmp_path / "grown") == shard_bytes(tmp_path / "whole")
    grown, at_once = (read_stages(places(tmp_path / name)[2]) for name in ("grown", "whole"))
    assert {name: grown[name].equals(at_once[name]) for name in at_once} == dict.fromkeys(at_once, True)
    again = download(config, source, *places(tmp_path / "grown"), progress=False)
    assert again.fetched == 0


@pytest.mark.usefixtures("ray_local")
def test_a_folder_begun_before_records_were_kept_with_shards_is_gone_on_with(
    source: str, config: DownloadConfig, tmp_path: Path
) -> None:
    """Versions before 0.2 kept `download.json` beside the lists; what they downloaded cost days."""
    first = download(config, source, *places(tmp_path), progress=False)
    shards, lists, _ = places(tmp_path)
    listed = json.loads(Path(shards, RECORD).read_text())["inputs"]["list"]
    Path(shards, RECORD).unlink()
    options = {name: value for name, value in asdict(config).items() if name not in config.unsaid}
    digest = hashlib.blake2b(json.dumps(options, sort_keys=True).encode(), digest_size=16).hexdigest()
    Path(lists, "download.json").write_text(json.dumps({"list": listed, "options": digest}))
    with pytest.raises(ValueError, match="made with other options"):
        download(replace(config, image_size=64), source, *places(tmp_path), progress=False)
    assert download(config, source, *places(tmp_path), progress=False).fetched == 0
    assert first.successes
    Path(lists, "download.json").unlink()
    Path(shards, RECORD).unlink()
    with pytest.raises(ValueError, match="without a record of what they are made from"):
        download(config, source, *places(tmp_path), progress=False)


def files_under(root: Path) -> dict[str, bytes]:
    """All files that a download wrote."""
    folders = map(Path, places(root))
    return {str(path): path.read_bytes() for folder in folders for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("ray_local")
def test_a_missing_list_stops_before_any_work(config: DownloadConfig, tmp_path: Path) -> None:
    with pytest.raises(ListError, match="there is no URL list"):
        download(config, str(tmp_path / "none.csv"), *places(tmp_path))
    assert not (tmp_path / "shards").exists()


def test_without_ray_it_says_so(config: DownloadConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(RuntimeError, match=r"Ray is not running\. Call ray\.init\(\) first"):
        download(config, "list.csv", *places(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RuntimeError, match=r"not installed\. Install it with: pip install 'mmcorpus\[curate\]'"):
        download(config, "list.csv", *places(tmp_path))


class Deadly(ShardDownloader):
    """Shard 0's worker dies the first time, shard 1's every time, as by a decoder's crash."""

    def __call__(self, row: tuple[int, str]) -> dict[str, Any]:
        mark = f"{self.out_shards}.died"
        if row[0] == 1 or (row[0] == 0 and not os.path.exists(mark)):
            Path(mark).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__call__(row)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_a_shard_whose_worker_dies_is_retried_then_named(
    source: str, config: DownloadConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    monkeypatch.setattr("mmcorpus.curation.download.run.ShardDownloader", Deadly)
    report = download(config, source, *places(tmp_path), progress=False)
    assert [failure.shard for failure in report.failed_shards] == ["00001"]
    assert report.failed_shards[0].error.startswith(WORKER_DIED)
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


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
@pytest.mark.parametrize(("kill", "committed"), [(signal.SIGKILL, 3), (signal.SIGINT, 1)])
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
