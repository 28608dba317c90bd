"""Sockets that lead where they were checked to lead, and give up in time."""

import functools
import io
import socket
import ssl
from typing import Any, Final

from mmcorpus.curation.download import urls
from mmcorpus.curation.download.guard import Resolver, refusal
from mmcorpus.curation.download.limits import Deadline, Failure, Limits

CHUNK_BYTES: Final = 65_536
MAX_ADDRESSES: Final = 4
"""So many of a name's addresses are tried before giving up."""


class Stream(io.RawIOBase):
    """A socket as http.client wants it, every read bounded by the deadline: a header a byte at a time counts too."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
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


def connect(target: urls.Target, limits: Limits, deadline: Deadline, resolver: Resolver) -> socket.socket:
    """A connected socket, with TLS for https, to an address that was checked."""
    if target.host in limits.connect_to:
        places = [limits.connect_to[target.host]]
    else:
        found = _addresses(target.host, deadline, resolver)
        refused = {} if limits.allow_private else {address: refusal(address) for address in found}
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
