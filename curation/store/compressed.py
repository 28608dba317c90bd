"""Compressed files, known by their first bytes and read in pieces of bounded size, whatever they decode to."""

import bz2
import lzma
import zlib
from collections.abc import Iterator
from typing import Any, Final, Protocol

CHUNK: Final = 2**20
"""Decoded bytes at a time, at most (zstd: 8 MiB)."""
_READ: Final = 64 * 1024
_ZSTD_PIECE: Final = 256
"""Of a zstd file at a time: each 4 bytes of it may become 128 KiB, and its decoder takes no limit."""
_MEMORY: Final = 128 * 2**20
"""What a decoder may keep of what it has decoded; the most that `xz -9` and `zstd --ultra` ask for."""


class Readable(Protocol):
    """What bytes can be read from."""

    def read(self, size: int, /) -> bytes:
        """Up to so many bytes; none at the end."""


class Damaged(ValueError):
    """Compressed data that is cut short or cannot be decoded; its text says which."""


def compression_of(head: bytes) -> str | None:
    """`gzip`, `bz2`, `xz` or `zstd`, by a file's first 16 bytes; None for what is none of these."""
    if head.startswith(b"\x1f\x8b"):
        return "gzip"
    if head[:3] == b"BZh" and head[4:10] in (b"1AY&SY", b"\x17\x72\x45\x38\x50\x90"):
        return "bz2"
    if head.startswith(b"\xfd7zXZ\x00"):
        return "xz"
    if head.startswith(b"\x28\xb5\x2f\xfd") or (head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50):
        return "zstd"  # a frame, or one that is to be skipped
    return None


def chunks(file: Readable, kind: str | None) -> Iterator[bytes]:
    """A file's bytes from where it stands, decoded, member after member, in pieces of at most `CHUNK`, none empty.

    Args:
        kind: as `compression_of` says; None for bytes as they are.

    Raises:
        Damaged: the file ends within a member, or cannot be decoded.
    """
    if kind is None:
        while data := file.read(CHUNK):
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
                decoded = decoder.decompress(data, CHUNK)
            except (OSError, EOFError, MemoryError, zlib.error, lzma.LZMAError) as error:
                raise Damaged(f"it cannot be unpacked as {kind}: {error}") from None
            data = b""
            if decoder.eof:
                data, decoder = decoder.unused_data, None
            if decoded:
                yield decoded
    if decoder is not None:
        raise Damaged(f"it is cut short: its {kind} data ends in the middle")


def _decoder(kind: str) -> Any:
    """A decoder of one member with bz2's and lzma's methods."""
    if kind == "xz":
        return lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=2 * _MEMORY)
    return {"gzip": _Gzip, "bz2": bz2.BZ2Decompressor, "zstd": _Zstd}[kind]()


class _Gzip:
    def __init__(self) -> None:
        self._decoder = zlib.decompressobj(wbits=31)
        self._rest = b""
        self.needs_input = True

    def decompress(self, data: bytes, most: int) -> bytes:
        decoded = self._decoder.decompress(self._rest + data, most)
        self._rest = self._decoder.unconsumed_tail
        self.needs_input = not self._rest and len(decoded) < most
        return decoded

    @property
    def eof(self) -> bool:
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        return self._decoder.unused_data


class _Zstd:
    def __init__(self) -> None:
        import zstandard

        self._error = zstandard.ZstdError
        self._decoder: Any = zstandard.ZstdDecompressor(max_window_size=_MEMORY).decompressobj()
        self._rest = memoryview(b"")

    def decompress(self, data: bytes, most: int) -> bytes:
        """All that the next few bytes decode to; `most` cannot be kept."""
        if data:  # given only once all before is decoded
            self._rest = memoryview(data)
        piece, self._rest = self._rest[:_ZSTD_PIECE], self._rest[_ZSTD_PIECE:]
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
