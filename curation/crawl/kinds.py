"""Kinds of input files, told by their first bytes rather than by their names."""

import contextlib
import io
from typing import IO

from mmcorpus.curation.crawl.members import RECORD, GzipMembers, Members, PlainMembers, ZstdMembers
from mmcorpus.curation.crawl.streams import Source
from mmcorpus.curation.store.compressed import HEAD, TAR, DecodeError, chunks, compression_of
from mmcorpus.curation.store.row_tables import table_kind


class UnknownKind(ValueError):
    """A file that is of another kind than its reader reads; the text says which, and what to do."""


def file_kind(file: IO[bytes], path: str) -> str | None:
    """The kind of a file by its first bytes, compressed or not: `warc`, `zip`, `tar`, `parquet`, `arrow`, `arc`; None
    for anything else. The file's place is its beginning afterwards."""
    file.seek(0)
    head = file.read(HEAD)
    file.seek(0)
    if (compression := compression_of(head, path)) is not None:
        if compression == "zstd":  # whose first frame may be a dictionary
            members = ZstdMembers(Source(file))
            parts = iter(members.read if members.start() else bytes, b"")
        else:  # of gzip no more is read: a rerun that seeks to a place far off asks this, too
            parts = chunks(io.BytesIO(head) if compression == "gzip" else file, compression, HEAD)
        head = b""
        with contextlib.suppress(DecodeError):
            for part in parts:
                head += part
                if len(head) >= HEAD:
                    break
        file.seek(0)
    if RECORD.match(head):
        return "warc"
    if head.startswith(b"PK\x03\x04"):
        return "zip"
    if (kind := table_kind(head)) is not None:
        return kind
    if head.startswith(b"filedesc://"):
        return "arc"
    return "tar" if head[257:262] == TAR else None


def members_of(path: str, source: Source) -> Members:
    """By the first bytes; see `compression_of`. Raises `UnknownKind` for compressions that no WARC file is read in."""
    kind = compression_of(source.peek(0, HEAD), path)
    if kind in ("bz2", "xz"):
        raise UnknownKind(
            f"{path} is compressed by {kind}, of which no record can be read by itself; unpack it, or compress each "
            "record by itself (`warcio recompress`)"
        )
    if kind is None:
        return PlainMembers(source)
    return GzipMembers(source) if kind == "gzip" else ZstdMembers(source)
