"""Refused addresses, and name look-ups that remember (no second look-up between check and use)."""

import contextlib
import ipaddress
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final

REFUSED_NETWORKS: Final = tuple(
    (ipaddress.ip_network(network), reason)
    for network, reason in (
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("192.88.99.0/24", "6to4 relay"),
        ("::ffff:0:0/96", "IPv4-mapped"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("2001::/32", "Teredo"),
        ("2002::/16", "6to4"),
        ("fec0::/10", "site-local"),
    )
)
"""Ranges that reach other networks than they seem to, beyond what the `ipaddress` module calls not global."""

CACHE_SECONDS: Final = 300.0
CACHE_HOSTS: Final = 65_536
LOOKUP_THREADS: Final = 32


def refusal(address: str) -> str | None:
    """The reason not to fetch from an IP address (`loopback`, `private`, …), or None if it is a public unicast one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    for name in ("unspecified", "loopback", "link_local", "multicast"):
        if getattr(ip, f"is_{name}"):
            return name.replace("_", "-")
    for network, reason in REFUSED_NETWORKS:
        if ip.version == network.version and ip in network:
            return reason
    if ip.is_private:
        return "private"
    return None if ip.is_global and not ip.is_reserved else "reserved"


class Resolver:
    """Name look-ups of one process: remembered for a while, one at a time per name, bounded in time.

    `getaddrinfo` cannot be given a timeout, so that it runs in a thread of its own and the caller stops waiting.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: OrderedDict[str, tuple[float, tuple[str, ...]]] = OrderedDict()
        self._asked: dict[str, Future[tuple[str, ...]]] = {}
        self._pool: ThreadPoolExecutor | None = None

    def resolve(self, host: str, timeout: float) -> tuple[str, ...]:
        """The host's addresses in the system's order; raises `socket.gaierror`, or TimeoutError when time is up."""
        with self._lock:
            found = self._known.get(host)
            if found is not None and found[0] > time.monotonic():
                self._known.move_to_end(host)
                return found[1]
            future = self._asked.get(host)
            if future is None:
                if self._pool is None:
                    self._pool = ThreadPoolExecutor(LOOKUP_THREADS, thread_name_prefix="dns")
                future = self._asked[host] = self._pool.submit(self._look_up, host)
        try:
            return future.result(timeout)
        except FutureTimeout:
            raise TimeoutError(f"no answer about {host} in {timeout:.0f} s") from None

    def _look_up(self, host: str) -> tuple[str, ...]:
        try:
            infos = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            addresses = tuple(dict.fromkeys(str(info[4][0]) for info in infos))
            with self._lock:
                self._known[host] = (time.monotonic() + CACHE_SECONDS, addresses)
                while len(self._known) > CACHE_HOSTS:
                    self._known.popitem(last=False)
            return addresses
        finally:
            with self._lock:
                self._asked.pop(host, None)


class HostGate:
    """Lets at most `limit` threads at once work on one host."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._lock = threading.Lock()
        self._gates: dict[str, tuple[threading.Semaphore, int]] = {}

    @contextlib.contextmanager
    def entered(self, host: str) -> Iterator[float]:
        """Hold one of the host's places for the block; gives the seconds waited for it."""
        with self._lock:
            semaphore, users = self._gates.get(host) or (threading.Semaphore(self.limit), 0)
            self._gates[host] = (semaphore, users + 1)
        start = time.monotonic()
        semaphore.acquire()
        try:
            yield time.monotonic() - start
        finally:
            semaphore.release()
            with self._lock:
                _, users = self._gates[host]
                if users > 1:
                    self._gates[host] = (semaphore, users - 1)
                else:
                    del self._gates[host]
