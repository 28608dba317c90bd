"""Reading WARC files: every record once, whatever damage surrounds it, and from any record on."""

import bz2
import gzip
import io
import random
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path

import brotli
import pytest
import zstandard

from mmcorpus.curation.crawl.kinds import UnknownKind
from mmcorpus.curation.crawl.records import START, Failure, Item, Other, Page, Position, Ready
from mmcorpus.curation.crawl.streams import Source, open_input
from mmcorpus.curation.crawl.warc import read_warc
from mmcorpus.curation.html.nodes import TextNode
from mmcorpus.curation.synthetic.write_warc import Capture, write_warc

ENDINGS = [".warc.gz", ".warc.zst", ".warc"]
LIMIT = 100_000


def a_page(number: int) -> Capture:
    words = "".join(random.Random(number).choices("abcdefghij ", k=2_000))
    return Capture(f"http://a.test/{number}", f"<html><p>Page {number}. {words}".encode())


def warc(folder: Path, ending: str, pages: list[Capture]) -> bytes:
    path = folder / f"a{ending}"
    write_warc(str(path), pages)
    return path.read_bytes()


def read(data: bytes, ending: str = ".warc", position: Position = START) -> list[Item]:
    return list(read_warc(f"a{ending}", Source(io.BytesIO(data)), position, LIMIT))


def urls(items: list[Item]) -> list[str]:
    return [item.url.rpartition("/")[2] for item in items if isinstance(item, Page)]


def codes(items: list[Item]) -> list[str]:
    return [item.code for item in items if isinstance(item, Failure)]


def one(capture: Capture) -> Item:
    """What becomes of one answer."""
    with tempfile.TemporaryDirectory() as folder:
        _, item = read(warc(Path(folder), ".warc", [capture]))
    return item


@pytest.mark.parametrize("ending", ENDINGS)
def test_records_are_where_they_say(tmp_path: Path, ending: str) -> None:
    data = warc(tmp_path, ending, [a_page(number) for number in range(5)])
    info, *pages = read(data, ending)
    assert isinstance(info, Other)
    assert info.what == "warcinfo"
    assert urls(pages) == ["0", "1", "2", "3", "4"]
    for page in pages:
        assert isinstance(page, Page)
        assert page.length is not None
        again = read(data[page.offset : page.offset + page.length], ending)
        assert [(each.url, each.body) for each in again if isinstance(each, Page)] == [(page.url, page.body)]
        assert page.body == a_page(int(page.url[-1])).body
        assert (page.date, page.charset) == ("2024-01-01T00:00:00Z", "utf-8")
    assert pages[-1].position == Position(len(data))


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :]


DAMAGES: dict[str, Callable[[bytes, int, int], bytes]] = {
    "a byte of the data": lambda data, begin, end: flip(data, (begin + end) // 2),
    "the first byte": lambda data, begin, end: flip(data, begin),
    "the last bytes": lambda data, begin, end: flip(data, end - 6),
    "a hole": lambda data, begin, end: data[: (begin + end) // 2] + data[end:],
    "noise between": lambda data, begin, end: data[:begin] + b"noise" * 100 + data[begin:],
}


@pytest.mark.parametrize("ending", ENDINGS)
@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_costs_one_record_and_reading_goes_on_from_anywhere(tmp_path: Path, ending: str, damage: str) -> None:
    data = warc(tmp_path, ending, [a_page(number) for number in range(6)])
    third = read(data, ending)[3]
    assert third.length is not None
    spoilt = DAMAGES[damage](data, third.offset, third.offset + third.length)
    items = read(spoilt, ending)
    lost = [] if damage == "noise between" else ["2"]
    if ending == ".warc" and damage in ("a byte of the data", "the last bytes"):
        lost, failed = [], []  # nothing in a plain file tells of it
    else:
        failed = ["bad_record"]
    assert codes(items) == failed
    assert urls(items) == [name for name in "012345" if name not in lost]
    for number, item in enumerate(items):
        assert read(spoilt, ending, item.position) == items[number + 1 :]


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_file_that_breaks_off_ends_with_one_failure(tmp_path: Path, ending: str) -> None:
    data = warc(tmp_path, ending, [a_page(number) for number in range(6)])
    last = read(data, ending)[4]
    for cut in (last.offset + 5, last.offset + 200, last.position.offset - 30):
        items = read(data[:cut], ending)
        assert codes(items) == ["truncated"]
        assert urls(items) == ["0", "1", "2"]


@pytest.mark.parametrize(
    ("stated", "says"), [(b"1", "after its Content-Length"), (b"9", "Content-Length"), (b"x", "Content-Length is 'x")]
)
def test_a_wrong_length_costs_its_record_and_none_that_it_swallows(tmp_path: Path, stated: bytes, says: str) -> None:
    data = warc(tmp_path, ".warc", [a_page(number) for number in range(6)])
    begin = read(data)[3].offset
    data = data[:begin] + data[begin:].replace(b"Content-Length: 2", b"Content-Length: " + stated, 1)
    items = read(data)
    assert urls(items) == ["0", "1", "3", "4", "5"]
    (failure,) = [item for item in items if isinstance(item, Failure)]
    assert failure.code == "bad_record"
    assert says in failure.detail
    assert failure.url == "http://a.test/2"
    packed = b"".join(gzip.compress(data[item.offset : item.position.offset]) for item in items)
    assert urls(read(packed, ".warc.gz")) == ["0", "1", "3", "4", "5"]


@pytest.mark.parametrize("limit", [1_000, 20_000_000])
def test_many_wrong_lengths_are_not_read_as_often(limit: int) -> None:
    """Or a small file would keep a worker for hours."""

    class Counting(io.BytesIO):
        bytes_read = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.bytes_read += len(data)
            return data

    record = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 4000000\r\n\r\n" + b"<p>" * 50 + b"\r\n\r\n"
    file = Counting(record * 2_000 + b" " * 5_000_000)
    items = list(read_warc("a.warc", Source(file), START, limit))
    assert codes(items).count("bad_record") >= 1_990
    assert file.bytes_read < limit + 2_000 * 40_000


def test_several_records_in_one_member(tmp_path: Path) -> None:
    data = warc(tmp_path, ".warc", [a_page(number) for number in range(6)])
    packed = gzip.compress(data)
    items = read(packed, ".warc.gz")
    assert urls(items) == ["0", "1", "2", "3", "4", "5"]
    assert [item.length for item in items] == [None] * 7
    for number, item in enumerate(items):
        assert urls(read(packed, ".warc.gz", item.position)) == urls(items[number + 1 :])
    items = read(packed[: len(packed) // 2], ".warc.gz")
    assert codes(items) == ["truncated"]
    assert urls(items) == ["0", "1"]


def test_zstd_with_a_dictionary(tmp_path: Path) -> None:
    data = warc(tmp_path, ".warc", [a_page(number) for number in range(6)])
    items = read(data)
    parts = [data[item.offset : item.position.offset] for item in items]
    trained = zstandard.train_dictionary(4_096, parts * 20)
    compress = zstandard.ZstdCompressor(dict_data=trained).compress
    for held in (trained.as_bytes(), zstandard.compress(trained.as_bytes())):
        head = b"\x5d\x2a\x4d\x18" + len(held).to_bytes(4, "little") + held
        packed = head + b"".join(compress(part) for part in parts)
        found = read(packed, ".warc.zst")
        assert urls(found) == ["0", "1", "2", "3", "4", "5"]
        assert urls(read(packed, ".warc.zst", found[3].position)) == ["3", "4", "5"]


@pytest.mark.parametrize("ending", [".warc.gz", ".warc.zst"])
def test_a_bomb_of_a_record_is_not_held_in_memory(tmp_path: Path, ending: str) -> None:
    import tracemalloc

    bomb = Capture("http://a.test/bomb", b"<p>" + bytes(60_000_000))
    data = warc(tmp_path, ending, [a_page(0), bomb, a_page(1)])
    del bomb
    tracemalloc.start()
    items = read(data, ending)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert codes(items) == ["too_large"]
    assert urls(items) == ["0", "1"]
    assert peak < 40_000_000


def test_what_is_no_page_is_counted_by_type() -> None:
    item = one(Capture("http://a.test/a.png", b"\x89PNG", {"Content-Type": "image/png"}))
    assert isinstance(item, Other)
    assert item.what == "response image/png"
    item = one(Capture("http://a.test/", b"\0\1\2", {}))
    assert isinstance(item, Other)
    assert item.what == "response of unknown type"


def test_html_is_known_by_its_type_or_its_first_bytes() -> None:
    for kind in ("text/html", "Text/HTML;charset=x", "application/xhtml+xml"):
        assert isinstance(one(Capture("http://a.test/", b"hello", {"Content-Type": kind})), Page)
    for body in (b" \n<!DOCTYPE html><p>x", b"\xef\xbb\xbf<html>", b"<!-- x --><p>"):
        assert isinstance(one(Capture("http://a.test/", body, {})), Page)


def test_other_answers_fail_by_their_status() -> None:
    item = one(Capture("http://a.test/", b"<p>gone", status=404))
    assert isinstance(item, Failure)
    assert (item.code, item.url) == ("http_404", "http://a.test/")


def test_rules_of_a_site_are_handed_on() -> None:
    text = b"User-agent: *\nDisallow: /"
    item = one(Capture("https://a.test/robots.txt", gzip.compress(text), {"Content-Encoding": "gzip"}))
    assert isinstance(item, Other)
    assert item.what == "robots.txt"
    assert item.site_file is not None
    assert (item.site_file.host, item.site_file.text) == ("a.test", text.decode())
    missing = one(Capture("https://a.test/ai.txt", b"<p>no", status=404))
    assert isinstance(missing, Other)
    assert missing.site_file is None


def test_headers_are_kept_in_order_with_repeats() -> None:
    head = {"Content-Type": "text/html", "X-Robots-Tag": "noai\r\nX-Robots-Tag: noimageindex"}
    item = one(Capture("http://a.test/", b"<p>x", head))
    assert isinstance(item, Page)
    assert [value for name, value in item.headers if name == "X-Robots-Tag"] == ["noai", "noimageindex"]


def test_a_connection_that_breaks_is_tried_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("mmcorpus.curation.crawl.streams.time.sleep", lambda seconds: None)
    data = warc(tmp_path, ".warc.gz", [a_page(number) for number in range(200)])

    class Flaky(io.BytesIO):
        reads = 0

        def read(self, size: int | None = -1) -> bytes:
            self.reads += 1
            if self.reads % 2:
                raise OSError(104, "connection reset")
            return super().read(size)

    items = list(read_warc("a.warc.gz", Source(Flaky(data)), START, LIMIT))
    assert len(urls(items)) == 200
    assert codes(items) == []


HEAD = b"WARC-Type: response\r\nWARC-Target-URI: http://a.test/0\r\nContent-Type: application/http\r\n"
HTTP = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


def record(block: bytes, head: bytes = HEAD, version: bytes = b"WARC/1.0", length: bytes | None = None) -> bytes:
    stated = b"%d" % len(block) if length is None else length
    return b"%s\r\n%sContent-Length: %s\r\n\r\n%s\r\n\r\n" % (version, head, stated, block)


LENGTHS = [b"-5", b"+30", b"0x1f", b"1 2", b"3.0", b"", b"\xb2", b"9" * 40, b"0", b"10", b"70000", b"29, 29"]


@pytest.mark.parametrize("stated", LENGTHS)
@pytest.mark.parametrize("doubtful", [False, True])
def test_lengths_that_are_none_cost_their_record(stated: bytes, doubtful: bool) -> None:
    page = HTTP + b"\r\n<p>" + b"x" * 200
    wrong, right = record(page, length=stated), record(page)
    data = (wrong if doubtful else b"") + right + wrong + right * 3
    items = read(data)
    assert [item.body for item in items if isinstance(item, Page)] == [page.rpartition(b"\n")[2]] * 4
    assert set(codes(items)) <= {"bad_record", "truncated"}
    for number, item in enumerate(items):
        assert read(data, position=item.position) == items[number + 1 :]
    packed = [gzip.compress(part) for part in (right, wrong, right)]
    assert len(urls(read(b"".join(packed), ".warc.gz"))) == 2


def test_a_length_beyond_what_a_file_can_have_costs_its_record(tmp_path: Path) -> None:
    """A disk refuses to seek there (EINVAL), and what lies in memory does not."""
    page = HTTP + b"\r\n<p>x"
    path = tmp_path / "a.warc"
    for stated in (b"9" * 40, b"9" * 17):
        path.write_bytes(record(page) + record(page, length=b"-1") + record(page, length=stated) + record(page))
        with open_input(str(path)) as file:
            items = list(read_warc(str(path), Source(file), START, LIMIT))
        assert urls(items) == ["0", "0"]
        assert codes(items) == ["bad_record"] * 2


def test_a_length_is_stated_once_or_the_first_counts() -> None:
    page = HTTP + b"\r\n<p>x"
    twice = record(page).replace(b"\r\n\r\n", b"\r\nContent-Length: 7\r\n\r\n", 1)
    missing = record(page).replace(b"Content-Length", b"Content-Size", 1)
    assert urls(read(twice + record(page))) == ["0", "0"]
    assert [type(item) for item in read(missing + record(page))] == [Failure, Page]


@pytest.mark.parametrize("version", [b"WARC/0.17", b"WARC/0.18", b"WARC/1.0", b"WARC/1.1", b"WARC/1.0 "])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_every_version_is_read(version: bytes, pack: Callable[[bytes], bytes]) -> None:
    one_page = record(HTTP + b"\r\n<p>x", version=version)
    data = b"".join(map(pack, (one_page, b"noise", one_page, one_page)))
    items = read(data, ".warc")
    assert urls(items) == ["0"] * 3
    assert codes(items) == ["bad_record"]
    assert urls(read(data, position=items[1].position)) == ["0"] * 2


@pytest.mark.parametrize("ending", [".warc", ".warc.gz", ".WARC.GZ", ".warc.zst", ".warc.gz?sig=a.zst"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_compression_is_told_by_the_first_bytes(ending: str, pack: Callable[[bytes], bytes]) -> None:
    data = pack(record(HTTP + b"\r\n<p>x")) * 4
    items = read(data, ending)
    assert urls(items) == ["0"] * 4
    assert urls(read(data, ending, items[1].position)) == ["0"] * 2


def test_what_begins_with_damage_is_told_by_its_name() -> None:
    for ending, pack in ((".warc.gz", gzip.compress), (".warc.zst", zstandard.compress)):
        data = pack(record(HTTP + b"\r\n<p>" + bytes(range(256)))) * 3
        assert urls(read(flip(data, 0), ending)) == ["0"] * 2


def test_compressions_that_cannot_be_read_by_records_are_named() -> None:
    with pytest.raises(UnknownKind, match=r"a\.warc\.bz2 is compressed by bz2.*warcio recompress"):
        read(bz2.compress(record(b"x")), ".warc.bz2")


def chunked(body: bytes) -> bytes:
    return b"".join(
        b"%x\r\n%s\r\n" % (len(body[at : at + 1_000]), body[at : at + 1_000]) for at in range(0, len(body), 1_000)
    )


@pytest.mark.parametrize(
    ("head", "encode"),
    [
        (b"", bytes),
        (b"Transfer-Encoding: chunked\r\n", chunked),
        (b"Content-Encoding: gzip\r\n", gzip.compress),
        (b"Content-Encoding: br\r\n", brotli.compress),
        (b"Content-Encoding: deflate\r\n", zlib.compress),
        (b"Content-Encoding: zstd\r\n", zstandard.compress),
        (b"Transfer-Encoding: chunked\r\nContent-Encoding: gzip\r\n", lambda body: chunked(gzip.compress(body))),
    ],
)
@pytest.mark.parametrize("reason", [b"length", b"time", b"disconnect"])
def test_pages_that_a_crawler_cut_are_read_as_far_as_they_go(
    head: bytes, encode: Callable[[bytes], bytes], reason: bytes
) -> None:
    page = b"<html>" + b"".join(b"<p>%x" % (number * 7919**3) for number in range(30_000))
    packed = encode(page)
    block = HTTP + head + b"\r\n" + packed[: len(packed) * 2 // 3]
    (item,) = read_warc(
        "a", Source(io.BytesIO(record(block, HEAD + b"WARC-Truncated: " + reason + b"\r\n"))), START, 10**6
    )
    assert isinstance(item, Page)
    assert page.startswith(item.body)
    assert len(item.body) > len(page) // 5
    (unmarked,) = read_warc("a", Source(io.BytesIO(record(block))), START, 10**6)
    if b"Content-Encoding" in head and b"chunked" not in head:
        assert isinstance(unmarked, Failure)
        assert unmarked.code == "undecodable"
    else:
        assert isinstance(unmarked, Page)
        assert unmarked.body == item.body


def test_texts_of_wet_files() -> None:
    head = (
        b"WARC-Type: conversion\r\nWARC-Target-URI: http://a.test/0\r\nWARC-Date: 2024-01-01T00:00:00Z\r\n"
        b"Content-Type: text/plain\r\nWARC-Identified-Content-Language: deu,eng\r\n"
    )
    info = record(b"x", b"WARC-Type: warcinfo\r\n")
    data = info + record("Grüße\r\n\n  Zwei Zeilen.  \n".encode(), head) + record(b" \n", head)
    for pack, ending in ((bytes, ".warc.wet"), (gzip.compress, ".warc.wet.gz")):
        other, text, empty = read(pack(data), ending)
        assert isinstance(other, Other)
        assert isinstance(text, Ready)
        assert text.nodes == [TextNode(text="Grüße"), TextNode(text="Zwei Zeilen.")]
        assert (text.url, text.date, text.language) == ("http://a.test/0", "2024-01-01T00:00:00Z", "deu")
        assert isinstance(empty, Failure)
        assert empty.code == "empty"


@pytest.mark.parametrize("size", [2**24, 2**32 - 1])
def test_a_skippable_frame_that_is_longer_than_the_file_costs_itself(size: int) -> None:
    good = zstandard.compress(record(HTTP + b"\r\n<p>x"))
    items = read(good + b"\x51\x2a\x4d\x18" + size.to_bytes(4, "little") + good * 2, ".warc.zst")
    assert urls(items) == ["0"] * 3
    assert codes(items) == ["bad_record"]
