"""The records of WARC files as they lie there: where each begins and ends, whatever damage surrounds it.

    member  member  memb#r  member        a damaged member costs itself: reading goes on at the next one whose first
    ├────── ├────── ├────── ├──────       bytes decode to `WARC/`
    record  record  failure record

The place after each record is known before the next one is touched, which is where a killed run goes on.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from mmcorpus.curation.crawl.http import MAX_HEAD, parse_headers
from mmcorpus.curation.crawl.members import RECORD, RECORD_LINE, Members
from mmcorpus.curation.crawl.records import START, Position
from mmcorpus.curation.store.compressed import DecodeError

BAD_RECORD: Final = "bad_record"
TRUNCATED: Final = "truncated"
PAGE_TYPES: Final = frozenset({"response", "resource", "conversion"})
"""Types of records whose blocks are read."""
_EMPTY_LINE: Final = re.compile(rb"\n\r?\n")
_FIRST_LINE: Final = re.compile(rb"WARC/\d\.\d{1,2}\r?\n")
_PEEK: Final = 64
"""Bytes by which the end of a record is told: newlines, and the next one's first line."""
_NEWLINES: Final = b"\r\n"
_NO_RECORD: Final = "it does not begin as a WARC record"


@dataclass(kw_only=True, slots=True)
class RawRecord:
    """A record as it lies in the file."""

    offset: int
    number: int
    """Among those that begin at this offset."""
    headers: dict[str, str] = field(default_factory=dict)
    block: bytes = b""
    """Its first bytes, if it is longer than the limit."""
    size: int = 0
    length: int | None = None
    position: Position = START
    problem: tuple[str, str] | None = None
    """The code and account of why it cannot be used."""

    def fail(self, code: str, detail: str) -> "RawRecord":
        self.problem = code, detail
        return self


class Block:
    """The decoded bytes of a member, with some ahead."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self.ahead = b""
        self.parted = False
        """True if two newlines stand before what is ahead: a record before them is as long as it says."""
        self._ended = False

    def want(self, size: int) -> bool:
        """Have so many bytes ahead; False if the member has fewer."""
        while len(self.ahead) < size and not self._ended:
            more = self._members.read()
            self._ended = not more
            self.ahead += more
        return len(self.ahead) >= size

    def take(self, size: int) -> bytes:
        """Up to so many bytes."""
        parts = []
        while size > 0 and self.want(1):
            parts.append(self.ahead[:size])
            self.ahead = self.ahead[size:]
            size -= len(parts[-1])
        return b"".join(parts)

    def skip(self, size: int | None = None) -> int:
        """Pass so many bytes, or all; returns how many there were."""
        if size is not None and not self._members.compressed:
            passed = min(size, len(self.ahead))
            self.ahead = self.ahead[passed:]
            # Without reading: or a file of records with wrong lengths would be read as often as it has records.
            return passed + self._members.source.skip(size - passed)
        passed = 0
        while (size is None or passed < size) and self.want(1):
            part = len(self.ahead) if size is None else min(len(self.ahead), size - passed)
            self.ahead = self.ahead[part:]
            passed += part
        return passed

    def ends_a_record(self, size: int) -> bool:
        """True if a record may end after so many bytes of a plain file: what is read then goes on from there."""
        at = self._members.source.offset - len(self.ahead) + size
        if at > self._members.source.size():  # files cannot even be told to go to what a wrong length may say
            return False
        found = self._members.source.peek(at, _PEEK)
        rest = found.lstrip(_NEWLINES)
        if not rest and len(found) < _PEEK:  # the file ends here
            return True
        return found.count(b"\n", 0, len(found) - len(rest)) > 1 or RECORD.match(rest) is not None

    def at_end(self) -> bool:
        """Pass the newlines between records, and say in `parted` if there are two; whether that was all."""
        lines, self.parted = 0, False
        while self.want(1):
            rest = self.ahead.lstrip(_NEWLINES)
            lines += self.ahead.count(b"\n", 0, len(self.ahead) - len(rest))
            self.parted = lines > 1
            self.ahead = rest
            if rest:
                return False
        return True


class RecordReader:
    """Reads records from members."""

    def __init__(self, members: Members, skip: int, limit: int) -> None:
        self.members, self.skip, self.limit = members, skip, limit
        self._doubtful = False
        """A record of a plain file had a wrong length: from then on each is looked at before it is read, or a file of
        wrong lengths would be read as often as it has records."""

    def records(self) -> Iterator[RawRecord]:
        """All records and failures, in order."""
        while self.members.start():
            for raw in self._member() if self.members.compressed else self._plain():
                if self.skip:
                    self.skip -= 1
                else:
                    yield raw
            self.skip = 0

    def _member(self) -> Iterator[RawRecord]:
        """The records of a compressed member: mostly one."""
        begin, number = self.members.begin, 0
        block = Block(self.members)
        held: RawRecord | None = None  # until it is known that the member is whole, or that another record follows
        try:
            while not block.at_end():
                if not block.want(5) or not block.ahead.startswith(b"WARC/"):
                    break
                if held is not None:
                    held.position, held.length = Position(begin, number), None
                    done, held = held, None
                    yield done
                held = self._record(block, begin, number)
                number += 1
                if held.problem is not None:
                    break  # where the next record would begin is not known
            parted = block.parted
            left = block.skip()
        except DecodeError as error:
            yield self._damaged(held, begin, number, error)
            return
        after = Position(self.members.source.offset)
        if left and held is not None and held.problem is None and not parted:
            held.fail(BAD_RECORD, f"its Content-Length is {held.size}, and {left} bytes more follow")
        elif left and (held is None or held.problem is None):
            if held is not None:
                held.position, held.length = Position(begin, number), None
                yield held
            held, number = RawRecord(offset=begin, number=number).fail(BAD_RECORD, _NO_RECORD), number + 1
        if held is not None:
            held.length = after.offset - begin if number <= 1 else None
            held.position = after
            yield held

    def _damaged(self, held: RawRecord | None, begin: int, number: int, error: DecodeError) -> RawRecord:
        """The failure of a damaged member; reading goes on at the next whole one."""
        found = self.members.find_next(begin + 1)
        code = TRUNCATED if error.ended and not found else BAD_RECORD
        raw = held or RawRecord(offset=begin, number=number)
        raw.length, raw.position = None, Position(self.members.source.offset)
        return raw.fail(code, str(error))

    def _plain(self) -> Iterator[RawRecord]:
        """The records of a file that is not compressed."""
        block = Block(self.members)
        held: RawRecord | None = None
        body_at = 0
        while True:
            ended = (held is None or held.problem is None) and block.at_end()
            begin = self.members.source.offset - len(block.ahead)
            block.want(RECORD_LINE)
            whole = ended or RECORD.match(block.ahead) is not None
            if held is not None and held.problem is None and not whole:
                if block.parted:
                    held.position = Position(begin)
                    yield held
                    held = None
                else:
                    held.fail(BAD_RECORD, _no_next(held.size))
            if held.problem is not None if held is not None else not whole:
                self._doubtful = True
                # The first few bytes of a record: the file breaks off there.
                code = TRUNCATED if _is_begun(block.ahead) else BAD_RECORD
                raw = held or RawRecord(offset=begin, number=0).fail(code, _NO_RECORD)
                # What a wrong length has swallowed is read again: from the end of the record's own header on.
                found = self.members.find_next(body_at if held is not None else begin + 1)
                block = Block(self.members)
                after = self.members.source.offset
                raw.length, raw.position = after - raw.offset, Position(after)
                if found and raw.problem and raw.problem[0] == TRUNCATED:
                    raw.problem = BAD_RECORD, raw.problem[1]
                held = None
                yield raw
                continue
            if held is not None:
                held.position = Position(begin)
                yield held
            if ended:
                return
            held = self._record(block, begin, 0)
            body_at = begin + held.length if held.length else begin + 1
            held.length = self.members.source.offset - len(block.ahead) - begin

    def _record(self, block: Block, begin: int, number: int) -> RawRecord:
        """The record that begins ahead. Its `length` is that of its header."""
        raw = RawRecord(offset=begin, number=number)
        searched = 1  # past the beginning of its own first line
        while True:
            end = _EMPTY_LINE.search(block.ahead, searched)
            if _FIRST_LINE.search(block.ahead, searched, end.end() if end else len(block.ahead)):
                return raw.fail(BAD_RECORD, "another record begins within its header")
            if end is not None:
                break
            searched = max(searched, len(block.ahead) - RECORD_LINE)
            if len(block.ahead) > MAX_HEAD:
                return raw.fail(BAD_RECORD, f"its header has more than {MAX_HEAD:,} bytes, which are not read")
            if not block.want(len(block.ahead) + 1):
                return raw.fail(TRUNCATED, "it ends within its header")
        try:
            _, pairs = parse_headers(block.take(end.end()).rstrip(_NEWLINES))
        except ValueError as error:
            return raw.fail(BAD_RECORD, str(error))
        raw.length = end.end()
        raw.headers = {name.lower(): value for name, value in reversed(pairs)}
        stated = raw.headers.get("content-length", "").strip()
        if not (stated.isascii() and stated.isdigit()):
            return raw.fail(BAD_RECORD, f"its Content-Length is {stated[:40]!r}")
        raw.size = int(stated[:18])
        wrong = self._doubtful and not self.members.compressed and not block.ends_a_record(raw.size)
        if raw.headers.get("warc-type", "").lower() in PAGE_TYPES and not wrong:
            raw.block = block.take(min(raw.size, self.limit))
        there = len(raw.block) + block.skip(raw.size - len(raw.block))
        if there < raw.size:
            return raw.fail(TRUNCATED, f"its Content-Length is {raw.size}, and {there} bytes are there")
        return raw.fail(BAD_RECORD, _no_next(raw.size)) if wrong else raw


def _no_next(size: int) -> str:
    return f"after its Content-Length of {size} bytes no record begins"


def _is_begun(data: bytes) -> bool:
    """True if a few bytes, the file's last, may be the beginning of a record's first line."""
    return data.startswith(b"WARC/"[: len(data)]) and len(data) < RECORD_LINE and b"\n" not in data
