"""Reading ARC files, the Internet Archive's format before WARC (Burner and Kahle 1996; Heritrix wrote version 1 too).

A record is a line – address, IP address, date, type, length; in version 2 five fields more before the length – and the
HTTP answer as it was sent. In an `.arc.gz` each record is a gzip member. What a record holds is judged as WARC's
responses are.
"""

import re
import zlib
from collections.abc import Iterator
from typing import Final

from mmcorpus.curation.crawl.http import MAX_HEAD
from mmcorpus.curation.crawl.members import GzipMembers, Members, PlainMembers, ZstdMembers
from mmcorpus.curation.crawl.records import Item, Other, Position
from mmcorpus.curation.crawl.streams import Source
from mmcorpus.curation.crawl.warc import item_of
from mmcorpus.curation.crawl.warc_records import BAD_RECORD, TRUNCATED, RawRecord
from mmcorpus.curation.store.compressed import HEAD, DecodeError, compression_of

ARC_HEAD: Final = b"filedesc://"
"""How the first record's address begins: it describes the file."""
_MAX_LINE: Final = 16 * 1024
_DATE: Final = re.compile(r"(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)")
_BEHIND: Final = (4, 9)
"""Fields behind the address, of versions 1 and 2."""
_NEWLINES: Final = b"\r\n"


class _ArcGzip(GzipMembers):
    """Members of an `.arc.gz`: a record's line begins each."""

    def likely(self, first: bytes) -> bool:
        try:
            line = zlib.decompressobj(wbits=31).decompress(first, _MAX_LINE).lstrip(_NEWLINES).partition(b"\n")[0]
        except zlib.error:
            return False
        return _fields(line) is not None


def read_arc(path: str, source: Source, position: Position, max_page_bytes: int) -> Iterator[Item]:
    """The records of an ARC file from a position on; a damaged one costs itself in a compressed file, and what follows
    it in a plain one. Raises OSError."""
    source.seek(position.offset)
    limit = max_page_bytes + MAX_HEAD
    kind = compression_of(source.peek(0, HEAD), path)
    if kind is None:
        raws = _plain(PlainMembers(source), limit)
    else:
        raws = _compressed(_ArcGzip(source) if kind == "gzip" else ZstdMembers(source), limit)
    for raw in raws:
        if raw.headers.get("warc-target-uri", "").startswith(ARC_HEAD.decode()):
            yield Other(file=path, offset=raw.offset, length=raw.length, position=raw.position, what="filedesc")
        else:
            yield item_of(path, raw, max_page_bytes)


def _fields(line: bytes) -> tuple[str, str, int] | None:
    """Address, date (ISO 8601) and length in a record's line; None for what is none."""
    text = line.decode("utf-8", "replace").rstrip("\r\n")
    for behind in _BEHIND:
        parts = text.rsplit(" ", behind)
        if len(parts) != behind + 1 or "://" not in parts[0] or not (parts[-1].isascii() and parts[-1].isdigit()):
            continue
        if (date := _DATE.fullmatch(parts[2])) is not None:
            return parts[0], "{}-{}-{}T{}:{}:{}Z".format(*date.groups()), int(parts[-1][:18])
    return None


def _record(raw: RawRecord, line: bytes) -> bool:
    """Fill in what a record's line says, as WARC's headers; False if it says nothing."""
    found = _fields(line)
    if found is None:
        raw.fail(BAD_RECORD, f"it does not begin as an ARC record: {line[:60]!r}")
        return False
    url, date, raw.size = found
    raw.headers = {
        "warc-type": "response",
        "warc-target-uri": url,
        "warc-date": date,
        "content-type": "application/http; msgtype=response",
    }
    return True


def _compressed(members: Members, limit: int) -> Iterator[RawRecord]:
    """A record a member."""
    while members.start():
        raw = RawRecord(offset=members.begin, number=0)
        try:
            data, size = b"", 0
            while part := members.read():
                size += len(part)
                if len(data) < limit + _MAX_LINE:
                    data += part
            stripped = data.lstrip(_NEWLINES)
            line, newline, block = stripped.partition(b"\n")
            if _record(raw, line):
                there = size - (len(data) - len(stripped)) - len(line) - len(newline)
                raw.block = block[: min(raw.size, limit)]
                if there < raw.size:
                    raw.fail(TRUNCATED, f"its length is {raw.size}, and {there} bytes are there")
            raw.position = Position(members.source.offset)
            raw.length = members.source.offset - raw.offset
        except DecodeError as error:
            found = members.find_next(members.begin + 1)
            raw.fail(TRUNCATED if error.ended and not found else BAD_RECORD, str(error))
            raw.position = Position(members.source.offset)
        yield raw


def _plain(members: PlainMembers, limit: int) -> Iterator[RawRecord]:
    """One record after the other, newlines between."""
    source = members.source
    while not source.ended():
        begin = source.offset
        head = source.peek(begin, _MAX_LINE)
        blank = len(head) - len(head.lstrip(_NEWLINES))
        line, newline, _ = head[blank:].partition(b"\n")
        if not line:
            if source.skip(len(head)) == 0 or len(head) < _MAX_LINE:
                return
            continue
        raw = RawRecord(offset=begin + blank, number=0)
        if not newline or not _record(raw, line):
            raw.fail(TRUNCATED if not newline else BAD_RECORD, "no record begins here; what follows is not read")
            raw.position = Position(source.size())
            yield raw
            return
        source.skip(blank + len(line) + 1)
        wanted, parts = min(raw.size, limit), []
        while wanted > 0 and (part := source.take(wanted)):
            parts.append(part)
            wanted -= len(part)
        raw.block = b"".join(parts)
        there = len(raw.block) + source.skip(raw.size - len(raw.block))
        if there < raw.size:
            raw.fail(TRUNCATED, f"its length is {raw.size}, and {there} bytes are there")
        raw.position, raw.length = Position(source.offset), source.offset - raw.offset
        yield raw
