"""What is read by http(s) through fsspec – lists, WARC files, weights: from checked addresses alone, and with an end.

`install` makes it fsspec's default in this process. The address is checked where the socket is made, so that a name, a
redirect or a name server that changes its answer leads nowhere that was not checked; aiohttp sends credentials to the
host that they were given for alone.
"""

import contextlib
import errno
import ipaddress
import os
from collections.abc import Iterator
from typing import Any, Final

from mmcorpus.filters import paced
from mmcorpus.filters.addresses import refusal
from mmcorpus.filters.secrets import masked, masked_text

ALLOW_PRIVATE: Final = "MMCORPUS_ALLOW_PRIVATE"
"""The environment variable of hosts and networks that may be read though they are private: `mirror.lab,10.1.0.0/16`."""

BUCKETS: Final = frozenset({"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az"})
"""Object stores, whose addresses begin with a bucket."""
_STORES: Final = {
    "http": "listings.Http",
    "https": "listings.Http",
    "s3": "object_stores.S3",
    "s3a": "object_stores.S3",
}
"""The filesystems with bounded listings, imported when they are asked for."""
_open: int = 0
"""How many blocks of `reading` with `allow_private` this process is in."""


class PrivateAddress(OSError):
    """A connection that was not made, because its address is private, loopback, or otherwise not of the public web."""


@contextlib.contextmanager
def reading(path: str, *, allow_private: bool) -> Iterator[None]:
    """A block in which this process reads from a place; with `allow_private` any address may be read from.

    Raises PrivateAddress and paced.GivenUp, which name the place, for a connection that was refused and an answer that
    did not end.
    """
    global _open
    _open += allow_private
    try:
        yield
    except OSError as error:
        if (refused := explained(error, path)) is not None:
            raise refused from None
        raise
    except Exception as error:
        if not type(error).__module__.startswith("aiohttp"):  # the connection's, of no kind that Python knows
            raise
        refused = explained(error, path)
        raise refused or OSError(errno.EIO, f"the server broke off: {error}", masked_text(path)) from error
    finally:
        _open -= allow_private


def install() -> None:
    """Make fsspec read http(s) by guarded clients, unless the user has set one (fsspec's own configuration), and list
    web servers and S3 with an end."""
    import fsspec
    from fsspec.registry import known_implementations

    fsspec.config.conf.setdefault("http", {}).setdefault("get_client", guarded_client)
    for protocol, name in _STORES.items():
        needs = known_implementations[protocol].get("err", "")
        fsspec.register_implementation(protocol, f"{__package__}.{name}", clobber=True, errtxt=needs)


def refuse_credentials(path: str) -> None:
    """Raise ValueError for an object store's address with user and password in it, which stores take for a bucket.

    It names the place without them.
    """
    protocol, separator, rest = path.partition("://")
    user, at, _ = rest.partition("/")[0].rpartition("@")
    protocol = protocol.rpartition("::")[2]
    is_container = protocol.startswith(("abfs", "az")) and ":" not in user  # abfs://CONTAINER@ACCOUNT…
    if separator and at and protocol in BUCKETS and not is_container:
        raise ValueError(
            f"{masked(path)} has credentials in it, and {protocol} takes none there: give them by the environment "
            "(e.g. AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY) or the store's own configuration"
        )


def explained(error: BaseException | None, path: str) -> PrivateAddress | paced.GivenUp | None:
    """The connection that was refused, or the answer that was given up, behind an error met at `path`; fsspec says of
    both that there is no such file."""
    for _ in range(16):
        if isinstance(error, PrivateAddress):
            return PrivateAddress(error.errno, error.strerror, masked_text(path))
        if isinstance(error, paced.GivenUp):
            named = masked_text(path)
            return error if named in str(error) else paced.GivenUp(f"{named}: {error}")
        if error is None:
            return None
        inner = getattr(error, "os_error", None)
        error = inner if isinstance(inner, PrivateAddress) else error.__cause__ or error.__context__
    return None


def reason(why: BaseException) -> str:
    """An error of a connection in words, where its own are none."""
    kinds = {kind.__name__ for kind in type(why).__mro__}
    if "TooManyRedirects" in kinds:
        return "its redirects lead in a circle, or on and on"
    if kinds & {"InvalidURL", "NonHttpUrlClientError"}:
        return f"it redirects to {masked_text(str(why))}, which is no address of a web server"
    return str(why) or type(why).__name__


async def guarded_client(**kwargs: Any) -> Any:
    """An aiohttp session that connects to public addresses, and to those that ALLOW_PRIVATE names; its answers end."""
    import aiohttp

    named: set[str] = set()
    """Addresses of names in ALLOW_PRIVATE."""

    class Resolver(aiohttp.ThreadedResolver):
        async def resolve(self, host: str, port: int = 0, family: Any = 0) -> Any:
            found = await super().resolve(host, port, family)
            if host.lower().rstrip(".") in _allowed():
                named.update(str(result["host"]) for result in found)
            return found

    def make_socket(info: Any) -> Any:
        import socket

        family, kind, protocol, _, place = info
        check(str(place[0]), named)
        return socket.socket(family, kind, protocol)

    if "connector" not in kwargs:
        kwargs["connector"] = aiohttp.TCPConnector(resolver=Resolver(), socket_factory=make_socket)
    limits: dict[str, Any] = {"response_class": paced.response_class(), "timeout": paced.timeout()}
    return aiohttp.ClientSession(**limits | kwargs)


def check(address: str, named: set[str] | frozenset[str] = frozenset()) -> None:
    """Raise PrivateAddress unless a connection to an IP address may be made.

    named: more addresses that are allowed.
    """
    reason = refusal(address)
    if reason is None or _open or address in named or _in_networks(address):
        return
    raise PrivateAddress(
        errno.EACCES,
        f"private_address: {address} is {reason}. If it is yours, name the host or its network in {ALLOW_PRIVATE} "
        "(`allow_private: true` of a list's download, or of how pages are read, will do, too)",
    )


def _allowed() -> frozenset[str]:
    entries = os.environ.get(ALLOW_PRIVATE, "").split(",")
    return frozenset(entry.strip().lower().rstrip(".") for entry in entries if entry.strip())


def _in_networks(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    for entry in _allowed():
        with contextlib.suppress(ValueError):  # a name: its addresses are known when it is looked up
            network = ipaddress.ip_network(entry.strip("[]"), strict=False)
            if network.version == ip.version and ip in network:
                return True
    return False
