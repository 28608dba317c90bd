"""Files, local or remote (fsspec): whatever is written appears whole or not at all (DESIGN §4)."""

import contextlib
import errno
import functools
import hashlib
import json
import os
import posixpath
import re
import shutil
import tarfile
import tempfile
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import IO, Any, Final, ParamSpec, TypeVar, cast

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from mmcorpus.curation.store import written
from mmcorpus.filters import web

web.install()  # http(s) by fsspec: checked addresses alone

Item = TypeVar("Item")
Result = TypeVar("Result")
Call = ParamSpec("Call")

THREADS: Final = 16
PARQUET: Final = "parquet file"
TABLE: Final[dict[str, Any]] = {"compression": "zstd", "write_page_checksum": True}
"""How tables are written; their pages' checksums are checked whenever they are read."""
TEMPORARY_SUFFIX: Final = ".partial"
DISK_FULL: Final = "the disk is full; what was finished is kept. Free space and run the same command again"
_LEFT = re.compile(rf".+\.[0-9a-f]{{12}}{re.escape(TEMPORARY_SUFFIX)}|step-\d{{8}}{re.escape(TEMPORARY_SUFFIX)}")
"""What `atomic_write` and the trainer's checkpoints are called before they are whole."""
_SEVERAL: Final = re.compile(
    r"Multiple matches for FieldRef\.Name\(([^)]{0,500})\)|Field \"([^\"]{0,500})\" exists \d+ times"
)
"""What Arrow says of a column's name that is there more than once."""


class Damaged(ValueError):
    """A file that holds other bytes than were written: cut short, flipped, or never what its name says."""

    def __init__(self, path: str, kind: str, why: object) -> None:
        super().__init__(path, kind, why)
        self.path, self.kind = os.fspath(path), kind
        self.why = str(why).strip().rstrip(".") or type(why).__name__

    def __str__(self) -> str:
        return (
            f"{self.path} is damaged, or no {self.kind}: {self.why}. `mmcorpus verify` of the run says what it is and "
            "what makes it again; outside a run, put it back from a copy or make it again with the command that made it"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        return Damaged, (self.path, self.kind, self.why)


class Unclear(Damaged):
    """A table that holds what was written, and cannot be read all the same."""

    def __str__(self) -> str:
        return f"{self.path} has {self.why}"

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.path, self.kind, self.why)


class SeveralColumns(Unclear):
    """One in which several columns have the name that is asked for: nobody can say which is meant."""


class Refused(ValueError):
    """What is said of a file that is whole, and not what was asked for: `reading` lets it pass."""


@contextlib.contextmanager
def reading(path: str, kind: str) -> Iterator[None]:
    """What cannot be read in this block is `Damaged`, with its path; what the disk or the store says stays as it is."""
    try:
        yield
    except Damaged as error:
        if not isinstance(error, Unclear):
            written.note_damaged(filesystem(error.path)[1], error.why)
        raise
    except Refused:
        raise
    except (
        OSError,
        ValueError,
        KeyError,
        TypeError,
        RecursionError,
        OverflowError,
        MemoryError,
        *(pa.ArrowException, tarfile.TarError),
    ) as error:
        if (broken := web.explained(error, os.fspath(path))) is not None:
            raise broken from None
        if isinstance(error, OSError) and (error.errno is not None or isinstance(error, TimeoutError)):
            error.filename = error.filename or os.fspath(path)
            raise
        if isinstance(error, pa.ArrowInvalid) and "No match for FieldRef" in str(error):  # a column that is not there
            raise pa.ArrowInvalid(f"{path}: {error}") from None
        if (several := _SEVERAL.search(str(error))) is not None:
            why = f"several columns named {several[1] or several[2]!r}; rename or remove all but one"
            raise SeveralColumns(path, kind, why) from error
        if "too deeply nested" in str(error):
            why = "columns that are nested more than 100 deep, which are not read; write it without them"
            raise Unclear(path, kind, why) from error
        written.note_damaged(filesystem(path)[1], str(error))
        raise Damaged(path, kind, error) from error


_STORES: Final = ("aiohttp", "ftplib")
"""Modules whose errors are of a connection, and of no kind that Python knows."""


def naming(function: Callable[Call, Result]) -> Callable[Call, Result]:
    """A function of a path whose errors from a store name it: `Internal Server Error` alone says nothing."""

    @functools.wraps(function)
    def named(*args: Call.args, **kwargs: Call.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            if (found := web.explained(error, str(args[0]))) is not None:
                raise found from None
            if error.errno is not None:
                error.filename = error.filename or str(args[0])
            raise
        except Exception as error:
            if not type(error).__module__.startswith(_STORES):
                raise
            raise OSError(errno.EIO, f"the store broke off: {web.reason(error)}", str(args[0])) from error

    return named


def threaded(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """Results in order; storage is waited for in threads."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, items))


def filesystem(path: str) -> tuple[fsspec.AbstractFileSystem, str]:
    """The fsspec filesystem of a path or URL and the path on it; credentials come from the environment.

    Raises ValueError for an object store's address that has some in it.
    """
    web.refuse_credentials(os.fspath(path))
    try:
        fs, inner = fsspec.core.url_to_fs(os.fspath(path))
    except OSError as error:  # FTP and the like connect here
        if error.errno is not None:
            error.filename = error.filename or os.fspath(path)
        raise
    except (ValueError, ImportError) as error:  # no such protocol, or a package that it needs
        if "://" not in os.fspath(path):
            raise
        raise ValueError(f"{path}: {error}") from None
    except Exception as error:
        if not type(error).__module__.startswith(_STORES):
            raise
        raise OSError(errno.EIO, f"the store refused: {error}", os.fspath(path)) from error
    return fs, inner


def whole(path: str) -> str:
    """A path or URL as it is known from any folder: `file:///…`, `s3://…`."""
    fs, inner = filesystem(path)
    return str(fs.unstrip_protocol(inner))


def _protocols(path: str) -> set[str]:
    protocol = filesystem(path)[0].protocol
    return {protocol} if isinstance(protocol, str) else set(protocol)


def is_local(path: str) -> bool:
    """True for a path on this machine's own filesystem."""
    return "file" in _protocols(path)


def join(root: str, *parts: str) -> str:
    """`root/part/…` for local paths and URLs alike; a store's keys stay its own, also one that begins with a slash."""
    base = os.fspath(root)
    if "://" in base:
        for part in parts:
            base = f"{base.rstrip('/')}/{part}" if part.startswith("/") else posixpath.join(base, part)
        return base
    return posixpath.join(base, *parts)


@naming
def exists(path: str) -> bool:
    """True if a file or folder is there now (listings are not cached)."""
    fs, inner = filesystem(path)
    fs.invalidate_cache()
    if not {"http", "https"} & _protocols(path):
        return bool(fs.exists(inner))
    from mmcorpus.filters import listings

    try:
        return bool(fs.exists(inner, strict=True))  # else a server that does not answer is one that has nothing
    except Exception as error:
        if getattr(error, "status", None) in listings.NOT_THERE:
            return False
        raise


@naming
def list_names(root: str) -> list[str]:
    """The names (not paths) of files and folders directly under `root`, sorted; empty if there is no such folder."""
    fs, inner = filesystem(root)
    fs.invalidate_cache()
    try:
        found = fs.ls(inner, detail=False)
    except (FileNotFoundError, NotADirectoryError):
        return []
    names = {posixpath.basename(str(name).rstrip("/")) for name in found if str(name).rstrip("/") != inner.rstrip("/")}
    return sorted(name for name in names if name and not name.endswith(TEMPORARY_SUFFIX))


@contextlib.contextmanager
def atomic_write(path: str) -> Iterator[IO[bytes]]:
    """A binary file that appears at `path` complete when the block ends, and not at all if it raises.

    Local files are written beside their place, synced, and renamed. Remote ones are spooled to a local temporary
    file and uploaded whole, because closing a half-written fsspec file would commit what it has. Raises OSError with
    the path for a full disk (`DISK_FULL`) and for an upload that fails.
    """
    _, inner = filesystem(path)
    if is_local(path):
        temporary = f"{inner}.{uuid.uuid4().hex[:12]}{TEMPORARY_SUFFIX}"
        with naming_full_disk(inner):
            os.makedirs(os.path.dirname(inner) or ".", exist_ok=True)
            try:
                if os.path.isdir(inner):
                    raise IsADirectoryError(errno.EISDIR, "this is a folder; name a file", inner)
                with open(temporary, "wb") as opened:
                    file = written.HashedFile(opened)
                    yield cast(IO[bytes], file)
                    opened.flush()
                    os.fsync(opened.fileno())
                    _note(file, inner, os.fstat(opened.fileno()).st_mtime_ns)
                os.replace(temporary, inner)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(temporary)
                raise
        return
    with naming_full_disk(tempfile.gettempdir()), tempfile.NamedTemporaryFile(suffix=TEMPORARY_SUFFIX) as spool:
        file = written.HashedFile(cast(IO[bytes], spool))
        yield cast(IO[bytes], file)
        spool.flush()
        _put(spool.name, path)
        _note(file, inner, None)


def _note(file: written.HashedFile, path: str, modified: int | None) -> None:
    if file.in_order:
        written.note(path, written.Note(size=file.size, sha256=file.sha256, modified=modified))


def upload(local: str, path: str) -> None:
    """Copy a local file to a remote path, whole; an OSError that names the path if that fails."""
    _put(local, path)
    size, digest = os.path.getsize(local), sha256(local)
    written.note(filesystem(path)[1], written.Note(size=size, sha256=digest, modified=None))


def _put(local: str, path: str) -> None:
    fs, inner = filesystem(path)
    if not web.BUCKETS & _protocols(path):  # `makedirs` would make a bucket of a mistyped name
        with contextlib.suppress(Exception):
            fs.makedirs(posixpath.dirname(inner), exist_ok=True)  # sftp and the like need it
    try:
        fs.put_file(local, inner)
    except Exception as error:  # each store has its own ("The specified bucket does not exist"), and none says where
        number = getattr(error, "errno", None) or errno.EIO
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise OSError(number, f"cannot be written: {reason}", os.fspath(path)) from error


def disk_is_full(error: BaseException) -> bool:
    """Whether a write failed for want of space; Rust's writers (safetensors, tokenizers) have errors of their own."""
    if isinstance(error, OSError):
        return error.errno in (errno.ENOSPC, errno.EDQUOT)
    return f"(os error {errno.ENOSPC})" in str(error)


@contextlib.contextmanager
def naming_full_disk(path: str) -> Iterator[None]:
    """A full disk met in this block becomes an OSError that says what was being written, and what to do."""
    try:
        yield
    except Exception as error:
        if not disk_is_full(error) or getattr(error, "strerror", None) == DISK_FULL:
            raise
        raise full_disk(os.fspath(path)) from error


def full_disk(path: str) -> OSError:
    """The error of a disk that was full when `path` was written."""
    return OSError(errno.ENOSPC, DISK_FULL, path)


@naming
def read_bytes(path: str, start: int | None = None, end: int | None = None) -> bytes:
    """The bytes of a file, or of its range [start, end)."""
    fs, inner = filesystem(path)
    data: bytes = fs.cat_file(inner, start=start, end=end)
    return data


def write_bytes(path: str, data: bytes) -> None:
    """Write a whole file atomically."""
    with atomic_write(path) as file:
        file.write(data)


@naming
def sha256(path: str) -> str:
    """64 hex digits of a file's bytes, local or remote."""
    fs, inner = filesystem(path)
    with fs.open(inner, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: str) -> Any:
    """The value in a JSON file. Raises Damaged if it is none."""
    data = read_bytes(path)
    with reading(path, "JSON file"):
        return json.loads(data)


def write_json(path: str, value: Any) -> None:
    """Write a value as JSON, keys sorted, atomically: equal values give equal bytes."""
    write_bytes(path, json_bytes(value))


def json_bytes(value: Any) -> bytes:
    """The bytes that `write_json` writes."""
    return (json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False) + "\n").encode()


@naming
def read_table(path: str, columns: list[str] | None = None) -> pa.Table:
    """A parquet file as an Arrow table; the schema's metadata comes along. Raises Damaged for one that cannot be read,
    or whose pages differ from their checksums."""
    fs, inner = filesystem(path)
    with fs.open(inner, "rb") as file, reading(path, PARQUET):
        return pq.read_table(file, columns=columns, page_checksum_verification=True)


@contextlib.contextmanager
def open_parquet(path: str) -> Iterator[pq.ParquetFile]:
    """A parquet file to read in parts. What fails in the block with Arrow's errors is raised as Damaged."""
    fs, inner = filesystem(path)
    with fs.open(inner, "rb") as file:
        with reading(path, PARQUET):
            opened = pq.ParquetFile(file, page_checksum_verification=True)
        try:
            yield opened
        except (pa.ArrowException, OSError) as error:
            with reading(path, PARQUET):
                raise error


def write_table(path: str, table: pa.Table) -> None:
    """Write an Arrow table as zstd parquet, its pages with checksums, atomically: equal tables give equal bytes."""
    with atomic_write(path) as file:
        pq.write_table(table, file, **TABLE)


@naming
def read_schema(path: str) -> pa.Schema:
    """A parquet file's schema without its data. Raises Damaged if it cannot be read."""
    fs, inner = filesystem(path)
    with fs.open(inner, "rb") as file, reading(path, PARQUET):
        return pq.read_schema(file)


@dataclass(frozen=True, slots=True)
class Stat:
    """A file as its filesystem lists it."""

    size: int
    modified: int | None
    """Nanoseconds since 1970; None for remote files."""


@naming
def list_files(root: str) -> dict[str, Stat]:
    """Every file at or below a path, by its path on the filesystem; what is half-written is left out."""
    fs, inner = filesystem(root)
    if not is_local(root):
        fs.invalidate_cache()
        found = fs.find(inner, detail=True)
        # Of a path that is itself a file, some filesystems say no more than that.
        sizes = {str(path): (info if "size" in info else fs.info(path))["size"] for path, info in found.items()}
        return {path: Stat(int(size), None) for path, size in sorted(sizes.items())}
    if os.path.isfile(inner):
        there = os.stat(inner)
        return {inner: Stat(there.st_size, there.st_mtime_ns)}
    files: dict[str, Stat] = {}
    for folder, folders, names in os.walk(inner):
        folders[:] = sorted(name for name in folders if not _LEFT.fullmatch(name))
        for name in sorted(names):
            path = os.path.join(folder, name)
            with contextlib.suppress(FileNotFoundError):  # writers rename
                there = os.stat(path)
                if not _LEFT.fullmatch(name):
                    files[path] = Stat(there.st_size, there.st_mtime_ns)
    return files


def make_folder(path: str) -> None:
    """Make a folder and those above it; object stores, which have none, are left alone."""
    if is_local(path):
        os.makedirs(filesystem(path)[1], exist_ok=True)


def move(source: str, target: str) -> None:
    """Put a complete file in another's place on the same filesystem; atomic where the filesystem's rename is."""
    fs, inner = filesystem(source)
    _, place = filesystem(target)
    written.note_moved(inner, place)
    if is_local(source):
        os.replace(inner, place)
        return
    fs.mv(inner, place)
    fs.invalidate_cache()


def remove(path: str) -> None:
    """Remove a file or a folder with all in it; nothing happens if it is not there."""
    fs, inner = filesystem(path)
    if is_local(path):
        if os.path.isdir(inner) and not os.path.islink(inner):
            shutil.rmtree(inner)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.remove(inner)
        return
    fs.invalidate_cache()
    if fs.exists(inner):
        fs.rm(inner, recursive=True)


def sweep(root: str) -> int:
    """Remove what writers that were killed left half-written under a local folder; returns how many.

    Only for a folder in which nobody writes now. Remote writes leave nothing behind.
    """
    if not is_local(root):
        return 0
    swept = 0
    for folder, folders, files in os.walk(filesystem(root)[1]):
        left = [name for name in (*folders, *files) if _LEFT.fullmatch(name)]
        folders[:] = [name for name in folders if name not in left]
        for name in left:
            remove(os.path.join(folder, name))
        swept += len(left)
    return swept
