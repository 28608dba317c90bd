"""The choice of an endpoint for a request: one that fails is left out and tried again later."""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from mmcorpus.filters.scorer import Unavailable

LONGEST_WAIT: Final = 30.0
"""Seconds: no wait between attempts, at an endpoint or for a request, is longer."""
TIMEOUTS: Final = 3
"""This many in a row are taken for a hung server; fewer for a full queue."""
_TICK: Final = 0.2


@dataclass(kw_only=True, slots=True, eq=False)
class Endpoint:
    """One server, as far as this process knows it."""

    url: str
    """Without the path: `http://127.0.0.1:8000/v1`."""
    in_flight: int = 0
    failures: int = 0
    """In a row."""
    timeouts: int = 0
    """In a row."""
    retry_at: float = 0.0
    """When it may be tried again, if it failed."""
    error: str = ""
    """Its latest failure."""
    alone: bool = False
    """Whether the request in flight is to have no other beside it."""

    def usable(self, now: float, alone: bool) -> bool:
        """Whether a request may go there. After failures it gets one at a time, until one succeeds."""
        if self.failures or alone:
            return now >= self.retry_at and not self.in_flight
        return not self.alone

    def done(self) -> None:
        """A request has ended."""
        self.in_flight -= 1
        self.alone = False


class Pool:
    """The endpoints of a run. Each worker process keeps its own; there is nothing to agree on."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        patience: float,
        backoff: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not urls:
            raise ValueError("there are no endpoints to ask")
        self.endpoints = [Endpoint(url=url) for url in urls]
        self._patience, self._backoff, self._clock = patience, backoff, clock
        self._all_down_since: float | None = None

    async def acquire(self, prefer: Endpoint | None = None, *, alone: bool = False) -> Endpoint:
        """The endpoint for the next request: `prefer` if it works, else the one with the least in flight; with `alone`
        one that has nothing in flight, and gets nothing else until this has ended.

        Waits while none works; every `acquire` is followed by one `succeeded`, `failed`, `timed_out` or `released`.

        Raises:
            Unavailable: none has worked for `patience` seconds, and none is being tried just now.
        """
        while True:
            now = self._clock()
            ready = [endpoint for endpoint in self.endpoints if endpoint.usable(now, alone)]
            if ready:
                least = min(endpoint.in_flight for endpoint in ready)
                chosen = prefer if prefer in ready else random.choice([e for e in ready if e.in_flight == least])
                assert chosen is not None
                chosen.in_flight += 1
                chosen.alone = alone
                return chosen
            tried = any(endpoint.in_flight for endpoint in self.endpoints)
            if self._all_down_since is not None and now - self._all_down_since > self._patience and not tried:
                told = "; ".join(f"{endpoint.url}: {endpoint.error}" for endpoint in self.endpoints)
                raise Unavailable(f"no model server has answered for {self._patience:.0f} s ({told})")
            await asyncio.sleep(_TICK)

    def released(self, endpoint: Endpoint) -> None:
        """The request ended in a way that says nothing of the endpoint."""
        endpoint.done()

    def succeeded(self, endpoint: Endpoint) -> None:
        """The endpoint answered."""
        endpoint.done()
        endpoint.failures = endpoint.timeouts = 0
        self._all_down_since = None

    def timed_out(self, endpoint: Endpoint, error: str) -> None:
        """The answer did not come in time: a full queue is reason enough, unless it happens again and again."""
        endpoint.timeouts += 1
        if endpoint.failures or endpoint.timeouts >= TIMEOUTS:
            self.failed(endpoint, error)
        else:
            self.released(endpoint)

    def failed(self, endpoint: Endpoint, error: str, *, wait: float | None = None) -> None:
        """The endpoint did not answer, or says that it cannot; it rests for `wait` seconds, or for a backoff."""
        endpoint.done()
        now = self._clock()
        if now >= endpoint.retry_at:  # those that were in flight when it failed are no further failures
            endpoint.failures += 1
            endpoint.retry_at = now + (min(wait, LONGEST_WAIT) if wait else pause(endpoint.failures, self._backoff))
        endpoint.error = error
        if self._all_down_since is None and all(other.failures for other in self.endpoints):
            self._all_down_since = now


def pause(failures: int, backoff: float) -> float:
    """Seconds to wait after so many failures: exponential, with jitter so that workers do not come back together."""
    return min(LONGEST_WAIT, backoff * 2.0 ** min(failures - 1, 16)) * random.uniform(0.5, 1.0)
