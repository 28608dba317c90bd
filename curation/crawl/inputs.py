"""The files of a source: paths, globs, folders, URLs, and lists of paths as Common Crawl publishes them."""

import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from mmcorpus.curation.crawl.config import DEFAULT_PREFIX, PagesConfig
from mmcorpus.curation.crawl.html_files import is_html_name
from mmcorpus.curation.crawl.kinds import UnknownKind, file_kind
from mmcorpus.curation.crawl.published import TABLES
from mmcorpus.curation.crawl.streams import open_input
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.compressed import DECODE_ERRORS, decompressed, plain_name
from mmcorpus.filters.secrets import masked_text
from mmcorpus.filters.web import reading

_WARC: Final = re.compile(r"\.(warc(\.wet)?|arc)(\.gz|\.zst)?\Z")
_NO_PAGES: Final = (
    (re.compile(r"\.wat(\.gz|\.zst)?\Z"), "a WAT file, metadata about pages without their contents; give the .warc.gz "
     "that it describes, or the .warc.wet.gz beside it (texts alone, with --kind text)"),
    (re.compile(r"\.cdxj?(\.gz)?\Z"), "an index of a WARC file; give the .warc.gz that it lists"),
)  # fmt: skip
"""Files of crawls that have none, by their names' ends."""
_TABLE: Final = re.compile(r"\.(parquet|arrow)\Z|\.(jsonl|ndjson)(\.(gz|bz2|xz|zst))?\Z")
_ARCHIVE: Final = re.compile(r"\.(zip|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))\Z")
_LIST: Final = re.compile(r"(\.paths|\.txt|\.list)(\.gz)?\Z|(\A|/)paths(\.gz)?\Z")
_NAMES: Final = (
    ".warc, .warc.gz, .warc.zst, .arc.gz, .html, .zip, .tar, .tar.gz, .parquet, .arrow, .jsonl, or a list: .paths.gz"
)
_MAX_LINE: Final = 16_384
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
    """`warc`, `arc`, `folder`, `zip`, `tar`, or `table`."""
    names: tuple[str, ...] = ()
    """Of a folder, which of its files; a folder of many is several of these."""
    label: str = ""
    """Of one of several folders and archives, what tells its pages' addresses from the others'."""

    @property
    def name(self) -> str:
        return f"{self.path} (from {self.names[0]} on)" if self.names else self.path


def find_inputs(config: PagesConfig, inputs: str | Sequence[str]) -> list[InputFile]:
    """The files behind some inputs, numbered in the order given, by name within each.

    Raises InputError where there is none, or one whose kind its name does not tell.
    """
    found: list[tuple[str, str, tuple[str, ...]]] = []
    for path in [inputs] if isinstance(inputs, str | os.PathLike) else inputs:
        with reading(os.fspath(path), allow_private=config.allow_private):
            found.extend(_expand(os.fspath(path), config))
    if not found:
        raise InputError("no input was given")
    if len(found) > MAX_FILES:
        raise InputError(f"there are {len(found):,} files; a source takes {MAX_FILES:,}: make several sources of them")
    labels = _labels({path for path, reader, _ in found if reader in ("folder", "zip", "tar")}, config)
    return [
        InputFile(number=number, path=path, reader=reader, names=names, label=labels.get(path, ""))
        for number, (path, reader, names) in enumerate(found)
    ]


def _labels(roots: set[str], config: PagesConfig) -> dict[str, str]:
    """The ends of some folders' and archives' paths, as many parts of each as tell them all apart.

    None where there is one, or where `url_prefix` says where the pages are from: then equal paths are one page.
    """
    if len(roots) < 2 or config.url_prefix != DEFAULT_PREFIX:
        return {}
    parts = {root: [part for part in _path_of(root).split("/") if part not in ("", ".")] for root in roots}
    deepest = max(map(len, parts.values()))
    for depth in range(1, deepest + 1):
        labels = {root: "/".join(names[-depth:]) for root, names in parts.items()}
        if len(set(labels.values())) == len(roots):
            return labels
    return {root: "/".join(names) for root, names in parts.items()}


def _path_of(path: str) -> str:
    """A path without scheme and query, with the host."""
    if "://" not in path:
        return path
    parts = urlsplit(path)
    return f"{parts.netloc}/{parts.path}"


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
    reader = _reader(path, config) or _reader_by_contents(path, config)
    if reader is None:
        raise InputError(f"{path}: {_unreadable(path)}")
    if reader == "list":
        yield from _listed(path, config)
    elif reader == "folder":
        folder, _, name = path.rpartition("/")
        yield folder or ("/" if path.startswith("/") else "."), "folder", (name,)
    else:
        yield path, reader, ()


def _reader(path: str, config: PagesConfig) -> str | None:
    """The reader of a file, by its name and what the config says that it holds."""
    name = plain_name(path)
    if _LIST.search(name):
        return "list"
    if any(ending.search(name) for ending, _ in _NO_PAGES):
        return None
    if config.format == "warc":
        return "warc"
    kinds: tuple[tuple[str, Any, tuple[str, ...]], ...] = (
        ("warc", _WARC.search, ("auto",)),
        ("table", _TABLE.search, ("auto", *TABLES)),
        ("folder", is_html_name, ("auto", "html")),
        ("zip" if name.endswith(".zip") else "tar", _ARCHIVE.search, ("auto", "html", *TABLES)),
    )
    return next((reader for reader, fits, formats in kinds if config.format in formats and fits(name)), None)


def _reader_by_contents(path: str, config: PagesConfig) -> str | None:
    """The reader of a file whose name says nothing, by its first bytes."""
    if any(ending.search(plain_name(path)) for ending, _ in _NO_PAGES):
        return None
    try:
        with open_input(path) as file:
            return reader_of(file_kind(file, path), config, path)
    except OSError as error:
        raise InputError(f"{path} cannot be opened: {error}") from error
    except UnknownKind as error:
        raise InputError(str(error)) from None


def reader_of(kind: str | None, config: PagesConfig, path: str) -> str | None:
    """The reader of a kind that `file_kind` tells; None for None. Raises UnknownKind for one that is not read."""
    if kind is None:
        return None
    reader = "table" if kind in ("parquet", "arrow") else kind
    formats = {"warc": ("warc",), "arc": ("warc",), "table": TABLES}.get(reader, ("html", *TABLES))
    if config.format not in ("auto", *formats):
        raise UnknownKind(
            f"{path} is a {kind} file, and format is {config.format}; leave format out, or give other files"
        )
    return reader


def _unreadable(path: str) -> str:
    """Why there is no reader for a file."""
    why = next((why for ending, why in _NO_PAGES if ending.search(plain_name(path))), None)
    return f"it is {why}" if why else f"neither its name nor its first bytes say what it holds; known are {_NAMES}"


def _lines(path: str) -> Iterator[str]:
    """The lines of a list, without comments. Raises InputError for a list that is none."""
    try:
        with open_input(path) as opened:
            file, _ = decompressed(path, opened, 0)
            number = 0
            while raw := file.readline(_MAX_LINE + 1):
                if len(raw) > _MAX_LINE:
                    raise InputError(f"{path} has a line of more than {_MAX_LINE:,} bytes; a list is a path a line")
                line = raw.decode("utf-8-sig", "replace").strip()
                if line and not line.startswith("#"):
                    number += 1
                    yield line
                if number > MAX_FILES:
                    raise InputError(f"{path} lists more than {MAX_FILES:,} files: make several sources of them")
    except DECODE_ERRORS as error:
        raise InputError(f"{path} cannot be read: {error}") from error


def _listed(path: str, config: PagesConfig) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    """The files that a list names, a line each."""
    lines = list(_lines(path))
    if not lines:
        raise InputError(f"{path}: the list is empty")
    for line in lines:
        if config.prefix and "://" not in line:
            named = config.prefix + line
        elif "://" in line or line.startswith("/"):
            named = line
        else:
            named = posixpath.join(posixpath.dirname(path), line)
        try:
            reader = _reader(named, config) or _reader_by_contents(named, config)
        except InputError as error:
            raise InputError(f"{path} names {line!r}: {error}") from error
        if reader in (None, "list", "folder"):
            raise InputError(f"{path} names {line!r}: {_unreadable(named)}")
        yield named, str(reader), ()
