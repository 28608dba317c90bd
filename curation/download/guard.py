"""Name look-ups that remember (no second look-up between check and use), and which addresses are refused."""

import socket
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Final

from mmcorpus.filters.addresses import REFUSED_NETWORKS, refusal

__all__ = ["REFUSED_NETWORKS", "Resolver", "refusal"]

CACHE_SECONDS: Final = 300.0
CACHE_HOSTS: Final = 65_536
LOOKUP_THREADS: Final = 32


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
