"""HTTP content codings undone: gzip, deflate, brotli and zstd, in time linear in the input and bounded in output."""

import zlib
from collections.abc import Sequence
from typing import Final

MAX_MEMBERS: Final = 1_024
"""Of a gzip file or a zstd stream. Servers send one; each costs a decoder, so that their number is bounded."""
_PIECE: Final = 65_536
_ZSTD_PIECE: Final = 256
"""Input bytes at a time: four bytes of zstd can be a block of 128 kB."""
_ZSTD_WINDOW: Final = 2**23
"""What a receiver of HTTP must support, and no more (RFC 9659)."""
_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_IDENTITY: Final = frozenset({"", "identity", "none", "binary", "8bit", "utf-8"})


class Undecodable(ValueError):
    """A body that is not what its codings say."""


class BreaksOff(Undecodable):
    """A compressed body without its end."""


class TooLarge(ValueError):
    """A body that decodes to more than the limit."""


def decode(body: bytes, codings: Sequence[str], limit: int) -> bytes:
    """A body without the codings that were applied to it, in the order in which the headers name them.

    One that does not begin as gzip or zstd, whatever the header says, is taken as it is.

    Args:
        limit: bytes, of the result of each coding.

    Raises:
        TooLarge: it decodes to more.
        Undecodable: damaged, cut off (BreaksOff), or of an unknown coding.
    """
    for coding in reversed(codings):
        name = coding.strip().lower()
        if name in ("gzip", "x-gzip"):
            body = _inflated(body, 31, limit) if body.startswith(_GZIP) else body
        elif name == "deflate":
            body = _deflated(body, limit)
        elif name == "br":
            body = _brotli(body, limit)
        elif name == "zstd":
            body = _zstd(body, limit) if body.startswith(_ZSTD) else body
        elif name not in _IDENTITY:
            raise Undecodable(f"unknown coding {name[:40]!r}")
    return body


def _deflated(body: bytes, limit: int) -> bytes:
    """zlib's format, as the standard says, or a bare stream, as some servers send it."""
    if len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0:
        try:
            return _inflated(body, 15, limit)
        except BreaksOff:
            raise
        except Undecodable:
            pass  # a bare stream can begin like that by chance
    return _inflated(body, -15, limit)


def _inflated(body: bytes, wbits: int, limit: int) -> bytes:
    view, at, parts, left = memoryview(body), 0, list[bytes](), limit
    for _ in range(MAX_MEMBERS):
        decoder = zlib.decompressobj(wbits)
        while not decoder.eof:
            piece: bytes | memoryview = decoder.unconsumed_tail
            if not piece:
                piece = view[at : at + _PIECE]
                at += len(piece)
                if not piece:
                    raise BreaksOff("compressed data breaks off")
            try:
                part = decoder.decompress(piece, min(left + 1, 16 * _PIECE))
            except zlib.error as error:
                raise Undecodable(str(error)) from None
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise TooLarge(f"over {limit}")
        at -= len(decoder.unused_data)
        # Members after the first are part of the file; anything else after it is not.
        if wbits != 31 or bytes(view[at : at + 2]) != _GZIP:
            return b"".join(parts)
    raise Undecodable(f"more than {MAX_MEMBERS} members")


def _brotli(body: bytes, limit: int) -> bytes:
    import brotli

    decoder, parts, left, data = brotli.Decompressor(), list[bytes](), limit, body
    try:
        while not decoder.is_finished():
            part = decoder.process(data, output_buffer_limit=left + 1)
            data = b""
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise TooLarge(f"over {limit}")
            if not part and not decoder.is_finished() and decoder.can_accept_more_data():
                raise BreaksOff("compressed data breaks off")
    except brotli.error as error:
        raise Undecodable(f"brotli: {error}") from None
    return b"".join(parts)


def _zstd(body: bytes, limit: int) -> bytes:
    import zstandard

    view, at, parts, left = memoryview(body), 0, list[bytes](), limit
    for _ in range(MAX_MEMBERS):
        decoder = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW).decompressobj()
        while not decoder.eof:
            piece = view[at : at + _ZSTD_PIECE]
            if not piece:
                raise BreaksOff("compressed data breaks off")
            at += len(piece)
            try:
                parts.append(decoder.decompress(piece))
            except (zstandard.ZstdError, MemoryError) as error:
                raise Undecodable(f"zstd: {error}") from None
            left -= len(parts[-1])
            if left < 0:
                raise TooLarge(f"over {limit}")
        at -= len(decoder.unused_data)
        if bytes(view[at : at + 4]) != _ZSTD:
            return b"".join(parts)
    raise Undecodable(f"more than {MAX_MEMBERS} frames")
