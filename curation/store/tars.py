"""Tars that others wrote, read with bounds: tarfile takes every number in a header at its word.

A sparse member of some bytes may say that it is exabytes of zeros, a size may be negative (and reading never ends), an
extended header may fill the memory, and a chain of them the stack. Such extended headers are passed over, and the one
member that they speak of is not readable; nor is one whose size cannot be, behind which the next block that is a
header is looked for. Where there is none, the tar is damaged: `tarfile.ReadError`, before anything is allocated. So it
is where a header is none, which tarfile takes for the end.
"""

import contextlib
import io
import tarfile
from collections.abc import Iterator
from typing import IO, Any, Final, Literal

MAX_MEMBER_BYTES: Final = 1 << 30
"""A larger member is not read: no image, text or JSON of a sample is."""
_MAX_TAR_BYTES: Final = 1 << 44
"""What a tar of unknown length may say that a member has."""
_MAX_HEADER_BYTES: Final = 1 << 16
"""Of an extended header: a long name, PAX records."""
_MAX_HEADERS: Final = 8
"""Extended headers before one member."""
_MAX_SEARCHES: Final = 64
"""Members of one tar behind which the next is looked for: where the tar is compressed, each begins it again."""
_SEARCHED: Final = 1 << 30
"""Bytes behind a member that are looked through for the next."""
_PIECE: Final = 1 << 20
_USTAR: Final = b"ustar"
_USTAR_AT: Final = 257
_EXTENDED: Final = (
    tarfile.GNUTYPE_LONGNAME,
    tarfile.GNUTYPE_LONGLINK,
    tarfile.XHDTYPE,
    tarfile.XGLTYPE,
    tarfile.SOLARIS_XHDTYPE,
)


@contextlib.contextmanager
def read_tar(file: IO[bytes], mode: Literal["r:", "r|"]) -> Iterator[tarfile.TarFile]:
    """A tar, as `tarfile.open` gives it; with `r|` it is read from its beginning to its end, once.

    Raises:
        tarfile.ReadError: it is damaged, or a header says what no header of a sane tar does.
    """
    place, most = file.tell(), _MAX_TAR_BYTES
    with contextlib.suppress(io.UnsupportedOperation):  # of a compressed tar nobody knows
        most = file.seek(0, io.SEEK_END)
        file.seek(place)
    options: dict[str, Any] = {"fileobj": file, "mode": mode, "most": most, "raw": file}
    with _Tar.open(**options) as tar:
        yield tar


def is_readable(member: tarfile.TarInfo) -> bool:
    """Whether a member is a file whose bytes lie in the tar as they are, and not too many of them to read, behind
    extended headers that make sense."""
    return member.isreg() and not member.issparse() and member.size <= MAX_MEMBER_BYTES


def has_end(file: IO[bytes]) -> bool:
    """Whether a tar ends as its writer ended it, with a block of zeros, and not where it was cut."""
    file.seek(max(0, file.seek(0, io.SEEK_END) - tarfile.BLOCKSIZE))
    return file.read() == bytes(tarfile.BLOCKSIZE)


def sample_of(name: str) -> tuple[str, str]:
    """A member's key and the ending that follows it, as WebDataset parts them: at the first dot after the last slash.

    The folder is no part of the key: tables beside a tar do not know it (`./000.jpg` of `tar cf 000.tar .`). Both are
    empty for what macOS puts beside a file (`._000.jpg`).
    """
    base = name.rpartition("/")[2]
    if base.startswith("._"):
        return "", ""
    key, _, ending = base.partition(".")
    return key, ending


_InvalidHeader: Any = tarfile.InvalidHeaderError  # type: ignore[attr-defined]  # unknown to its stubs
_TruncatedHeader: Any = tarfile.TruncatedHeaderError  # type: ignore[attr-defined]


class _Member(tarfile.TarInfo):
    """A member whose headers are checked. The steps overridden here are those that tarfile means to be."""

    @classmethod
    def fromtarfile(cls, tarfile: Any) -> "_Member":
        try:
            return super().fromtarfile(tarfile)
        except (ValueError, IndexError, OverflowError) as error:
            raise _refused(f"a damaged header ({error})") from None
        except (_InvalidHeader, _TruncatedHeader):
            if not tarfile.offset:
                raise  # no tar at all, says tarfile
            raise _no_member(tarfile.offset) from None

    def _proc_member(self, tar: "_Tar") -> tarfile.TarInfo:
        if self.size < 0:
            return self._lost(tar, f"a member of {self.size} bytes")
        if self.type in _EXTENDED:
            if self.size > _MAX_HEADER_BYTES or tar.headers >= _MAX_HEADERS:
                return self._passed_over(tar)
            tar.headers += 1
        member: tarfile.TarInfo = super()._proc_member(tar)  # type: ignore[misc]
        tar.headers = 0
        stored = tar.offset - member.offset_data
        if member.size < 0 or stored < 0:
            raise _refused(f"a member of {member.size} bytes")
        if stored > MAX_MEMBER_BYTES and tar.offset > tar.most:
            return self._lost(tar, f"a member of {stored} bytes, which do not lie in it")
        return member

    def _lost(self, tar: "_Tar", why: str) -> tarfile.TarInfo:
        """This member, not readable, with the tar standing at the next one, or at the tar's end."""
        self.offset_data = self.offset + tarfile.BLOCKSIZE
        tar.offset = tar.next_header(self.offset_data, why)
        self.size, self.sparse, tar.headers = 0, b"", 0  # only that sparse is set is looked at
        return self

    def _passed_over(self, tar: "_Tar") -> tarfile.TarInfo:
        """The member behind extended headers that are not read; it has the name in its own header, often a cut one."""
        file: Any = tar.fileobj
        head: Any = self
        while head.type in _EXTENDED:
            end = file.tell() + head._block(head.size)
            if head.size < 0 or end > tar.most:
                return head._lost(tar, f"an extended header of {head.size} bytes, which do not lie in it")
            file.seek(end)
            try:
                head = self.frombuf(file.read(tarfile.BLOCKSIZE), tar.encoding, tar.errors)
            except (tarfile.HeaderError, ValueError):
                raise _no_member(end) from None
            head.offset = end
        tar.headers = 0
        member: tarfile.TarInfo = head._proc_member(tar)
        member.offset = self.offset
        member.sparse = b""  # only that it is set is looked at
        return member

    def _proc_pax(self, tar: "_Tar") -> tarfile.TarInfo:
        """Only name and size are taken: tarfile's own way is quadratic in what the records hold. The member behind
        records that make no sense is taken to be as long as its own header says."""
        data = tar.fileobj.read(self._block(self.size))[: self.size]  # type: ignore[attr-defined]
        records: dict[str, str] = {}
        damaged = False
        try:
            records.update(_pax_records(data))
        except tarfile.ReadError:
            damaged = True
        try:
            member = self.fromtarfile(tar)
        except tarfile.HeaderError as error:
            raise tarfile.ReadError(str(error)) from None
        if self.type == tarfile.XGLTYPE:
            return member  # what it says of all members is nothing that a member of a shard needs
        member.offset = self.offset
        stated = records.get("size", "0")
        size = int(stated) if stated.isascii() and stated.isdigit() and len(stated) < 20 else -1
        damaged = damaged or not 0 <= size <= tar.most - member.offset_data
        if damaged or any(name.startswith("GNU.sparse.") for name in records):
            member.sparse = b""  # only that it is set is looked at
        member.name = records.get("path", member.name)
        if "size" in records and not damaged:
            member.size = size
            tar.offset = member.offset_data
            if member.isreg() or member.type not in tarfile.SUPPORTED_TYPES:
                tar.offset += -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
        return member


class _Tar(tarfile.TarFile):
    tarinfo = _Member
    headers = 0
    """Extended headers before the member that is being read."""

    searches = 0
    """Members behind which the next was looked for."""

    def __init__(self, *args: Any, most: int, raw: IO[bytes], **options: Any) -> None:
        self.most = most
        """Where the tar ends at the latest."""
        self._raw = raw
        super().__init__(*args, **options)

    def next_header(self, place: int, why: str) -> int:
        """Where from a place on the next member begins, else the block of zeros at the end of the tar.

        Raises tarfile.ReadError, that says `why` it was looked for, where there is neither.
        """
        self.searches += 1
        before, piece, searched, last = self._raw.tell(), b"", 0, b""
        self._raw.seek(place)
        while self.searches <= _MAX_SEARCHES and searched < _SEARCHED and (piece := self._raw.read(_PIECE)):
            if (found := _header_in(piece)) is not None:
                self._raw.seek(before)
                return place + searched + found
            searched, last = searched + len(piece), piece[-tarfile.BLOCKSIZE :]
        if piece or last.strip(b"\0") or len(last) < tarfile.BLOCKSIZE:
            raise _refused(why)
        self._raw.seek(before)
        return place + searched - tarfile.BLOCKSIZE


def _header_in(piece: bytes) -> int | None:
    """Where in some blocks the first is that is a member's header."""
    at = piece.find(_USTAR)
    while at >= 0:
        start = at - _USTAR_AT
        if start >= 0 and start % tarfile.BLOCKSIZE == 0 and len(piece) >= start + tarfile.BLOCKSIZE:
            with contextlib.suppress(tarfile.HeaderError, ValueError):
                tarfile.TarInfo.frombuf(piece[start : start + tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
                return start
        at = piece.find(_USTAR, at + 1)
    return None


def _pax_records(data: bytes) -> Iterator[tuple[str, str]]:
    """The records `length name=value\\n` of an extended header."""
    place, data = 0, data.rstrip(b"\0")
    while place < len(data):
        digits = data[place : place + 8].partition(b" ")[0]
        length = int(digits) if digits.isdigit() else 0
        begin, end = place + len(digits) + 1, place + length
        name, equals, value = data[begin : max(begin, end - 1)].partition(b"=")
        if not equals or end > len(data):
            raise _refused("a damaged extended header")
        yield name.decode("utf-8", "replace"), value.decode("utf-8", "surrogateescape")
        place = end


def _refused(what: str) -> tarfile.ReadError:
    return tarfile.ReadError(f"the tar has {what}")


def _no_member(place: int) -> tarfile.ReadError:
    return tarfile.ReadError(f"what follows at byte {place:,} is no file of a tar")
