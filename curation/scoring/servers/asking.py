"""Which process asks a question that several have at the same moment: the one that locks it, while the others wait.

`ROOT/.asking` is a file of which a question is one byte, far beyond its end: the number that its key has. A process
locks the bytes of what it asks (POSIX record locks, which end with the process and which NFS knows) until its batch is
over, then lengthens the file by one byte and lets go. Who gets a lock and sees the file longer than at its last look
has to look for answers once more.
"""

import contextlib
import fcntl
import os
from typing import Final, Self

from mmcorpus.curation.store import storage

FILE: Final = ".asking"
_FAR: Final = 1 << 40
"""Where the questions' bytes begin: beyond any length that the file can get."""


class Asking:
    """The questions that this process asks of those whose answers are kept in one folder of this machine or network."""

    def __init__(self, file: int) -> None:
        """`file`: a descriptor of the folder's `FILE`, open for appending."""
        self._file = file
        self._held: set[int] = set()

    @classmethod
    def open(cls, root: str) -> Self:
        """Those of a folder, which is made if it is not there."""
        storage.make_folder(root)
        _, path = storage.filesystem(storage.join(root, FILE))
        return cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644))

    def reserve(self, number: int) -> bool:
        """Lock a question, by a number below 2^62; False while another process asks it."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, _FAR + number)
        except OSError:
            return False
        self._held.add(number)
        return True

    def finished(self) -> int:
        """How many batches all processes have come to the end of."""
        return os.fstat(self._file).st_size

    def is_removed(self) -> bool:
        """Whether others would not see these locks, since the file is another by now."""
        return os.fstat(self._file).st_nlink == 0

    def release(self, number: int | None = None) -> None:
        """Let go of a question that got no answer; or of all, whose answers are kept."""
        released = self._held & {number} if number is not None else set(self._held)
        if released:
            with contextlib.suppress(OSError):  # of a full disk, say: an answer may then be paid for twice
                os.write(self._file, b".")
        for one in released:
            fcntl.lockf(self._file, fcntl.LOCK_UN, 1, _FAR + one)
        self._held -= released


_OPEN: Final[dict[str, Asking]] = {}
"""One for each folder: a process that closes a file lets go of all its locks on it."""


def asking(root: str) -> Asking:
    """This process's questions of a folder, anew where the folder was removed since."""
    if root not in _OPEN or _OPEN[root].is_removed():
        _OPEN[root] = Asking.open(root)
    return _OPEN[root]
