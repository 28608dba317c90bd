"""URLs as they come from lists and redirects: taken apart, made safe to send, or refused with a reason."""

import contextlib
import functools
import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import quote, unquote_to_bytes, urljoin, urlsplit

import idna

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
MAX_URL_CHARACTERS: Final = 16_384
_HOST = re.compile(r"(?=.{1,253}\Z)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*\Z")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_SAFE: Final = "!#$%&'()*+,/:;=?@[]~"


class BadUrl(ValueError):
    """A URL that names no place to fetch from; its text says why."""


@dataclass(frozen=True, slots=True)
class Target:
    """A request's server and path."""

    scheme: str
    """`http` or `https`."""
    host: str
    """Lower case ASCII: a name, or an address without brackets."""
    port: int
    path: str
    """With the query, percent-encoded; at least `/`."""

    @property
    def authority(self) -> str:
        """The Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == DEFAULT_PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.authority}{self.path}"


def parse(url: str) -> Target:
    """Take an http(s) URL apart as browsers do: spaces and non-ASCII characters are encoded, `\\` is `/`.

    Raises BadUrl for other schemes, no host, a bad port, credentials, control characters (browsers leave line breaks
    out; a list with one in a URL is likelier to be broken, or to be an attack on headers).
    """
    text = url.strip()
    if len(text) > MAX_URL_CHARACTERS:
        raise BadUrl(f"longer than {MAX_URL_CHARACTERS} characters")
    if _CONTROL.search(text):
        raise BadUrl("control characters")
    if "\\" in text:
        end = min(f"{text}{mark}".find(mark) for mark in "?#")
        text = text[:end].replace("\\", "/") + text[end:]
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as error:
        raise BadUrl(str(error)) from None
    if parts.scheme not in DEFAULT_PORTS:
        raise BadUrl(f"scheme {parts.scheme[:32]!r} is not http or https" if parts.scheme else "no scheme")
    if "@" in parts.netloc:
        raise BadUrl("credentials")
    if port == 0:
        raise BadUrl("port 0")
    try:
        path = quote(parts.path or "/", safe=_SAFE)
        query = f"?{quote(parts.query, safe=_SAFE)}" if parts.query else ""
    except UnicodeEncodeError:
        raise BadUrl("text that is not Unicode") from None
    return Target(parts.scheme, _host(host), port or DEFAULT_PORTS[parts.scheme], path + query)


@functools.lru_cache(maxsize=4096)
def _host(host: str) -> str:
    if not host:
        raise BadUrl("no host")
    if ":" in host:
        if "%" in host:
            raise BadUrl("an address with a zone")
        try:
            return str(ipaddress.IPv6Address(host))
        except ValueError:
            raise BadUrl("not an IPv6 address") from None
    if "%" in host:
        try:
            host = unquote_to_bytes(host).decode().lower()
        except UnicodeError:
            raise BadUrl("a host name that is not UTF-8") from None
    name = (host if host.isascii() else _to_ascii(host)).removesuffix(".")
    if not _HOST.match(name):
        raise BadUrl("not a host name")
    return name


def _to_ascii(host: str) -> str:
    """A host name's ASCII form as browsers make it: UTS #46, not transitional, so that ß is not ss; emoji are allowed.

    Its mapping also folds look-alikes such as circled letters, so that they cannot spell a name past a check.
    """
    try:
        labels = idna.uts46_remap(host, std3_rules=False, transitional=False).split(".")
        for label in labels:
            if not label.isascii():
                idna.check_initial_combiner(label)
                idna.check_bidi(label)
                if not all(idna.valid_contextj(label, at) for at, sign in enumerate(label) if sign in "\u200c\u200d"):
                    raise idna.IDNAError("a joiner where none can be")
        return ".".join(label if label.isascii() else f"xn--{label.encode('punycode').decode()}" for label in labels)
    except ValueError as error:  # idna's errors and Unicode's
        raise BadUrl(f"a host name that IDNA cannot encode: {ascii(str(error))[1:-1][:80]}") from None


def redirected(target: Target, location: str) -> Target:
    """The target that a Location header leads to from `target`; raises BadUrl as `parse` does."""
    with contextlib.suppress(UnicodeError):  # headers arrive decoded as Latin-1
        location = location.encode("latin-1").decode("utf-8")
    try:
        return parse(urljoin(target.url, location.strip()))
    except ValueError as error:
        raise BadUrl(str(error)) from None
