"""A site on disk: the files of some hosts, what each address answers, and the lists that name them.

site.json              hosts, routes, counts and a fingerprint; written last, so its presence is the commit
files/<host>/<path>    the bodies
pairs.parquet          url, caption
instructions.parquet   url, caption, conversations (JSON text, LLaVA's turns)
pages/00000.warc.gz …  web pages (not of every site)
truth.parquet          what is known of each listed row (generated sites only; curation/synthetic/miniweb/truth.py)
pages.truth.parquet    what is known of each page (curation/synthetic/miniweb/pages/write.py)
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Final, Literal
from urllib.parse import urlsplit

import pyarrow as pa

from mmcorpus.curation.store import storage

Behaviour = Literal["plain", "transient", "slow", "drip", "endless", "reset"]

SITE: Final = "site.json"
FORMAT: Final = 1
FILES: Final = "files"
PARTS: Final = "parts"
PAGES: Final = "pages"
PAGES_TRUTH: Final = "pages.truth"
LISTS: Final = ("pairs", "instructions", "truth")
PAIRS_SCHEMA: Final = pa.schema([("url", pa.string()), ("caption", pa.string())])
INSTRUCTIONS_SCHEMA: Final = pa.schema([("url", pa.string()), ("caption", pa.string()), ("conversations", pa.string())])


@dataclass(frozen=True, kw_only=True, slots=True)
class Route:
    """The answer of one address."""

    file: str | None = None
    """The body's file, relative to the site's folder; None for an empty body."""
    status: int = 200
    content_type: str = "text/plain"
    headers: dict[str, str] = field(default_factory=dict)
    """Further headers, `Location` among them."""
    behaviour: Behaviour = "plain"
    """`transient`: 503 to the first request, then plain. `slow`: a pause, then the body in pieces. `drip`: a byte now
    and then, for ever. `endless`: zeros at full speed, for ever. `reset`: half the body, then the connection is reset
    (at once, if there is no body)."""
    seconds: float = 0.0
    """`slow`: the whole response takes this long. `drip`: the pause between bytes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Site:
    """A site as `site.json` describes it."""

    root: str
    hosts: tuple[str, ...]
    routes: dict[str, Route]
    """By address without scheme: `images.miniweb.test/photos/a.jpg`."""
    counts: dict[str, int]
    fingerprint: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SiteItem:
    """A file that a built site serves, with the rows that list it."""

    url: str
    """`http://host/path`, without port, query or fragment."""
    source: str
    """The local file to copy."""
    content_type: str
    captions: tuple[str, ...]
    """A row of `pairs.parquet` each."""
    languages: tuple[str, ...] = ()
    """The captions' languages where they are known: a column `language` of `pairs.parquet`."""
    conversations: tuple[tuple[str, str], ...] = ()
    """(caption, conversations as JSON text): a row of `instructions.parquet` each."""


def address(url: str) -> str:
    """The key of a url among the routes: host and path.

    Raises `ValueError` for a url that a site cannot serve.
    """
    parts = urlsplit(url)
    if parts.scheme != "http" or not parts.hostname or parts.port is not None or parts.query or parts.fragment:
        raise ValueError(f"{url!r}: a site serves http://host/path, without port, query or fragment")
    if any(piece in ("", ".", "..") for piece in parts.path.split("/")[1:]) or "%" in parts.path:
        raise ValueError(f"{url!r}: the path must be plain, without empty pieces, dots or percent signs")
    return parts.hostname + parts.path


def body_file(url: str) -> str:
    """The file of a url's body, relative to the site's folder."""
    return f"{FILES}/{address(url)}"


def read_site(root: str) -> Site:
    """The site in a folder.

    Raises `FileNotFoundError` if there is none that is complete, `ValueError` for another version's.
    """
    path = storage.join(root, SITE)
    if not storage.exists(path):
        raise FileNotFoundError(f"{path} is missing: {root} holds no complete site; generate it (again) first")
    value = storage.read_json(path)
    if value["format"] != FORMAT:
        raise ValueError(f"{path} has format {value['format']}, this version reads {FORMAT}; generate the site again")
    return Site(
        root=os.fspath(root),
        hosts=tuple(value["hosts"]),
        routes={key: Route(**route) for key, route in value["routes"].items()},
        counts=value["counts"],
        fingerprint=value["fingerprint"],
    )


def finished_counts(root: str, fingerprint: str) -> dict[str, int] | None:
    """The counts of the complete site in a folder if it was made with this fingerprint, else None.

    Raises `ValueError` for a folder that is not on this machine: a server could not serve it.
    """
    if not storage.is_local(root):
        raise ValueError(f"{root!r}: a site is served from this machine, so it must be a local folder")
    path = storage.join(root, SITE)
    if not storage.exists(path):
        return None
    value = storage.read_json(path)
    if value.get("format") != FORMAT or value.get("fingerprint") != fingerprint:
        return None
    return value["counts"]


def clear_site(root: str) -> None:
    """Remove a site, complete or not, and nothing else from its folder."""
    for name in (SITE, PARTS, *(f"{name}.parquet" for name in (*LISTS, PAGES_TRUTH)), PAGES, FILES):
        storage.remove(storage.join(root, name))


def write_file(root: str, relative: str, data: bytes) -> None:
    """Write one body. Not atomic: a site without `site.json` is not read, and its bodies are written again."""
    path = os.path.join(root, relative)
    with storage.naming_full_disk(path):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(data)


def commit_site(
    root: str,
    *,
    fingerprint: str,
    routes: Mapping[str, Route],
    tables: Mapping[str, pa.Table],
    counts: Mapping[str, int],
) -> dict[str, int]:
    """Write the lists, then `site.json`; returns the counts, with `routes`, `files` and `bytes` added."""
    files = sorted({route.file for route in routes.values() if route.file is not None})
    sizes = sum(os.path.getsize(os.path.join(root, file)) for file in files)
    total = {**counts, "routes": len(routes), "files": len(files), "bytes": sizes}
    for name, table in tables.items():
        storage.write_table(storage.join(root, f"{name}.parquet"), table)
    value = {
        "format": FORMAT,
        "fingerprint": fingerprint,
        "hosts": sorted({key.partition("/")[0] for key in routes}),
        "counts": total,
        "routes": {key: asdict(route) for key, route in routes.items()},
    }
    storage.write_json(storage.join(root, SITE), value)
    return total


def build_site(
    items: Iterable[SiteItem], out: str, *, fingerprint: str, counts: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Make a site of any files and captions; returns its counts (`pairs`, `instructions`, `routes`, `files`, `bytes`).

    items: what to serve and list, in the order of the lists. out: a local folder. fingerprint: names the inputs; a
    complete site with the same one is left as it is. counts: further numbers to keep in `site.json`.
    Raises `ValueError` for a url that cannot be served or comes twice with different files.
    """
    finished = finished_counts(out, fingerprint)
    if finished is not None:
        return finished
    clear_site(out)
    sources: dict[str, str] = {}
    routes: dict[str, Route] = {}
    pairs: list[dict[str, str | None]] = []
    instructions: list[dict[str, str]] = []
    for item in items:
        key = address(item.url)
        if sources.setdefault(key, item.source) != item.source:
            raise ValueError(f"{item.url!r} stands for two files: {sources[key]!r} and {item.source!r}")
        file = body_file(item.url)
        if key not in routes:
            with open(item.source, "rb") as source:
                write_file(out, file, source.read())
        routes[key] = Route(file=file, content_type=item.content_type)
        languages = item.languages or (None,) * len(item.captions)
        pairs.extend(
            {"url": item.url, "caption": caption, "language": language}
            for caption, language in zip(item.captions, languages, strict=True)
        )
        instructions.extend(
            {"url": item.url, "caption": caption, "conversations": turns} for caption, turns in item.conversations
        )
    tables = list_tables(pairs, instructions)
    if any(row["language"] is not None for row in pairs):
        column = pa.array([row["language"] for row in pairs], pa.string())
        tables["pairs"] = tables["pairs"].append_column("language", column)
    return commit_site(
        out,
        fingerprint=fingerprint,
        routes=routes,
        tables=tables,
        counts={"pairs": len(pairs), "instructions": len(instructions), **(counts or {})},
    )


def list_tables(
    pairs: Sequence[Mapping[str, Any]], instructions: Sequence[Mapping[str, Any]], kinds: Sequence[str] = ()
) -> dict[str, pa.Table]:
    """The two lists of a site as tables, by name; rows may have more than they show. Of `kinds` also the
    pairs of each by themselves."""
    return {
        **{
            f"pairs.{kind}": pa.Table.from_pylist([p for p in pairs if p["kind"] == kind], schema=PAIRS_SCHEMA)
            for kind in kinds
        },
        "pairs": pa.Table.from_pylist(pairs, schema=PAIRS_SCHEMA),
        "instructions": pa.Table.from_pylist(instructions, schema=INSTRUCTIONS_SCHEMA),
    }
