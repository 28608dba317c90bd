"""fsspec over http(s): checked addresses alone, at redirects again, however they are written."""

import asyncio
import base64
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import fsspec
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.filters import web
from mmcorpus.filters.web import ALLOW_PRIVATE, PrivateAddress, check, reading
from mmcorpus.filters.weights import local_copy


class Server:
    """Loopback servers: `/file` has bytes, `/to?URL` redirects there."""

    def __init__(self, host: str) -> None:
        self.asked: list[tuple[str, str | None]] = []
        asked = self.asked

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked.append((self.path, self.headers.get("Authorization")))
                path, _, target = self.path.partition("?")
                self.send_response(302 if path == "/to" else 200)
                if path == "/to":
                    self.send_header("Location", target)
                self.send_header("Content-Length", "5")
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(b"bytes")

            do_HEAD = do_GET

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer((host, 0), Handler)
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        self.url = f"http://{host}:{self.server.server_address[1]}"


@pytest.fixture
def servers() -> Iterator[tuple[Server, Server]]:
    both = Server("127.0.0.1"), Server("127.0.0.2")
    yield both
    for one in both:
        one.server.shutdown()
        one.server.server_close()


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(ALLOW_PRIVATE, raising=False)
    fsspec.get_filesystem_class("http").clear_instance_cache()


@pytest.mark.parametrize(
    "url", ["s3://user:hidden-word@bucket/x", "s3://hidden-word@bucket", "abfs://a:hidden-word@b/x"]
)
def test_credentials_in_a_buckets_address_are_refused_and_not_told(url: str) -> None:
    for ask in (storage.exists, storage.filesystem, local_copy):
        with pytest.raises(ValueError, match=r"has credentials in it.*by the environment") as caught:
            ask(url)
        assert "hidden-word" not in str(caught.value)
    web.refuse_credentials("abfs://container@account.dfs.core.windows.net/x")
    web.refuse_credentials("s3://bucket/a@b:c@d")


def read(url: str) -> bytes:
    with reading(url, allow_private=False):
        return storage.read_bytes(url)


def test_loopback_is_refused_with_what_to_do(servers: tuple[Server, Server]) -> None:
    one, _ = servers
    for host in ("127.0.0.1", "localhost", "LOCALHOST"):
        with pytest.raises(PrivateAddress, match=r"private_address: .* is loopback.*MMCORPUS_ALLOW_PRIVATE"):
            read(one.url.replace("127.0.0.1", host) + "/file")
    assert not one.asked


@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "localhost.", "0", "[::1]", "[::ffff:7f00:1]", "0.0.0.0"],
)
def test_other_spellings_of_loopback_are_refused(servers: tuple[Server, Server], host: str) -> None:
    one, _ = servers
    with pytest.raises((OSError, ValueError)):
        read(one.url.replace("127.0.0.1", host) + "/file")
    assert not one.asked


def test_an_allowed_host_may_be_read_but_not_where_it_redirects_to(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = servers
    monkeypatch.setenv(ALLOW_PRIVATE, "mirror.lab, 127.0.0.1/32")
    assert read(f"{one.url}/file") == b"bytes"
    with pytest.raises(PrivateAddress, match=r"127\.0\.0\.2 is loopback"):
        read(f"{one.url}/to?{two.url}/file")
    assert not two.asked
    monkeypatch.setenv(ALLOW_PRIVATE, "127.0.0.0/8")
    assert read(f"{one.url}/to?{two.url}/file") == b"bytes"


def test_a_named_host_is_allowed_by_its_name(servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch) -> None:
    one, _ = servers
    monkeypatch.setenv(ALLOW_PRIVATE, "localhost")
    assert read(one.url.replace("127.0.0.1", "localhost") + "/file") == b"bytes"


def test_the_setting_of_a_list_allows_any_address(servers: tuple[Server, Server]) -> None:
    one, two = servers
    with reading("x", allow_private=True):
        assert storage.read_bytes(f"{one.url}/to?{two.url}/file") == b"bytes"
    fsspec.get_filesystem_class("http").clear_instance_cache()
    with pytest.raises(PrivateAddress):
        read(f"{two.url}/file")


def test_credentials_go_to_their_own_host_alone(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = servers
    monkeypatch.setenv(ALLOW_PRIVATE, "127.0.0.0/8")
    read(f"{one.url.replace('//', '//alice:pw@')}/to?{two.url}/file")
    assert one.asked[0][1] == "Basic " + base64.b64encode(b"alice:pw").decode()
    assert [authorization for _, authorization in two.asked] == [None] * len(two.asked)


def test_a_name_that_changes_its_answer_gains_nothing(
    servers: tuple[Server, Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address is checked where the socket is made: whatever a look-up said before, loopback is not connected to."""
    one, _ = servers
    real = socket.getaddrinfo

    def getaddrinfo(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host == "rebind.test" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with pytest.raises(PrivateAddress):
        read(one.url.replace("127.0.0.1", "rebind.test") + "/file")
    assert not one.asked


def test_the_check_itself() -> None:
    check("8.8.8.8")
    check("10.0.0.1", {"10.0.0.1"})
    with pytest.raises(PrivateAddress, match="cloud-internal"):
        check("168.63.129.16")


def test_a_client_of_the_users_own_stays() -> None:
    async def own(**_: Any) -> None:
        return None

    before = dict(fsspec.config.conf.get("http", {}))
    try:
        fsspec.config.conf["http"] = {"get_client": own}
        web.install()
        assert fsspec.config.conf["http"]["get_client"] is own
    finally:
        fsspec.config.conf["http"] = before
    assert asyncio.iscoroutinefunction(web.guarded_client)
