"""Which addresses are public, and look-ups that are remembered."""

import socket
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcorpus.curation.download.guard import Resolver, refusal


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("127.0.0.1", "loopback"), ("127.255.255.254", "loopback"), ("::1", "loopback"), ("0.0.0.0", "unspecified"),
        ("::", "unspecified"), ("10.1.2.3", "private"), ("172.31.0.1", "private"), ("192.168.0.1", "private"),
        ("169.254.169.254", "link-local"), ("fe80::1", "link-local"), ("fe80::1%eth0", "link-local"),
        ("fd00::1", "private"),
        ("100.64.0.1", "carrier-grade NAT"), ("100.127.255.255", "carrier-grade NAT"), ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"), ("240.0.0.1", "private"), ("255.255.255.255", "private"), ("0.1.2.3", "private"),
        ("192.0.2.1", "private"), ("198.18.0.1", "private"), ("::ffff:8.8.8.8", "IPv4-mapped"),
        ("::8.8.8.8", "IPv4-compatible"), ("64:ff9b::808:808", "NAT64"), ("64:ff9b:1::1", "NAT64"),
        ("2002:7f00:1::", "6to4"),
        ("2001::1", "Teredo"), ("2001:db8::1", "private"), ("fec0::1", "site-local"),
    ],
)  # fmt: skip
def test_refused(address: str, reason: str) -> None:
    assert refusal(address) == reason


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "100.63.255.255", "100.128.0.0", "2606:4700::1111"])
def test_public(address: str) -> None:
    assert refusal(address) is None


@given(st.ip_addresses())
def test_nothing_that_is_not_global_passes(address: object) -> None:
    if refusal(str(address)) is None:
        assert address.is_global  # type: ignore[attr-defined]
        assert not address.is_multicast  # type: ignore[attr-defined]


def test_a_name_is_looked_up_once_by_many_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    release = threading.Event()

    def getaddrinfo(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        calls.append(host)
        release.wait(5)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("8.8.8.8", 0))] * 2

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    resolver, found = Resolver(), list[tuple[str, ...]]()
    threads = [threading.Thread(target=lambda: found.append(resolver.resolve("a.test", 5))) for _ in range(8)]
    for thread in threads:
        thread.start()
    release.set()
    for thread in threads:
        thread.join()
    assert resolver.resolve("a.test", 5) == ("8.8.8.8",)
    assert found == [("8.8.8.8",)] * 8
    assert calls == ["a.test"]
