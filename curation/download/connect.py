"""Sockets that lead where they were checked to lead, and give up in time."""

import functools
import io
import math
import socket
import ssl
import time
from typing import Any, Final

from mmcorpus.curation.download import urls
from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.guard import Resolver, refusal

CHUNK_BYTES: Final = 65_536
MAX_ADDRESSES: Final = 4
"""So many of a name's addresses are tried before giving up."""
SLOW_BYTES: Final = 1_024
"""A second: what brings less is slow."""
SLOW_SECONDS: Final = 1.0
"""No request is called slow before, as this machine may be busy itself."""


class Failure(Exception):
    """Ends an attempt; becomes a FetchFailure."""

    def __init__(self, code: str, detail: str = "", *, retry: bool = False, wait: float | None = None) -> None:
        super().__init__(code)
        self.code, self.detail, self.retry, self.wait = code, detail, retry, wait


class Deadline:
    """The time left of one fetch. Waiting for a turn at a busy host is ours, not the server's, and is not counted."""

    def __init__(self, config: DownloadConfig, seconds: float | None = None, *, hurry: bool = False) -> None:
        """`seconds`: what is left of it; None for `total_timeout`. `hurry`: give up what is slow (`slow_after`)."""
        self.config = config
        self.start = time.monotonic()
        self.end = self.start + (config.total_timeout if seconds is None else seconds)
        self._hurry = slow_after(config) if hurry else math.inf

    def step(self, received: int = 0) -> float:
        """The longest that the next wait may take; raises once there is no time left. `received`: bytes so far."""
        now = time.monotonic()
        if now >= self.end:
            raise self.overrun("")
        if now - self.start >= self._hurry + received / SLOW_BYTES:
            raise self._slow()
        return min(self.config.timeout, self.end - now, self._hurry)

    def _slow(self) -> Failure:
        return Failure("total_time", f"under {SLOW_BYTES:,} bytes/s, and slow hosts have cost this shard much time")

    def overrun(self, what: str) -> Failure:
        """The failure for a wait that timed out: the server's silence, or the end of our patience with all of it."""
        if self._hurry <= self.config.timeout and time.monotonic() < self.end:
            return self._slow()
        if time.monotonic() >= self.end:
            return Failure("total_time", f"over {self.config.total_timeout:g} s")
        return Failure("timeout", f"{what}: nothing for {self.config.timeout:g} s", retry=True)


def slow_after(config: DownloadConfig) -> float:
    """Seconds after which a request has to have brought SLOW_BYTES a second."""
    return max(SLOW_SECONDS, config.total_timeout / 20)


class Stream(io.RawIOBase):
    """A socket to read from, every read bounded by the deadline: a header a byte at a time counts too."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._sock, self._deadline = sock, deadline
        self._received = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._sock.settimeout(self._deadline.step(self._received))
        size = self._sock.recv_into(buffer)
        self._received += size
        return size


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


def connect(target: urls.Target, config: DownloadConfig, deadline: Deadline, resolver: Resolver) -> socket.socket:
    """A connected socket, with TLS for https, to an address that was checked."""
    if target.host in (routes := config.routes):
        places = [routes[target.host]]
    else:
        found = _addresses(target.host, deadline, resolver)
        refused = {} if config.allow_private else {address: refusal(address) for address in found}
        places = [(address, target.port) for address in found if not refused.get(address)]
        if not places:
            raise Failure("private_address", ", ".join(sorted({reason for reason in refused.values() if reason})))
    failure = Failure("connection", "no address")
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
            failure = Failure("tls", tls_reason(error))
        except OSError as error:
            failure = Failure("connection", os_reason(error), retry=True)
        except BaseException:
            sock.close()
            raise
        sock.close()
    raise failure


def _addresses(host: str, deadline: Deadline, resolver: Resolver) -> tuple[str, ...]:
    try:
        return resolver.resolve(host, deadline.step())
    except socket.gaierror as error:
        temporary = error.errno == socket.EAI_AGAIN
        raise Failure("dns", "name server busy" if temporary else "no such host", retry=temporary) from None
    except TimeoutError:
        raise Failure("dns", "no answer in time", retry=True) from None
    except (UnicodeError, OSError):
        raise Failure("dns", "cannot be looked up") from None


def tls_reason(error: ssl.SSLError) -> str:
    return str(getattr(error, "verify_message", "") or error.reason or "handshake failed").lower().replace("_", " ")


def os_reason(error: OSError) -> str:
    """The same few words for the same error on every machine and in every run."""
    if isinstance(error, ConnectionRefusedError):
        return "refused"
    if isinstance(error, ConnectionResetError | BrokenPipeError | ConnectionAbortedError):
        return "reset"
    return error.strerror.lower() if error.strerror else type(error).__name__
