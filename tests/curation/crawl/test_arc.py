"""ARC files: what is in them, by warcio's own writer, and what damage costs."""

import gzip
import io
import itertools
from collections.abc import Callable
from typing import Any

import pytest
import zstandard
from warcio.archiveiterator import ArchiveIterator

from mmcorpus.curation.crawl.arc import read_arc
from mmcorpus.curation.crawl.records import START, Failure, Item, Other, Page
from mmcorpus.curation.crawl.streams import Source

VERSION_2 = "http://a.test/v2 1.2.3.4 20040102030405 text/html 200 - - 0 x.arc {}\n"


def record(url: str, body: bytes, *, line: str = "", status: str = "200 OK", kind: str = "text/html") -> bytes:
    answer = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n\r\n".encode() + body
    line = (line or f"{url} 1.2.3.4 20040102030405 {kind} {{}}\n").format(len(answer))
    return line.encode() + answer + b"\n"


FIRST = b"1 0 InternetArchive\nURL IP-address Archive-date Content-type Archive-length\n\n"
RECORDS = [
    f"filedesc://x.arc 0.0.0.0 20040101000000 text/plain {len(FIRST)}\n".encode() + FIRST,
    record("http://a.test/ with a blank", b"<p>one"),
    record("http://a.test/gone", b"<p>gone", status="404 Not Found"),
    record("http://a.test/x.png", b"\x89PNG\nno\n", kind="image/png"),
    record("", b"<p>two\n\n\nhttp://b.test/ 1.2.3.4 20040102030405 text/html 5\n", line=VERSION_2),
    record("http://a.test/last", b"<p>last"),
]


def read(data: bytes, name: str, position: Any = START) -> list[Item]:
    return list(read_arc(name, Source(io.BytesIO(data)), position, 1 << 20))


@pytest.mark.parametrize("zipped", [False, True])
def test_the_records_of_an_arc_file(zipped: bool) -> None:
    data = b"".join(gzip.compress(one, mtime=0) if zipped else one for one in RECORDS)
    items = read(data, "x.arc.gz" if zipped else "x.arc")
    assert [type(item) for item in items] == [Other, Page, Failure, Other, Page, Page]
    pages = [item for item in items if isinstance(item, Page)]
    assert [page.url for page in pages] == ["http://a.test/ with a blank", "http://a.test/v2", "http://a.test/last"]
    assert pages[0].body == b"<p>one"
    assert pages[0].date == "2004-01-02T03:04:05Z"
    assert pages[1].body.endswith(b"text/html 5\n"), "what looks like a record within a body is none"
    failure = items[2]
    assert isinstance(failure, Failure)
    assert failure.code == "http_404"
    for number, item in enumerate(items):
        assert read(data, "x.arc", item.position) == read(data, "x.arc")[number + 1 :], "goes on anywhere"


@pytest.mark.parametrize("divided", [[6], [1, 5], [3, 3], [2, 1, 3]])
@pytest.mark.parametrize("compress", [gzip.compress, zstandard.compress])
def test_several_records_in_a_member_are_all_read(compress: Callable[[bytes], bytes], divided: list[int]) -> None:
    """As `gzip` or `zstd` of a whole file leaves them."""
    ends = list(itertools.accumulate(divided, initial=0))
    data = b"".join(compress(b"".join(RECORDS[start:end])) for start, end in itertools.pairwise(ends))
    items, plain = read(data, "x.arc"), read(b"".join(RECORDS), "x.arc")
    assert [type(item) for item in items] == [type(item) for item in plain]
    bodies = [[item.body for item in each if isinstance(item, Page)] for each in (items, plain)]
    assert bodies[0] == bodies[1]
    for number, item in enumerate(items):
        assert read(data, "x.arc", item.position) == items[number + 1 :], "goes on anywhere"


def test_what_follows_a_record_in_its_member_and_is_none_is_said() -> None:
    items = read(gzip.compress(b"".join(RECORDS[:2]) + b"no record\n" + RECORDS[-1]), "x.arc.gz")
    assert [type(item) for item in items] == [Other, Page, Failure]
    assert isinstance(items[-1], Failure)
    assert items[-1].code == "bad_record"


def test_warcio_finds_the_same_records() -> None:
    """It knows version 1, without blanks in addresses."""
    data = b"".join(gzip.compress(RECORDS[number], mtime=0) for number in (0, 2, 3, 5))
    theirs = [
        (each.rec_headers.get_header("uri"), each.http_headers.get_statuscode())
        for each in ArchiveIterator(io.BytesIO(data))
        if each.http_headers
    ]
    assert [url for url, _ in theirs] == ["http://a.test/gone", "http://a.test/x.png", "http://a.test/last"]
    ours = read(data, "x.arc.gz")
    assert len(ours) == 1 + len(theirs)
    assert isinstance(ours[-1], Page)
    assert (ours[-1].url, "200") == theirs[-1]


def test_a_damaged_record_costs_itself() -> None:
    members = [gzip.compress(one, mtime=0) for one in RECORDS]
    broken = bytearray(b"".join(members))
    at = sum(map(len, members[:1])) + 30
    broken[at : at + 8] = bytes(8)
    items = read(bytes(broken), "x.arc.gz")
    assert [item.url for item in items if isinstance(item, Page)] == ["http://a.test/v2", "http://a.test/last"]
    assert [item.code for item in items if isinstance(item, Failure)] == ["bad_record", "http_404"]
    cut = b"".join(RECORDS)[:-20]
    last = read(cut, "x.arc")[-1]
    assert isinstance(last, Failure)
    assert last.code == "truncated"
    noise = read(RECORDS[1] + b"no record\nat all\n", "x.arc")
    assert [type(item) for item in noise] == [Page, Failure]
