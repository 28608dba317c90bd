"""Compressions, told by the first bytes of a file rather than by its name."""

import codecs
from typing import Final
from urllib.parse import urlsplit

COMPRESSIONS: Final = {
    ".gz": "gzip", ".tgz": "gzip", ".bz2": "bz2", ".tbz2": "bz2", ".xz": "xz", ".txz": "xz", ".zst": "zstd"
}  # fmt: skip
"""fsspec's names of compressions by a name's end."""
_MAGIC: Final = {b"\x1f\x8b": "gzip", b"BZh": "bz2", b"\xfd7zXZ\0": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
"""The same by the first bytes."""
HEAD: Final = 512
"""Bytes by which a file's kind is told."""
SKIPPABLE: Final = b"\x2a\x4d\x18"
"""The end of the magic number of a zstd frame without data; the byte before is 0x50 to 0x5f."""
TAR: Final = b"ustar"
ARC_FILE: Final = "an ARC file, the format before WARC; convert it: warcio recompress a.arc.gz a.warc.gz"
_TEXT_BYTES: Final = bytes({7, 8, 9, 10, 12, 13, 27, *range(0x20, 0x100)} - {0x7F})
"""Bytes that text files hold (the WHATWG's MIME Sniffing Standard, §3)."""


class UnknownKind(ValueError):
    """A file that is of another kind than its reader reads; the text says which, and what to do."""


def compression_of(head: bytes, path: str = "") -> str | None:
    """fsspec's name of a file's compression, by its first bytes; by its name where these are damaged beyond telling.

    Proxies and downloaders undo compression, or name what they got as they like: `.gz` that is text is read as text.
    """
    kind = next((kind for magic, kind in _MAGIC.items() if head.startswith(magic)), None)
    if kind is None and head[1:4] == SKIPPABLE and head[0] & 0xF0 == 0x50:
        return "zstd"
    if kind is None and not _is_plain(head):
        return next((kind for end, kind in COMPRESSIONS.items() if plain_name(path).endswith(end)), None)
    return kind


def _is_plain(head: bytes) -> bool:
    """True for the beginning of a text in UTF-8 or of a tar."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return not head.translate(None, _TEXT_BYTES) or head[257:262] == TAR


def plain_name(path: str) -> str:
    """A path in lower case, of an address without its query: `http://a/b.GZ?sig=1` ends with `.gz`."""
    return (urlsplit(path).path if "://" in path else path).lower()
