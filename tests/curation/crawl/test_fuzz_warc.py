"""Records spoilt in every way (5,000 in `make soak`): reading survives, and each is accounted for."""

import gzip
import io
import itertools
import random
from collections import Counter
from collections.abc import Callable

import pytest
import zstandard

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.optout.site_rules import SiteRules
from mmcorpus.curation.crawl.records import START, Failure, Item, Other, Page, Position
from mmcorpus.curation.crawl.streams import Source
from mmcorpus.curation.crawl.warc import read_warc
from mmcorpus.curation.documents.page_row import PageExtractor, uid_of
from tests.curation.documents.page_corpus import html

Mutation = Callable[[random.Random, bytes], bytes]
LIMIT = 200_000
NEXT = 40
"""Records that are read again from a place in the middle."""


def record(number: int) -> bytes:
    """A record of a page, one in three gzipped, one in five chunked."""
    body, more = html(number), b""
    if number % 3 == 0:
        body, more = gzip.compress(body, mtime=0), b"Content-Encoding: gzip\r\n"
    if number % 5 == 0:
        body, more = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body), more + b"Transfer-Encoding: chunked\r\n"
    block = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n" + more + b"\r\n" + body
    head = (
        b"WARC/1.0\r\nWARC-Type: response\r\nWARC-Date: 2024-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:x:%d>\r\n"
        b"WARC-Target-URI: https://site.test/%d\r\nContent-Type: application/http; msgtype=response\r\n"
        b"Content-Length: %d\r\n\r\n" % (number, number, len(block))
    )
    return head + block + b"\r\n\r\n"


def flips(chance: random.Random, data: bytes) -> bytes:
    spoilt = bytearray(data)
    for _ in range(chance.choice((1, 3, 30))):
        spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
    return bytes(spoilt)


def head_flips(chance: random.Random, data: bytes) -> bytes:
    cut = min(len(data), 400)
    return flips(chance, data[:cut]) + data[cut:]


def cut(chance: random.Random, data: bytes) -> bytes:
    return data[: chance.randrange(len(data))]


def hole(chance: random.Random, data: bytes) -> bytes:
    begin = chance.randrange(len(data))
    return data[:begin] + data[begin + chance.randrange(1, 200) :]


def noise(chance: random.Random, data: bytes) -> bytes:
    begin = chance.randrange(len(data))
    return data[:begin] + chance.randbytes(chance.randrange(1, 400)) + data[begin:]


def lengths(chance: random.Random, data: bytes) -> bytes:
    value = chance.choice((b"0", b"-1", b"99", b"123456789", b"9" * 40, b"", b"1e3", b"\xc2\xb2"))
    return data.replace(b"Content-Length: ", b"Content-Length: " + value, 1)


def lines(chance: random.Random, data: bytes) -> bytes:
    parts = data.split(b"\r\n")
    parts.insert(chance.randrange(min(len(parts), 12)), chance.choice((b"", b":", b"\0" * 50, b"x" * 200_000, b" ")))
    return b"\r\n".join(parts)


def repeat(chance: random.Random, data: bytes) -> bytes:
    begin = chance.randrange(len(data))
    return data[:begin] + data[begin : begin + 50] * chance.randrange(2, 40) + data[begin + 50 :]


BEFORE: tuple[Mutation, ...] = (flips, head_flips, cut, hole, noise, lengths, lines, repeat)
"""What befalls a record before it is compressed."""
AFTER: tuple[Mutation, ...] = (flips, head_flips, cut, hole, noise, repeat)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    ".warc.gz": lambda data: gzip.compress(data, 1, mtime=0),
    ".warc.zst": zstandard.ZstdCompressor(level=1, write_checksum=True).compress,
    ".warc": lambda data: data,
}


def corpus(ending: str, count: int, seed: int) -> tuple[bytes, set[int]]:
    """A file whose every second record is spoilt; and which are not."""
    chance = random.Random(f"{ending} {seed}")
    parts, sound = [], set()
    for number in range(count):
        data = record(number)
        if number % 2 == 0:
            sound.add(number)
            parts.append(PACKERS[ending](data))
        elif ending == ".warc" or chance.random() < 0.5:
            parts.append(PACKERS[ending](chance.choice(BEFORE)(chance, data)))
        else:
            parts.append(chance.choice(AFTER)(chance, PACKERS[ending](data)))
    return b"".join(parts), sound


def read(data: bytes, ending: str, position: Position = START, count: int | None = None) -> list[Item]:
    return list(itertools.islice(read_warc(f"a{ending}", Source(io.BytesIO(data)), position, LIMIT), count))


def check(ending: str, count: int, seed: int) -> Counter[str]:
    """Read a spoilt file; returns how many rows there are by code."""
    data, sound = corpus(ending, count, seed)
    items = read(data, ending)
    found = [item for item in items if not isinstance(item, Other)]
    pages = {item.url: item.body for item in items if isinstance(item, Page)}
    # A neighbour's damage may cost a sound record only in a plain file, whose records nothing parts.
    lost = [number for number in sound if pages.get(f"https://site.test/{number}") != html(number)]
    assert len(lost) <= (len(sound) // 50 if ending == ".warc" else 0), lost
    # Every spoilt record is read all the same, or named: as a failure where it lies, or as something else.
    assert len(items) >= count * (0.97 if ending == ".warc" else 1)
    extractor = PageExtractor(PagesConfig(), SiteRules(), images=True)
    rows = [extractor.row(item) for item in found]
    assert len({row["uid"] for row in rows if row["status"] != "success"}) == sum(
        row["status"] != "success" for row in rows
    )
    assert all(row["error_message"] for row in rows if row["status"] != "success")
    assert not [row["error_message"] for row in rows if str(row["error_message"]).startswith("internal")]
    chance = random.Random(seed)
    for place in chance.sample(range(len(items)), 12):
        later, expected = read(data, ending, items[place].position, NEXT), items[place + 1 :][:NEXT]
        assert [(item.offset, item.position) for item in later] == [(item.offset, item.position) for item in expected]
        assert [uid_of(item) for item in later if isinstance(item, Page | Failure)] == [
            uid_of(item) for item in expected if isinstance(item, Page | Failure)
        ]
    return Counter(str(row["error_message"] or "success").partition(":")[0] for row in rows)


@pytest.mark.parametrize("ending", PACKERS)
def test_some_spoilt_records(ending: str) -> None:
    codes = check(ending, 120, seed=0)
    assert codes["success"] >= 60
    assert codes["bad_record"] > 10


@pytest.mark.soak
@pytest.mark.parametrize("ending", PACKERS)
def test_5000_spoilt_records(ending: str) -> None:
    """10,000 records in all three kinds of files, of which every second is spoilt."""
    codes = sum((check(ending, 420, seed) for seed in range(1, 9)), Counter[str]())
    assert codes["bad_record"] > 400
