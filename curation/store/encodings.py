"""HTTP content codings undone: gzip, deflate, brotli and zstd, in time linear in the input and bounded in output."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from mmcorpus.curation.store.compressed import CHUNK, DECODER_ERRORS, Inflate, Zstd

MAX_MEMBERS: Final = 1_024
"""Of a gzip file or a zstd stream. Servers send one; each costs a decoder, so that their number is bounded."""
ZSTD_WINDOW: Final = 2**23
"""What a receiver of HTTP must support, and no more (RFC 9659)."""
_IDENTITY: Final = frozenset({"", "identity", "none", "binary", "8bit", "utf-8"})
"""Names of no coding at all."""
_MOST_CODINGS: Final = 5
"""Of one body; each may be undone to the limit anew."""
_FIRST: Final = 8_192
_PIECE: Final = 65_536
_MAGIC: Final = {"gzip": b"\x1f\x8b", "zstd": b"\x28\xb5\x2f\xfd"}


class Undecodable(ValueError):
    """A body that is not what its codings say."""


class BreaksOff(Undecodable):
    """A compressed body without its end."""


class TooLarge(ValueError):
    """A body that decodes to more than the limit."""


def decode(
    body: bytes,
    codings: Sequence[str],
    limit: int,
    *,
    cut: bool = False,
    members: int = MAX_MEMBERS,
    window: int = ZSTD_WINDOW,
    is_undone: Callable[[bytes], bool] = lambda body: False,
) -> bytes:
    """A body without the codings that were applied to it, in the order in which the headers name them.

    One that does not begin as gzip or zstd, whatever the header says, is taken as it is.

    Args:
        limit: bytes, of the result of each coding.
        cut: a body without its end is read as far as it goes.
        members: gzip's or zstd's, at most.
        window: of zstd, bytes.
        is_undone: of a body that gzip's or zstd's first bytes do not tell: that somebody undid its coding before.

    Raises:
        TooLarge: it decodes to more.
        Undecodable: damaged, cut off (BreaksOff), or of an unknown coding, or of many, one in another.
    """
    undone = 0
    for coding in reversed(codings):
        name = coding.strip().lower().removeprefix("x-")
        magic = _MAGIC.get(name)
        if name in _IDENTITY or (not body.startswith(magic) if magic else is_undone(body)):
            continue
        undone += 1
        if undone > _MOST_CODINGS:
            raise Undecodable(f"more than {_MOST_CODINGS} content encodings, one in another")

        def each(make: Callable[[], Any], body: bytes = body, magic: bytes | None = magic) -> bytes:
            return _decoded(body, make, limit, cut, members if magic else 1, magic)

        if name == "gzip":
            body = each(Inflate)
        elif name == "deflate":
            body = _deflated(body, each)
        elif name == "br":
            body = each(_Brotli)
        elif name == "zstd":
            body = each(lambda: Zstd(window))
        else:
            raise Undecodable(f"unknown coding {coding.strip().lower()[:40]!r}")
    return body


def _deflated(body: bytes, each: Callable[[Callable[[], Any]], bytes]) -> bytes:
    """zlib's format, as the standard says, or a bare stream, as some servers send it."""
    if len(body) > 1 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0:
        try:
            return each(lambda: Inflate(15))
        except BreaksOff:
            raise
        except Undecodable:
            pass  # a bare stream can begin like that by chance
    return each(lambda: Inflate(-15))


def _decoded(body: bytes, make: Callable[[], Any], limit: int, cut: bool, members: int, magic: bytes | None) -> bytes:
    """What the members of a body decode to; those after the first begin by `magic`, anything else is not of it."""
    view, at, parts, left = memoryview(body), 0, list[bytes](), limit
    for _ in range(members):
        decoder, size = make(), _FIRST
        while not decoder.eof:
            piece: bytes | memoryview = b""
            if decoder.needs_input:
                piece = view[at : at + size]
                at, size = at + len(piece), min(2 * size, _PIECE)  # a member that ends soon has copied little
                if not piece:
                    if cut:
                        return b"".join(parts)
                    raise BreaksOff("compressed data breaks off")
            try:
                part = decoder.decompress(piece, min(left + 1, CHUNK))
            except DECODER_ERRORS as error:
                raise Undecodable(str(error)) from None
            parts.append(part)
            left -= len(part)
            if left < 0:
                raise TooLarge(f"more than {limit} bytes")
        at -= len(decoder.unused_data)
        if magic is None or bytes(view[at : at + len(magic)]) != magic:
            return b"".join(parts)
    raise Undecodable(f"more than {members} members")


class _Brotli:
    unused_data = b""

    def __init__(self) -> None:
        import brotli

        self._decoder, self._error = brotli.Decompressor(), brotli.error
        self.needs_input = True

    def decompress(self, data: bytes, most: int) -> bytes:
        try:
            decoded: bytes = self._decoder.process(data, output_buffer_limit=most)
        except self._error as error:
            raise OSError(f"brotli: {error}") from None
        self.needs_input = not decoded and self._decoder.can_accept_more_data()
        return decoded

    @property
    def eof(self) -> bool:
        return bool(self._decoder.is_finished())
