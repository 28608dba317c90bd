"""Each failure code against a real server; limits on bytes, time and redirects; private addresses refused."""

import gzip
import http.server
import socket
import threading
import time
from dataclasses import replace

import pytest

from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.connect import process_resolver
from mmcorpus.curation.download.fetch import MAX_WAIT, TRANSIENT_CODES, FetchFailure, FetchResult, fetch
from mmcorpus.curation.download.guard import Resolver
from tests.curation.download.conftest import Web, encoded, picture, respond

DATA = encoded(picture())


@pytest.fixture
def limits(web: Web) -> DownloadConfig:
    return DownloadConfig(
        timeout=0.4, total_timeout=1.0, max_bytes=100_000, max_redirects=3, retries=0, backoff=0.001,
        connect_to=web.connect_to,
    )  # fmt: skip


def code(outcome: FetchResult | FetchFailure) -> str:
    assert isinstance(outcome, FetchFailure), "a body came back"
    return outcome.code


def test_a_body_comes_back_whole_with_where_it_came_from(web: Web, limits: DownloadConfig) -> None:
    outcome = fetch(web.add("/a.jpg", DATA), limits)
    assert outcome == FetchResult(data=DATA, url=web.url("/a.jpg"), content_type="image/jpeg")


@pytest.mark.parametrize("status", [204, 304, 403, 404, 410, 418, 500, 503])
def test_other_statuses_become_their_code(web: Web, limits: DownloadConfig, status: int) -> None:
    expected = "empty_body" if status == 204 else f"http_{status}"
    assert code(fetch(web.add("/a", status=status), limits)) == expected


def test_an_empty_body(web: Web, limits: DownloadConfig) -> None:
    assert code(fetch(web.add("/a", b""), limits)) == "empty_body"


def test_silence_is_a_timeout(web: Web, limits: DownloadConfig) -> None:
    outcome = fetch(web.answer("/a", lambda handler: time.sleep(1.5)), limits)
    assert code(outcome) == "timeout"


@pytest.mark.parametrize(
    "prefix",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\nContent-Length: 90000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: image/jpeg\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Endless: ",
    ],
    ids=["length", "no length", "in a header"],
)
def test_dripping_servers_run_into_the_total_time(web: Web, limits: DownloadConfig, prefix: bytes) -> None:
    start = time.monotonic()
    assert code(fetch(web.drip("/a", prefix), limits)) == "total_time"
    assert time.monotonic() - start < 5  # it would never end


def test_the_byte_cap_holds_with_and_without_a_length(web: Web, limits: DownloadConfig) -> None:
    assert code(fetch(web.add("/a", bytes(100_001)), limits)) == "too_many_bytes"

    def endless(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
        while not web.stopping.is_set():
            handler.wfile.write(bytes(10_000))

    assert code(fetch(web.answer("/b", endless), replace(limits, total_timeout=30))) == "too_many_bytes"
    assert isinstance(fetch(web.add("/c", bytes(100_000)), limits), FetchResult)


def test_a_compressed_body_is_opened_within_the_byte_cap(web: Web, limits: DownloadConfig) -> None:
    outcome = fetch(web.add("/a", gzip.compress(DATA), Content_Encoding="gzip"), limits)
    assert isinstance(outcome, FetchResult)
    assert outcome.data == DATA
    bomb = web.add("/b", gzip.compress(bytes(10_000_000)), Content_Encoding="gzip")
    assert code(fetch(bomb, limits)) == "too_many_bytes"


def test_chunked_bodies(web: Web, limits: DownloadConfig) -> None:
    def chunked(handler: http.server.BaseHTTPRequestHandler) -> None:
        head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        handler.wfile.write(head + b"%x\r\n%s\r\n0\r\n\r\n" % (len(DATA), DATA))

    def cut(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nabc")

    outcome = fetch(web.answer("/a", chunked), limits)
    assert isinstance(outcome, FetchResult)
    assert outcome.data == DATA
    assert code(fetch(web.answer("/b", cut), limits)) == "connection"


def test_a_body_shorter_than_announced_is_a_broken_connection(web: Web, limits: DownloadConfig) -> None:
    def short(handler: http.server.BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n" + DATA[:100])

    assert code(fetch(web.answer("/a", short), limits)) == "connection"


def test_nonsense_and_nobody_there(web: Web, limits: DownloadConfig) -> None:
    assert code(fetch(web.answer("/a", lambda handler: handler.wfile.write(b"\x00\x01 nonsense\r\n\r\n")), limits)) == (
        "connection"
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    outcome = fetch("http://gone.test/a", replace(limits, connect_to={"gone.test": f"127.0.0.1:{port}"}))
    assert isinstance(outcome, FetchFailure)
    assert outcome.message == "connection: refused"


def test_tls_against_a_server_without(web: Web, limits: DownloadConfig) -> None:
    assert code(fetch("https://img.test/a", limits)) == "tls"


def test_redirects_are_followed_to_a_limit(web: Web, limits: DownloadConfig) -> None:
    web.add("/end", DATA)
    for step in range(5):
        web.add(f"/{step}", status=(301, 302, 303, 307, 308)[step], Location=f"/{step + 1}" if step < 4 else "/end")
    outcome = fetch(web.url("/2"), limits)
    assert isinstance(outcome, FetchResult)
    assert outcome.url == web.url("/end")
    assert code(fetch(web.url("/1"), limits)) == "redirect_loop"
    web.add("/loop", status=302, Location="/loop2")
    web.add("/loop2", status=302, Location="/loop")
    assert code(fetch(web.url("/loop"), limits)) == "redirect_loop"
    assert web.requests["/loop"] == 1


@pytest.mark.parametrize(
    "location", ["file:///etc/passwd", "ftp://img.test/a", "gopher://x/", "http://[::1/", "http://a:b@c/"]
)
def test_redirects_to_other_schemes_are_refused(web: Web, limits: DownloadConfig, location: str) -> None:
    assert code(fetch(web.add("/a", status=302, Location=location), limits)) == "bad_url"


def test_opt_outs_are_honoured(web: Web, limits: DownloadConfig) -> None:
    assert code(fetch(web.add("/a", DATA, X_Robots_Tag="nofollow, NoAI"), limits)) == "opt_out"
    assert code(fetch(web.add("/b", DATA, X_Robots_Tag="mmcorpus: noindex"), limits)) == "opt_out"
    assert isinstance(fetch(web.add("/c", DATA, X_Robots_Tag="otherbot: noai"), limits), FetchResult)
    assert isinstance(fetch(web.url("/a"), replace(limits, disallowed_header_directives=())), FetchResult)


def test_the_request_says_who_asks(web: Web, limits: DownloadConfig) -> None:
    fetch(web.add("/a b?q=ü", DATA), limits)
    fetch("http://img.test/a%20b?q=%C3%BC", replace(limits, user_agent_token="https://example.org/bot"))
    assert web.headers["/a%20b?q=%C3%BC"]["User-Agent"] == "mmcorpus/0.1 (+https://example.org/bot)"
    assert web.headers["/a%20b?q=%C3%BC"]["Host"] == "img.test"


def test_failures_that_can_pass_are_tried_again_and_others_are_not(web: Web, limits: DownloadConfig) -> None:
    waits: list[float] = []

    def busy(handler: http.server.BaseHTTPRequestHandler) -> None:
        if web.requests["/busy"] < 3:
            respond(handler, b"", status=429, Retry_After="7")
        else:
            respond(handler, DATA)

    outcome = fetch(web.answer("/busy", busy), replace(limits, retries=2), sleep=waits.append)
    assert isinstance(outcome, FetchResult)
    assert waits == [7.0, 7.0]
    fetch(web.add("/404", status=404), replace(limits, retries=2), sleep=waits.append)
    assert web.requests["/404"] == 1
    fetch(web.add("/503", status=503), replace(limits, retries=2, backoff=1.0), sleep=waits.append)
    assert web.requests["/503"] == 3
    assert 0.8 <= waits[2] <= 1.2 < 1.6 <= waits[3] <= 2.4
    fetch(web.add("/later", status=503, Retry_After=str(MAX_WAIT + 1)), replace(limits, retries=2), sleep=waits.append)
    assert web.requests["/later"] == 1


def test_transient_codes_name_what_can_pass() -> None:
    assert {"timeout", "total_time", "connection", "dns", "http_429", "http_503"} <= TRANSIENT_CODES
    assert not {"http_404", "private_address", "opt_out", "bad_url", "tls", "too_many_bytes"} & TRANSIENT_CODES


PRIVATE_URLS = [
    "http://127.0.0.1:{port}/a",
    "http://localhost:{port}/a",
    "http://LOCALHOST.:{port}/a",
    "http://2130706433:{port}/a",
    "http://0x7f000001:{port}/a",
    "http://0x7f.1:{port}/a",
    "http://0177.0.0.1:{port}/a",
    "http://127.1:{port}/a",
    "http://0.0.0.0:{port}/a",
    "http://0:{port}/a",
    "http://[::1]:{port}/a",
    "http://[::]:{port}/a",
    "http://[::ffff:127.0.0.1]:{port}/a",
    "http://[::ffff:7f00:1]:{port}/a",
    "http://[::127.0.0.1]:{port}/a",
    "http://[64:ff9b::7f00:1]:{port}/a",
    "http://①②⑦.⓪.⓪.①:{port}/a",
    "http://10.0.0.1/a",
    "http://192.168.1.1/a",
    "http://172.16.0.1/a",
    "http://169.254.169.254/latest/meta-data/",
    "http://100.64.0.1/a",
    "http://224.0.0.1/a",
    "http://255.255.255.255/a",
    "http://[fe80::1]/a",
    "http://[fd00::1]/a",
]


@pytest.mark.parametrize("url", PRIVATE_URLS)
def test_private_addresses_are_refused_however_they_are_written(web: Web, limits: DownloadConfig, url: str) -> None:
    web.add("/a", DATA)
    assert code(fetch(url.format(port=web.port), limits)) == "private_address"
    assert not web.requests


def test_private_addresses_are_refused_behind_redirects_and_names(
    web: Web, limits: DownloadConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    web.add("/a", DATA)
    web.add("/redirect", status=302, Location=f"http://127.0.0.1:{web.port}/a")
    assert code(fetch(web.url("/redirect"), limits)) == "private_address"
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *_, **__: [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]
    )
    assert code(fetch(f"http://innocent.example:{web.port}/a", limits, resolver=Resolver())) == "private_address"
    assert web.requests == {"/redirect": 1}
    allowed = fetch(f"http://innocent.example:{web.port}/a", replace(limits, allow_private=True), resolver=Resolver())
    assert isinstance(allowed, FetchResult)


def test_a_name_that_changes_its_answer_is_asked_once(
    web: Web, limits: DownloadConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: a public address for the check, a private one for the connection."""
    answers = iter(["203.0.113.9", "127.0.0.1", "127.0.0.1"])
    connected: list[object] = []

    def getaddrinfo(*_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), 0))]

    def connect(self: socket.socket, place: tuple[str, int]) -> None:
        connected.append(place)
        raise ConnectionRefusedError

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(
        "mmcorpus.curation.download.connect.refusal", lambda ip: "loopback" if ip.startswith("127.") else None
    )
    monkeypatch.setattr("socket.socket.connect", connect)
    fetch(f"http://rebind.example:{web.port}/a", replace(limits, retries=1, backoff=0), resolver=Resolver())
    assert connected == [("203.0.113.9", web.port)] * 2


def test_proxies_of_the_environment_are_not_used(
    web: Web, limits: DownloadConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert isinstance(fetch(web.add("/a", DATA), limits), FetchResult)


def test_dns_failures(limits: DownloadConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[object] = []

    def getaddrinfo(host: str, *_: object, **__: object) -> None:
        calls.append(host)
        raise socket.gaierror(socket.EAI_AGAIN if host == "busy.test" else socket.EAI_NONAME, "failed")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert code(fetch("http://none.test/a", replace(limits, retries=2), resolver=Resolver())) == "dns"
    assert len(calls) == 1
    assert code(fetch("http://busy.test/a", replace(limits, retries=2), resolver=Resolver())) == "dns"
    assert len(calls) == 4


def test_a_name_server_that_never_answers_costs_a_timeout(
    limits: DownloadConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(30) and [])
    assert code(fetch("http://slow.test/a", limits, resolver=Resolver())) == "dns"
    release.set()


def test_the_process_shares_one_resolver() -> None:
    assert process_resolver() is process_resolver()
