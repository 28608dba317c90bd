"""HTML files: in a folder, a zip or a tar; a page each."""

import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Final
from urllib.parse import quote

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.records import Failure, Item, Other, Page, Position
from mmcorpus.curation.store import storage, tars
from mmcorpus.curation.store.compressed import DECODE_ERRORS, breaks_off, decompressed, is_storage_error

HTML_NAMES: Final = (".html", ".htm", ".xhtml", ".shtml")
_NO_PLAIN_FILE: Final = "it is sparse, or its size or headers make no sense"
_ERRORS: Final = (zipfile.BadZipFile, tarfile.TarError, ValueError, *DECODE_ERRORS)


def is_html_name(name: str) -> bool:
    """True if a file's name says that it holds HTML."""
    return name.lower().endswith(HTML_NAMES)


def read_folder(root: str, names: Sequence[str], config: PagesConfig, position: Position) -> Iterator[Item]:
    """The pages of some files below a folder, from a place in the list on. One that is gone is a failure."""
    for number in range(position.offset, len(names)):
        path, after = storage.join(root, names[number]), Position(number + 1)
        try:
            body = storage.read_bytes(path, 0, config.extraction.max_bytes + 1)
        except FileNotFoundError:
            yield _failure(path, 0, None, after, "bad_record", "the file is gone")
            continue
        yield _page(path, names[number], body, 0, after, config)


def read_zip(path: str, file: IO[bytes], config: PagesConfig, position: Position) -> Iterator[Item]:
    """The pages of a zip, from a place in its directory on. Raises zipfile.BadZipFile for what is no zip."""
    with zipfile.ZipFile(file) as archive:
        members = archive.infolist()
        for number in range(position.offset, len(members)):
            member, after = members[number], Position(number + 1)
            if member.is_dir():
                continue
            offset, length = member.header_offset, member.compress_size
            if not is_html_name(member.filename):
                yield _other(path, member.filename, offset, length, after)
                continue
            try:
                with archive.open(member) as opened:
                    body = opened.read(config.extraction.max_bytes + 1)
            except (*_ERRORS, NotImplementedError, RuntimeError) as error:  # RuntimeError: a password
                if is_storage_error(error):
                    raise
                yield _failure(path, offset, length, after, "bad_record", f"{member.filename}: {error}")
                continue
            yield _page(path, member.filename, body, offset, after, config, length)


def read_tar(path: str, file: IO[bytes], config: PagesConfig, position: Position) -> Iterator[Item]:
    """The pages of a tar, from a member on; of a compressed tar (`.gz`, `.bz2`, `.xz`) earlier ones are passed again.

    A file whose size or headers make no sense is a failure; what follows damage is lost, and one failure more.
    """
    limit = config.extraction.max_bytes + 1
    for member in walk_tar(path, file, position, lambda name: limit if is_html_name(name) else None):
        if isinstance(member, Failure):
            yield member
        elif member.data is None:
            yield _other(path, member.name, member.offset, member.size, member.after)
        else:
            yield _page(path, member.name, member.data, member.offset, member.after, config, member.size)


@dataclass(frozen=True, kw_only=True, slots=True)
class TarMember:
    """A file of a tar."""

    name: str
    size: int
    offset: int
    after: Position
    data: bytes | None
    """Its first bytes, as many as were asked for; None if none were."""


def walk_tar(
    path: str, file: IO[bytes], position: Position, limit_of: Callable[[str], int | None]
) -> Iterator[TarMember | Failure]:
    """The files of a tar from a member on, a failure for one that cannot be read; last, of a damaged tar, why what
    follows is lost.

    Args:
        limit_of: by a file's name, how many bytes of it to read at most; None for none.
    """
    stream, compressed = decompressed(path, file, position.offset)
    count, offset = 0, position.offset
    try:
        with tars.read_tar(stream, "r:") as opened:
            archive: Any = opened
            while (member := archive.next()) is not None:
                archive.members = []  # it would keep them all
                count += 1
                if count <= position.skip:
                    continue
                offset = member.offset
                after = Position(0, count) if compressed else Position(archive.offset)
                if not member.isfile():
                    continue
                if member.issparse():
                    yield _failure(path, offset, None, after, "bad_record", f"{member.name}: {_NO_PLAIN_FILE}")
                    continue
                data: bytes | None = None
                if (limit := limit_of(member.name)) is not None:
                    data = archive.extractfile(member).read(limit)
                    if len(data) < min(member.size, limit):
                        raise EOFError(f"{member.name} breaks off")
                yield TarMember(name=member.name, size=member.size, offset=offset, after=after, data=data)
            # tarfile takes a header that it cannot read for the end.
            offset = archive.offset
            stream.seek(offset)
            block = stream.read(tarfile.BLOCKSIZE)
            if len(block) < tarfile.BLOCKSIZE:
                raise EOFError("its end is missing")
            if block.strip(b"\0"):
                raise tarfile.ReadError("what follows is no file of a tar")
    except _ERRORS as error:
        if is_storage_error(error):
            raise
        ends = breaks_off(error) or "end of data" in str(error)
        last = Position(0, 2**62) if compressed else Position(2**62)
        yield _failure(path, offset, None, last, "truncated" if ends else "bad_record", str(error)[:200])


def _page(
    path: str, name: str, body: bytes, offset: int, after: Position, config: PagesConfig, length: int | None = None
) -> Item:
    url = config.url_prefix + quote(name.removeprefix("./").lstrip("/"), safe="/:@!$&'()*+,;=~-._")
    length = len(body) if length is None else length
    if len(body) > config.extraction.max_bytes:
        return _failure(path, offset, length, after, "too_large", f"more than {config.extraction.max_bytes} bytes", url)
    return Page(file=path, offset=offset, length=length, position=after, url=url, body=body)


def _failure(
    path: str, offset: int, length: int | None, after: Position, code: str, detail: str, url: str | None = None
) -> Failure:
    return Failure(
        file=path, offset=offset, length=length, position=after, code=code, detail=detail, url=url, number=after.skip
    )


def _other(path: str, name: str, offset: int, length: int, after: Position) -> Any:
    _, dot, ending = name.rpartition("/")[2].rpartition(".")
    what = f"file .{ending.lower()[:16]}" if dot else "file"
    return Other(file=path, offset=offset, length=length, position=after, what=what)
