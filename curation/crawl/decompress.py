"""Compressed files as the bytes that they decode to, and what kind of file these are."""

import io
import lzma
import zlib
from typing import IO, Any, Final

from mmcorpus.curation.crawl.compression import HEAD, TAR, compression_of
from mmcorpus.curation.crawl.members import RECORD, Damaged, ZstdMembers
from mmcorpus.curation.crawl.streams import CHUNK, Source

DECODE_ERRORS: Final = (EOFError, zlib.error, lzma.LZMAError, OSError, Damaged)
"""What a decoder raises for data that is damaged or breaks off."""


def breaks_off(error: BaseException) -> bool:
    """True if it is the file that ends."""
    return isinstance(error, EOFError) or (isinstance(error, Damaged) and error.ended)


def is_storage_error(error: BaseException) -> bool:
    """True if it is the file's storage that failed: decoders' own errors have no number."""
    return isinstance(error, OSError) and error.errno is not None


def file_kind(file: IO[bytes], path: str) -> str | None:
    """The kind of a file by its first bytes, compressed or not: `warc`, `zip`, `tar`, `parquet`, `arc`; None for
    anything else. The file's place is its beginning afterwards."""
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    if (compression := compression_of(head, path)) is not None:
        try:
            if compression == "gzip":  # no more is read: a rerun that seeks to a place far off asks this, too
                head = zlib.decompressobj(wbits=31).decompress(head, HEAD)
            else:
                head = decompressed(path, file, 0)[0].read(HEAD)
        except DECODE_ERRORS as error:
            if is_storage_error(error):
                raise
            head = b""
        file.seek(0)
    if RECORD.match(head):
        return "warc"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"filedesc://"):
        return "arc"
    return "tar" if head[257:262] == TAR else None


def decompressed(path: str, file: IO[bytes], offset: int) -> tuple[Any, bool]:
    """A file's bytes and whether it is compressed, by its first bytes: then from their beginning, else from an offset
    on."""
    file.seek(0)
    kind = compression_of(file.read(HEAD), path)
    file.seek(offset if kind is None else 0)
    if kind is None:
        return file, False
    if kind == "zstd":
        return io.BufferedReader(_ZstdFile(file), CHUNK), True
    import fsspec.compression

    return fsspec.compression.compr[kind](file, mode="rb"), True


class _ZstdFile(io.RawIOBase):
    """What a zstd file of any number of frames decodes to. Reading raises `Damaged`."""

    def __init__(self, file: IO[bytes]) -> None:
        self._members = ZstdMembers(Source(file))
        self._opened = False
        self._left = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._left:
            if not self._opened and not self._members.start():
                return 0
            self._left = memoryview(self._members.read())
            self._opened = bool(self._left)
        size = min(len(buffer), len(self._left))
        buffer[:size] = self._left[:size]
        self._left = self._left[size:]
        return size
