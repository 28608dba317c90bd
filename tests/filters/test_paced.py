"""Answers that drip, hang, or have no end are given up in stated time, whoever reads them."""

import asyncio
import contextlib
import itertools
import socket
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from mmcorpus.curation.crawl.streams import open_input
from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.lists import normalise
from mmcorpus.curation.evaluations.config import EvaluationSet
from mmcorpus.curation.evaluations.sets import read_items
from mmcorpus.curation.store import storage
from mmcorpus.filters import listings, paced, web
from mmcorpus.filters.contamination import read_manifest
from mmcorpus.filters.mllm.prompts import read_rubric
from mmcorpus.filters.serving.client import ask_once
from mmcorpus.filters.weights import local_copy

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
SIZED = OK + b"Content-Length: 1000000\r\n\r\n"


def gzip_bomb() -> Iterator[bytes]:
    squeeze = zlib.compressobj(9, zlib.DEFLATED, 31)
    while True:
        yield squeeze.compress(b"\n" * (1 << 20)) + squeeze.flush(zlib.Z_SYNC_FLUSH)


SLOW = 0.02
ANSWERS: dict[str, tuple[float, Callable[[], Iterator[bytes]]]] = {
    "header-drip": (SLOW, lambda: itertools.chain([OK], itertools.repeat(b"X"))),
    "headers": (0, lambda: itertools.chain([OK], (b"X-%d: y\r\n" % n for n in itertools.count()))),
    "interim": (0, lambda: itertools.repeat(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 20)),
    "loop": (0, lambda: iter([b"HTTP/1.1 302 Found\r\nLocation: /loop\r\nConnection: close\r\n\r\n"])),
    "hang": (60, lambda: itertools.repeat(b"")),
    "body-hang": (60, lambda: itertools.chain([SIZED, b"{"])),
    "drip": (SLOW, lambda: itertools.chain([SIZED], itertools.repeat(b"x"))),
    "chunked-drip": (SLOW, lambda: itertools.chain([CHUNKED], itertools.repeat(b"1\r\nx\r\n"))),
    "chunked": (0, lambda: itertools.chain([CHUNKED], itertools.repeat(b"10000\r\n" + b"a" * 65536 + b"\r\n"))),
    "gzip": (0, lambda: itertools.chain([OK + b"Content-Encoding: gzip\r\n\r\n"], gzip_bomb())),
    "large": (
        SLOW,
        lambda: itertools.chain([OK + b"Content-Length: 900000000000\r\n\r\n"], itertools.repeat(b"a" * 65536)),
    ),
    "lie": (
        0,
        lambda: itertools.chain([OK + b"Content-Length: 9000000000000000\r\n\r\n"], itertools.repeat(b"a" * 65536)),
    ),
}
"""Seconds between what is sent, and what that is; for ever, unless the other end has had enough."""


def answer(connection: socket.socket, over: threading.Event) -> None:
    with connection:
        try:
            verb, path, *_ = connection.recv(65536).decode().split(" ")
            pause, parts = ANSWERS[path.split("/")[1]]
            for number, part in enumerate(parts()):
                connection.sendall(part)
                if (verb == "HEAD" and number == 0 and part.endswith(b"\r\n\r\n")) or over.wait(pause if number else 0):
                    return
            if pause:
                over.wait(pause)
        except OSError:
            pass


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    over = threading.Event()
    listening = socket.create_server(("127.0.0.1", 0))

    def accept() -> None:
        while True:
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=answer, args=(connection, over), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    over.set()
    listening.close()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(web.ALLOW_PRIVATE, "127.0.0.1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name, value in {
        "HEAD_SECONDS": 0.1,
        "GRACE_SECONDS": 0.1,
        "MOST_AT_ONCE": 1 << 20,
        "MOST_UNSIZED": 1 << 20,
    }.items():
        monkeypatch.setattr(paced, name, value)
    monkeypatch.setattr(paced, "MOST_OF_AN_ANSWER", 1 << 20)
    fsspec.get_filesystem_class("http").clear_instance_cache()


def read_list(url: str, folder: Path) -> None:
    config = DownloadConfig(caption_col=None, allow_private=True)
    normalise(config, f"{url}.txt", str(folder / "lists"), str(folder / "ledger"))


def open_pages(url: str, _: Path) -> None:
    with open_input(url) as file:
        while file.read(1 << 20):
            pass


READERS: dict[str, Callable[[str, Path], object]] = {
    "bytes": lambda url, _: storage.read_bytes(url),
    "list": read_list,
    "pages": open_pages,
    "weights": lambda url, _: local_copy(url),
    "rubric": lambda url, _: read_rubric(url),
    "evaluation": lambda url, _: list(read_items("eval", EvaluationSet(path=f"{url}.jsonl"))),
    "index": lambda url, _: read_manifest(url),
    "server": lambda url, _: ask_once(url, key=None, seconds=0.2),
}


EVERY = ("bytes", "list", "weights", "server")
CASES = [(reader, how) for reader in READERS for how in (ANSWERS if reader in EVERY else ("headers", "drip", "gzip"))]


@pytest.mark.parametrize(("reader", "how"), CASES)
def test_it_ends_with_a_reason(server: str, tmp_path: Path, how: str, reader: str) -> None:
    start = time.monotonic()
    with pytest.raises((OSError, ValueError)) as caught:
        READERS[reader](f"{server}/{how}/file", tmp_path)
    assert time.monotonic() - start < 15
    assert str(caught.value)
    assert not any(wrong in str(caught.value) for wrong in ("damaged", "there is nothing", "there are no"))


@pytest.mark.parametrize(("size", "given_up"), [(1 << 40, True), (1 << 20, False)])
def test_parts_that_are_short_enough_to_drip_are_counted_together(
    monkeypatch: pytest.MonkeyPatch, size: int, given_up: bool
) -> None:
    class Slow:
        async def read(self, n: int) -> bytes:
            await asyncio.sleep(0.02)
            return bytes(n)

    async def read(parts: int) -> None:
        waited = paced.Waited()
        for _ in range(parts):
            body = paced.Body(Slow(), at_once=1 << 20, sized=True, seconds=60, size=size, of=waited)  # type: ignore[arg-type]
            assert len(await body.read(10_000)) == 10_000

    monkeypatch.setattr(paced, "PARTS_SECONDS", 0.1)
    with pytest.raises(paced.GivenUp, match="drips") if given_up else contextlib.nullcontext():
        asyncio.run(read(20))


def test_what_is_slow_to_be_read_is_not_slow_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.filters.test_web import Server

    one = Server("127.0.0.1")
    with fsspec.open(f"{one.url}/file", "rb", block_size=0) as file:
        assert file.read(2) == b"by"
        time.sleep(2 * paced.GRACE_SECONDS)
        assert file.read(3) + file.read() == b"tes"
    one.server.shutdown()
    one.server.server_close()


def test_a_server_that_does_not_answer_is_not_one_that_has_nothing(server: str) -> None:
    for how in ("hang", "headers"):
        with pytest.raises(OSError, match=r"no whole head|Too many headers"):
            storage.exists(f"{server}/{how}/file")


def test_folders_of_a_web_server_that_hold_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    async def ls(self: object, url: str, detail: bool = True, **_: object) -> list[dict[str, object]]:
        return [{"name": f"{url.rstrip('/')}/again/", "type": "directory", "size": None}]

    monkeypatch.setattr("fsspec.implementations.http.HTTPFileSystem._ls", ls)
    with pytest.raises(listings.EndlessListing, match="over 100 deep"):
        fsspec.filesystem("http").find("http://example.org/")
