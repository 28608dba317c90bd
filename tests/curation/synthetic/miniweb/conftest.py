"""A small site with every corruption in it, and a client that reaches it by its host names."""

import http.client
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest

from mmcorpus.curation.synthetic.miniweb import MiniWebConfig, generate_site

SMALL = MiniWebConfig(pairs=240, instructions=12, spoil=0.6, waits=1, sides=(96, 160), seed=5)


@dataclass
class Answer:
    status: int
    headers: http.client.HTTPMessage
    body: bytes
    url: str


class RefusedHost(Exception):
    """A host that the site does not serve: a safe client would have to decide."""


def get_once(url: str, connect_to: Mapping[str, str], limit: int = 5_000_000, timeout: float = 10) -> Answer:
    parts = urlsplit(url)
    if parts.hostname not in connect_to:
        raise RefusedHost(url)
    ip, _, port = connect_to[parts.hostname].rpartition(":")
    connection = http.client.HTTPConnection(ip, int(port), timeout=timeout)
    try:
        connection.request("GET", parts.path, headers={"Host": parts.hostname, "Connection": "close"})
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read(limit), url)
    finally:
        connection.close()


def get_following(url: str, connect_to: Mapping[str, str], hops: int = 5) -> Answer:
    for _ in range(hops + 1):
        answer = get_once(url, connect_to)
        if not 300 <= answer.status < 400:
            return answer
        url = urljoin(url, answer.headers["Location"])
    raise RecursionError(url)


@pytest.fixture(scope="session")
def small_config() -> MiniWebConfig:
    return SMALL


@pytest.fixture(scope="session")
def small_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("miniweb") / "site"
    generate_site(SMALL, str(out), workers=1)
    return out


@pytest.fixture(scope="session")
def get() -> Callable[..., Answer]:
    return get_once


@pytest.fixture(scope="session")
def follow() -> Callable[..., Answer]:
    return get_following


@pytest.fixture(scope="session")
def refused_host() -> type[Exception]:
    return RefusedHost
