"""Compressed files, told by their first bytes and read in pieces of bounded size, whatever they decode to."""

import bz2
import codecs
import io
import lzma
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final, Protocol
from urllib.parse import urlsplit

CHUNK: Final = 2**20
"""Decoded bytes at a time, at most (zstd: 8 MiB)."""
HEAD: Final = 512
"""Bytes by which a file's compression is told, and whether it is a tar."""
SKIPPABLE: Final = b"\x2a\x4d\x18"
"""The end of the magic number of a zstd frame without data; the byte before is 0x50 to 0x5f."""
TAR: Final = b"ustar"
WINDOW: Final = 128 * 2**20
"""What a decoder may keep of what it has decoded; the most that `xz -9` and `zstd --ultra` ask for."""
ZSTD_PIECE: Final = 256
"""Of zstd data at a time: each 4 bytes of it may become 128 KiB, and its decoder takes no limit."""
_ENDINGS: Final = {
    ".gz": "gzip", ".tgz": "gzip", ".bz2": "bz2", ".tbz2": "bz2", ".xz": "xz", ".txz": "xz", ".zst": "zstd"
}  # fmt: skip
_READ: Final = 64 * 1024
_TEXT_BYTES: Final = bytes({7, 8, 9, 10, 12, 13, 27, *range(0x20, 0x100)} - {0x7F})
"""Bytes that text files hold (the WHATWG's MIME Sniffing Standard, §3)."""


class DecodeError(Exception):
    """Compressed data that is cut short or cannot be decoded; its text says which."""

    def __init__(self, detail: str, *, ended: bool = False) -> None:
        """`ended`: it is the file that ends."""
        super().__init__(detail)
        self.ended = ended


DECODE_ERRORS: Final = (EOFError, zlib.error, lzma.LZMAError, OSError, DecodeError)
"""What decoders raise for data that is damaged or breaks off, those of `zipfile`, too."""


def breaks_off(error: BaseException) -> bool:
    """True if it is the file that ends."""
    return isinstance(error, EOFError) or (isinstance(error, DecodeError) and error.ended)


def is_storage_error(error: BaseException) -> bool:
    """True if it is the file's storage that failed: decoders' own errors have no number."""
    return isinstance(error, OSError) and error.errno is not None


class Readable(Protocol):
    """Anything that bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; none at the end."""


def compression_of(head: bytes, path: str = "") -> str | None:
    """`gzip`, `bz2`, `xz` or `zstd`, by a file's first bytes; by its name where these are damaged beyond telling.

    Proxies and downloaders undo compression, or name what they got as they like: `.gz` that is text is read as text.
    """
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return "bz2"
    if head.startswith(b"\xfd7zXZ\0"):
        return "xz"
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == SKIPPABLE and head[0] & 0xF0 == 0x50):
        return "zstd"
    named = next((kind for end, kind in _ENDINGS.items() if plain_name(path).endswith(end)), None)
    return None if named is None or _is_plain(head[:HEAD]) else named


def _is_plain(head: bytes) -> bool:
    """True for the beginning of a text in UTF-8 or of a tar."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not head.translate(None, _TEXT_BYTES) or head[257:262] == TAR


def plain_name(path: str) -> str:
    """A path in lower case, of an address without its query: `http://a/b.GZ?sig=1` ends with `.gz`."""
    return (urlsplit(path).path if "://" in path else path).lower()


def chunks(file: Readable, kind: str | None, most: int = CHUNK) -> Iterator[bytes]:
    """A file's bytes from where it stands, decoded, member after member, in pieces of at most `most`, none empty.

    Args:
        kind: as `compression_of` says; None for bytes as they are.
        most: bytes (zstd: 8 MiB at least). Up to so many before damage are lost.

    Raises:
        DecodeError: the file ends within a member, or cannot be decoded.
    """
    if kind is None:
        while data := file.read(most):
            yield data
        return
    decoder: Any = None
    while data := file.read(_READ):
        while data or (decoder is not None and not decoder.needs_input):
            if decoder is None:
                data = data if kind == "zstd" else data.lstrip(b"\0")  # padding between members
                if not data:
                    break
                decoder = _decoder(kind)
            try:
                decoded = decoder.decompress(data, most)
            except DECODER_ERRORS as error:
                raise DecodeError(f"it cannot be unpacked as {kind}: {error}") from None
            data = b""
            if decoder.eof:
                data, decoder = decoder.unused_data, None
            if decoded:
                yield decoded
    if decoder is not None:
        raise DecodeError(f"it is cut short: its {kind} data ends in the middle", ended=True)


def decompressed(path: str, file: IO[bytes], offset: int) -> tuple[Any, bool]:
    """A file's bytes, for reading and seeking, and whether it is compressed: then from their beginning, else from an
    offset on. Reading raises `DecodeError`; what is decoded before damage is met is always the same."""
    file.seek(0)
    kind = compression_of(file.read(HEAD), path)
    if kind is None:
        file.seek(offset)
        return file, False
    return io.BufferedReader(_Decoded(file, kind)), True


class _Decoded(io.RawIOBase):
    def __init__(self, file: IO[bytes], kind: str) -> None:
        self._file, self._kind = file, kind
        self._begin()

    def _begin(self) -> None:
        self._file.seek(0)
        self._chunks = chunks(self._file, self._kind, io.DEFAULT_BUFFER_SIZE)
        self._left, self._at = memoryview(b""), 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        taken = self._take(len(buffer))
        buffer[: len(taken)] = taken
        return len(taken)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Backwards, all is decoded again; beyond the end is the end."""
        if whence == io.SEEK_END:
            raise io.UnsupportedOperation("a compressed file's length is not known")
        offset += self._at if whence == io.SEEK_CUR else 0
        if offset < self._at:
            self._begin()
        while self._at < offset and self._take(offset - self._at):
            pass
        return self._at

    def _take(self, size: int) -> memoryview:
        if not self._left:
            self._left = memoryview(next(self._chunks, b""))
        taken, self._left = self._left[:size], self._left[size:]
        self._at += len(taken)
        return taken


DECODER_ERRORS: Final = (OSError, EOFError, MemoryError, zlib.error, lzma.LZMAError)
"""What the decoders below raise, and those of bz2 and lzma, whose methods they have."""


def _decoder(kind: str) -> Any:
    """A decoder of one member."""
    if kind == "xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2 * WINDOW)
    return {"gzip": Inflate, "bz2": bz2.BZ2Decompressor, "zstd": Zstd}[kind]()


class Inflate:
    """Of gzip, or what else `wbits` says."""

    def __init__(self, wbits: int = 31) -> None:
        self._decoder = zlib.decompressobj(wbits)
        self._rest = b""
        self.needs_input = True

    def decompress(self, data: bytes, most: int) -> bytes:
        """Up to `most` bytes."""
        decoded = self._decoder.decompress(self._rest + data if self._rest else data, most)
        self._rest = self._decoder.unconsumed_tail
        self.needs_input = not self._rest and len(decoded) < most
        return decoded

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data


class Zstd:
    """Of a zstd frame that asks for a window of at most so many bytes."""

    def __init__(self, window: int = WINDOW) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._decoder: Any = zstandard.ZstdDecompressor(max_window_size=window).decompressobj()
        self._rest = memoryview(b"")

    def decompress(self, data: bytes, most: int) -> bytes:
        """All that the next few bytes decode to; `most` cannot be kept."""
        if data:  # given only once all before is decoded
            self._rest = memoryview(data)
        piece, self._rest = self._rest[:ZSTD_PIECE], self._rest[ZSTD_PIECE:]
        try:
            decoded: bytes = self._decoder.decompress(piece)
        except self._error as error:
            raise OSError(str(error)) from None
        return decoded

    @property
    def needs_input(self) -> bool:
        return not self._rest

    @property
    def eof(self) -> bool:
        return bool(self._decoder.eof)

    @property
    def unused_data(self) -> bytes:
        return bytes(self._decoder.unused_data) + bytes(self._rest)
