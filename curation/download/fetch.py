"""One URL to bytes, or to the reason why not: bounded in bytes, time and redirects, and never into private networks.

Sockets are opened here and not by urllib, because what must hold is held at the socket: the address that was checked
is the address connected to, and every wait, for a name, a handshake, a header or a byte, counts against one deadline.
No proxy from the environment is used.
"""

import http.client
import random
import ssl
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from mmcorpus.curation.download import urls
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
from mmcorpus.curation.download.guard import HostGate, Resolver
from mmcorpus.curation.download.robots import opt_out

USER_AGENT: Final = "mmcorpus/0.1"
MAX_WAIT: Final = 30.0
"""Seconds. A server that asks for more by Retry-After is left for a later `retry_failed`."""
TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
TRANSIENT_CODES: Final = frozenset(
    {"timeout", "total_time", "connection", "dns", *(f"http_{status}" for status in TRANSIENT_STATUSES)}
)
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


def fetch(
    url: str,
    config: DownloadConfig,
    *,
    resolver: Resolver | None = None,
    gate: HostGate | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> FetchResult | FetchFailure:
    """The body behind a URL. Never raises for what a URL, a name server or a server can do.

    Failures that can pass in a moment are tried again `config.retries` times, after `backoff` seconds doubling each
    time, or what the server's Retry-After says, if that is at most MAX_WAIT.
    """
    resolver = resolver or process_resolver()
    gate = gate or HostGate(1_000_000)
    for attempt in range(config.retries + 1):
        outcome = _fetch_once(url, config, resolver, gate)
        if isinstance(outcome, FetchResult) or not outcome.retry or attempt == config.retries:
            break
        wait = outcome.wait if outcome.wait is not None else config.backoff * 2**attempt * random.uniform(0.8, 1.2)
        if wait > MAX_WAIT:
            break
        sleep(wait)
    return outcome


def _fetch_once(url: str, config: DownloadConfig, resolver: Resolver, gate: HostGate) -> FetchResult | FetchFailure:
    deadline = Deadline(config)
    current = url
    try:
        target = urls.parse(url)
        seen = {target.url}
        for _ in range(config.max_redirects + 1):
            with gate.entered(target.host) as waited:
                deadline.end += waited
                answer = _exchange(target, config, deadline, resolver)
            if not isinstance(answer, str):
                # The list's own spelling of a URL is kept where no redirect led away from it.
                return FetchResult(data=answer.data, url=current, content_type=answer.content_type)
            target = urls.redirected(target, answer)
            current = target.url
            if current in seen:
                raise Failure("redirect_loop", "back where it was")
            seen.add(current)
        raise Failure("redirect_loop", f"more than {config.max_redirects} redirects")
    except urls.BadUrl as error:
        return FetchFailure(code="bad_url", detail=str(error), url=current)
    except Failure as error:
        return FetchFailure(code=error.code, detail=error.detail, url=current, retry=error.retry, wait=error.wait)
    except Exception as error:  # a fault of ours must cost one sample, not the shard
        return FetchFailure(code="internal", detail=f"{type(error).__name__}: {error}", url=current)


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
        response = http.client.HTTPResponse(Stream(sock, deadline), method="GET")  # type: ignore[arg-type]
        response.begin()
        status, headers = response.status, response.headers
        location = headers.get("Location")
        if status in (301, 302, 303, 307, 308) and location:
            return location
        if not 200 <= status < 300:
            raise Failure(
                f"http_{status}",
                http.client.responses.get(status, ""),
                retry=status in TRANSIENT_STATUSES,
                wait=_retry_after(headers.get("Retry-After")),
            )
        if config.disallowed_header_directives:
            agents = (USER_AGENT.partition("/")[0], config.user_agent_token or "")
            refused = opt_out(headers.get_all("X-Robots-Tag", []), config.disallowed_header_directives, agents)
            if refused:
                raise Failure("opt_out", f"X-Robots-Tag {refused}")
        stage = "body"
        data = _decoded(_read(response, config), headers.get("Content-Encoding", ""), config)
        if not data:
            raise Failure("empty_body")
        return FetchResult(data=data, url=target.url, content_type=headers.get_content_type())
    except TimeoutError:
        raise deadline.overrun(stage) from None
    except ssl.SSLError as error:
        raise Failure("tls", tls_reason(error)) from None
    except OSError as error:  # before HTTPException: RemoteDisconnected is both, and means a reset
        raise Failure("connection", os_reason(error), retry=True) from None
    except http.client.IncompleteRead:
        raise Failure("connection", "closed before the end of the body", retry=True) from None
    except (http.client.HTTPException, ValueError):
        raise Failure("connection", f"malformed {stage}") from None
    finally:
        sock.close()


def _read(response: http.client.HTTPResponse, config: DownloadConfig) -> bytes:
    """The body, one receive at a time so that no count of bytes is waited for past the deadline."""
    expected = None if response.chunked else response.length
    if expected is not None and expected > config.max_bytes:
        raise Failure("too_many_bytes", f"over {config.max_bytes}")
    parts, total = [], 0
    while expected is None or total < expected:
        part = response.read1(CHUNK_BYTES if expected is None else min(CHUNK_BYTES, expected - total))
        if not part:
            break
        parts.append(part)
        total += len(part)
        if total > config.max_bytes:
            raise Failure("too_many_bytes", f"over {config.max_bytes}")
    if expected is not None and total < expected:
        raise Failure("connection", "closed before the end of the body", retry=True)
    return b"".join(parts)


def _decoded(data: bytes, encoding: str, config: DownloadConfig) -> bytes:
    """The body without the gzip or deflate that some servers apply unasked, within the byte limit."""
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return data
    unzip = zlib.decompressobj(47)
    try:
        plain = unzip.decompress(data, config.max_bytes + 1)
    except zlib.error:
        raise Failure("connection", "malformed body") from None
    if len(plain) > config.max_bytes:
        raise Failure("too_many_bytes", f"over {config.max_bytes}")
    return plain


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
