"""Where the images of a shard of references lie: the table's columns, what its rows say, and which cannot be."""

import contextlib
import errno
import functools
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, NamedTuple

import pyarrow as pa

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.members import storable
from mmcorpus.curation.store.named_files import Outside, State, path_below, state_of
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
MISSING_IMAGE: Final = "missing_image"
_PASSING: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS, errno.EAGAIN, errno.EINTR})
"""What is the matter with this process or machine, and not with a file."""


def lost_images(row: Mapping[str, Any], there: int) -> str:
    """Why a sample of a shard of references is none: its row says more images than are `there`; empty if not."""
    told = row.get("images") or 0
    return f"{MISSING_IMAGE}: {told - there} of {told} are gone or have changed since" if there < told else ""


class Moved(LookupError):
    """A file that references speak of is gone, has changed, or cannot be read; its text says which, and what to do."""

    def __init__(self, path: str, what: str, file: str, *, shared: bool = False, wrong: bool = False) -> None:
        """path: of the file, which `what` is said of; file: below the folder that was named; shared: the file is not as
        it was, and other images lie in it; wrong: the file is as it was indexed, and the table's row is not of it."""
        super().__init__(path, what, file)
        self.shared, self.wrong = shared, wrong
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
    at: int
    """Which row of the table."""
    others: bool
    """Whether the shard has more images in the file."""

    @property
    def alone(self) -> bool:
        """Whether it is a file of its own."""
        return self.state is not None and self.offset == 0 and self.size == self.state.size

    @property
    def shared(self) -> bool:
        """Whether the loss of its file is that of other images, too."""
        return self.others and not self.alone


def place_of(
    row: Sequence[Any], table: str, folder: str, roots: Sequence[str], *, at: int = 0, others: bool = False
) -> Place:
    """What a row of the table at a path says, its values in the order of `SCHEMA`; the last two as `Place` has them.

    Raises Moved, of the table, for a row that cannot be of an image within a file below one of the roots.
    """
    key, number, extension, root, file, offset, size, of_row, item, columns, file_size, modified = row
    if None in (key, number, extension) or not makes_sense(root, file, offset, size, of_row, item, file_size):
        said = f"root {root}, offset {offset}, size {size}, row {of_row}, item {item}, of {file!r}"
        of = f"image {number} of sample {key}"
        raise _impossible(table, f"says of {of} what cannot be ({said})")
    if root != OWN and not 0 <= root < len(roots):
        raise _impossible(table, f"speaks of root {root}, which {REFERENCES_FILE} does not have")
    try:
        path = _path(folder if root == OWN else roots[root], file)
    except Outside:
        raise _impossible(table, f"speaks of {file!r}, which leads out of its folder") from None
    names = _names(columns) if columns else ()
    state = None if root == OWN else State(file_size, modified)
    return Place(key, number, extension, path, file, offset, size, of_row, item, names, state, at, others)


def _impossible(table: str, what: str) -> Moved:
    return Moved(table, f"{what}; index again", os.path.basename(table), wrong=True)


@functools.lru_cache(maxsize=64)
def _names(columns: str) -> tuple[str, ...]:
    return tuple(columns.split("\n"))


def read_places(folder: str, name: str) -> list[tuple[Any, ...]]:
    """The rows of a shard's table, each in the order of `SCHEMA`. Raises storage.Damaged, FileNotFoundError."""
    path = images_path(folder, name)
    table = storage.read_table(path, columns=SCHEMA.names)
    with storage.reading(path, storage.PARQUET):
        return list(zip(*table.cast(SCHEMA).to_pydict().values(), strict=True))


def is_table(path: str) -> bool:
    """Whether a file is a table of places: a selection of the images of pages is called so, too, and lies elsewhere."""
    return path.endswith(SUFFIX) and storage.exists(storage.join(os.path.dirname(path), REFERENCES_FILE))


def wrong_rows(path: str) -> list[str]:
    """What the rows of a table of places say that cannot be, in order of the rows; the images are not looked at."""
    folder, _, file = path.rpartition("/")
    found = []
    roots = read_roots(folder)
    for row in read_places(folder, file.removesuffix(SUFFIX)):
        try:
            place_of(row, path, folder, roots)
        except Moved as error:
            found.append(str(error.args[1]))
    return found


def makes_sense(
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


def lacking(place: Place) -> Moved:
    """The error of a table in which there is no such image."""
    return Moved(place.path, f"has no such image in row {place.row}", place.file, wrong=True)


def ending(place: Place) -> Moved:
    """The error of a file that is shorter than its image."""
    return Moved(place.path, f"ends inside the image of sample {place.key}", place.file, wrong=True)


@contextlib.contextmanager
def naming(place: Place) -> Iterator[None]:
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
        raise Moved(place.path, what, place.file, shared=place.shared) from None


@functools.lru_cache(maxsize=4096)
def _path(root: str, file: str) -> str:
    return path_below(root, file)


def difference(place: Place) -> str:
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
