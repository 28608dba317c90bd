"""The files of a source: paths, globs, folders, URLs, and lists of paths as Common Crawl publishes them."""

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import fsspec

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.html_files import is_html_name
from mmcorpus.curation.crawl.published import TABLES
from mmcorpus.curation.store import storage
from mmcorpus.filters.secrets import masked_text
from mmcorpus.filters.web import reading

_WARC: Final = re.compile(r"\.warc(\.(wet|wat|os\.cdx))?(\.gz|\.zst)?\Z")
_TABLE: Final = re.compile(r"\.parquet\Z|\.(jsonl|ndjson)(\.(gz|bz2|xz|zst))?\Z")
_ARCHIVE: Final = re.compile(r"\.(zip|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))\Z")
_LIST: Final = re.compile(r"(\.paths|\.txt|\.list)(\.gz)?\Z|(\A|/)paths(\.gz)?\Z")
_NAMES: Final = (
    ".warc, .warc.gz, .warc.zst, .html, .zip, .tar, .tar.gz, .parquet, .jsonl, .jsonl.gz, or a list: .paths.gz"
)
MAX_FILES: Final = 100_000
"""Shards are named by the file's number, in five digits."""


class InputError(ValueError):
    """An input that cannot be; the text says which, why, and what to do, without secrets of its URL."""

    def __init__(self, text: str) -> None:
        super().__init__(masked_text(text))


@dataclass(frozen=True, kw_only=True, slots=True)
class InputFile:
    """The input of one task."""

    number: int
    path: str
    """Of a folder of HTML files, the folder."""
    reader: str
    """`warc`, `folder`, `zip`, `tar`, or `table`."""
    names: tuple[str, ...] = ()
    """Of a folder, which of its files; a folder of many is several of these."""

    @property
    def name(self) -> str:
        return f"{self.path} (from {self.names[0]} on)" if self.names else self.path


def find_inputs(config: PagesConfig, inputs: str | Sequence[str]) -> list[InputFile]:
    """The files behind some inputs, numbered in the order given, by name within each.

    Raises InputError where there is none, or one whose kind its name does not tell.
    """
    found: list[tuple[str, str, tuple[str, ...]]] = []
    with reading(str(inputs), allow_private=config.allow_private):
        for path in [inputs] if isinstance(inputs, str | os.PathLike) else inputs:
            found.extend(_expand(os.fspath(path), config))
    if not found:
        raise InputError("no input was given")
    if len(found) > MAX_FILES:
        raise InputError(f"there are {len(found):,} files; a source takes {MAX_FILES:,}: make several sources of them")
    return [
        InputFile(number=number, path=path, reader=reader, names=names)
        for number, (path, reader, names) in enumerate(found)
    ]


def _expand(path: str, config: PagesConfig) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    if path.startswith(("http://", "https://")):
        yield from _file(path, config)
        return
    fs, inner = storage.filesystem(path)
    fs.invalidate_cache()

    def full(name: str) -> str:
        return str(fs.unstrip_protocol(name)) if "://" in path else name

    if any(sign in inner for sign in "*?[") and not fs.exists(inner):
        names = sorted(str(name) for name in fs.glob(inner))
        names = [name for name in names if not posixpath.basename(name.rstrip("/")).startswith((".", "_"))]
        if not names:
            raise InputError(f"nothing matches {path}")
        for name in names:
            yield from _folder(full(name), config) if fs.isdir(name) else _file(full(name), config)
    elif fs.isdir(inner):
        yield from _folder(path, config)
    elif fs.exists(inner):
        yield from _file(path, config)
    else:
        raise InputError(f"there is no file or folder {path}")


def _folder(path: str, config: PagesConfig) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """All that can be read below a folder: its files by name, then its HTML files in blocks."""
    fs, inner = storage.filesystem(path)
    root = inner.rstrip("/") + "/"
    names = sorted(str(name).removeprefix(root) for name in fs.find(inner))
    names = [name for name in names if not any(part.startswith((".", "_")) for part in name.split("/"))]
    readable = [name for name in names if _reader(name, config) not in (None, "list", "folder")]
    pages = [name for name in names if is_html_name(name)] if config.format in ("auto", "html") else []
    if not readable and not pages:
        raise InputError(f"there is nothing to read in {path}; looked for {_NAMES}")
    for name in readable:
        yield storage.join(path, name), _reader(name, config) or "", ()
    for begin in range(0, len(pages), config.records_per_shard):
        yield path, "folder", tuple(pages[begin : begin + config.records_per_shard])


def _file(path: str, config: PagesConfig) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    reader = _reader(path, config)
    if reader is None:
        raise InputError(f"{path}: its name does not say what it holds; known are {_NAMES}")
    if reader == "list":
        yield from _listed(path, config)
    elif reader == "folder":
        folder, _, name = path.rpartition("/")
        yield folder or ("/" if path.startswith("/") else "."), "folder", (name,)
    else:
        yield path, reader, ()


def _reader(path: str, config: PagesConfig) -> str | None:
    """The reader of a file, by its name and what the config says that it holds."""
    name = (urlsplit(path).path if "://" in path else path).lower()
    if _LIST.search(name):
        return "list"
    if config.format == "warc":
        return "warc"
    kinds: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
        ("warc", _WARC.search, ("auto",)),
        ("table", _TABLE.search, ("auto", *TABLES)),
        ("folder", is_html_name, ("auto", "html")),
        ("zip" if name.endswith(".zip") else "tar", _ARCHIVE.search, ("auto", "html")),
    )
    return next((reader for reader, fits, formats in kinds if config.format in formats and fits(name)), None)


def _listed(path: str, config: PagesConfig) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The files that a list names, a line each."""
    opened: Any = fsspec.open(path, "rt", compression="infer", encoding="utf-8-sig", errors="replace")
    with opened as file:
        lines = [line.strip() for line in file]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        raise InputError(f"{path}: the list is empty")
    for line in lines:
        if config.prefix and "://" not in line:
            named = config.prefix + line
        elif "://" in line or line.startswith("/"):
            named = line
        else:
            named = posixpath.join(posixpath.dirname(path), line)
        reader = _reader(named, config)
        if reader in (None, "list", "folder"):
            raise InputError(f"{path} names {line!r}, whose kind its name does not say; known are {_NAMES}")
        yield named, str(reader), ()
