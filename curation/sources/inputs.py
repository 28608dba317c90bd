"""The files of a source, each identified by its first bytes: tars, MDS, tables, JSON, or images beside their texts."""

import contextlib
import itertools
import logging
import math
import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from mmcorpus.curation.engine.output import RECORD
from mmcorpus.curation.sources.first_bytes import Format, meant, sniff, unlike
from mmcorpus.curation.sources.json_rows import BadJson, Layout, Readable, ranges
from mmcorpus.curation.sources.links import followed, leads_out
from mmcorpus.curation.store import compressed, storage
from mmcorpus.curation.store.json_values import json_value
from mmcorpus.curation.store.mds import Header, header_of, shards_named
from mmcorpus.curation.store.members import IMAGE_EXTENSIONS
from mmcorpus.curation.store.named_files import State, state_of
from mmcorpus.curation.store.row_tables import binary_columns, open_table

_PARTS: Final = IMAGE_EXTENSIONS | {"txt", "json", "caption"}
"""Endings of the files of a sample."""
_ABOUT: Final = frozenset({"dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", RECORD})
"""JSON that says something about the data beside it."""
_INDEX: Final = "index.json"
"""Of MDS: it names the shards."""
_MAX_INDEX: Final = 64 << 20
"""Bytes of it."""
_DONE: Final = "done"
"""Beside a record: what our own exports say of their shards."""
_RUNS: Final = 8
"""Into how many runs a compressed file's parts are put, at most."""
_log = logging.getLogger(__name__)


class SourceError(storage.Refused):
    """Data that cannot be read as a source; its text says which file, why, and what to do."""


@dataclass(frozen=True, kw_only=True)
class Input:
    """A file, or a folder of images and their texts."""

    root: str
    """The folder that was named, below which it lies."""
    file: str
    """Its path below that folder; of `files` a folder's, empty for the root."""
    format: Format
    compression: str | None
    identity: tuple[Any, ...]
    """Changes when it does."""

    @property
    def path(self) -> str:
        return storage.join(self.root, self.file) if self.file else self.root


@dataclass(frozen=True, kw_only=True)
class Part:
    """The part of an input from which one shard is made."""

    name: str
    """The shard's."""
    input: Input
    start: int
    """Its first row, the first byte of JSON, or the first sample of a folder."""
    end: int | None
    """One past the last; None for all."""
    rows: int


@dataclass(frozen=True, kw_only=True)
class Run:
    """Parts of one input that one worker makes, in order."""

    parts: tuple[Part, ...]

    @property
    def name(self) -> str:
        """The first shard's."""
        return self.parts[0].name


def find_inputs(paths: Sequence[str], formats: Sequence[Format] = ()) -> list[Input]:
    """The files that paths, folders or globs name, in order; of a folder all that is below it.

    A link that is named is followed. One that is found is, too, where it leads to a file below the folder that was
    named, or to a blob of the same repository of the Hugging Face cache; others are logged, and not read. What begins
    with a dot or an underscore is passed over, as are tables beside a tar or a folder of the same name,
    which say more about its samples, and in a folder what is of no format asked for: this is logged. A file that is
    not what its name says (`.tar`, `.mds`) is there, and fails when it is read.

    Raises:
        SourceError: there is nothing, or nothing but links that lead elsewhere, or a file that was named is of no
            format that is read.
    """
    found: list[Input] = []
    for path in paths:
        here = _expanded(path, formats)
        if not here:
            wanted = f" ({', '.join(formats)})" if formats else ""
            raise SourceError(f"{path}: nothing there can be read as samples{wanted}")
        found += here
    return list({(one.root, one.file): one for one in found}.values())


@storage.naming
def _expanded(path: str, formats: Sequence[Format]) -> list[Input]:
    return list(_expand(path, formats))


def _expand(path: str, formats: Sequence[Format]) -> Iterator[Input]:
    path = path.rstrip("/") or "/"
    fs, inner = storage.filesystem(path)
    fs.invalidate_cache()
    if any(sign in inner for sign in "*?[") and not fs.exists(inner):
        fixed = path[: min(path.index(sign) for sign in "*?[" if sign in path)].rpartition("/")[0] or "."
        names = sorted(str(name) for name in fs.glob(inner))
        folders = [name for name in names if fs.isdir(name)]
        files = [name for name in names if name not in folders]
        files += [str(name) for folder in folders for name in sorted(fs.find(folder))]
        yield from _among(fixed, storage.filesystem(fixed)[1], files, formats, named=False)
    elif fs.isdir(inner):
        yield from _among(path, inner, sorted(str(name) for name in fs.find(inner)), formats, named=False)
    elif fs.exists(inner):
        root = posixpath.dirname(path) or "."
        if leads_out(root, posixpath.basename(path)):
            inner = os.path.realpath(inner)
            root = posixpath.dirname(inner)
        yield from _among(root, posixpath.dirname(inner), [inner], formats, named=True)
    else:
        raise SourceError(f"{path}: there is no such file or folder")


def _among(root: str, inner: str, names: list[str], formats: Sequence[Format], *, named: bool) -> Iterator[Input]:
    """The inputs among some files below a folder."""
    below = [name.removeprefix(inner.rstrip("/") + "/") for name in names]
    if not named:
        below = [name for name in below if not any(part.startswith((".", "_")) for part in name.split("/"))]
    below, elsewhere = followed(root, below)
    loose: dict[str, set[str]] = {}
    for name in below:
        folder, _, base = name.rpartition("/")
        if base.rpartition(".")[2].lower() in IMAGE_EXTENSIONS:
            loose.setdefault(folder, set()).add(base.partition(".")[0])
    parts = {name for name in below if _is_part(name, loose)}
    told = {posixpath.dirname(name) for name in parts if name.endswith(".json")}
    kinds = {name: sniff(storage.join(root, name)) for name in below if name not in parts}
    alone = {name for name, found in kinds.items() if _is_alone(name, found.format, told)}
    kinds = {name: found for name, found in kinds.items() if name not in alone}
    damaged = [name for name, found in kinds.items() if found.format is None and meant(name, found) and not named]
    kind_of = {name: meant(name, found) if name in damaged else found.format for name, found in kinds.items()}
    lost = [] if named else _lost_shards(root, kinds)
    indexes = {_INDEX} if lost or "mds" in kind_of.values() else set()
    done = {posixpath.join(posixpath.dirname(name), _DONE) for name in below if posixpath.basename(name) == RECORD}
    stems = {_stem(name) for name, kind in kind_of.items() if kind == "tar"} | set(loose)
    passed: list[str] = []
    chosen: list[Input] = []
    for name, found in kinds.items():
        kind = kind_of[name]
        beside = kind in ("parquet", "arrow", "json", "jsonl") and _stem(name).removesuffix("_stats") in stems
        about = posixpath.basename(name) in _ABOUT | indexes or name.endswith("_stats.json")
        about = about or posixpath.dirname(name) in done
        if kind is None or (formats and kind not in formats) or ((beside or about) and not named):
            if not (beside or about):
                passed.append(name)
            continue
        state = state_of(storage.join(root, name))
        chosen.append(Input(root=root, file=name, format=kind, compression=found.compression, identity=(*state,)))
    if not formats or "mds" in formats:
        chosen += [Input(root=root, file=name, format="mds", compression=None, identity=(0, None)) for name in lost]
    if (not formats and all(one.file in damaged for one in chosen)) or "files" in formats:
        chosen += [_folder(root, folder) for folder in sorted(loose) if not named]
    if chosen and all(one.file in damaged for one in chosen):
        why = kinds[chosen[0].file].unreadable or (
            f"is no {chosen[0].format}, or damaged, or compressed otherwise than by gzip, bz2, xz or zstd; "
            "fetch or write it again"
        )
        raise SourceError(f"{root}: nothing there can be read as samples; {chosen[0].file} {why}")
    if elsewhere:
        more = f" and {len(elsewhere) - 5} more" if len(elsewhere) > 5 else ""
        links = f"links that lead to nothing, or to what was not named: {', '.join(elsewhere[:5])}{more}"
        if not chosen:
            raise SourceError(f"{root} has {links}; name the files, or the folder that they lie in")
        _log.warning("%s: passed over, as %s", root, links)
    if passed and named:
        raise SourceError(f"{storage.join(root, passed[0])} {unlike(kinds[passed[0]], formats)}")
    if passed:
        more = f" and {len(passed) - 5} more" if len(passed) > 5 else ""
        _log.warning("%s: passed over, as no samples: %s%s", root, ", ".join(passed[:5]), more)
    yield from sorted(chosen, key=lambda one: one.file)


def _lost_shards(root: str, names: Iterable[str]) -> list[str]:
    """The shards of MDS that an index names and that are not there."""
    lost: list[str] = []
    for name in names:
        path = storage.join(root, name)
        if posixpath.basename(name) != _INDEX or state_of(path).size > _MAX_INDEX:
            continue
        fs, inner = storage.filesystem(path)
        try:
            told = shards_named(json_value(fs.cat_file(inner)))
        except ValueError:
            continue
        folder = posixpath.dirname(name)
        files = [[posixpath.normpath(posixpath.join(folder, file)) for file in one] for one in told]
        lost += [
            one[0]
            for one in files
            if not any(file.startswith(("/", "..")) or storage.exists(storage.join(root, file)) for file in one)
        ]
    return sorted(set(lost))


def _stem(name: str) -> str:
    """`a/00000` of `a/00000.tar.gz`: what files that belong together have in common."""
    folder, _, base = name.rpartition("/")
    return posixpath.join(folder, base.partition(".")[0])


def _is_part(name: str, keys: dict[str, set[str]]) -> bool:
    """Whether a file belongs to a sample of a folder of images."""
    folder, _, base = name.rpartition("/")
    ending = base.rpartition(".")[2].lower()
    return ending in IMAGE_EXTENSIONS or (ending in _PARTS and base.partition(".")[0] in keys.get(folder, ()))


def _is_alone(name: str, format: Format | None, told: set[str]) -> bool:
    """Whether a JSON file is a sample without an image: an object, in a folder whose images have such beside them."""
    folder, _, base = name.rpartition("/")
    about = base in _ABOUT | {_INDEX} or base.endswith("_stats.json")
    return folder in told and base.endswith(".json") and format != "json" and not about


def _folder(root: str, folder: str) -> Input:
    files = sample_files(root, folder)
    marks = sorted((name, state.size, state.modified) for name, state in files.items())
    return Input(root=root, file=folder, format="files", compression=None, identity=tuple(marks))


def sample_files(root: str, folder: str = "") -> dict[str, State]:
    """The files of samples directly in a folder below the one that was named, by name."""
    base = storage.join(root, folder) if folder else root
    fs, inner = storage.filesystem(base)
    found = {}
    for info in fs.ls(inner, detail=True):
        name = posixpath.basename(str(info["name"]).rstrip("/"))
        if name.rpartition(".")[2].lower() not in _PARTS or name.startswith((".", "_")):
            continue
        if info.get("islink"):
            path = storage.join(base, name)
            is_file = not leads_out(root, storage.join(folder, name)) and os.path.isfile(storage.filesystem(path)[1])
        else:
            is_file = info["type"] == "file"
        if is_file:
            found[name] = state_of(storage.join(base, name))
    return dict(sorted(found.items()))


def parts_of(one: Input, number: int, rows: int) -> list[Part]:
    """The parts of an input, one a shard of about `rows` rows; `number` is the input's, and begins the shards' names.

    Raises:
        SourceError: it cannot be read at all.
    """
    spans: list[tuple[int, int | None, int]]
    if one.format == "tar":
        spans = [(0, None, 0)]
    elif one.format in ("files", "mds"):
        count = len(read_header(one.path)) if one.format == "mds" else len(_keys(one))
        spans = [(start, min(start + rows, count), min(rows, count - start)) for start in range(0, count, rows)]
    elif one.format in ("parquet", "arrow"):
        spans = list(_groups(one.path, rows))
    else:
        if (found := sniff(one.path)).unreadable:
            raise SourceError(f"{one.path} {found.unreadable}")
        try:
            with open_json(one) as file:
                spans = list(ranges(cast(Readable, file), cast(Layout, one.format), rows))
        except (BadJson, compressed.DecodeError) as error:
            raise SourceError(f"{one.path}: {error}; fetch or write it again") from None
    return [
        Part(name=f"{number:05d}{place:04d}", input=one, start=start, end=end, rows=count)
        for place, (start, end, count) in enumerate(spans)
    ]


def _keys(one: Input) -> set[str]:
    """The samples of a folder of files."""
    return {name.partition(".")[0] for name in sample_files(one.root, one.file)}


def in_runs(parts: Sequence[Part]) -> list[Run]:
    """The parts of inputs, in order, as workers take them: one by one; of a compressed file many at once, because what
    lies before a part has to be decompressed, too."""
    runs = []
    for one, group in itertools.groupby(parts, key=lambda part: part.input):
        own = tuple(group)
        size = math.ceil(len(own) / _RUNS) if one.compression else 1
        runs += [Run(parts=own[start : start + size]) for start in range(0, len(own), size)]
    return runs


@contextlib.contextmanager
def open_json(one: Input) -> Iterator[Readable | None]:
    """An input's JSON, decompressed, for one part after the other; None for an input of another format."""
    if one.format not in ("json", "jsonl"):
        yield None
        return
    fs, inner = storage.filesystem(one.path)
    with fs.open(inner, "rb") as file:
        yield compressed.decompressed(one.path, file, 0)[0]


def column_names(one: Input) -> list[str]:
    """The columns of a table, of MDS, or of the parquet beside a tar, but for those of bytes; none for others."""
    if one.format == "mds":
        header = read_header(one.path)
        return [column.name for column in header.columns if column.encoding not in ("bytes", "jpeg", "png")]
    path = one.path if one.format in ("parquet", "arrow") else beside(one)
    if path is None:
        return []
    with open_table(path) as table:
        others = set(binary_columns(table.schema))
        return [name for name in table.names if name not in others]


def beside(one: Input) -> str | None:
    """The parquet beside a tar or a folder of the same name, that says more about its samples."""
    own = one.path.partition("?")[0] if "://" in one.path else one.path
    base = own.rpartition("/")[2]
    stem = base.partition(".")[0] if one.format == "tar" else base
    path = f"{own.removesuffix(base)}{stem}.parquet"
    there = one.format in ("tar", "files") and bool(one.file) and path != own and storage.exists(path)
    return path if there and not leads_out(one.root, path.removeprefix(one.root.rstrip("/") + "/")) else None


def read_header(path: str) -> Header:
    """Of an MDS shard.

    Raises:
        SourceError: it is none any more, or damaged.
    """
    fs, inner = storage.filesystem(path)
    if not storage.exists(path):
        raise SourceError(f"{path} is named by {_INDEX}, and not there; fetch or write it again")
    with fs.open(inner, "rb") as file:
        try:
            header = header_of(compressed.decompressed(path, file, 0)[0])
        except compressed.DecodeError as error:
            raise SourceError(f"{path}: {error}; fetch or write it again") from None
    if header is None:
        raise SourceError(
            f"{path} is no MDS shard, or compressed otherwise than by gzip, bz2, xz or zstd; fetch or write it again"
        )
    return header


def _groups(path: str, rows: int) -> Iterator[tuple[int, int, int]]:
    """Ranges of a table's rows that end where its groups do."""
    with open_table(path) as table:
        start = at = 0
        for length in table.groups:
            if at > start and at + length - start > rows:
                yield start, at, at - start
                start = at
            at += length
        if at > start:
            yield start, at, at - start
