"""Many hosts at once: turns, the circuit breaker, Retry-After, and nobody held up by a slow or dead host."""

import http.server
import socket
import threading
import time
from dataclasses import replace

import pytest

from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.fetch import TRANSIENT_CODES, FetchFailure, FetchResult
from mmcorpus.curation.download.hosts import Outcome, fetch_all
from tests.curation.download.conftest import Web, encoded, picture, respond

DATA = encoded(picture())
Handler = http.server.BaseHTTPRequestHandler


def config_for(web: Web, *hosts: str, **changes: object) -> DownloadConfig:
    places = {**web.connect_to, **dict.fromkeys(hosts, f"127.0.0.1:{web.port}")}
    base = DownloadConfig(timeout=2, total_timeout=2, retries=0, backoff=0.01, thread_count=16, connect_to=places)
    return replace(base, **changes)  # type: ignore[arg-type]


def outcomes(urls: list[str], config: DownloadConfig) -> list[Outcome]:
    found = dict(fetch_all(urls, config))
    assert sorted(found) == list(range(len(urls)))
    return [found[index] for index in range(len(urls))]


def codes(found: list[Outcome]) -> list[str]:
    return [outcome.code if isinstance(outcome, FetchFailure) else "body" for outcome in found]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_every_url_has_its_outcome_in_any_order(web: Web) -> None:
    web.add("/a", DATA)
    urls = [web.url("/a" if number % 3 else "/none") for number in range(100)] + ["", "ftp://x", "http://[::1/"]
    found = outcomes(urls, config_for(web))
    assert codes(found) == ["body" if number % 3 else "http_404" for number in range(100)] + ["bad_url"] * 3
    assert outcomes([], config_for(web)) == []


def test_a_dead_hosts_other_urls_fail_at_once_and_can_be_fetched_again(web: Web) -> None:
    port = free_port()
    config = config_for(web, max_host_failures=5, retries=2, max_per_host=4)
    config = replace(config, connect_to={**config.connect_to, "dead.test": f"127.0.0.1:{port}"})
    web.add("/a", DATA)
    urls = [f"http://dead.test/{number}" for number in range(300)] + [web.url("/a")] * 20
    start = time.monotonic()
    found = codes(outcomes(urls, config))
    assert time.monotonic() - start < 5
    assert found[300:] == ["body"] * 20
    assert set(found[:300]) == {"connection", "host_unavailable"}
    assert found.count("host_unavailable") > 250
    assert "host_unavailable" in TRANSIENT_CODES
    failure = outcomes(urls, config)[299]
    assert isinstance(failure, FetchFailure)
    assert failure.message == "host_unavailable: no answer to its other URLs, the last: connection: refused"


def test_without_a_limit_every_url_is_asked_for(web: Web) -> None:
    config = config_for(web, max_host_failures=0)
    config = replace(config, connect_to={"dead.test": f"127.0.0.1:{free_port()}"})
    assert set(codes(outcomes([f"http://dead.test/{number}" for number in range(50)], config))) == {"connection"}


def test_drip_hosts_hold_up_neither_others_nor_the_shard(web: Web) -> None:
    prefix = b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n"
    web.add("/a", DATA)
    for number in range(200):
        web.drip(f"/drip{number}", prefix)
    config = config_for(web, "drip.test", "good.test", thread_count=8, max_per_host=4, total_timeout=1.5,
                        max_host_failures=4)  # fmt: skip
    urls = [f"http://drip.test/drip{number}" for number in range(200)] + ["http://good.test/a"] * 50
    start, arrived = time.monotonic(), dict[int, float]()
    found: dict[int, Outcome] = {}
    for index, outcome in fetch_all(urls, config):
        arrived[index], found[index] = time.monotonic() - start, outcome
    assert codes([found[index] for index in range(200, 250)]) == ["body"] * 50
    drips = [arrived[index] for index in range(200)]
    assert max(arrived[index] for index in range(200, 250)) < min(drips), "nobody waits for the drip"
    assert max(drips) < 15, "200 URLs of 1.5 s each, four at a time, would be 75 s"
    assert codes([found[index] for index in range(200)]).count("total_time") <= 5, "the first wave, and no second"
    assert set(codes([found[index] for index in range(200)])) == {"total_time", "host_unavailable"}


def test_a_drip_host_that_answers_now_and_then_does_not_hold_up_the_shard(web: Web) -> None:
    web.add("/a", DATA)
    for number in range(200):
        web.drip(f"/drip{number}", b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")
    config = config_for(web, "drip.test", thread_count=8, max_per_host=4, total_timeout=0.5, max_host_failures=4)
    # No four in a row, and one in three of the others' is a picture.
    urls = [f"http://drip.test/{'a' if number % 3 == 0 else f'drip{number}'}" for number in range(200)]
    start = time.monotonic()
    found = outcomes(urls, config)
    assert time.monotonic() - start < 6, "133 times 0.5 s, four at a time, would be 17 s"
    assert set(codes(found)) == {"body", "total_time", "host_unavailable"}
    assert codes(found).count("total_time") < 20
    last = found[199]
    assert isinstance(last, FetchFailure)
    assert "requests ran out of time" in last.message


def test_a_drip_server_of_many_names_does_not_hold_up_the_shard(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcorpus.curation.download.connect.SLOW_SECONDS", 0.1)
    monkeypatch.setattr("mmcorpus.curation.download.hosts.STALLS", 0.1)
    web.add("/a", DATA)
    web.drip("/drip", b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")
    web.answer("/silent", lambda handler: web.stopping.wait(3) and None)
    names = [f"n{number}.test" for number in range(120)]
    config = config_for(web, *names, total_timeout=1, thread_count=16)
    paths = ["silent" if number % 5 == 0 else "a" if number % 40 == 39 else "drip" for number in range(120)]
    start = time.monotonic()
    found = outcomes([f"http://{name}/{path}" for name, path in zip(names, paths, strict=True)], config)
    assert time.monotonic() - start < 4, "117 times 1 s, 16 at a time, would be 7 s"
    told = codes(found)
    assert [told[number] for number in (39, 79, 119)] == ["body"] * 3, "what is quick is read then as well"
    assert set(told) == {"body", "total_time"}
    last = found[118]
    assert isinstance(last, FetchFailure)
    assert last.message == "total_time: under 1,024 bytes/s, and slow hosts have cost this shard much time"
    waited = dict(
        fetch_all(
            [f"http://{name}/drip" for name in names[:40]], replace(config, max_host_failures=0, total_timeout=0.2)
        )
    )
    assert {outcome.message for outcome in waited.values() if isinstance(outcome, FetchFailure)} == {
        "total_time: over 0.2 s"
    }


def test_a_slow_host_that_answers_mostly_is_asked_for_all(web: Web) -> None:
    web.add("/a", DATA)
    for number in range(10):
        web.drip(f"/drip{number}", b"HTTP/1.1 200 OK\r\nContent-Length: 90000\r\n\r\n")
    config = config_for(web, max_per_host=3, total_timeout=0.3, max_host_failures=4)
    paths = [path for number in range(10) for path in ("/a", f"/drip{number}", "/a")]
    found = codes(outcomes([web.url(path) for path in paths], config))
    assert [found.count(code) for code in ("body", "total_time", "host_unavailable")] == [20, 10, 0]


def test_hosts_take_turns(web: Web) -> None:
    order: list[str] = []

    def note(handler: Handler) -> None:
        order.append(handler.headers["Host"])
        time.sleep(0.01)
        respond(handler, DATA)

    web.answer("/a", note)
    urls = ["http://many.test/a"] * 200 + ["http://few.test/a"] * 5
    outcomes(urls, config_for(web, "many.test", "few.test", thread_count=4, max_per_host=3))
    assert max(index for index, host in enumerate(order) if host == "few.test") < 60, "they stand last in the list"


def test_at_most_so_many_requests_at_once_to_a_host_redirects_included(web: Web) -> None:
    lock, here, most = threading.Lock(), [0], [0]

    def slow(handler: Handler) -> None:
        with lock:
            here[0] += 1
            most[0] = max(most[0], here[0])
        time.sleep(0.05)
        with lock:
            here[0] -= 1
        respond(handler, DATA)

    web.answer("/slow", slow)
    web.add("/to", status=302, Location="http://slow.test/slow")
    config = config_for(web, "slow.test", max_per_host=2, timeout=0.4, total_timeout=0.4)
    found = outcomes(["http://slow.test/slow"] * 10 + [web.url("/to")] * 10, config)
    assert codes(found) == ["body"] * 20, "waiting for a turn counts against no limit"
    assert most[0] <= 2


def test_retry_after_rests_the_whole_host_and_then_all_is_fetched(web: Web) -> None:
    begin, asked = time.monotonic(), list[float]()

    def busy(handler: Handler) -> None:
        asked.append(time.monotonic() - begin)
        if asked[-1] < 1:
            respond(handler, b"", status=429, Retry_After="1")
        else:
            respond(handler, DATA)

    web.answer("/a", busy)
    found = outcomes([web.url("/a")] * 40, config_for(web, retries=2, max_per_host=4))
    assert codes(found) == ["body"] * 40
    assert len([moment for moment in asked if moment < 1]) <= 4, "the first wave alone met a busy host"


def test_a_host_that_only_ever_asks_to_wait_is_given_up(web: Web) -> None:
    web.add("/a", b"", status=503, Retry_After="3600")
    start = time.monotonic()
    found = codes(outcomes([web.url("/a")] * 200, config_for(web, max_host_failures=4, max_per_host=4, retries=2)))
    assert time.monotonic() - start < 5
    assert set(found) == {"http_503", "host_unavailable"}
    assert found.count("host_unavailable") > 180


def test_answers_of_any_kind_keep_a_host(web: Web) -> None:
    """404, 500, redirects in circles: the host is there."""
    web.add("/404", status=404)
    web.add("/500", status=500)
    web.add("/loop", status=302, Location="/loop")
    urls = [web.url(path) for _ in range(20) for path in ("/404", "/500", "/loop")]
    found = codes(outcomes(urls, config_for(web, max_host_failures=2)))
    assert set(found) == {"http_404", "http_500", "redirect_loop"}


def test_a_moments_outage_costs_nothing(web: Web) -> None:
    begin = time.monotonic()

    def out(handler: Handler) -> None:
        if time.monotonic() - begin > 0.4:
            respond(handler, DATA)

    web.answer("/a", out)  # closes without a word, for a moment
    config = config_for(web, max_host_failures=4, max_per_host=4, retries=3, backoff=0.15)
    assert codes(outcomes([web.url("/a")] * 40, config)) == ["body"] * 40


def test_hosts_with_names_that_cannot_be_looked_up(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(host: str, *_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "failed")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    web.add("/a", DATA)
    urls = [f"http://gone{number % 2}.test/{number}" for number in range(100)] + [web.url("/a")]
    found = codes(outcomes(urls, config_for(web, max_host_failures=3, max_per_host=2)))
    assert set(found[:100]) == {"dns", "host_unavailable"}
    assert found[100] == "body"


def test_threads_end_when_the_outcomes_are_no_longer_wanted(web: Web) -> None:
    web.add("/a", DATA)
    fetched = fetch_all([web.url("/a")] * 100, config_for(web))
    assert isinstance(next(fetched)[1], FetchResult)
    fetched.close()
    deadline = time.monotonic() + 5
    while any(thread.name == "fetch" for thread in threading.enumerate()) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(thread.name == "fetch" for thread in threading.enumerate())
    assert web.requests["/a"] < 60, "what nobody takes is not fetched"


def test_a_fault_of_ours_ends_the_shard_in_words(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    def faulty(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr("mmcorpus.curation.download.hosts._Line._judge", faulty)
    with pytest.raises(MemoryError):
        outcomes([web.url("/a")] * 5, config_for(web))
