"""Shards whose images lie where others put them: a table says of each which bytes of which file it is.

A folder with `references.json` holds such shards. `00000.parquet` and `00000_stats.json` are as a download's; in place
of the tar, `00000.images.parquet` has a row an image, in the order of the samples and of each one's images (`SCHEMA`).
An image is a range of a file's bytes (a member of a tar, a file of its own), or one of those in a row of a parquet or
Arrow file. Images that had no bytes of their own (base64 in JSON, members of a compressed tar) were copied into the
shard's own `00000.tar`, and are ranges of it.

`references.json` names the folders that files are looked for under, and nothing outside is read: neither `..` nor an
absolute path nor a symbolic link leads out. A file of another size or time than when it was indexed is not read.
"""

import collections
import contextlib
import errno
import functools
import hashlib
import itertools
import logging
import os
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import IO, Any, Final, NamedTuple

import pyarrow as pa

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.members import storable
from mmcorpus.curation.store.named_files import Outside, State, is_plain, path_below, read_range, read_whole, state_of
from mmcorpus.curation.store.row_tables import images_of_rows
from mmcorpus.curation.store.tars import MAX_MEMBER_BYTES

REFERENCES_FILE: Final = "references.json"
SUFFIX: Final = ".images.parquet"
BESIDE: Final = "../"
"""What the name of a root begins with that lies beside the folder of the shards and moves with it."""
OWN: Final = -1
"""In place of a root: the folder of the shards themselves."""
SCHEMA: Final = pa.schema(
    [
        ("key", pa.string()),  # of the sample
        ("number", pa.int32()),  # of the image in it, from 0
        ("extension", pa.string()),
        ("root", pa.int16()),  # which of the roots of references.json; OWN
        ("file", pa.string()),  # below the root
        ("offset", pa.int64()),  # of its first byte, where it is a range of them
        ("size", pa.int64()),
        ("row", pa.int64()),  # of the table, where it is in one
        ("item", pa.int32()),  # which of the row's images
        ("columns", pa.string()),  # that hold images, separated by line breaks
        ("file_size", pa.int64()),  # when it was indexed
        ("modified", pa.string()),  # nanoseconds since 1970, or the store's ETag or date; null: known by its size alone
    ]
)
_ROW: Final = SCHEMA.get_field_index("row")
MISSING_IMAGE: Final = "missing_image"
_SPAN: Final = 8 << 20
"""Bytes that are asked of a remote file at once, of images that lie close to each other."""
_SURE: Final = 10.0
"""Seconds for which a file that was as it was indexed is taken to be so."""
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR})
"""What is the matter with this process or machine, and not with a file."""
_log = logging.getLogger(__name__)


def lost_images(row: Mapping[str, Any], there: int) -> str:
    """Why a sample of a shard of references is none: its row says more images than are `there`; empty if not."""
    told = row.get("images") or 0
    return f"{MISSING_IMAGE}: {told - there} of {told} are gone or have changed since" if there < told else ""


class Moved(LookupError):
    """A file that references speak of is gone, has changed, or cannot be read; its text says which, and what to do."""

    def __init__(self, path: str, what: str, file: str, *, shared: bool = False) -> None:
        """path: of the file, which `what` is said of; file: below the folder that was named; `shared`: many images lie
        in it."""
        super().__init__(path, what, file)
        self.shared = shared
        self.brief = f"{file} {what}"
        """The text without the folder, the same wherever that lies."""

    def __str__(self) -> str:
        return f"{self.args[0]} {self.args[1]}"


def read_roots(folder: str) -> tuple[str, ...]:
    """The folders that the references of a folder of shards speak of. Raises ValueError for a file that is not ours."""
    path = storage.join(folder, REFERENCES_FILE)
    found = storage.read_json(path)
    roots = found.get("roots") if isinstance(found, dict) else None
    if not isinstance(roots, list) or not all(isinstance(root, str) for root in roots):
        raise ValueError(f"{path} is not of mmcorpus; it needs `roots`, a list of folders")
    for root in roots:
        if "\0" in root or storable(root) != root:
            raise ValueError(f"{path} names the folder {root!a}, which is no path; index again")
    parent = os.fspath(folder).rstrip("/").rpartition("/")[0]
    return tuple(storage.join(parent, root.removeprefix(BESIDE)) if root.startswith(BESIDE) else root for root in roots)


def images_path(folder: str, name: str) -> str:
    """The table of a shard's images."""
    return storage.join(folder, f"{name}{SUFFIX}")


def places_digest(folder: str, name: str) -> str:
    """32 hex digits of where a shard's images lie, but for the times of their files: those of rows whose uid and sizes
    stay the same may be others."""
    path = images_path(folder, name)
    table = storage.read_table(path, columns=[field.name for field in SCHEMA if field.name != "modified"])
    with storage.reading(path, storage.PARQUET):
        text = repr(table.to_pydict()).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(text, digest_size=16).hexdigest()


class Place(NamedTuple):
    """An image's row of the table."""

    key: str
    number: int
    extension: str
    path: str
    file: str
    """The path below its root."""
    offset: int | None
    size: int | None
    row: int | None
    item: int | None
    columns: tuple[str, ...]
    state: State | None
    """Of the file when it was indexed; None for the shard's own."""

    @property
    def alone(self) -> bool:
        """Whether it is a file of its own."""
        return self.state is not None and self.offset == 0 and self.size == self.state.size


class References:
    """A shard's images where they lie, to be read in order or at random, from any thread."""

    def __init__(self, folder: str, name: str) -> None:
        """Read the table. Raises storage.Damaged, FileNotFoundError."""
        self.path = images_path(folder, name)
        self._folder, self._roots = folder, read_roots(folder)
        table = storage.read_table(self.path, columns=SCHEMA.names)
        with storage.reading(self.path, storage.PARQUET):
            values: dict[str, list[Any]] = table.cast(SCHEMA).to_pydict()
        self._rows = list(zip(*values.values(), strict=True))
        """In the order of SCHEMA's columns."""
        self._keys, self._sizes = values["key"], values["size"]
        self._by_key: dict[str, list[int]] = {}
        for index, key in enumerate(self._keys):
            self._by_key.setdefault(key, []).append(index)
        self._right: dict[str, float] = {}
        """By path, until when a file need not be looked at again."""
        self._lock = threading.Lock()
        self._spool: dict[int, tuple[int, int]] = {}
        self._spooled: set[str] = set()
        self._spool_file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self._keys)

    def keyed(self) -> Iterator[str]:
        """The samples that have images."""
        return iter(self._by_key)

    def first(self, key: str) -> tuple[int, int] | None:
        """The row of a sample's first image, and its size in bytes (1 if that is not known); None without one."""
        found = self._by_key.get(key)
        return None if not found else (found[0], self._sizes[found[0]] or 1)

    def images(self, key: str, numbers: Sequence[int] | None = None) -> list[tuple[str, bytes]]:
        """Extension and bytes of a sample's images, all or those of these numbers; raises LookupError saying what is
        missing."""
        places = {place.number: place for place in map(self._place, self._by_key.get(key, ()))}
        chosen = sorted(places) if numbers is None else list(numbers)
        missing = [number for number in chosen if number not in places]
        if missing:
            raise LookupError(f"no image {missing[0]} of sample {key} in {os.path.basename(self.path)}")
        return [(places[number].extension, self._read(places[number])) for number in chosen]

    def image(self, index: int) -> bytes:
        """The image of a row of the table; raises LookupError."""
        return self._read(self._place(index))

    def samples(self, keys: Collection[str] | None = None) -> Iterator[tuple[str, list[tuple[str, bytes]]]]:
        """Each key with its images' extensions and bytes, in the table's order; only those of `keys` if given.

        A file of its own that is gone or has changed costs its image; each is logged.

        Raises:
            Moved: so has a file that holds many, or every image of the shard.
        """
        keys = None if keys is None else set(keys)
        wanted = [index for index, key in enumerate(self._keys) if keys is None or key in keys]
        lost: list[Moved] = []
        read = 0
        for key, group in itertools.groupby(self._in_order(wanted), lambda found: found[0].key):
            images: list[tuple[str, bytes]] = []
            whole = True
            for place, data in group:
                read += 1
                if isinstance(data, Moved):
                    if not place.alone:
                        raise data
                    lost.append(data)
                    whole = False
                else:
                    images.append((place.extension, data))
            yield key, images if whole else []
        if lost and len(lost) == len(self):
            raise lost[0]
        if lost:
            _log.warning("%s: %s of %s images are lost: %s", self.path, len(lost), read, lost[0])

    def _in_order(self, wanted: Sequence[int]) -> Iterator[tuple[Place, bytes | Moved]]:
        """The images of some rows, whatever is close together read at once."""
        together: list[Place] = []
        for index in wanted:
            place = self._place(index)
            if together and (place.path, place.row is None) != (together[0].path, together[0].row is None):
                yield from self._together(together)
                together = []
            if place.row is not None or not is_plain(place.path):
                together.append(place)
                continue
            try:
                yield place, self._read(place)
            except Moved as error:
                yield place, error
        if together:
            yield from self._together(together)

    def _together(self, places: Sequence[Place]) -> Iterator[tuple[Place, bytes | Moved]]:
        """The images of rows of one file."""
        return self._of_remote(places) if places[0].row is None else self._of_table(places)

    def _of_table(self, places: Sequence[Place]) -> Iterator[tuple[Place, bytes | Moved]]:
        left = collections.deque(places)
        path, columns = left[0].path, left[0].columns
        try:
            self._check(left[0])
            with _naming(left[0]):
                for row, images in images_of_rows(path, columns, [place.row or 0 for place in places]):
                    while left and left[0].row == row:
                        place = left.popleft()
                        data = images[place.item] if place.item is not None and place.item < len(images) else None
                        yield place, _lacking(place) if data is None else data
        except Moved as error:
            yield from ((place, error) for place in left)
        else:
            yield from ((place, _lacking(place)) for place in left)

    def _of_remote(self, places: Sequence[Place]) -> Iterator[tuple[Place, bytes | Moved]]:
        rest = list(places)
        try:
            self._check(rest[0])
            while rest:
                start = rest[0].offset or 0
                taken, end = 0, start
                for place in rest:
                    stop = (place.offset or 0) + (place.size or 0)
                    if taken and not (end <= (place.offset or 0) and stop - start <= _SPAN):
                        break
                    taken, end = taken + 1, stop
                with _naming(rest[0]):
                    data = storage.read_bytes(rest[0].path, start, end)
                chosen, rest = rest[:taken], rest[taken:]
                for place in chosen:
                    own = (place.offset or 0) - start
                    found = data[own : own + (place.size or 0)]
                    yield place, found if len(found) == place.size else _ending(place)
        except Moved as error:
            yield from ((place, error) for place in rest)

    def _place(self, index: int) -> Place:
        key, number, extension, root, file, offset, size, row, item, columns, file_size, modified = self._rows[index]
        own = root == OWN
        if not _makes_sense(root, file, offset, size, row, item, file_size):
            said = f"root {root}, offset {offset}, size {size}, row {row}, item {item}, of {file!r}"
            what = f"says of an image what cannot be ({said}); index again"
            raise Moved(self.path, what, os.path.basename(self.path))
        if not own and not 0 <= root < len(self._roots):
            what = f"speaks of root {root}, which {REFERENCES_FILE} does not have; index again"
            raise Moved(self.path, what, os.path.basename(self.path))
        try:
            path = _path(self._folder if own else self._roots[root], file)
        except Outside:
            what = f"speaks of {file!r}, which leads out of its folder; index again"
            raise Moved(self.path, what, os.path.basename(self.path)) from None
        names = tuple(columns.split("\n")) if columns else ()
        state = None if own else State(file_size, modified)
        return Place(key, number, extension, path, file, offset, size, row, item, names, state)

    def _check(self, place: Place) -> None:
        """Raises Moved for a file that is not as it was indexed: at every reading, until it is mended."""
        now = time.monotonic()
        if now >= self._right.get(place.path, 0.0):
            with _naming(place):
                wrong = _difference(place)
            if wrong:
                raise Moved(place.path, wrong, place.file, shared=not place.alone)
            self._right[place.path] = now + _SURE

    def _read(self, place: Place) -> bytes:
        if place.alone and place.state is not None and (whole := read_whole(place.path, place.state)) is not None:
            return whole
        self._check(place)
        if place.row is not None:
            return self._from_spool(place)
        with _naming(place):
            data = read_range(place.path, place.offset or 0, place.size or 0)
        if len(data) != place.size:
            raise _ending(place)
        return data

    def _from_spool(self, place: Place) -> bytes:
        """An image of a table, which is read but once: a temporary file keeps its images while they are needed."""
        with self._lock:
            if place.path not in self._spooled:
                self._fill_spool(place.path)
        found = self._spool.get(self._by_key[place.key][0] + place.number)
        if found is None:
            raise _lacking(place)
        assert self._spool_file is not None
        return os.pread(self._spool_file.fileno(), found[1], found[0])

    def _fill_spool(self, path: str) -> None:
        """Keep the images of a table. Raises Moved, and is tried again then."""
        if self._spool_file is None:
            self._spool_file = tempfile.TemporaryFile()  # noqa: SIM115 - stays open as long as these references
        file, spool = self._spool_file, {}
        in_tables = (index for index, row in enumerate(self._rows) if row[_ROW] is not None)
        indices = [index for index in in_tables if self._place(index).path == path]
        with storage.naming_full_disk(tempfile.gettempdir()):
            for index, (_, data) in zip(indices, self._in_order(indices), strict=True):
                if isinstance(data, bytes):
                    spool[index] = file.tell(), len(data)
                    file.write(data)
                elif data.shared:
                    raise data
            file.flush()
        self._spool |= spool
        self._spooled.add(path)


def _makes_sense(
    root: int | None,
    file: str | None,
    offset: int | None,
    size: int | None,
    row: int | None,
    item: int | None,
    file_size: int | None,
) -> bool:
    """Whether a row of the table can be of an image, which lies within its file."""
    if root is None or file is None or (root != OWN and file_size is None):
        return False
    if row is not None:
        return row >= 0 and item is not None and item >= 0
    if offset is None or size is None or offset < 0 or not 0 <= size <= MAX_MEMBER_BYTES:
        return False
    return root == OWN or offset + size <= (file_size or 0)


def _lacking(place: Place) -> Moved:
    return Moved(place.path, f"has no such image in row {place.row}", place.file)


def _ending(place: Place) -> Moved:
    return Moved(place.path, f"ends inside the image of sample {place.key}", place.file)


@contextlib.contextmanager
def _naming(place: Place) -> Iterator[None]:
    """A file that cannot be read in this block has Moved. What may pass by itself, as the way to a store, stays as it
    is."""
    try:
        yield
    except (ConnectionError, TimeoutError):
        raise
    except OSError as error:
        named = isinstance(error, FileNotFoundError | PermissionError)
        if not named and (error.errno is None or error.errno in _PASSING):
            raise
        why = error.strerror or error
        what = f"cannot be read: {why}; mend it, or index again"
        raise Moved(place.path, what, place.file, shared=not place.alone) from None


@functools.lru_cache(maxsize=4096)
def _path(root: str, file: str) -> str:
    return path_below(root, file)


def _difference(place: Place) -> str:
    """How a file differs from what was indexed, to be said after its name; empty if it does not."""
    if place.state is None:
        return "" if storage.exists(place.path) else "is gone; index again"
    try:
        now = state_of(place.path)
    except FileNotFoundError:
        return "is gone since it was indexed; put it back, or index again"
    if now == place.state or place.state == State(now.size, None):
        return ""
    if now.size != place.state.size:
        sizes = f"{place.state.size:,} bytes then, {now.size:,} now"
        return f"has changed since it was indexed ({sizes}); index again"
    return "was written again since it was indexed; index again"


@functools.lru_cache(maxsize=16)
def _open(folder: str, name: str, version: str) -> References:
    return References(folder, name)


def open_references(folder: str, name: str) -> References:
    """A shard's references; recently opened ones are kept."""
    fs, inner = storage.filesystem(images_path(folder, name))
    fs.invalidate_cache()
    return _open(folder, name, str(fs.ukey(inner)))
