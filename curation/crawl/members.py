"""The members of which compressed files are made: each is decoded by itself, and what is damaged costs itself."""

import re
import zlib
from typing import Any, Final

from mmcorpus.curation.crawl.streams import CHUNK, Source
from mmcorpus.curation.store.compressed import SKIPPABLE, WINDOW, ZSTD_PIECE, DecodeError

FIRST: Final = 8192
"""Bytes taken of a member at first, each time twice as many: what is left over is never more than what was read."""
_DICTIONARY: Final = 0x5D
"""That byte, where the frame holds a dictionary."""
_PROOF: Final = 1024
"""Bytes by which a member is recognised."""
RECORD: Final = re.compile(rb"WARC/\d\.\d{1,2}[ \t]{0,8}\r?\n")
"""The first line of a WARC record, of any version: 0.17 and 0.18 came before 1.0."""
RECORD_LINE: Final = 24
"""Bytes by which `RECORD` tells."""


class Members:
    """The members of a file one after the other: gzip's, zstd's frames, or of a plain file the whole from an offset.

    `start` opens the next, `read` gives its decoded bytes, empty at its end. Memory is bounded whatever it decodes to.
    Decoders get pieces counted from the member's beginning, wherever reading began: what is decoded before damage is
    met is then always the same.
    """

    compressed = True
    """True if records begin where members do; in a plain file they begin anywhere."""
    magic: bytes
    """The first bytes of a member with a WARC record."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.begin = source.offset
        """Of the current member, in the file."""

    def start(self) -> bool:
        """Open the member that begins here; False at the end of the file."""
        self.begin = self.source.offset
        return not self.source.ended()

    def read(self) -> bytes:
        """The next decoded bytes of the current member. Raises `DecodeError`."""
        return self.source.take()

    def likely(self, first: bytes) -> bool:
        """True if bytes that begin with `magic` are a record's, as far as they tell."""
        return True

    def find_next(self, offset: int) -> bool:
        """Go to the next place from an offset on where a WARC record seems to begin; False if there is none."""
        self.source.seek(offset)
        window, begin, ended, searched = b"", offset, False, 0
        while True:
            at = window.find(self.magic, searched)
            if not ended and (at < 0 or len(window) - at < _PROOF):
                keep = at if at >= 0 else max(searched, len(window) - len(self.magic) + 1)
                begin, window, searched = begin + keep, window[keep:], 0
                chunk = self.source.take()
                ended = not chunk
                window += chunk
            elif at < 0:
                return False
            elif self.likely(window[at : at + _PROOF]):
                self.source.seek(begin + at)
                return True
            else:
                searched = at + 1


class GzipMembers(Members):
    """Of a `.gz`."""

    magic = b"\x1f\x8b\x08"

    def start(self) -> bool:
        self._decoder = zlib.decompressobj(wbits=31)
        self._rest, self._size = b"", FIRST
        return super().start()

    def read(self) -> bytes:
        while not self._decoder.eof:
            data = self._rest or _take_all(self.source, self._size)
            self._size = min(2 * self._size, CHUNK)
            if not data:
                raise DecodeError("the file ends within a gzip member", ended=True)
            try:
                decoded = self._decoder.decompress(data, CHUNK)
            except zlib.error as error:
                raise DecodeError(f"gzip: {error}") from None
            self._rest = self._decoder.unconsumed_tail
            if self._decoder.eof:
                self.source.go_back(self.source.offset - len(self._decoder.unused_data))
            if decoded:
                return decoded
        return b""

    def likely(self, first: bytes) -> bool:
        try:
            return RECORD.match(zlib.decompressobj(wbits=31).decompress(first, RECORD_LINE)) is not None
        except zlib.error:
            return False


class ZstdMembers(Members):
    """Of a `.zst`; a dictionary in the first frame (WARC's use of zstd) serves the others."""

    magic = b"\x28\xb5\x2f\xfd"

    def __init__(self, source: Source) -> None:
        place = source.offset
        super().__init__(source)
        self._dictionary: Any = None
        self._frames: Any = None
        source.seek(0)
        self._skip_frames()
        source.seek(max(place, source.offset))
        self.begin = source.offset

    def start(self) -> bool:
        import zstandard

        self._skip_frames()
        if self._frames is None:
            limits: dict[str, Any] = {} if self._dictionary is None else {"dict_data": self._dictionary}
            self._frames = zstandard.ZstdDecompressor(max_window_size=WINDOW, **limits)
        self._decoder: Any = self._frames.decompressobj()
        self._rest = memoryview(b"")
        return super().start()

    def read(self) -> bytes:
        import zstandard

        while not self._rest and not self._decoder.eof:
            data = _take_all(self.source, ZSTD_PIECE)
            if not data:
                raise DecodeError("the file ends within a zstd frame", ended=True)
            try:
                self._rest = memoryview(self._decoder.decompress(data))
            except (zstandard.ZstdError, MemoryError) as error:
                raise DecodeError(f"zstd: {error}") from None
            if self._decoder.eof:
                self.source.go_back(self.source.offset - len(self._decoder.unused_data))
        # A few bytes may decode to megabytes: who reads records from them copies what is left after each.
        decoded, self._rest = bytes(self._rest[:CHUNK]), self._rest[CHUNK:]
        return decoded

    def _skip_frames(self) -> None:
        """Pass frames without data; keep the dictionary if the first has it. One that says to be longer than the file
        is left for the decoder to fail at."""
        while True:
            begin = self.source.offset
            head = _take_all(self.source, 8)
            size = int.from_bytes(head[4:8], "little")
            skippable = head[1:4] == SKIPPABLE and head[0] & 0xF0 == 0x50
            if not skippable or begin + 8 + size > self.source.size():
                self.source.go_back(begin)
                return
            if head[0] == _DICTIONARY and begin == 0 and size <= WINDOW:
                self._dictionary = _dictionary(_take_all(self.source, size))
            else:
                self.source.skip(size)


class PlainMembers(Members):
    """Of a file that is not compressed."""

    compressed = False
    magic = b"WARC/"

    def likely(self, first: bytes) -> bool:
        return RECORD.match(first) is not None


def _dictionary(data: bytes) -> Any:
    """A zstd dictionary, which may be compressed itself."""
    import zstandard

    if data.startswith(ZstdMembers.magic):
        try:
            data = zstandard.ZstdDecompressor(max_window_size=WINDOW).stream_reader(data).read(WINDOW)
        except zstandard.ZstdError:
            return None  # every frame then says that its dictionary is missing
    return zstandard.ZstdCompressionDict(data)


def _take_all(source: Source, size: int) -> bytes:
    """`size` bytes, or those that are left."""
    taken = source.take(size)
    while 0 < len(taken) < size and (part := source.take(size - len(taken))):
        taken += part
    return taken
