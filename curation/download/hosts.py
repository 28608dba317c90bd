"""Many URLs fetched at once with hosts taking turns, so that a slow or dead host costs its own URLs and no others.

Each host has a queue of its own. Threads take from the queues in turn, never more of one host than `max_per_host`; a
fetch that waits (for a retry, for what Retry-After asks) holds no thread. A circuit breaker per host: after
`max_host_failures` requests in a row without an answer the host rests, is then asked by one request at a time, and
given up for these URLs if that fails as well: those left fail at once, as `host_unavailable`, which `retry_failed`
fetches again. So is a host that answers now and then, and lets most of its requests run out of time, once as much time
went by as `max_host_failures` requests may take.

Many names of one slow server are many hosts. So the time of all slow requests is added up: once they have cost as much
as STALLS times `total_timeout` of all threads, a request that is slow from then on is given up early.
"""

import collections
import heapq
import itertools
import math
import queue
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.connect import SLOW_BYTES, process_resolver, slow_after
from mmcorpus.curation.download.fetch import HOST_UNAVAILABLE, MAX_WAIT, Fetch, FetchFailure, FetchResult

Outcome = FetchResult | FetchFailure

_UNANSWERED: Final = frozenset({"dns", "connection", "tls", "timeout", "total_time"})
"""Failures without a whole answer: these in a row speak of the host, not of a URL."""
_LATE: Final = frozenset({"timeout", "total_time"})
STALLS: Final = 2.0
_TICK: Final = 0.25
"""Seconds: the longest that something that is due waits for a thread that sleeps."""


@dataclass(eq=False, slots=True)
class _Job:
    index: int
    fetch: Fetch
    started: float = 0.0
    """When its latest request was made."""


@dataclass(eq=False, slots=True)
class _Host:
    waiting: collections.deque[_Job] = field(default_factory=collections.deque)
    active: int = 0
    listed: bool = False
    """Whether it stands in the round of hosts that have something to do."""
    rest_until: float = 0.0
    failures: int = 0
    """In a row."""
    failing_since: float = 0.0
    """When the first request of that row was made."""
    trials: int = 0
    """Requests that it got one at a time, in a row."""
    answered: int = 0
    """Requests in all, late ones aside."""
    late: int = 0
    """Requests that ran out of time."""
    lost: float = 0.0
    """Seconds that these took."""
    given_up: str = ""
    """Why, once it is."""


def fetch_all(urls: Sequence[str], config: DownloadConfig) -> Iterator[tuple[int, Outcome]]:
    """Each URL's index and outcome, as they arrive, by `thread_count` threads.

    Outcomes that are not taken yet and requests under way are at most two a thread, which bounds memory.
    """
    threads = max(1, min(config.thread_count, len(urls)))
    line = _Line(urls, config, room=2 * threads)
    # Daemon threads, unlike an executor's: a full disk ends the shard without waiting for slow servers.
    for _ in range(threads):
        threading.Thread(target=line.work, daemon=True, name="fetch").start()
    try:
        for _ in range(len(urls)):
            yield line.next()
    finally:
        line.close()


class _Line:
    """The queues of all hosts, and what has come of their fetches."""

    def __init__(self, urls: Sequence[str], config: DownloadConfig, room: int) -> None:
        self._config, self._room = config, room
        self._changed = threading.Condition()
        self._hosts: dict[str, _Host] = {}
        self._round: collections.deque[_Host] = collections.deque()
        """Hosts that a request can be made to now, in turn."""
        self._later: list[tuple[float, int, _Host, _Job | None]] = []
        """A heap of what waits for a time: a job, or a host that rests."""
        self._numbers = itertools.count()
        self._keeper = False
        """Whether a thread sleeps until something is due; the others sleep until they are woken."""
        self._closed = False
        self._slow = 0.0
        """Seconds that slow requests have taken, whoever's they were."""
        threads = room // 2
        self._patience = STALLS * config.total_timeout * threads if config.max_host_failures else math.inf
        """Seconds that they may take before slow ones are given up early."""
        self._arrived: queue.SimpleQueue[tuple[int, Outcome] | BaseException] = queue.SimpleQueue()
        self._urls, resolver = urls, process_resolver()
        for index, url in enumerate(urls):
            self._enqueue(_Job(index, Fetch(url, config, resolver)), time.monotonic())

    def next(self) -> tuple[int, Outcome]:
        """The next outcome, waited for."""
        found = self._arrived.get()
        if isinstance(found, BaseException):  # a fetch raises for nothing that a URL or a server can do
            raise found
        with self._changed:
            self._room += 1
            self._changed.notify()
        return found

    def close(self) -> None:
        """Threads end once their requests have."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def work(self) -> None:
        """A thread's loop."""
        try:
            while (taken := self._take()) is not None:
                host, job = taken
                outcome = job.fetch.step(hurry=self._slow > self._patience)
                self._done(host, job, outcome)
        except BaseException as error:  # raised where the outcomes are awaited
            self._arrived.put(error)

    def _take(self) -> tuple[_Host, _Job] | None:
        """A job and its host, waited for; None when there will be no more."""
        with self._changed:
            while not self._closed:
                now = time.monotonic()
                self._call_due(now)
                if self._round and self._room > 0:
                    host = self._round.popleft()
                    host.listed = False
                    if not self._may(host) or host.rest_until > now:
                        self._list(host, now)
                        continue
                    job = host.waiting.popleft()
                    job.started = now
                    host.active += 1
                    host.trials += self._suspect(host)
                    self._room -= 1
                    self._list(host, now)
                    if self._round or self._later:
                        self._changed.notify()  # one more may begin, or has to watch the time
                    return host, job
                if self._later and not self._keeper:
                    self._keeper = True
                    self._changed.wait(min(_TICK, max(0.0, self._later[0][0] - now)))
                    self._keeper = False
                else:
                    self._changed.wait()
            return None

    def _done(self, host: _Host, job: _Job, outcome: Outcome | None) -> None:
        """Take note of what a request came to, and put its fetch where it goes on."""
        with self._changed:
            now = time.monotonic()
            host.active -= 1
            seconds = now - job.started
            size = len(outcome.data) if isinstance(outcome, FetchResult) else 0
            self._slow += seconds if seconds > slow_after(self._config) + size / SLOW_BYTES else 0.0
            self._judge(host, job, now)
            if outcome is not None:
                self._arrived.put((job.index, outcome))
            else:
                self._room += 1
                following = self._hosts.get(job.fetch.host)
                if job.fetch.wait and following is not None and not following.given_up:
                    heapq.heappush(self._later, (now + job.fetch.wait, next(self._numbers), following, job))
                else:
                    self._enqueue(job, now)
            self._list(host, now)

    def _suspect(self, host: _Host) -> bool:
        """Whether a host has failed so often that it gets one request at a time."""
        return 0 < self._config.max_host_failures <= host.failures

    def _may(self, host: _Host) -> bool:
        """Whether a request may be made to a host, its rest over."""
        limit = 1 if self._suspect(host) else self._config.max_per_host
        if self._config.max_host_failures:  # what has failed is not followed by another of the same at once
            limit = max(1, limit - host.failures)
        return bool(host.waiting) and host.active < limit

    def _judge(self, host: _Host, job: _Job, now: float) -> None:
        """The circuit breaker, told of a request that has ended."""
        failure, backoff = job.fetch.failure, self._config.backoff
        if failure is not None and failure.code in _LATE:
            host.late, host.lost = host.late + 1, host.lost + now - job.started
            if self._is_mostly_late(host):
                self._give_up(host, f"{host.late} of its {host.late + host.answered} requests ran out of time")
                return
        else:
            host.answered += 1
        asked = failure.wait if failure is not None and failure.retry else None  # by Retry-After
        if failure is None or (failure.code not in _UNANSWERED and asked is None):
            host.failures = host.trials = 0
            return
        if not host.failures:
            host.failing_since = job.started
        host.failures += 1
        if asked is not None and asked <= MAX_WAIT:
            host.rest_until = max(host.rest_until, now + asked)
        if host.given_up or not self._suspect(host):
            return
        # A URL's own retries last so long: a host is not given up for an outage that these would outlast.
        patience = backoff * (2**self._config.retries - 1)
        tried = host.trials > 0 or failure.code == "total_time"
        if tried and not host.active and now - host.failing_since >= patience:
            self._give_up(host, f"no answer to its other URLs, the last: {failure.message}")
        else:
            host.rest_until = max(host.rest_until, now + min(MAX_WAIT, backoff * 2**host.trials))

    def _is_mostly_late(self, host: _Host) -> bool:
        most = self._config.max_host_failures * self._config.total_timeout
        return not host.given_up and host.late > host.answered and 0 < most <= host.lost

    def _give_up(self, host: _Host, why: str) -> None:
        host.given_up = why
        jobs = [job for _, _, other, job in self._later if other is host and job is not None]
        self._later = [entry for entry in self._later if entry[2] is not host]
        heapq.heapify(self._later)
        for job in (*jobs, *host.waiting):
            self._fail(host, job)
        host.waiting.clear()

    def _fail(self, host: _Host, job: _Job) -> None:
        """End a fetch of a host that was given up: with its own failure if it has one."""
        failure = job.fetch.failure or FetchFailure(code=HOST_UNAVAILABLE, detail=host.given_up, url=job.fetch.current)
        self._room -= 1
        self._arrived.put((job.index, failure))

    def _enqueue(self, job: _Job, now: float) -> None:
        """Put a job into its host's queue."""
        host = self._hosts.get(job.fetch.host)
        if host is None:
            host = self._hosts[job.fetch.host] = _Host()
        if host.given_up:
            self._fail(host, job)
            return
        host.waiting.append(job)
        self._list(host, now)

    def _list(self, host: _Host, now: float) -> None:
        """Let a host take part in the round if a request may be made to it, at once or when its rest is over."""
        if host.listed or not self._may(host):
            return
        host.listed = True
        if host.rest_until > now:
            heapq.heappush(self._later, (host.rest_until, next(self._numbers), host, None))
        else:
            self._round.append(host)

    def _call_due(self, now: float) -> None:
        """Bring back what has waited long enough."""
        while self._later and self._later[0][0] <= now:
            _, _, host, job = heapq.heappop(self._later)
            if job is not None:
                self._enqueue(job, now)
            else:
                host.listed = False
                self._list(host, now)
