"""One URL to bytes, or to the reason why not: bounded in bytes, time and redirects, and never into private networks.

Sockets are opened here and not by urllib, because what must hold is held at the socket: the address that was checked
is the address connected to, and every wait, for a name, a handshake, a header or a byte, counts against one deadline.
No proxy from the environment is used.
"""

import functools
import http.client
import io
import random
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Final

from curation.download import urls
from curation.download.guard import HostGate, Resolver, refusal
from curation.download.robots import DEFAULT_DIRECTIVES, opt_out

USER_AGENT: Final = "mmcorpus/0.1"
CHUNK_BYTES: Final = 65_536
MAX_ADDRESSES: Final = 4
"""So many of a name's addresses are tried before giving up."""
MAX_WAIT: Final = 30.0
"""Seconds. A server that asks for more by Retry-After is left for a later `retry_failed`."""
TRANSIENT_STATUSES: Final = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
TRANSIENT_CODES: Final = frozenset(
    {"timeout", "total_time", "connection", "dns", *(f"http_{status}" for status in TRANSIENT_STATUSES)}
)
"""Failures that can pass: what `retry_failed` fetches again."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a fetch may cost and where it may go; see DownloadConfig for each field."""

    timeout: float = 10.0
    total_timeout: float = 60.0
    max_bytes: int = 64 * 2**20
    max_redirects: int = 5
    retries: int = 0
    backoff: float = 0.5
    allow_private: bool = False
    connect_to: Mapping[str, tuple[str, int]] = field(default_factory=dict)
    """Host (lower case) to address and port."""
    user_agent_token: str | None = None
    directives: tuple[str, ...] = DEFAULT_DIRECTIVES

    @property
    def user_agent(self) -> str:
        return f"{USER_AGENT} (+{self.user_agent_token})" if self.user_agent_token else USER_AGENT


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchResult:
    """A response body."""

    data: bytes
    url: str
    """Where it came from after redirects."""
    content_type: str


@dataclass(frozen=True, kw_only=True, slots=True)
class FetchFailure:
    """Why there is no body."""

    code: str
    detail: str
    url: str
    """The last one asked."""
    retry: bool = False
    """Whether the same fetch may succeed in a moment."""
    wait: float | None = None
    """Seconds that the server asked to wait."""

    @property
    def message(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class _Failure(Exception):
    """Ends an attempt; becomes a FetchFailure."""

    def __init__(self, code: str, detail: str = "", *, retry: bool = False, wait: float | None = None) -> None:
        super().__init__(code)
        self.code, self.detail, self.retry, self.wait = code, detail, retry, wait


class _Deadline:
    """The time left of one fetch. Waiting for a turn at a busy host is ours, not the server's, and is not counted."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self.end = time.monotonic() + limits.total_timeout

    def step(self) -> float:
        """The longest that the next wait may take; raises once there is no time left."""
        left = self.end - time.monotonic()
        if left <= 0:
            raise _Failure("total_time", f"over {self.limits.total_timeout:g} s")
        return min(self.limits.timeout, left)

    def overrun(self, what: str) -> _Failure:
        """The failure for a wait that timed out: the server's silence, or the end of our patience with all of it."""
        if time.monotonic() >= self.end:
            return _Failure("total_time", f"over {self.limits.total_timeout:g} s")
        return _Failure("timeout", f"{what}: nothing for {self.limits.timeout:g} s", retry=True)


class _Stream(io.RawIOBase):
    """A socket as http.client wants it, every read bounded by the deadline: a header a byte at a time counts too."""

    def __init__(self, sock: socket.socket, deadline: _Deadline) -> None:
        self._sock, self._deadline = sock, deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        return io.BufferedReader(self, CHUNK_BYTES)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.step())
        return self._sock.recv_into(buffer)


@functools.cache
def process_resolver() -> Resolver:
    """The name look-ups that all fetches of this process share."""
    return Resolver()


@functools.cache
def _tls() -> ssl.SSLContext:
    context = ssl.create_default_context()
    if not context.cert_store_stats()["x509_ca"]:  # a Python built elsewhere may not find this machine's certificates
        try:
            import certifi
        except ModuleNotFoundError:
            return context
        context.load_verify_locations(certifi.where())
    return context


def fetch(
    url: str,
    limits: Limits,
    *,
    resolver: Resolver | None = None,
    gate: HostGate | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> FetchResult | FetchFailure:
    """The body behind a URL. Never raises for what a URL, a name server or a server can do.

    Failures that can pass in a moment are tried again `limits.retries` times, after `backoff` seconds doubling each
    time, or what the server's Retry-After says, if that is at most MAX_WAIT.
    """
    resolver = resolver or process_resolver()
    gate = gate or HostGate(1_000_000)
    for attempt in range(limits.retries + 1):
        outcome = _fetch_once(url, limits, resolver, gate)
        if isinstance(outcome, FetchResult) or not outcome.retry or attempt == limits.retries:
            break
        wait = outcome.wait if outcome.wait is not None else limits.backoff * 2**attempt * random.uniform(0.8, 1.2)
        if wait > MAX_WAIT:
            break
        sleep(wait)
    return outcome


def _fetch_once(url: str, limits: Limits, resolver: Resolver, gate: HostGate) -> FetchResult | FetchFailure:
    deadline = _Deadline(limits)
    current, seen = url, {url}
    try:
        target = urls.parse(url)
        seen.add(target.url)
        while True:
            with gate.entered(target.host) as waited:
                deadline.end += waited
                answer = _exchange(target, limits, deadline, resolver)
            if isinstance(answer, FetchResult):
                # The list's own spelling of a URL is kept where no redirect led away from it.
                return FetchResult(data=answer.data, url=current, content_type=answer.content_type)
            target = urls.redirected(target, answer)
            current = target.url
            if current in seen:
                raise _Failure("redirect_loop", "back where it was")
            seen.add(current)
            if len(seen) - len({url, urls.parse(url).url}) > limits.max_redirects:
                raise _Failure("redirect_loop", f"more than {limits.max_redirects} redirects")
    except urls.BadUrl as error:
        return FetchFailure(code="bad_url", detail=str(error), url=current)
    except _Failure as error:
        return FetchFailure(code=error.code, detail=error.detail, url=current, retry=error.retry, wait=error.wait)
    except Exception as error:  # a fault of ours must cost one sample, not the shard
        return FetchFailure(code="internal", detail=f"{type(error).__name__}: {error}", url=current)


def _exchange(target: urls.Target, limits: Limits, deadline: _Deadline, resolver: Resolver) -> FetchResult | str:
    """One request: the body, or the Location of a redirect."""
    sock = _connect(target, limits, deadline, resolver)
    stage = "headers"
    try:
        sock.settimeout(deadline.step())
        sock.sendall(
            (
                f"GET {target.path} HTTP/1.1\r\nHost: {target.authority}\r\nUser-Agent: {limits.user_agent}\r\n"
                "Accept: image/*,*/*;q=0.8\r\nAccept-Encoding: identity\r\nConnection: close\r\n\r\n"
            ).encode("ascii")
        )
        response = http.client.HTTPResponse(_Stream(sock, deadline), method="GET")  # type: ignore[arg-type]
        response.begin()
        status, headers = response.status, response.headers
        location = headers.get("Location")
        if status in (301, 302, 303, 307, 308) and location:
            return location
        if not 200 <= status < 300:
            raise _Failure(
                f"http_{status}",
                http.client.responses.get(status, ""),
                retry=status in TRANSIENT_STATUSES,
                wait=_retry_after(headers.get("Retry-After")),
            )
        if limits.directives:
            agents = (USER_AGENT.partition("/")[0], limits.user_agent_token or "")
            refused = opt_out(headers.get_all("X-Robots-Tag", []), limits.directives, agents)
            if refused:
                raise _Failure("opt_out", f"X-Robots-Tag {refused}")
        stage = "body"
        data = _decoded(_read(response, limits), headers.get("Content-Encoding", ""), limits)
        if not data:
            raise _Failure("empty_body")
        return FetchResult(data=data, url=target.url, content_type=headers.get_content_type())
    except TimeoutError:
        raise deadline.overrun(stage) from None
    except ssl.SSLError as error:
        raise _Failure("tls", _reason(error)) from None
    except OSError as error:  # before HTTPException: RemoteDisconnected is both, and means a reset
        raise _Failure("connection", _os_reason(error), retry=True) from None
    except http.client.IncompleteRead:
        raise _Failure("connection", "closed before the end of the body", retry=True) from None
    except (http.client.HTTPException, ValueError):
        raise _Failure("connection", f"malformed {stage}") from None
    finally:
        sock.close()


def _connect(target: urls.Target, limits: Limits, deadline: _Deadline, resolver: Resolver) -> socket.socket:
    """A connected socket, with TLS for https, to an address that was checked."""
    if target.host in limits.connect_to:
        places = [limits.connect_to[target.host]]
    else:
        found = _addresses(target.host, deadline, resolver)
        refused = {} if limits.allow_private else {address: refusal(address) for address in found}
        places = [(address, target.port) for address in found if not refused.get(address)]
        if not places:
            raise _Failure("private_address", ", ".join(sorted({reason for reason in refused.values() if reason})))
    failure = _Failure("connection", "no address")
    for address, port in places[:MAX_ADDRESSES]:
        sock = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
        try:
            sock.settimeout(deadline.step())
            sock.connect((address, port))
            if target.scheme == "https":
                sock.settimeout(deadline.step())
                return _tls().wrap_socket(sock, server_hostname=target.host)
            return sock
        except TimeoutError:
            failure = deadline.overrun("connect")
        except ssl.SSLError as error:
            failure = _Failure("tls", _reason(error))
        except OSError as error:
            failure = _Failure("connection", _os_reason(error), retry=True)
        except BaseException:
            sock.close()
            raise
        sock.close()
    raise failure


def _addresses(host: str, deadline: _Deadline, resolver: Resolver) -> tuple[str, ...]:
    try:
        return resolver.resolve(host, deadline.step())
    except socket.gaierror as error:
        temporary = error.errno == socket.EAI_AGAIN
        raise _Failure("dns", "name server busy" if temporary else "no such host", retry=temporary) from None
    except TimeoutError:
        raise _Failure("dns", "no answer in time", retry=True) from None
    except (UnicodeError, OSError):
        raise _Failure("dns", "cannot be looked up") from None


def _read(response: http.client.HTTPResponse, limits: Limits) -> bytes:
    """The body, one receive at a time so that no count of bytes is waited for past the deadline."""
    expected = None if response.chunked else response.length
    if expected is not None and expected > limits.max_bytes:
        raise _Failure("too_many_bytes", f"over {limits.max_bytes}")
    parts, total = [], 0
    while expected is None or total < expected:
        part = response.read1(CHUNK_BYTES if expected is None else min(CHUNK_BYTES, expected - total))
        if not part:
            break
        parts.append(part)
        total += len(part)
        if total > limits.max_bytes:
            raise _Failure("too_many_bytes", f"over {limits.max_bytes}")
    if expected is not None and total < expected:
        raise _Failure("connection", "closed before the end of the body", retry=True)
    return b"".join(parts)


def _decoded(data: bytes, encoding: str, limits: Limits) -> bytes:
    """The body without the gzip or deflate that some servers apply unasked, within the byte limit."""
    if encoding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        return data
    unzip = zlib.decompressobj(47)
    try:
        plain = unzip.decompress(data, limits.max_bytes + 1)
    except zlib.error:
        raise _Failure("connection", "malformed body") from None
    if len(plain) > limits.max_bytes:
        raise _Failure("too_many_bytes", f"over {limits.max_bytes}")
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


def _reason(error: ssl.SSLError) -> str:
    return str(getattr(error, "verify_message", "") or error.reason or "handshake failed").lower().replace("_", " ")


def _os_reason(error: OSError) -> str:
    """The same few words for the same error on every machine and in every run."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return "reset"
    return error.strerror.lower() if error.strerror else type(error).__name__
