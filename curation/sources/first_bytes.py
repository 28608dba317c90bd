"""What a file of a source is: by its first bytes, and where these tell nothing what it should be by its name."""

import contextlib
import posixpath
import tarfile
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple

from mmcorpus.curation.sources.json_rows import layout_of
from mmcorpus.curation.store import compressed, storage
from mmcorpus.curation.store.mds import header_of
from mmcorpus.curation.store.row_tables import table_kind

Format = Literal["tar", "files", "mds", "parquet", "arrow", "json", "jsonl"]
FORMATS: Final[dict[str, tuple[Format, ...]]] = {
    "shards": ("tar", "files", "mds"), "parquet": ("parquet", "arrow"), "json": ("json", "jsonl"),
}  # fmt: skip
"""By the recipe's word, what is read."""
_NAMED: Final[dict[str, Format]] = {
    "tar": "tar", "tgz": "tar", "tbz2": "tar", "txz": "tar", "mds": "mds", "parquet": "parquet", "arrow": "arrow",
}  # fmt: skip
"""What a file should be by its ending, which may stand before that of a compression."""
_NAMED_JSON: Final[dict[str, Format]] = {"json": "json", "jsonl": "jsonl", "ndjson": "jsonl"}
"""The same of files that cannot be looked into: what JSON can be read need not be of samples."""
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_COMPRESSIONS: Final = frozenset({"gz", "bz2", "xz", "zst", "zstd", "br", "snappy"})


class Sniffed(NamedTuple):
    """What a file is by its first bytes."""

    format: Format | None
    compression: str | None
    unreadable: str = ""
    """Why these tell nothing, of a file that may well be of samples."""


def meant(name: str, found: Sniffed) -> Format | None:
    """What a file should be by its name."""
    *_, before, last = ("", "", *posixpath.basename(name).lower().split(".")[1:])
    names = {**_NAMED, **_NAMED_JSON} if found.unreadable else _NAMED
    return names.get(before if last in _COMPRESSIONS else last)


def sniff(path: str) -> Sniffed:
    """What a file is, and how it is compressed."""
    fs, inner = storage.filesystem(path)
    unreadable = ""
    with fs.open(inner, "rb") as file:
        head = file.read(compressed.HEAD)
        kind = compressed.compression_of(head)
        if kind is not None:
            file.seek(0)
            try:
                head = next(compressed.chunks(file, kind, compressed.HEAD), b"")[: compressed.HEAD]
            except compressed.DecodeError as error:
                head, unreadable = b"", f"cannot be read: {error}; fetch or write it again"
        is_mds = False
        if head[3:4] == b"\0":  # of the number of samples, which comes first
            with contextlib.suppress(compressed.DecodeError):
                is_mds = header_of(compressed.decompressed(path, file, 0)[0]) is not None
    table = table_kind(head)
    if table is not None:
        return Sniffed(None if kind else table, kind)
    if _is_tar(head):
        return Sniffed("tar", kind)
    if is_mds:
        return Sniffed("mds", kind)
    if head.startswith(_UTF16):
        unreadable = "is UTF-16 or UTF-32; write it as UTF-8 (iconv -f UTF-16 -t UTF-8)"
    return Sniffed(layout_of(head), kind, unreadable)


def _is_tar(head: bytes) -> bool:
    """By the first header, whose sum is checked."""
    if len(head) < tarfile.BLOCKSIZE:
        return False
    if not head.strip(b"\0"):  # the end, at once
        return True
    try:
        tarfile.TarInfo.frombuf(head[: tarfile.BLOCKSIZE], "utf-8", "surrogateescape")
    except tarfile.HeaderError:
        return False
    return True


def unlike(found: Sniffed, formats: Sequence[Format]) -> str:
    """Why a file that was named is not read as one of the formats: what follows its path."""
    if found.unreadable:
        return found.unreadable
    if (kind := found.format) is not None:
        word = next((word for word, those in FORMATS.items() if kind in those), kind)
        return f"is {kind}, not {' or '.join(formats)}; give it as `{word}`"
    return "is neither a tar, parquet, Arrow, MDS, nor JSON: an array of objects, or an object a line"
