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
import functools
import itertools
import logging
import operator
import os
import tempfile
import threading
import time
from collections.abc import Collection, Iterator, Sequence
from typing import IO, Final

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.named_files import is_plain, read_range, read_whole
from mmcorpus.curation.store.places import (
    SCHEMA,
    Moved,
    Place,
    difference,
    ending,
    images_path,
    lacking,
    makes_sense,
    naming,
    place_of,
    read_places,
    read_roots,
)
from mmcorpus.curation.store.row_tables import images_of_rows
from mmcorpus.curation.store.tars import MAX_MEMBER_BYTES

_KEY, _NUMBER, _EXTENSION, _ROOT, _FILE, _, _SIZE, _ROW, _ITEM, _COLUMNS, _FILE_SIZE, _MODIFIED = range(len(SCHEMA))
_FILE_OF: Final = operator.itemgetter(_ROOT, _FILE)
_SAME_OF: Final = operator.itemgetter(_ROOT, _FILE, _COLUMNS, _FILE_SIZE, _MODIFIED)
_STATE_OF: Final = operator.itemgetter(_ROOT, _FILE, _FILE_SIZE, _MODIFIED)
_SPAN: Final = 8 << 20
"""Bytes that are asked of a remote file at once, of images that lie close to each other."""
_SURE: Final = 10.0
"""Seconds for which a file that was as it was indexed is taken to be so."""
_log = logging.getLogger(__name__)


class References:
    """A shard's images where they lie, to be read in order or at random, from any thread."""

    def __init__(self, folder: str, name: str) -> None:
        """Read the table. Raises storage.Damaged, FileNotFoundError."""
        self.path = images_path(folder, name)
        self._folder, self._roots = folder, read_roots(folder)
        self._rows = read_places(folder, name)
        """In the order of SCHEMA's columns."""
        self._by_key: dict[str, list[int]] = {}
        for index, row in enumerate(self._rows):
            self._by_key.setdefault(row[_KEY], []).append(index)
        inside = collections.Counter(map(_FILE_OF, self._rows))
        self._single = {index for index, row in enumerate(self._rows) if inside[_FILE_OF(row)] == 1}
        """Rows whose file has no other image."""
        self._odd = set[int]()
        """Rows that say another size or time of their file than most of its rows."""
        if len(inside) < len(self._rows):
            alike = collections.Counter(map(_STATE_OF, self._rows))
            if len(alike) > len(inside):
                self._odd = {
                    index for index, row in enumerate(self._rows) if 2 * alike[_STATE_OF(row)] < inside[_FILE_OF(row)]
                }
        self._right: dict[str, float] = {}
        """By path, until when a file need not be looked at again."""
        self._lock = threading.Lock()
        self._spool: dict[int, tuple[int, int]] = {}
        self._spooled: set[str] = set()
        self._spool_file: IO[bytes] | None = None

    def __len__(self) -> int:
        return len(self._rows)

    def keyed(self) -> Iterator[str]:
        """The samples that have images."""
        return (key for key in self._by_key if key is not None)

    def first(self, key: str) -> tuple[int, int] | None:
        """The row of a sample's first image, and its size in bytes (1 if that is not known); None without one."""
        found = self._by_key.get(key)
        return None if not found else (found[0], self._rows[found[0]][_SIZE] or 1)

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

        A row that cannot be, and a file that is gone or has changed and has no other image, cost their sample, which
        comes without images; each is logged.

        Raises:
            Moved: a file that holds other images of the shard is gone or has changed, or every image is lost.
        """
        asked = None if keys is None else set(keys)
        chosen = [key for key in self.keyed() if asked is None or key in asked]
        wanted = [index for key in chosen for index in self._by_key[key]]
        lost: list[Moved] = []
        found = self._in_order(wanted)
        for key in chosen:
            images: dict[int, tuple[str, bytes]] = {}
            whole = True
            for index in self._by_key[key]:
                data, row = next(found), self._rows[index]
                if isinstance(data, bytes) and row[_NUMBER] not in images:
                    images[row[_NUMBER]] = row[_EXTENSION], data
                    continue
                if isinstance(data, bytes):
                    data = Moved(self.path, f"has image {row[_NUMBER]} of sample {key} twice; index again", row[_FILE])
                if data.shared:
                    raise data
                lost.append(data)
                whole = False
            yield key, list(images.values()) if whole else []
        if lost and len(lost) == len(self):
            raise lost[0]
        if lost:
            _log.warning("%s: %s of %s images are lost: %s", self.path, len(lost), len(wanted), lost[0])

    def _in_order(self, wanted: Sequence[int]) -> Iterator[bytes | Moved]:
        """The images of some rows, whatever is close together read at once."""
        together: list[int] = []
        for index in wanted:
            if together and self._goes_on(together[-1], index):
                together.append(index)
                continue
            if together:
                yield from self._together(together)
                together = []
            data: bytes | Moved | None = self._whole(index)
            if data is None:
                try:
                    place = self._place(index)
                except Moved as error:
                    data = error
                else:
                    if place.row is not None or not is_plain(place.path):
                        together = [index]
                        continue
                    data = self._tried(place)
            yield data
        if together:
            yield from self._together(together)

    def _goes_on(self, before: int, index: int) -> bool:
        """Whether an image is read together with the one before it: of the same file, and after it in a table. What it
        takes to make a `Place` of each costs as much as to copy an image."""
        one, other = self._rows[before], self._rows[index]
        if _SAME_OF(one) != _SAME_OF(other) or index in self._odd:
            return False
        key, number, extension, root, file, offset, size, row, item, _, file_size, _ = other
        before_it = one[_ROW]
        after = before_it is None if row is None else before_it is not None and before_it <= row
        named = None not in (key, number, extension)
        return after and named and makes_sense(root, file, offset, size, row, item, file_size)

    def _whole(self, index: int) -> bytes | None:
        """The image of a row that is a file of its own and as it was: no more is done than to open and read it. None
        for others, and where something is the matter."""
        key, number, extension, root, file, offset, size, row, _, _, file_size, modified = self._rows[index]
        if row is not None or offset != 0 or size != file_size or index in self._odd:
            return None
        if None in (key, number, extension, root, file, size) or not 0 <= root < len(self._roots):
            return None
        return read_whole(self._roots[root], file, size, modified) if 0 <= size <= MAX_MEMBER_BYTES else None

    def _tried(self, place: Place) -> bytes | Moved:
        try:
            return self._read(place)
        except Moved as error:
            return error

    def _together(self, rows: Sequence[int]) -> Iterator[bytes | Moved]:
        """The images of rows of one file."""
        first = self._place(rows[0])
        return self._of_table(first, rows) if first.row is not None else self._of_remote([*map(self._place, rows)])

    def _of_table(self, first: Place, rows: Sequence[int]) -> Iterator[bytes | Moved]:
        left = collections.deque(rows)
        numbers = [self._rows[index][_ROW] for index in rows]
        try:
            self._check(first)
            with naming(first):
                for row, images in images_of_rows(first.path, first.columns, numbers):
                    while left and self._rows[left[0]][_ROW] < row:
                        yield lacking(self._place(left.popleft()))
                    while left and self._rows[left[0]][_ROW] == row:
                        index = left.popleft()
                        item = self._rows[index][_ITEM]
                        data = images[item] if item < len(images) else None
                        yield lacking(self._place(index)) if data is None else data
        except Moved as error:
            yield from itertools.repeat(error, len(left))
        except LookupError as error:
            files = (self._rows[index][_FILE] for index in left)
            yield from (Moved(first.path, f"{error}; index again", file, wrong=True) for file in files)
        else:
            yield from (lacking(self._place(index)) for index in left)

    def _of_remote(self, places: Sequence[Place]) -> Iterator[bytes | Moved]:
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
                with naming(rest[0]):
                    data = storage.read_bytes(rest[0].path, start, end)
                chosen, rest = rest[:taken], rest[taken:]
                for place in chosen:
                    own = (place.offset or 0) - start
                    found = data[own : own + (place.size or 0)]
                    yield found if len(found) == place.size else ending(place)
        except Moved as error:
            yield from itertools.repeat(error, len(rest))

    def _place(self, index: int) -> Place:
        others = index not in self._single
        place = place_of(self._rows[index], self.path, self._folder, self._roots, at=index, others=others)
        if index in self._odd:
            what = f"says of {place.file!r} another size or time than its other rows; index again"
            raise Moved(self.path, what, os.path.basename(self.path), wrong=True)
        return place

    def _check(self, place: Place) -> None:
        """Raises Moved for a file that is not as it was indexed: at every reading, until it is mended."""
        now = time.monotonic()
        if now >= self._right.get(place.path, 0.0):
            with naming(place):
                wrong = difference(place)
            if wrong:
                raise Moved(place.path, wrong, place.file, shared=place.shared)
            self._right[place.path] = now + _SURE

    def _read(self, place: Place) -> bytes:
        if place.alone and (whole := self._whole(place.at)) is not None:
            return whole
        self._check(place)
        if place.row is not None:
            return self._from_spool(place)
        with naming(place):
            data = read_range(place.path, place.offset or 0, place.size or 0)
        if len(data) != place.size:
            raise ending(place)
        return data

    def _from_spool(self, place: Place) -> bytes:
        """An image of a table, which is read but once: a temporary file keeps its images while they are needed."""
        with self._lock:
            if place.path not in self._spooled:
                self._fill_spool(place.path)
        found = self._spool.get(place.at)
        if found is None:
            raise lacking(place)
        assert self._spool_file is not None
        return os.pread(self._spool_file.fileno(), found[1], found[0])

    def _fill_spool(self, path: str) -> None:
        """Keep the images of a table. Raises Moved, and is tried again then."""
        if self._spool_file is None:
            self._spool_file = tempfile.TemporaryFile()  # noqa: SIM115 - stays open as long as these references
        file, spool = self._spool_file, {}
        indices = []
        for index, row in enumerate(self._rows):
            with contextlib.suppress(Moved):  # said of its own sample
                if row[_ROW] is not None and self._place(index).path == path:
                    indices.append(index)
        with storage.naming_full_disk(tempfile.gettempdir()):
            for index, data in zip(indices, self._in_order(indices), strict=True):
                if isinstance(data, bytes):
                    spool[index] = file.tell(), len(data)
                    file.write(data)
                elif data.shared:
                    raise data
            file.flush()
        self._spool |= spool
        self._spooled.add(path)


@functools.lru_cache(maxsize=16)
def _open(folder: str, name: str, version: str) -> References:
    return References(folder, name)


def open_references(folder: str, name: str) -> References:
    """A shard's references; recently opened ones are kept."""
    fs, inner = storage.filesystem(images_path(folder, name))
    fs.invalidate_cache()
    return _open(folder, name, str(fs.ukey(inner)))
