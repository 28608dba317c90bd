"""Samples whose files lie side by side: members of a tar, or files of a folder, by WebDataset's keys.

A key is all up to the first dot of a name, and counts within its folder; what macOS puts beside a file is passed over.
Of a sample the images, the caption (`.txt`, `.caption`, else the json's) and the json are taken, and the row of its key
in the parquet that lies beside a tar or folder of the same name.
"""

import codecs
import contextlib
import logging
import os
import tarfile
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import IO, Any, Final

from mmcorpus.curation.download.list_columns import BadValue, caption_text
from mmcorpus.curation.sources.config import USUAL, IndexConfig
from mmcorpus.curation.sources.found import BAD_CAPTION, BAD_ROW, Found, FoundImage, Where
from mmcorpus.curation.sources.inputs import Part, SourceError, beside, sample_files
from mmcorpus.curation.store import compressed, storage
from mmcorpus.curation.store.bare import SUCCESS, read_sample
from mmcorpus.curation.store.members import IMAGE_EXTENSIONS, image_order, own_uid, storable
from mmcorpus.curation.store.named_files import read_range, state_of
from mmcorpus.curation.store.row_tables import binary_columns, open_table, rows_of
from mmcorpus.curation.store.tars import is_readable, read_tar, sample_of

MAX_TEXT: Final = 4 << 20
"""Bytes of a caption, json or row beside it that is read."""
_TEXTS: Final = ("json", "txt", "caption")
_UNREADABLE: Final = "a file of the tar that is sparse, too large, or has headers that make no sense"
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class _File:
    """A member or file of a sample."""

    ending: str
    size: int
    read: Callable[[], bytes]
    where: Where | None
    unreadable: bool = False
    """It is no plain file, too large, or has headers that make no sense."""


Group = tuple[str, str, dict[str, _File]]
"""Folder, key, and files by ending."""


def read_part(part: Part, config: IndexConfig) -> Iterator[Found]:
    """The samples of a tar or of a part of a folder, then the rows of the parquet beside it that had failed.

    Columns that the config names are of the sample's json or row, and come before its `.txt`.

    Raises:
        SourceError, tarfile.TarError: the tar is damaged.
        storage.Damaged: so is the parquet.
    """
    if part.input.format == "files":
        groups = _of_folder(part)
    else:
        groups = _of_stream(part) if part.input.compression else iter(_of_tar(part))
    rows = _rows_beside(part, config)
    for folder, key, files in groups:
        if not any(ending in _TEXTS or _extension(ending) in IMAGE_EXTENSIONS for ending in files):
            if all(file.unreadable for file in files.values()):  # its name may be cut: nobody knows what it was
                yield Found(key=f"{folder}/{key}" if folder else key, error=f"{BAD_ROW}: {_UNREADABLE}")
            continue
        row = rows.pop(key, {})
        if isinstance(row, str):
            yield Found(key=f"{folder}/{key}" if folder else key, error=_long(part, row))
        else:
            yield _found(part.input.path, folder, key, files, row, config)
    if part.start == 0:
        for key, row in rows.items():
            if isinstance(row, str):
                yield Found(key=key, error=_long(part, row))
                continue
            status = row.get("status")
            if status not in (None, SUCCESS):
                yield _told(Found(key=key, status=str(status), error=_error(row)), row, config)
            elif part.input.format == "tar":
                yield _told(Found(key=key, error="missing_image: the tar has no such sample"), row, config)


def _long(part: Part, why: str) -> str:
    return f"{BAD_ROW}: in {(beside(part.input) or '').rpartition('/')[2]}: {why}"


def _error(row: dict[str, Any]) -> str:
    return str(row.get("error_message") or row.get("status"))


def _found(
    path: str, folder: str, key: str, files: dict[str, _File], row: dict[str, Any], config: IndexConfig
) -> Found:
    """A sample of its files and its row."""
    name = f"{folder}/{key}" if folder else key
    for ending in _TEXTS:
        if ending in files and files[ending].size > MAX_TEXT:
            why = f"its .{ending} has {files[ending].size:,} bytes; at most {MAX_TEXT:,} are read"
            return _told(Found(key=name, error=f"{BAD_ROW}: {why}"), row, config)
    parts: dict[str, bytes] = {ending: files[ending].read() for ending in _TEXTS if ending in files}
    if "caption" in parts:
        parts.setdefault("txt", parts.pop("caption"))
    if "txt" in parts:
        parts["txt"] = parts["txt"].removeprefix(codecs.BOM_UTF8)
    meta, caption, errors = read_sample(path, parts)
    meta = {**row, **{name: value for name, value in meta.items() if value is not None}}
    images = [files[ending] for ending in sorted(files, key=image_order) if _extension(ending) in IMAGE_EXTENSIONS]
    sizes = _sizes(meta) if len(images) == 1 else (None, None)
    found = Found(
        key=name, caption=caption,
        images=[
            FoundImage(
                read=file.read, where=file.where, extension=_extension(file.ending), width=sizes[0], height=sizes[1]
            )
            for file in images
        ],
    )  # fmt: skip
    if errors:
        text = meta.get("caption")
        if caption is None and isinstance(text, str) and any(error.startswith(BAD_CAPTION) for error in errors):
            found.caption = text
        elif not row:
            found.error = errors[0]
    return _told(found, meta, config)


def _told(found: Found, meta: dict[str, Any], config: IndexConfig) -> Found:
    """A sample with what its json or row says."""

    def value(role: str, *usual: str) -> Any:
        names = (config.columns[role],) if role in config.columns else usual
        return next((meta[name] for name in names if meta.get(name) is not None), None)

    found.uid = own_uid(value("uid", "uid"))
    url, caption = value("url", "url"), value("caption", "caption")
    found.url = url if isinstance(url, str) else None
    if found.caption is None or "caption" in config.columns:
        try:
            found.caption = caption_text(caption)
        except BadValue as error:
            found.error = found.error or f"{BAD_CAPTION}: {error}"
    found.conversations = value("conversations", *USUAL["conversations"])
    used = {"url", "caption", "conversations", *config.columns.values()}
    found.meta = {name: value for name, value in meta.items() if name not in used}
    return found


def _sizes(meta: dict[str, Any]) -> tuple[int | None, int | None]:
    """Of the stored image, as a downloader knows it."""
    width, height = meta.get("width"), meta.get("height")
    known = isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0
    return (width, height) if known and meta.get("status") == SUCCESS else (None, None)


def _extension(ending: str) -> str:
    return ending.rpartition(".")[2]


class _Samples:
    """Which sample each file of a tar is of, those of a key together wherever they lie."""

    def __init__(self) -> None:
        self.endings: list[set[str]] = []
        """Of each sample, in the order of their first files."""
        self.parted: set[int] = set()
        """Samples whose files lie apart."""
        self._apart, self._last = 0, -1
        self._at: dict[tuple[str, str], int] = {}

    def add(self, where: tuple[str, str], ending: str) -> int:
        """The number of the sample that a file of a folder and key is of."""
        at = self._at.get(where)
        if at is None or ending in self.endings[at]:
            at = self._at[where] = len(self.endings)
            self.endings.append(set())
        elif at != self._last:
            self._apart += 1
            self.parted.add(at)
        self.endings[at].add(ending)
        self._last = at
        return at

    def say(self, path: str) -> None:
        """Log how many files lie apart, if any do."""
        if self._apart:
            _log.warning(
                "%s: %s files lie apart from the others of their samples; WebDataset reads these as several samples, "
                "here each is one", path, f"{self._apart:,}",
            )  # fmt: skip


def _of_tar(part: Part) -> list[Group]:
    """The samples of a tar in the order of their first members; those that lie apart are put together."""
    path, root, name = part.input.path, part.input.root, part.input.file
    state = state_of(path)
    groups: list[Group] = []
    samples = _Samples()
    fs, inner = storage.filesystem(path)
    try:
        with fs.open(inner, "rb") as file, read_tar(file, "r:") as tar:
            for member, where, ending in _members(tar):
                at = samples.add(where, ending)
                if at == len(groups):
                    groups.append((*where, {}))
                read = partial(read_range, path, member.offset_data, member.size)
                lies = Where(root=root, file=name, state=state, offset=member.offset_data, size=member.size)
                groups[at][2][ending] = _file(ending, member, read, lies)
            _check_end(tar, file, path)
    except (tarfile.TarError, EOFError) as error:
        raise SourceError(f"{path} is damaged: {error}; fetch or write it again") from None
    samples.say(path)
    return groups


def _members(tar: tarfile.TarFile) -> Iterator[tuple[tarfile.TarInfo, tuple[str, str], str]]:
    """The files of a tar, the folder and key of each, and its ending."""
    while (member := tar.next()) is not None:
        tar.members = []  # type: ignore[attr-defined]  # tarfile keeps every header otherwise
        key, ending = sample_of(member.name)
        if key and member.isfile():
            yield member, (member.name.rpartition("/")[0], key), ending.lower()


def _check_end(tar: tarfile.TarFile, file: IO[bytes], path: str) -> None:
    """Say so where a tar ends without its end."""
    file.seek(tar.offset)
    if len(file.read(tarfile.BLOCKSIZE)) < tarfile.BLOCKSIZE:
        _log.warning("%s has no end: it may have been cut between two of its files", path)


def _file(ending: str, member: tarfile.TarInfo, read: Callable[[], bytes], where: Where | None) -> _File:
    if is_readable(member):
        return _File(ending, member.size, read, where)
    return _File(ending, 0, lambda: b"", None, unreadable=True)


def _of_stream(part: Part) -> Iterator[Group]:
    """The samples of a compressed tar in the order of their last members; those that lie apart are put together.

    Their bytes lie nowhere as they are, so the tar is read twice: for its names, and for the files. What lies apart
    waits for the rest of its sample in a temporary file.
    """
    path = part.input.path
    whole, seen = _Samples(), _Samples()
    waiting: dict[int, Group] = {}
    try:
        with _unpacked(path) as (tar, stream):
            for _, where, ending in _members(tar):
                whole.add(where, ending)
            _check_end(tar, stream, path)
        whole.say(path)
        with _unpacked(path) as (tar, _), tempfile.TemporaryFile() as kept:
            for member, where, ending in _members(tar):
                at = seen.add(where, ending)
                data = _data(tar, member, ending)
                read = _kept(kept, data) if at in whole.parted else partial(bytes, data)
                waiting.setdefault(at, (*where, {}))[2][ending] = _file(ending, member, read, None)
                if seen.endings[at] == whole.endings[at]:
                    yield waiting.pop(at)
    except (tarfile.TarError, EOFError, compressed.DecodeError) as error:
        raise SourceError(f"{path} is damaged: {error}; fetch or write it again") from None


@contextlib.contextmanager
def _unpacked(path: str) -> Iterator[tuple[tarfile.TarFile, IO[bytes]]]:
    """A compressed tar, and its bytes as they are unpacked."""
    fs, inner = storage.filesystem(path)
    with fs.open(inner, "rb") as file:
        stream, _ = compressed.decompressed(path, file, 0)
        with read_tar(stream, "r:") as tar:
            yield tar, stream


def _kept(file: IO[bytes], data: bytes) -> Callable[[], bytes]:
    """What reads bytes that are appended to a file."""
    start = file.seek(0, os.SEEK_END)
    with storage.naming_full_disk(tempfile.gettempdir()):
        file.write(data)

    def read() -> bytes:
        file.seek(start)
        return file.read(len(data))

    return read


def _data(tar: tarfile.TarFile, member: tarfile.TarInfo, ending: str) -> bytes:
    wanted = is_readable(member) and (ending in _TEXTS or _extension(ending) in IMAGE_EXTENSIONS)
    extracted: IO[bytes] | None = tar.extractfile(member) if wanted else None
    data = extracted.read() if extracted else b""
    if wanted and len(data) != member.size:
        raise EOFError(f"{member.name} breaks off")
    return data


def _of_folder(part: Part) -> Iterator[Group]:
    """The samples of a folder by name."""
    folder, root = part.input.path, part.input.root
    groups: dict[str, dict[str, _File]] = {}
    for name, state in sample_files(root, part.input.file).items():
        key, ending = sample_of(name)
        path = storage.join(folder, name)
        file = storage.join(part.input.file, name) if part.input.file else name
        lies = Where(root=root, file=file, state=state, offset=0, size=state.size) if storable(file) == file else None
        groups.setdefault(key, {})[ending.lower()] = _File(
            ending.lower(), state.size, partial(read_range, path, 0, state.size), lies
        )
    for key in sorted(groups)[part.start : part.end]:
        yield "", key, groups[key]


def _rows_beside(part: Part, config: IndexConfig) -> dict[str, dict[str, Any] | str]:
    """By key, the rows of the parquet beside a tar or folder of the same name, without columns of bytes, or why one is
    not read; none if there is no such file."""
    path = beside(part.input)
    if path is None:
        return {}
    with open_table(path) as table:
        if "key" not in table.names:
            return {}
        read = {
            "key",
            *config.columns.values(),
            *(name for role, names in USUAL.items() if role != "image" for name in names),
        }
        others = {*binary_columns(table.schema)} - read
        names = [name for name in table.names if name not in others]
        keys = [None if isinstance(row, str) else row["key"] for _, row in rows_of(table, ["key"], most=MAX_TEXT)]
        found = rows_of(table, names, most=MAX_TEXT)
        return {str(keys[number]): row for number, row in found if keys[number] is not None}
