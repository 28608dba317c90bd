"""Reading ARC files, the Internet Archive's format before WARC (Burner and Kahle 1996; Heritrix wrote version 1 too).

A record is a line – address, IP address, date, type, length; in version 2 five fields more before the length – and the
HTTP answer as it was sent. In an `.arc.gz` each record is a gzip member, unless the file was compressed whole. What
a record holds is judged as WARC's responses are.
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
from mmcorpus.curation.crawl.warc_records import BAD_RECORD, TRUNCATED, Block, RawRecord
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
        members = _ArcGzip(source) if kind == "gzip" else ZstdMembers(source)
        raws = _compressed(members, position.skip, limit)
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


def _compressed(members: Members, skip: int, limit: int) -> Iterator[RawRecord]:
    """The records of compressed members; of the first, so many are passed."""
    while members.start():
        for raw in _member(members, limit):
            if skip:
                skip -= 1
            else:
                yield raw
        skip = 0


def _member(members: Members, limit: int) -> Iterator[RawRecord]:
    """The records of a member: one as the Archive writes them, all where a whole file was compressed."""
    begin, number = members.begin, 0
    block = Block(members)
    held: RawRecord | None = None  # until it is known that the member is whole, or that another record follows
    try:
        while not block.at_end():
            if held is not None:
                held.position = Position(begin, number)
                yield held
            held, number = RawRecord(offset=begin, number=number), number + 1
            block.want(_MAX_LINE)
            line, newline, _ = block.ahead[:_MAX_LINE].partition(b"\n")
            if not _record(held, line):
                break  # where the next record would begin is not known
            block.take(len(line) + len(newline))
            held.block = block.take(min(held.size, limit))
            there = len(held.block) + block.skip(held.size - len(held.block))
            if there < held.size:
                held.fail(TRUNCATED, f"its length is {held.size}, and {there} bytes are there")
        block.skip()
    except DecodeError as error:
        found = members.find_next(begin + 1)
        raw = held or RawRecord(offset=begin, number=number)
        raw.fail(TRUNCATED if error.ended and not found else BAD_RECORD, str(error))
        raw.position = Position(members.source.offset)
        yield raw
        return
    if held is not None:
        held.position = Position(members.source.offset)
        held.length = members.source.offset - begin if number == 1 else None
        yield held


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
