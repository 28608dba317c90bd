"""Fixtures that several floors share; the order of files; what the tests leave behind, and what they skip."""

import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Final

import pytest

LONGEST: Final = (
    "pipelines/test_killed_everywhere.py",
    "pipelines/test_damage.py",
    "curation/scoring/servers/test_vllm.py",
    "training/exchange/test_served.py",
    "pipelines/test_loop.py",
    "notebooks/test_notebooks.py",
    "test_mutated_inputs.py",
    "pipelines/run/test_individual_select.py",
    "pipelines/test_points.py",
    "pipelines/test_mm1_recipe.py",
    "pipelines/test_cluster.py",
    "pipelines/test_demo.py",
    "pipelines/test_document_chain.py",
    "curation/store/test_lock.py",
    "curation/download/test_run.py",
    "pipelines/stages/test_dfn.py",
    "curation/scoring/test_gpu.py",
    "training/test_loop.py",
    "training/test_parallel.py",
    "filters/test_perplexity_smollm2.py",
    "pipelines/test_full_disk.py",
    "test_packaging.py",
    "curation/scoring/servers/test_run.py",
)
"""Files that take half a minute or more, the longest first: one that came last would keep one process busy alone."""
CANNOT: Final = "this machine cannot: "
"""How a test must begin to say why it is skipped."""
MOTO: Final = """
import os, sys, threading
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
from moto.server import main
main(sys.argv[1:])
"""
"""Moto's server, which ends with the process that started it, however that ends."""

_OWN = pytest.StashKey[str]()


def pytest_configure(config: pytest.Config) -> None:
    """Give what the tests start (Ray, its workers, servers) a folder of its own for temporary files, and Ray a token.

    Otherwise processes that are killed leave their sessions and sockets in /tmp, and Ray a token in the home folder.
    """
    if "PYTEST_XDIST_WORKER" in os.environ:
        return
    tempfile.gettempdir()  # pytest's own folders stay where they are
    config.stash[_OWN] = folder = tempfile.mkdtemp(prefix="t", dir="/tmp")  # paths of sockets end at 107 bytes
    os.environ |= {"TMPDIR": folder, "RAY_TMPDIR": folder}
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))


def pytest_unconfigure(config: pytest.Config) -> None:
    """Remove that folder."""
    if folder := config.stash.get(_OWN, None):
        shutil.rmtree(folder, ignore_errors=True)  # a process that is still ending may write there


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that is skipped for want of what could be installed fails, so that no part goes untested unseen."""
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and CANNOT not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped, and not because {CANNOT}…\n{report.longrepr}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """And so does a file."""
    report = yield
    if report.skipped and CANNOT not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped, and not because {CANNOT}…\n{report.longrepr}"
    return report


def pytest_make_parametrize_id(val: object, argname: str) -> str | None:
    """Bytes are named by their argument: gzip writes the time, and two processes would collect other names."""
    return argname if isinstance(val, bytes) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first, then the others that have slow or soak tests, then the rest."""
    here = Path(__file__).parent
    if gone := [name for name in LONGEST if not (here / name).exists()]:
        raise pytest.UsageError(f"LONGEST in {__file__} names files that are not there: {', '.join(gone)}")
    place = {here / name: number for number, name in enumerate(LONGEST)}
    slow = {item.path for item in items if item.get_closest_marker("slow") or item.get_closest_marker("soak")}
    items.sort(key=lambda item: (place.get(item.path, len(LONGEST)), item.path not in slow))


@pytest.fixture(scope="session")
def ray_local(s3_environment: str) -> Iterator[None]:
    """A local Ray of two CPUs for the session; library code finds it already initialised, and its workers S3."""
    import ray

    os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"
    for left in (2, 1, 0):
        try:
            ray.init(
                num_cpus=2,
                include_dashboard=False,
                object_store_memory=300_000_000,
                log_to_driver=False,
                configure_logging=False,
            )
            break
        except Exception as error:  # Ray gives its node 30 s, and a loaded machine takes longer
            if not left or "timed out during startup" not in str(error):
                raise
            ray.shutdown()
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def tiny_clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A folder with a CLIP of random weights, as open_clip reads it: images of 32 px, 16 tokens, 64 dimensions."""
    import open_clip
    import torch
    from safetensors.torch import save_file

    config = {
        "embed_dim": 64,
        "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "head_width": 32, "patch_size": 8},
        "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
    }
    folder = tmp_path_factory.mktemp("tiny-clip")
    torch.manual_seed(0)
    save_file(open_clip.CLIP(**config).state_dict(), folder / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config, "preprocess_cfg": preprocess}))
    return str(folder)


@pytest.fixture(scope="session")
def s3_environment() -> Iterator[str]:
    """The environment in which fsspec finds an S3 on loopback, and its URL; the server starts where a test asks for it.

    Ray's workers have the environment in which Ray started, so that it is set before.
    """
    with socket.socket() as held, pytest.MonkeyPatch.context() as patch:
        # Bound and not listening, it keeps the port for moto.
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{held.getsockname()[1]}"
        patch.setenv("AWS_ENDPOINT_URL", endpoint)
        patch.setenv("AWS_ACCESS_KEY_ID", "test")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "test")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield endpoint


@pytest.fixture(scope="session")
def s3_endpoint(s3_environment: str) -> Iterator[str]:
    """The URL of a real S3-speaking server (moto's) on loopback, with the environment set so that fsspec finds it."""
    port = s3_environment.rpartition(":")[2]
    server = subprocess.Popen(
        [sys.executable, "-c", MOTO, "-H", "127.0.0.1", "-p", port],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    try:
        while True:
            try:
                urllib.request.urlopen(s3_environment, timeout=1)
                break
            except OSError:
                if server.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"moto's S3 server did not answer on {s3_environment}") from None
                time.sleep(0.2)
        yield s3_environment
    finally:
        server.kill()
        server.wait()


@pytest.fixture
def s3_root(s3_endpoint: str, request: pytest.FixtureRequest) -> str:
    """An empty bucket's URL, its own for each test."""
    import boto3

    bucket = f"test-{abs(hash(request.node.nodeid)) % 10**12}"
    boto3.client("s3").create_bucket(Bucket=bucket)
    return f"s3://{bucket}"


@pytest.fixture
def in_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs the work in this process, so that the plan and the writing are tested without Ray."""
    from mmcorpus.curation.engine.tasks import attempt

    def run(make_work, items, *, name, **_):  # type: ignore[no-untyped-def]
        return [attempt(lambda item=item: dict(make_work()(item)), name(item)) for item in items]

    monkeypatch.setattr("mmcorpus.curation.engine.items.run_shards", run)
