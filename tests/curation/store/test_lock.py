"""The lock of a run's folder on object storage: real processes against a real S3-speaking server."""

import logging
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from s3fs import S3FileSystem

from mmcorpus.curation.store import lock as module
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.lock import RunLocked, lock
from mmcorpus.pipelines.run.state import RunState, StageRecord

pytestmark = pytest.mark.slow
RENEWS, EXPIRES = 0.5, 6.0

DRIVER = f"""
import sys, time
from mmcorpus.curation.store import lock as module
from mmcorpus.pipelines.run.state import RunState, StageRecord
module.RENEWS, module.EXPIRES = {RENEWS}, {EXPIRES}
root, name, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
module.storage.exists(root)  # connects
print("ready", flush=True)
sys.stdin.readline()
try:
    with module.lock(root) as confirm:
        print("held", flush=True)
        state = RunState(root, name=name)
        state.confirm = confirm
        state.put("a", StageRecord(fingerprint="", status="running"))
        try:
            time.sleep(seconds)
        finally:
            state.put("a", StageRecord(fingerprint="", status="done"))
            print("committed", flush=True)
except module.RunLocked as error:
    print("refused:", error, flush=True)
"""


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "RENEWS", RENEWS)
    monkeypatch.setattr(module, "EXPIRES", EXPIRES)


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Python hears no SIGINT in a suite that a shell started in the background, and then nor does a lock interrupt."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def drive() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts a driver that takes the lock, once it is told to, and holds it for some seconds."""
    started: list[subprocess.Popen[str]] = []

    def start_driver(root: str, name: str, seconds: float) -> subprocess.Popen[str]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", DRIVER, root, name, str(seconds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                # of a shell's background job, children would inherit that Ctrl-C is ignored
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        )
        return started[-1]

    yield start_driver
    for driver in started:
        driver.kill()
        driver.communicate()


def says(driver: subprocess.Popen[str]) -> str:
    assert driver.stdout is not None
    return driver.stdout.readline().strip()


def tell(driver: subprocess.Popen[str]) -> None:
    assert driver.stdin is not None
    driver.stdin.write("\n")
    driver.stdin.flush()


def holding(driver: subprocess.Popen[str]) -> subprocess.Popen[str]:
    assert says(driver) == "ready"
    tell(driver)
    assert says(driver) == "held"
    return driver


@pytest.fixture
def one_at_a_time(tmp_path: Path) -> Iterator[str]:
    """A bucket of a moto server that answers one request at a time: with threads its conditional writes may cross,
    which those of S3 may not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    serve = (
        "from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app\n"
        "from werkzeug.serving import run_simple\n"
        f"run_simple('127.0.0.1', {port}, DomainDispatcherApplication(create_backend_app), threaded=False)\n"
    )
    log = (tmp_path / "moto.log").open("w")
    server = subprocess.Popen([sys.executable, "-c", serve], stdout=log, stderr=log)
    endpoint, deadline = f"http://127.0.0.1:{port}", time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(f"{endpoint}/drivers", method="PUT"), timeout=5).close()
            break
        except OSError:
            assert server.poll() is None, (tmp_path / "moto.log").read_text()
            assert time.monotonic() < deadline, "moto's server did not answer"
            time.sleep(0.2)
    yield endpoint
    server.kill()
    server.wait()


def test_of_drivers_that_start_at_once_one_is_let_in(
    one_at_a_time: str, drive: Callable[..., subprocess.Popen[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"ENDPOINT_URL": one_at_a_time, "ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test"}.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    drivers = [drive("s3://drivers/run", f"driver {number}", 600.0) for number in range(4)]
    assert [says(driver) for driver in drivers] == ["ready"] * 4
    for driver in drivers:
        tell(driver)
    first = {driver: says(driver) for driver in drivers}
    (holder,) = [driver for driver in drivers if first[driver] == "held"]
    refusal = f"refused: another mmcorpus run (process {holder.pid} on {socket.gethostname()}) is working in "
    assert all(first[driver].startswith(refusal) for driver in drivers if driver is not holder), first


@pytest.mark.soak
@pytest.mark.usefixtures("quick")
def test_a_renewed_lease_is_not_taken_and_a_released_one_is(
    s3_root: str, drive: Callable[..., subprocess.Popen[str]]
) -> None:
    driver = holding(drive(s3_root, "driver", 3 * EXPIRES))
    time.sleep(1.5 * EXPIRES)
    start = time.monotonic()
    with pytest.raises(RunLocked, match=f"process {driver.pid} on "), lock(s3_root):
        pass
    assert time.monotonic() - start < EXPIRES, "told by the next renewal"
    assert driver.poll() is None
    assert says(driver) == "committed"
    start = time.monotonic()
    with lock(s3_root), pytest.raises(RunLocked), lock(s3_root):
        pass
    with lock(s3_root):
        assert time.monotonic() - start < EXPIRES


@pytest.mark.usefixtures("quick")
def test_the_lease_of_a_killed_driver_is_taken_over_but_not_at_once(
    s3_root: str, drive: Callable[..., subprocess.Popen[str]], caplog: pytest.LogCaptureFixture
) -> None:
    driver = holding(drive(s3_root, "driver", 600.0))
    driver.kill()
    driver.wait()
    start = time.monotonic()
    with lock(s3_root) as confirm:
        assert EXPIRES / 3 < time.monotonic() - start < 3 * EXPIRES
        confirm()
    assert f"held by process {driver.pid} on" in caplog.text
    # Long after, the store's clock tells at once.
    driver = holding(drive(s3_root, "driver", 600.0))
    driver.kill()
    driver.wait()
    time.sleep(1.5 * EXPIRES)
    start = time.monotonic()
    with lock(s3_root):
        assert time.monotonic() - start < EXPIRES / 3


@pytest.mark.usefixtures("quick")
def test_a_driver_that_lost_its_lease_stops_before_it_commits(
    s3_root: str, drive: Callable[..., subprocess.Popen[str]]
) -> None:
    driver = holding(drive(s3_root, "paused", 60.0))
    driver.send_signal(signal.SIGSTOP)
    with lock(s3_root) as confirm:
        state = RunState(s3_root, name="second")
        state.confirm = confirm
        state.put("a", StageRecord(fingerprint="", status="running"))
        resumed = time.monotonic()
        driver.send_signal(signal.SIGCONT)
        refusal, _ = driver.communicate(timeout=30)
        assert time.monotonic() - resumed < 30, "interrupted, not slept to the end"
        assert refusal.startswith(f"refused: this run no longer holds {s3_root}/.lock: process {os.getpid()} on ")
        assert "committed" not in refusal.splitlines()
        assert RunState.load(s3_root).name == "second"
        assert RunState.load(s3_root).stages["a"].status == "running"
        confirm()


@pytest.mark.usefixtures("quick", "interruptible")
def test_a_lease_that_somebody_removed_is_lost(s3_root: str) -> None:
    with pytest.raises(RunLocked, match="somebody removed it"), lock(s3_root):  # noqa: PT012
        storage.remove(f"{s3_root}/.lock")
        time.sleep(60)  # the keeper interrupts it
        pytest.fail("not interrupted")


@pytest.mark.soak
def test_a_store_without_dates_is_watched(
    s3_root: str, quick: None, monkeypatch: pytest.MonkeyPatch, drive: Callable[..., subprocess.Popen[str]]
) -> None:
    real = S3FileSystem.call_s3

    def without_date(self: S3FileSystem, method: str, **arguments: Any) -> Any:
        answer = real(self, method, **arguments)
        answer["ResponseMetadata"]["HTTPHeaders"].pop("date")
        return answer

    monkeypatch.setattr(S3FileSystem, "call_s3", without_date)
    driver = holding(drive(s3_root, "driver", 600.0))
    driver.kill()
    time.sleep(1.5 * EXPIRES)
    start = time.monotonic()
    with lock(s3_root):
        assert time.monotonic() - start > EXPIRES


def test_writes_whose_answer_was_lost_are_known_as_own(s3_root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that gets no answer asks again, and is told that the condition does not hold: by its own write."""
    real = S3FileSystem.call_s3

    def twice(self: S3FileSystem, method: str, **arguments: Any) -> Any:
        if method == "put_object" and "0" * 32 not in arguments.get("IfMatch", ""):
            real(self, method, **arguments)
        return real(self, method, **arguments)

    monkeypatch.setattr(module, "RENEWS", 1.0)
    monkeypatch.setattr(module._Lease, "is_honoured", lambda lease: True)
    monkeypatch.setattr(S3FileSystem, "call_s3", twice)
    with lock(s3_root) as confirm:
        confirm()
        confirm()


def test_a_store_that_ignores_conditions_is_named_in_a_warning(
    s3_root: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = S3FileSystem.call_s3

    def unconditional(self: S3FileSystem, method: str, **arguments: Any) -> Any:
        return real(self, method, **{key: arguments[key] for key in arguments if key not in ("IfMatch", "IfNoneMatch")})

    monkeypatch.setattr(S3FileSystem, "call_s3", unconditional)
    with lock(s3_root) as first, lock(s3_root) as second:
        first()
        second()
    assert caplog.text.count(f"{s3_root}: two drivers in this folder would not be kept apart (its store ignores") == 2


def test_other_stores_are_named_in_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING), lock("memory://run") as confirm:
        confirm()
    assert "memory://run: two drivers in this folder would not be kept apart" in caplog.text


def test_a_lock_that_cannot_be_written_says_why(s3_endpoint: str) -> None:
    with pytest.raises(FileNotFoundError, match="bucket does not exist"), lock("s3://there-is-no-such-bucket/run"):
        pass
