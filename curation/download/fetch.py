"""One URL to bytes, or to the reason why not: bounded in bytes, time and redirects, and never into private networks.

Sockets are opened here and not by urllib, because what must hold is held at the socket: the address that was checked
is the address connected to, and every wait, for a name, a handshake, a header or a byte, counts against one deadline.
No proxy from the environment is used.
"""

import http
import io
import random
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from mmcorpus.curation.download import urls
from mmcorpus.curation.download.answer import read_body, read_head
from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.connect import (
    CHUNK_BYTES,
    Deadline,
    Failure,
    Stream,
    connect,
    os_reason,
    process_resolver,
    tls_reason,
)
from mmcorpus.curation.download.guard import Resolver
from mmcorpus.curation.download.robots import opt_out

USER_AGENT: Final = "mmcorpus/0.1"
_PHRASES: Final = {int(status): status.phrase for status in http.HTTPStatus}
MAX_WAIT: Final = 30.0
"""Seconds. A server that asks for more by Retry-After is left for a later `retry_failed`."""
TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
HOST_UNAVAILABLE: Final = "host_unavailable"
"""The code of URLs that were not asked for, because the host's others had failed (`hosts.py`)."""
TRANSIENT_CODES: Final = frozenset(
    {
        "timeout", "total_time", "connection", "dns", HOST_UNAVAILABLE,
        *(f"http_{status}" for status in TRANSIENT_STATUSES),
    }
)  # fmt: skip
"""Failures that can pass: what `retry_failed` fetches again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchResult:
    """A response body."""

    data: bytes
    url: str
    """The address after redirects."""
    content_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchFailure:
    """A fetch without a body, with the reason."""

    code: str
    detail: str
    url: str
    """The last one asked."""
    retry: bool = False
    """True if the same fetch may succeed in a moment."""
    wait: float | None = None
    """Seconds that the server asked to wait."""

    @property
    def message(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class Fetch:
    """One URL's way to a body, a request at a time: between its requests (redirects, retries) it holds no thread.

    Failures that can pass in a moment are tried again `config.retries` times, after `backoff` seconds doubling each
    time, or what the server's Retry-After says, if that is at most MAX_WAIT. Waiting for a turn counts for no limit.
    """

    __slots__ = ("_config", "_left", "_redirects", "_resolver", "_seen", "_target", "attempt", "failure", "url", "wait")

    def __init__(self, url: str, config: DownloadConfig, resolver: Resolver) -> None:
        self.url = url
        self._config, self._resolver = config, resolver
        self.attempt = 0
        """Of the next request, from 0."""
        self.failure: FetchFailure | None = None
        """Of the latest request, a retry's as well; None if it brought a body or a redirect."""
        self.wait = 0.0
        """Seconds to let pass before the next step."""
        self._start()

    def _start(self) -> None:
        self._left, self._redirects = self._config.total_timeout, 0
        self._target: urls.Target | FetchFailure
        try:
            self._target = urls.parse(self.url)
        except urls.BadUrl as error:
            self._target = FetchFailure(code="bad_url", detail=str(error), url=self.url)
        self._seen = {self._target.url}

    @property
    def host(self) -> str:
        """The server of the next request; empty where the URL names none."""
        return self._target.host if isinstance(self._target, urls.Target) else ""

    @property
    def current(self) -> str:
        """The address of the next request, as the list spells it until a redirect leads away."""
        return self._target.url if self._redirects else self.url

    def step(self, *, hurry: bool = False) -> FetchResult | FetchFailure | None:
        """Make a request; None if another has to follow, after `wait` seconds. `hurry`: give up one that is slow."""
        self.wait, self.failure = 0.0, None
        if isinstance(self._target, FetchFailure):
            return self._target
        deadline = Deadline(self._config, self._left, hurry=hurry)
        try:
            answer = _exchange(self._target, self._config, deadline, self._resolver)
            self._left = deadline.end - time.monotonic()
            if isinstance(answer, str):
                self._redirect(answer)
                return None
            return FetchResult(data=answer.data, url=self.current, content_type=answer.content_type)
        except urls.BadUrl as error:
            return FetchFailure(code="bad_url", detail=str(error), url=self.current)
        except Failure as error:
            return self._failed(error)
        except Exception as error:  # a fault of ours must cost one sample, not the shard
            return FetchFailure(code="internal", detail=f"{type(error).__name__}: {error}", url=self.current)

    def _redirect(self, location: str) -> None:
        assert isinstance(self._target, urls.Target)
        self._target = urls.redirected(self._target, location)
        self._redirects += 1
        if self._target.url in self._seen:
            raise Failure("redirect_loop", "back where it was")
        if self._redirects > self._config.max_redirects:
            raise Failure("redirect_loop", f"more than {self._config.max_redirects} redirects")
        self._seen.add(self._target.url)

    def _failed(self, error: Failure) -> FetchFailure | None:
        failure = FetchFailure(
            code=error.code, detail=error.detail, url=self.current, retry=error.retry, wait=error.wait
        )
        self.failure = failure
        wait = failure.wait
        if wait is None:
            wait = self._config.backoff * 2**self.attempt * random.uniform(0.8, 1.2)
        if not failure.retry or self.attempt == self._config.retries or wait > MAX_WAIT:
            return failure
        self.attempt += 1
        self._start()
        self.wait = wait
        return None


def fetch(
    url: str,
    config: DownloadConfig,
    *,
    resolver: Resolver | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> FetchResult | FetchFailure:
    """The body behind a URL. Never raises for what a URL, a name server or a server can do; retries as `Fetch` does."""
    one = Fetch(url, config, resolver or process_resolver())
    while (outcome := one.step()) is None:
        if one.wait:
            sleep(one.wait)
    return outcome


def _exchange(target: urls.Target, config: DownloadConfig, deadline: Deadline, resolver: Resolver) -> FetchResult | str:
    """One request: the body, or the Location of a redirect."""
    sock = connect(target, config, deadline, resolver)
    agent = f"{USER_AGENT} (+{config.user_agent_token})" if config.user_agent_token else USER_AGENT
    stage = "headers"
    try:
        sock.settimeout(deadline.step())
        sock.sendall(
            (
                f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: {agent}\r\n"
                "Accept: image/*,*/*;q=0.8\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
            ).encode("ascii")
        )
        file = io.BufferedReader(Stream(sock, deadline), CHUNK_BYTES)
        head = read_head(file)
        location = head.get("location")
        if head.status in (301, 302, 303, 307, 308) and location:
            return location
        if not 200 <= head.status < 300:
            raise Failure(
                f"http_{head.status}",
                _PHRASES.get(head.status, ""),
                retry=head.status in TRANSIENT_STATUSES,
                wait=_retry_after(head.get("retry-after")),
            )
        if config.disallowed_header_directives:
            agents = (USER_AGENT.partition("/")[0], config.user_agent_token or "")
            refused = opt_out(head.values("x-robots-tag"), config.disallowed_header_directives, agents)
            if refused:
                raise Failure("opt_out", f"X-Robots-Tag {refused}")
        stage = "body"
        data = read_body(file, head, config.max_bytes)
        if not data:
            raise Failure("empty_body")
        return FetchResult(data=data, url=target.url, content_type=head.content_type)
    except TimeoutError:
        raise deadline.overrun(stage) from None
    except ssl.SSLError as error:
        raise Failure("tls", tls_reason(error)) from None
    except OSError as error:
        raise Failure("connection", os_reason(error), retry=True) from None
    finally:
        sock.close()


def _retry_after(value: str | None) -> float | None:
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None
