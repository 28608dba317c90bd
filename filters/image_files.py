"""Image files by their parts, undecoded: JPEG segments, PNG chunks, TIFF directories, GIF blocks, WebP chunks."""

import re
import struct
import zlib
from collections.abc import Iterator
from typing import Final, NamedTuple

MAX_FRAMES: Final = 10_000
"""Frames and pages are counted up to here."""
MAX_PARTS: Final = 100_000
"""Segments before a JPEG's pixels, or chunks of a PNG, up to which a file is read; real ones have hundreds."""
MAX_BLOCKS: Final = 1_000_000
"""Blocks of a GIF that are walked; 64 MiB in blocks of 255 bytes are 260,000."""

START_OF_SCAN: Final = 0xDA
EXIF: Final = 0xE1
"""Marks EXIF, and XMP."""
_MARKER: Final = re.compile(rb"\xff[\x01-\xfe]")
TEMPORARY: Final = 0x01
_ALONE: Final = frozenset({TEMPORARY, 0xD8, *range(0xD0, 0xD8)})


class TooManyParts(ValueError):
    """A file in so many parts that walking them costs more than an image is worth."""


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """A JPEG's marker segments from its second to the header of its first scan: marker, start and end.

    `data[start:end]` begins with 0xFF and the marker, then a length of two bytes. They are walked by their lengths:
    what they hold (thumbnails) is not looked into. Bytes that belong to none are passed over, as libjpeg does, but no
    more than MAX_PARTS.
    """
    at, stray = 2, 0
    for _ in range(MAX_PARTS):
        found = _MARKER.search(data, at)
        if found is None or data[found.end() - 1] == 0xD9:
            return
        stray += found.start() - at
        if stray > MAX_PARTS:
            raise TooManyParts(f"JPEG of more than {MAX_PARTS:,} bytes between its segments")
        marker, at = data[found.end() - 1], found.end()
        if marker in _ALONE:
            continue
        at += max(2, int.from_bytes(data[at : at + 2], "big"))
        yield marker, found.start(), min(at, len(data))
        if marker == START_OF_SCAN:
            return
    raise TooManyParts(f"JPEG of more than {MAX_PARTS:,} segments")


class Chunk(NamedTuple):
    """A PNG chunk: `data[start:end]` is its content, 8 bytes of length and type before it, a checksum behind."""

    kind: bytes
    start: int
    end: int

    @property
    def critical(self) -> bool:
        """Needed for the pixels (PNG 3, 5.4: the first letter is a capital)."""
        return self.kind[:1].isupper()

    def is_sound(self, data: bytes) -> bool:
        """True if the whole chunk is there and its checksum is right."""
        checksum = zlib.crc32(memoryview(data)[self.start - 4 : self.end])
        return data[self.end : self.end + 4] == checksum.to_bytes(4, "big")


def png_chunks(data: bytes) -> Iterator[Chunk]:
    """A PNG's chunks up to IEND; the last may be cut off."""
    at = 8
    for _ in range(MAX_PARTS):
        if at + 8 > len(data):
            return
        length, kind = struct.unpack_from(">I4s", data, at)
        yield Chunk(kind, at + 8, min(at + 8 + length, len(data)))
        if kind == b"IEND":
            return
        at += 12 + length
    raise TooManyParts(f"PNG of more than {MAX_PARTS:,} chunks")


def png_damage(data: bytes) -> str:
    """The first critical chunk of a PNG that is cut off or has a wrong checksum, in words; empty if there is none."""
    for chunk in png_chunks(data):
        if chunk.critical and not chunk.is_sound(data):
            kind = chunk.kind.decode("ascii", "backslashreplace")
            wrong = "is cut off" if chunk.end + 4 > len(data) else "has a wrong checksum"
            return f"PNG chunk {kind} at byte {chunk.start - 8} {wrong}"
    return ""


def png_has_surplus(data: bytes) -> bool:
    """True if an 8-bit grey or RGB PNG unpacks to more than its pixels.

    libpng unpacks it to the end and throws it away: a minute of work for 64 MiB. Files of up to 256 KiB, which unpack
    to no more than 256 MiB, are not looked at.
    """
    if len(data) <= 1 << 18:
        return False
    width, height, _, color = struct.unpack_from(">IIBB", data, 16)
    room = height * (width * (3 if color == 2 else 1) + 2)  # a filter byte a row; nearly two if interlaced
    stream = zlib.decompressobj()
    try:
        for kind, start, end in png_chunks(data):
            for at in range(start, end if kind == b"IDAT" else start, 1 << 16):  # what is left over is copied
                packed = data[at : min(at + (1 << 16), end)]
                while packed and not stream.eof:
                    room -= len(stream.decompress(packed, 1 << 20))
                    if room < 0:
                        return True
                    packed = stream.unconsumed_tail
    except zlib.error:  # the decoder says so
        pass
    return False


def gif_frames(data: bytes) -> int:
    """The frames of a GIF, at most MAX_FRAMES, counted along its blocks without decoding any.

    Raises TooManyParts where the first frame is not among the first MAX_BLOCKS blocks.
    """
    frames, blocks = 0, 0
    try:
        place = 13 + _palette_bytes(data[10])
        while frames < MAX_FRAMES and blocks < MAX_BLOCKS:
            kind = data[place]
            if kind == 0x2C:
                frames += 1
                place += 11 + _palette_bytes(data[place + 9])
            elif kind == 0x21:
                place += 2
            else:
                break
            start = blocks
            while data[place] and blocks - start < MAX_BLOCKS:
                place += data[place] + 1
                blocks += 1
            place += 1
            blocks += 1
    except IndexError:  # cut short: what was there was counted
        pass
    if not frames and blocks >= MAX_BLOCKS:
        raise TooManyParts(f"GIF of more than {MAX_BLOCKS:,} blocks before its first frame")
    return frames


def _palette_bytes(flags: int) -> int:
    return 3 << ((flags & 7) + 1) if flags & 0x80 else 0


class TiffEntry(NamedTuple):
    """An entry of a TIFF directory. `values` is how many; `value` what lies in the entry, if one."""

    tag: int
    kind: int
    values: int
    value: int


class Tiff:
    """The directories of a TIFF or BigTIFF file, or of an EXIF block, without what they point to."""

    def __init__(self, data: bytes) -> None:
        """Raises struct.error for a file that is too short for a header."""
        self._data = data
        self._order = "<" if data[:2] == b"II" else ">"
        self._big = struct.unpack_from(self._order + "H", data, 2)[0] == 43
        self.first = int(self._number("Q", 8) if self._big else self._number("I", 4))

    def _number(self, form: str, at: int) -> int:
        return int(struct.unpack_from(self._order + form, self._data, at)[0])

    def _entries_at(self, offset: int) -> tuple[int, int, int]:
        """Where a directory's entries begin, how many there are, and the bytes of each."""
        if self._big:
            return offset + 8, self._number("Q", offset), 20
        return offset + 2, self._number("H", offset), 12

    def entries(self, offset: int) -> Iterator[TiffEntry]:
        """The entries of the directory at `offset`, as far as the file goes.

        Raises TooManyParts for more than a TIFF's 65,535, which only a BigTIFF can say.
        """
        try:
            start, count, size = self._entries_at(offset)
            if count > 65_535:
                raise TooManyParts(f"TIFF directory of {count:,} entries")
            for at in range(start, start + count * size, size):
                tag, kind = struct.unpack_from(self._order + "HH", self._data, at)
                number = self._number("Q" if self._big else "I", at + 4)
                value = self._number("H" if kind == 3 else "I", at + (12 if self._big else 8))
                yield TiffEntry(tag, kind, number, value)
        except struct.error:
            return

    def pages(self) -> int:
        """The directories along the chain, at most MAX_FRAMES; a loop and a pointer out of the file end it."""
        seen: set[int] = set()
        offset = self.first
        try:
            while offset and offset not in seen and len(seen) < MAX_FRAMES:
                start, count, size = self._entries_at(offset)
                following = self._number("Q" if self._big else "I", start + count * size)
                seen.add(offset)
                offset = following
        except (struct.error, OverflowError):
            pass
        return max(1, len(seen))


def webp_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """A WebP file's chunks: four letters, and where the content starts and ends; past the file's end if cut off."""
    at = 12
    while at + 8 <= len(data):
        kind, length = struct.unpack_from("<4sI", data, at)
        yield kind, at + 8, at + 8 + length
        at += 8 + length + (length & 1)
