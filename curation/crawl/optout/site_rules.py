"""Rules about addresses, known beforehand: robots.txt and ai.txt as crawls carry them, and block lists of one's own."""

import functools
import gzip
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import urlsplit

import pyarrow as pa

from mmcorpus.curation.crawl.optout.robots_txt import MAX_BYTES, RobotsTxt
from mmcorpus.curation.store import storage

Kind = Literal["robots.txt", "ai.txt"]
PATHS: Final[dict[str, Kind]] = {
    "/robots.txt": "robots.txt",
    "/ai.txt": "ai.txt",
    "/.well-known/ai.txt": "ai.txt",
}
SCHEMA: Final = pa.schema(dict.fromkeys(("host", "kind", "date", "text"), pa.string()))
_LABELS: Final = 128
"""Of a host at most (RFC 1035 has 127)."""
_HOSTS: Final = 4096  # whose files are held ready to be asked


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteFile:
    """A robots.txt or ai.txt that a crawl met."""

    host: str
    """In lower case, with the port where one is given. Both schemes of a host have the same rules."""
    kind: Kind
    date: str
    """ISO 8601, UTC: of several captures the latest counts."""
    text: str


def site_file(url: str, status: int, body: bytes, date: str) -> SiteFile | None:
    """The site's rules that a crawled response is; None for every other response.

    A file that is not there (any status but 200) forbids nothing, and so does one that is a web page in disguise.

    Args:
        url: absolute, of the response.
        body: decoded as its Content-Encoding says; the first 500 KiB count.
        date: of the capture, ISO 8601.
    """
    kind = PATHS.get(_path(url).lower())
    host = host_of(url)
    if kind is None or not host or status != 200:
        return None
    text = body[:MAX_BYTES].decode("utf-8", "replace").replace("\0", "")
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        return None
    return SiteFile(host=host, kind=kind, date=date, text=text)


def to_table(files: Iterable[SiteFile]) -> pa.Table:
    """Files as rows of SCHEMA: of each host and kind the latest, sorted, whatever their order was."""
    latest: dict[tuple[str, str], SiteFile] = {}
    for file in files:
        known = latest.get((file.host, file.kind))
        if known is None or (file.date, file.text) > (known.date, known.text):
            latest[file.host, file.kind] = file
    rows = [latest[key] for key in sorted(latest)]
    return pa.table({name: [getattr(row, name) for row in rows] for name in SCHEMA.names}, SCHEMA)


def from_table(table: pa.Table) -> Iterator[SiteFile]:
    """The files that `to_table` wrote."""
    for row in table.select(SCHEMA.names).to_pylist():
        yield SiteFile(**row)


def read_site_files(folder: str) -> Iterator[SiteFile]:
    """The files of all tables (`*.parquet`) of a folder, local or remote; none if there is no such folder."""
    for name in storage.list_names(folder):
        if name.endswith(".parquet"):
            yield from from_table(storage.read_table(storage.join(folder, name)))


class BlockLists:
    """Domains and prefixes of addresses that nobody is to use, from files of one entry a line.

    `example.com` is the host and all below it, `https://example.com/gallery/` (or without the scheme) every address of
    that host that starts so, whatever its scheme. Empty lines and what follows a `#` at a line's start or after a blank
    are comments. Files may be local or remote, and compressed (`.gz`).
    """

    def __init__(self, paths: Iterable[str] = ()) -> None:
        """Raises ValueError where a list is missing or an entry is neither."""
        self._domains: dict[str, str] = {}
        self._prefixes: dict[str, list[tuple[str, str]]] = {}
        for path in paths:
            for number, entry in enumerate(_entries(path), 1):
                if entry:
                    self._add(entry, path, number)

    def _add(self, entry: str, path: str, number: int) -> None:
        rest = entry.partition("://")[2] or entry
        if any(character.isspace() for character in rest) or not host_of(f"http://{rest}"):
            raise ValueError(
                f"{path}, line {number}: {entry!r} is neither a domain such as example.com nor the start of an address "
                "such as https://example.com/gallery/; write one entry a line"
            )
        host = host_of(f"http://{rest}")
        prefix = rest[len(rest.partition("/")[0]) :]
        if prefix in ("", "/"):
            self._domains.setdefault(host, f"{path}: {entry}")
        else:
            self._prefixes.setdefault(host, []).append((prefix, f"{path}: {entry}"))

    def refusal(self, url: str) -> str | None:
        """The list and entry that an address meets (`LIST: example.com`); None if it meets none."""
        if not self._domains and not self._prefixes:
            return None
        host = host_of(url)
        labels = host.partition(":")[0].split(".")[-_LABELS:]
        for name in (host, *(".".join(labels[start:]) for start in range(len(labels)))):
            if name in self._domains:
                return self._domains[name]
        path = _path(url, query=True)
        return next((entry for prefix, entry in self._prefixes.get(host, ()) if path.startswith(prefix)), None)


class SiteRules:
    """All that is known about addresses before they are looked at: sites' files and block lists."""

    def __init__(self, files: Iterable[SiteFile] = (), block_lists: BlockLists | None = None) -> None:
        latest = from_table(to_table(files))
        self._texts: dict[tuple[str, str], str] = {(file.host, file.kind): file.text for file in latest}
        self._parsed = functools.lru_cache(maxsize=_HOSTS)(lambda key: RobotsTxt(self._texts[key]))
        self.block_lists = block_lists or BlockLists()

    def refusal(self, url: str, kind: Kind, agents: Iterable[str]) -> str | None:
        """The line of the site's file that forbids an address to one of some agents, and whom it addresses."""
        key = (host_of(url), kind)
        if key not in self._texts:
            return None
        found = self._parsed(key).refusal(_path(url, query=True), agents)
        return found and f"{found[0]} ({found[1]})"


def host_of(url: str) -> str:
    """The host of an absolute address in lower case, with a port that is not the scheme's; empty if there is none."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        return ""
    usual = {"http": 80, "https": 443}.get(parts.scheme)
    host = host.rstrip(".")
    return f"{host}:{port}" if port and port != usual else host


def _path(url: str, query: bool = False) -> str:
    """The path of an absolute address, from the `/` on."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "/"
    return (parts.path or "/") + (f"?{parts.query}" if query and parts.query else "")


def _entries(path: str) -> Iterator[str]:
    """The lines of a list without comments."""
    if not storage.exists(path):
        raise ValueError(f"there is no block list at {path}; give a file of one domain or address a line")
    data = storage.read_bytes(path)
    if path.endswith(".gz"):
        data = gzip.decompress(data)
    for line in data.decode("utf-8-sig", "replace").splitlines():
        yield "" if line.lstrip().startswith("#") else line.partition(" #")[0].strip()
