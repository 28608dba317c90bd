"""Files as readers need them: bounded reading from any offset, and the members of which compressed files are made."""

import contextlib
import io
import tempfile
import time
import zlib
from collections.abc import Iterator
from typing import IO, Any, Final

from mmcorpus.curation.store import storage

CHUNK: Final = 64 * 1024
ZSTD_CHUNK: Final = 256
"""Of a zstd file at a time: each 4 bytes of it may become 128 KiB, and its decoder takes no limit."""
COMPRESSIONS: Final = {
    ".gz": "gzip", ".tgz": "gzip", ".bz2": "bz2", ".tbz2": "bz2", ".xz": "xz", ".txz": "xz", ".zst": "zstd"
}  # fmt: skip
"""fsspec's names of compressions by a name's end."""
_TRIES: Final = 3
_SKIPPABLE: Final = b"\x2a\x4d\x18"
"""The end of the magic number of a zstd frame without data; the byte before is 0x50 to 0x5f."""
_DICTIONARY: Final = 0x5D
"""That byte, where the frame holds a dictionary."""
_WINDOW: Final = 128 * 2**20
_PROOF: Final = 1024
"""Bytes by which a member is recognised."""


class Damaged(ValueError):
    """Compressed data that is no compressed data, or is cut short."""

    def __init__(self, detail: str, *, ended: bool = False) -> None:
        """`ended`: it is the file that ends."""
        super().__init__(detail)
        self.ended = ended


@contextlib.contextmanager
def open_input(path: str) -> Iterator[IO[bytes]]:
    """A file, local or remote, that can be read from any place; the bytes of its name, whatever they are compressed by.

    What cannot be read in parts (a web server without ranges) is copied to a temporary file first.
    """
    fs, inner = storage.filesystem(path)
    with contextlib.ExitStack() as stack:
        file: Any = stack.enter_context(fs.open(inner, "rb"))
        if path.startswith(("http://", "https://")) and not _served_in_parts(file):
            file = stack.enter_context(tempfile.NamedTemporaryFile())
            with storage.naming_full_disk(tempfile.gettempdir()):
                fs.get_file(inner, file.name)
        yield file


def _served_in_parts(file: IO[bytes]) -> bool:
    """True if a web server sends a part of a file when asked for one."""
    if not file.seekable():
        return False
    try:
        if file.seek(0, io.SEEK_END) > 1:
            file.seek(-1, io.SEEK_END)
            file.read(1)
    except ValueError:  # fsspec's, where a part was asked for and the whole came
        return False
    file.seek(0)
    return True


class Source:
    """A file's bytes with a place in it, read in chunks."""

    def __init__(self, file: IO[bytes], offset: int = 0) -> None:
        self._file = file
        self.seek(offset)

    def seek(self, offset: int) -> None:
        """Go on at an offset."""
        self.offset = offset
        self._chunk, self._at = b"", 0
        self._file.seek(offset)

    def take(self, size: int = CHUNK) -> bytes:
        """Up to `size` bytes; empty at the end of the file."""
        if self._at >= len(self._chunk):
            self._chunk, self._at = self._read(), 0
        taken = self._chunk[self._at : self._at + size]
        self._at += len(taken)
        self.offset += len(taken)
        return taken

    def give_back(self, data: bytes) -> None:
        """Undo the end of the last `take`: `data` is what it ended with."""
        self._at -= len(data)
        self.offset -= len(data)

    def go_back(self, offset: int) -> None:
        """Return to an offset a little before."""
        if self.offset - offset <= self._at:
            self.give_back(self._chunk[self._at - (self.offset - offset) : self._at])
        else:
            self.seek(offset)

    def skip(self, size: int) -> int:
        """Pass up to `size` bytes without reading them; returns how many there were."""
        end = self._file.seek(0, io.SEEK_END)
        passed = max(0, min(size, end - self.offset))
        self.seek(self.offset + passed)
        return passed

    def _read(self) -> bytes:
        """A chunk; a connection that breaks is tried again from where it broke."""
        for left in reversed(range(_TRIES)):
            try:
                return self._file.read(CHUNK)
            except OSError:
                if not left:
                    raise
                time.sleep(1)
                self._file.seek(self.offset)
        raise AssertionError("unreachable")


def decompressed(path: str, file: IO[bytes], offset: int) -> tuple[Any, bool]:
    """A file's bytes and whether it is compressed, by its name: then from their beginning, else from an offset on."""
    kind = next((kind for end, kind in COMPRESSIONS.items() if path.lower().endswith(end)), None)
    file.seek(offset if kind is None else 0)
    if kind is None:
        return file, False
    import fsspec.compression

    return fsspec.compression.compr[kind](file, mode="rb"), True


class Members:
    """The members of a file one after the other: gzip's, zstd's frames, or of a plain file the whole from an offset.

    `start` opens the next, `read` gives its decoded bytes, empty at its end. Memory is bounded whatever it decodes to.
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
        first = self.source.take()
        self.source.give_back(first)
        return bool(first)

    def read(self) -> bytes:
        """The next decoded bytes of the current member. Raises `Damaged`."""
        return self.source.take()

    def likely(self, first: bytes) -> bool:
        """True if bytes that begin with `magic` are a record's, as far as they tell."""
        return True

    def find_next(self, offset: int) -> bool:
        """Go to the next place from an offset on where a WARC record seems to begin; False if there is none."""
        self.source.seek(offset)
        window, begin, ended = b"", offset, False
        while True:
            at = window.find(self.magic)
            if not ended and (at < 0 or len(window) - at < _PROOF):
                if at < 0:
                    keep = min(len(window), len(self.magic) - 1)
                    begin, window = begin + len(window) - keep, window[len(window) - keep :]
                chunk = self.source.take()
                ended = not chunk
                window += chunk
            elif at < 0:
                return False
            elif self.likely(window[at : at + _PROOF]):
                self.source.seek(begin + at)
                return True
            else:
                begin, window = begin + at + 1, window[at + 1 :]


class GzipMembers(Members):
    """Of a `.gz`."""

    magic = b"\x1f\x8b\x08"

    def start(self) -> bool:
        self._decoder = zlib.decompressobj(wbits=31)
        self._rest = b""
        return super().start()

    def read(self) -> bytes:
        while not self._decoder.eof:
            data = self._rest or self.source.take()
            if not data:
                raise Damaged("the file ends within a gzip member", ended=True)
            try:
                decoded = self._decoder.decompress(data, CHUNK)
            except zlib.error as error:
                raise Damaged(f"gzip: {error}") from None
            self._rest = self._decoder.unconsumed_tail
            if self._decoder.eof:
                self.source.give_back(self._decoder.unused_data)
            if decoded:
                return decoded
        return b""

    def likely(self, first: bytes) -> bool:
        try:
            return zlib.decompressobj(wbits=31).decompress(first, 16).startswith(b"WARC/")
        except zlib.error:
            return False


class ZstdMembers(Members):
    """Of a `.zst`; a dictionary in the first frame (WARC's use of zstd) serves the others."""

    magic = b"\x28\xb5\x2f\xfd"

    def __init__(self, source: Source) -> None:
        place = source.offset
        super().__init__(source)
        self._dictionary: Any = None
        source.seek(0)
        self._skip_frames()
        source.seek(max(place, source.offset))
        self.begin = source.offset

    def start(self) -> bool:
        import zstandard

        self._skip_frames()
        limits: dict[str, Any] = {"max_window_size": _WINDOW}
        if self._dictionary is not None:
            limits["dict_data"] = self._dictionary
        self._decoder: Any = zstandard.ZstdDecompressor(**limits).decompressobj()
        return super().start()

    def read(self) -> bytes:
        import zstandard

        while not self._decoder.eof:
            data = self.source.take(ZSTD_CHUNK)
            if not data:
                raise Damaged("the file ends within a zstd frame", ended=True)
            try:
                decoded: bytes = self._decoder.decompress(data)
            except (zstandard.ZstdError, MemoryError) as error:
                raise Damaged(f"zstd: {error}") from None
            if self._decoder.eof:
                self.source.give_back(self._decoder.unused_data)
            if decoded:
                return decoded
        return b""

    def _skip_frames(self) -> None:
        """Pass frames without data; keep the dictionary if the first has it."""
        while True:
            begin = self.source.offset
            head = _take_all(self.source, 8)
            if len(head) < 8 or head[1:4] != _SKIPPABLE or head[0] & 0xF0 != 0x50:
                self.source.go_back(begin)
                return
            size = int.from_bytes(head[4:8], "little")
            if head[0] == _DICTIONARY and begin == 0 and size <= _WINDOW:
                self._dictionary = _dictionary(_take_all(self.source, size))
            else:
                self.source.seek(self.source.offset + size)


class PlainMembers(Members):
    """Of a file that is not compressed."""

    compressed = False
    magic = b"WARC/1."

    def likely(self, first: bytes) -> bool:
        return first[8:9] in (b"\r", b"\n")


def members_of(path: str, source: Source) -> Members:
    """By the name's end."""
    if path.endswith(".gz"):
        return GzipMembers(source)
    return ZstdMembers(source) if path.endswith(".zst") else PlainMembers(source)


def _dictionary(data: bytes) -> Any:
    """A zstd dictionary, which may be compressed itself."""
    import zstandard

    if data.startswith(ZstdMembers.magic):
        try:
            data = zstandard.ZstdDecompressor(max_window_size=_WINDOW).stream_reader(data).read(_WINDOW)
        except zstandard.ZstdError:
            return None  # every frame then says that its dictionary is missing
    return zstandard.ZstdCompressionDict(data)


def _take_all(source: Source, size: int) -> bytes:
    """`size` bytes, or those that are left."""
    parts = []
    while size > 0 and (part := source.take(size)):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
