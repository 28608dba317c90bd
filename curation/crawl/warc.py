"""Reading WARC files (ISO 28500): every record once, whatever damage surrounds it.

fastwarc 2.0.1 and warcio 1.8.1 both end at the first damaged member, and hand out a record whose file breaks off, or
whose Content-Length is wrong, as if it were whole; warcio reads no zstd. So members are found here, with zlib and
zstandard, and fastwarc parses the headers alone. A page of 73 kB takes 0.4 to 0.55 ms of the 6.7 that extracting it
takes; by fastwarc alone 0.24, which would save 3 to 5 % and cost a second reader that tells where the first is wrong.

    member  member  memb#r  member        a damaged member costs itself: reading goes on at the next one whose first
    ├────── ├────── ├────── ├──────       bytes decode to `WARC/`
    record  record  failure record

The place after each record is known before the next one is touched, which is where a killed run goes on.
"""

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from mmcorpus.curation.crawl.http import (
    HTML_TYPES,
    MAX_HEAD,
    UNKNOWN_TYPES,
    Answer,
    TooLarge,
    Undecodable,
    charset_of,
    decode_body,
    looks_like_html,
    mime_of,
    parse_answer,
    parse_headers,
)
from mmcorpus.curation.crawl.members import RECORD, RECORD_LINE, Damaged, Members, members_of
from mmcorpus.curation.crawl.optout.site_rules import PATHS, site_file
from mmcorpus.curation.crawl.records import START, Failure, Item, Other, Page, Position, Ready
from mmcorpus.curation.crawl.streams import Source
from mmcorpus.curation.html.nodes import Node, TextNode

BAD_RECORD: Final = "bad_record"
TRUNCATED: Final = "truncated"
_PAGE_TYPES: Final = frozenset({"response", "resource", "conversion"})
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n|(?P<record>WARC/\d\.\d{1,2}\r?\n)")
"""An empty line, or another record's first."""
_PEEK: Final = 64
"""Bytes by which the end of a record is told: newlines, and the next one's first line."""
_NEWLINES: Final = b"\r\n"
_NO_RECORD: Final = "it does not begin as a WARC record"
_PATH: Final = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#]*(/[^?#]*)?", re.IGNORECASE)


def read_warc(path: str, source: Source, position: Position, max_page_bytes: int) -> Iterator[Item]:
    """The records of a WARC file from a position on; of each what `records` says. Raises OSError alone."""
    source.seek(position.offset)
    for raw in _Reader(members_of(path, source), position.skip, max_page_bytes + MAX_HEAD).records():
        yield _item(path, raw, max_page_bytes)


@dataclass(kw_only=True, slots=True)
class _Raw:
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

    def fail(self, code: str, detail: str) -> "_Raw":
        self.problem = code, detail
        return self


class _Block:
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
        found = self._members.source.peek(at, _PEEK)
        rest = found.lstrip(_NEWLINES)
        return not rest or found.count(b"\n", 0, len(found) - len(rest)) > 1 or RECORD.match(rest) is not None

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


class _Reader:
    """Reads records from members."""

    def __init__(self, members: Members, skip: int, limit: int) -> None:
        self.members, self.skip, self.limit = members, skip, limit
        self._doubtful = False
        """A record of a plain file had a wrong length: from then on each is looked at before it is read, or a file of
        wrong lengths would be read as often as it has records."""

    def records(self) -> Iterator[_Raw]:
        """All records and failures, in order."""
        while self.members.start():
            for raw in self._member() if self.members.compressed else self._plain():
                if self.skip:
                    self.skip -= 1
                else:
                    yield raw
            self.skip = 0

    def _member(self) -> Iterator[_Raw]:
        """The records of a compressed member: mostly one."""
        begin, number = self.members.begin, 0
        block = _Block(self.members)
        held: _Raw | None = None  # until it is known that the member is whole, or that another record follows
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
        except Damaged as error:
            yield self._damaged(held, begin, number, error)
            return
        after = Position(self.members.source.offset)
        if left and held is not None and held.problem is None and not parted:
            held.fail(BAD_RECORD, f"its Content-Length is {held.size}, and {left} bytes more follow")
        elif left and (held is None or held.problem is None):
            if held is not None:
                held.position, held.length = Position(begin, number), None
                yield held
            held, number = _Raw(offset=begin, number=number).fail(BAD_RECORD, _NO_RECORD), number + 1
        if held is not None:
            held.length = after.offset - begin if number <= 1 else None
            held.position = after
            yield held

    def _damaged(self, held: _Raw | None, begin: int, number: int, error: Damaged) -> _Raw:
        """The failure of a damaged member; reading goes on at the next whole one."""
        found = self.members.find_next(begin + 1)
        code = TRUNCATED if error.ended and not found else BAD_RECORD
        raw = held or _Raw(offset=begin, number=number)
        raw.length, raw.position = None, Position(self.members.source.offset)
        return raw.fail(code, str(error))

    def _plain(self) -> Iterator[_Raw]:
        """The records of a file that is not compressed."""
        block = _Block(self.members)
        held: _Raw | None = None
        body_at = 0
        while True:
            ended = block.at_end()
            begin = self.members.source.offset - len(block.ahead)
            block.want(RECORD_LINE)
            whole = ended or RECORD.match(block.ahead) is not None
            if held is not None and held.problem is None and not whole:
                if block.parted:
                    held.position = Position(begin)
                    yield held
                    held = None
                else:
                    held.fail(BAD_RECORD, f"after its Content-Length of {held.size} bytes no record begins")
            if held.problem is not None if held is not None else not whole:
                self._doubtful = True
                # The first few bytes of a record: the file breaks off there.
                code = TRUNCATED if _is_begun(block.ahead) else BAD_RECORD
                raw = held or _Raw(offset=begin, number=0).fail(code, _NO_RECORD)
                # What a wrong length has swallowed is read again: from the end of the record's own header on.
                found = self.members.find_next(body_at if held is not None else begin + 1)
                block = _Block(self.members)
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

    def _record(self, block: _Block, begin: int, number: int) -> _Raw:
        """The record that begins ahead. Its `length` is that of its header."""
        raw = _Raw(offset=begin, number=number)
        searched = 1  # past the beginning of its own first line
        while not (end := _HEAD_END.search(block.ahead, searched)):
            searched = max(searched, len(block.ahead) - RECORD_LINE)
            if len(block.ahead) > MAX_HEAD:
                return raw.fail(BAD_RECORD, "its header does not end")
            if not block.want(len(block.ahead) + 1):
                return raw.fail(TRUNCATED, "it ends within its header")
        if end["record"]:
            return raw.fail(BAD_RECORD, "another record begins within its header")
        head = block.take(end.start())
        try:
            _, pairs = parse_headers(head)
        except ValueError as error:
            return raw.fail(BAD_RECORD, str(error))
        block.take(end.end() - end.start())
        raw.length = end.end()
        raw.headers = {name.lower(): value for name, value in reversed(pairs)}
        stated = raw.headers.get("content-length", "").strip()
        if not (stated.isascii() and stated.isdigit()):
            return raw.fail(BAD_RECORD, f"its Content-Length is {stated[:40]!r}")
        raw.size = int(stated[:18])
        doubtful = self._doubtful and not self.members.compressed
        if raw.headers.get("warc-type", "").lower() in _PAGE_TYPES and not (
            doubtful and not block.ends_a_record(raw.size)
        ):
            raw.block = block.take(min(raw.size, self.limit))
        there = len(raw.block) + block.skip(raw.size - len(raw.block))
        if there < raw.size:
            return raw.fail(TRUNCATED, f"its Content-Length is {raw.size}, and {there} bytes are there")
        return raw


def _is_begun(data: bytes) -> bool:
    """True if a few bytes, the file's last, may be the beginning of a record's first line."""
    return data.startswith(b"WARC/"[: len(data)]) and len(data) < RECORD_LINE and b"\n" not in data


def _item(path: str, raw: _Raw, limit: int) -> Item:
    """A record as a page, a failure, or something else."""
    url = raw.headers.get("warc-target-uri", "").strip().strip("<>").strip()
    date = raw.headers.get("warc-date", "").strip() or None

    at: dict[str, Any] = {"file": path, "offset": raw.offset, "length": raw.length, "position": raw.position}

    def failure(code: str, detail: str) -> Failure:
        return Failure(**at, code=code, detail=detail, url=url or None, date=date, number=raw.number)

    def other(what: str) -> Other:
        return Other(**at, what=what)

    kind = raw.headers.get("warc-type", "").lower()
    if kind and kind not in _PAGE_TYPES and raw.problem is None:
        return other(kind[:40])
    if raw.problem is not None:
        return failure(*raw.problem)
    if not kind:
        return failure(BAD_RECORD, "it has no WARC-Type")
    content_type = raw.headers.get("content-type", "")
    answer: Answer | None = Answer(
        status=200, reason="", headers=(("Content-Type", content_type),), body=raw.block
    )  # fmt: skip
    if mime_of(content_type) == "application/http":
        answer = parse_answer(raw.block)
    if answer is None:
        return failure(BAD_RECORD, "it does not begin as an HTTP answer")
    whole = len(raw.block) == raw.size
    mime = answer.mime
    if kind == "conversion" and mime == "text/plain":
        return _text(at, raw, url, date) if whole else failure("too_large", f"{raw.size} bytes")
    cut = bool(raw.headers.get("warc-truncated"))
    if (name := _site_name(url)) is not None:
        rules = None
        if whole:
            with contextlib.suppress(TooLarge, Undecodable):
                rules = site_file(url, answer.status, decode_body(answer, limit, cut=cut), date or "")
        return Other(**at, what=name, site_file=rules)
    if mime not in HTML_TYPES and mime not in UNKNOWN_TYPES:
        return other(f"{kind} {mime[:60]}")
    if answer.status != 200 and mime in HTML_TYPES:
        return failure(f"http_{answer.status}", answer.reason[:200])
    if not whole:
        return failure("too_large", f"{raw.size} bytes") if mime in HTML_TYPES else other(f"{kind} of unknown type")
    try:
        body = decode_body(answer, limit, cut=cut)
    except TooLarge as error:
        return failure("too_large", str(error))
    except Undecodable as error:
        return failure("undecodable", str(error))
    if mime not in HTML_TYPES and (answer.status != 200 or not looks_like_html(body)):
        return other(f"{kind} of unknown type")
    if not url:
        return failure(BAD_RECORD, "it has no WARC-Target-URI")
    charset = charset_of(answer.get("content-type"))
    return Page(**at, url=url, body=body, date=date, charset=charset, headers=answer.headers)


def _text(at: dict[str, Any], raw: _Raw, url: str, date: str | None) -> Item:
    """The text of a page as WET files have it: UTF-8, a line for each of the page's blocks."""
    lines = (line.strip() for line in raw.block.decode("utf-8", "replace").replace("\0", "").split("\n"))
    nodes: list[Node] = [TextNode(text=line) for line in lines if line]
    if not nodes:
        return Failure(**at, code="empty", detail="no text", url=url or None, date=date, number=raw.number)
    language = raw.headers.get("warc-identified-content-language", "").partition(",")[0].strip() or None
    return Ready(**at, url=url or None, nodes=nodes, identity=raw.block, date=date, language=language)


def _site_name(url: str) -> str | None:
    """`robots.txt` or `ai.txt` for the address of one."""
    found = _PATH.match(url)
    return PATHS.get((found[1] or "/").lower()) if found else None
