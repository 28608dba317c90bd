"""Files as readers need them: bounded reading from any offset."""

import contextlib
import io
import shutil
import tempfile
import time
from collections.abc import Iterator
from typing import IO, Any, Final

from mmcorpus.curation.store import storage
from mmcorpus.filters import web

CHUNK: Final = 64 * 1024
FIRST: Final = 4096
"""Bytes read at a place at first, then twice as many each time up to `CHUNK`: seeking often reads little."""
_TRIES: Final = 3


@contextlib.contextmanager
def open_input(path: str) -> Iterator[IO[bytes]]:
    """A file, local or remote, that can be read from any place; the bytes of its name, whatever they are compressed by.

    What cannot be read in parts (a web server without ranges) is copied to a temporary file first.
    """
    fs, inner = storage.filesystem(path)
    with contextlib.ExitStack() as stack:
        stack.enter_context(web.reading(path, allow_private=False))
        file: Any = stack.enter_context(fs.open(inner, "rb"))
        if path.startswith(("http://", "https://")) and not _served_in_parts(file):
            file = stack.enter_context(tempfile.NamedTemporaryFile())
            with storage.naming_full_disk(tempfile.gettempdir()):
                if (fs.info(inner).get("size") or 0) > shutil.disk_usage(tempfile.gettempdir()).free:
                    raise storage.full_disk(tempfile.gettempdir())
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
        self._chunk, self._at, self._size = b"", 0, FIRST
        self._file.seek(offset)

    def take(self, size: int = CHUNK) -> bytes:
        """Up to `size` bytes; empty at the end of the file."""
        self.ended()
        taken = self._chunk[self._at : self._at + size]
        self._at += len(taken)
        self.offset += len(taken)
        return taken

    def ended(self) -> bool:
        """True at the end of the file."""
        if self._at >= len(self._chunk):
            self._chunk, self._at = self._read(self.offset, self._size), 0
            self._size = min(2 * self._size, CHUNK)
        return not self._chunk

    def give_back(self, data: bytes) -> None:
        """Undo the end of the last `take`: `data` is what it ended with."""
        self._at -= len(data)
        self.offset -= len(data)

    def peek(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes from an offset on; the place stays."""
        self._file.seek(offset)
        found = self._read(offset, size)
        self._file.seek(self.offset + len(self._chunk) - self._at)
        return found

    def size(self) -> int:
        """Of the file, in bytes."""
        end = self._file.seek(0, io.SEEK_END)
        self._file.seek(self.offset + len(self._chunk) - self._at)
        return end

    def go_back(self, offset: int) -> None:
        """Return to an offset a little before."""
        if self.offset - offset <= self._at:
            self.give_back(self._chunk[self._at - (self.offset - offset) : self._at])
        else:
            self.seek(offset)

    def skip(self, size: int) -> int:
        """Pass up to `size` bytes without reading them; returns how many there were."""
        if size > len(self._chunk) - self._at:
            size = max(0, min(size, self.size() - self.offset))
            self.seek(self.offset + size)
        else:
            self._at += size
            self.offset += size
        return size

    def _read(self, offset: int, size: int) -> bytes:
        """Up to `size` bytes at the file's place, which is `offset`; a connection that breaks is tried again."""
        for left in reversed(range(_TRIES)):
            try:
                return self._file.read(size)
            except OSError:
                if not left:
                    raise
                time.sleep(1)
                self._file.seek(offset)
        raise AssertionError("unreachable")
