"""Reading WARC files: every record once, whatever damage surrounds it, and from any record on."""

import gzip
import io
import random
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard

from mmcorpus.curation.crawl.records import START, Failure, Item, Other, Page, Position
from mmcorpus.curation.crawl.streams import Source
from mmcorpus.curation.crawl.warc import read_warc
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


def test_many_wrong_lengths_are_not_read_as_often(tmp_path: Path) -> None:
    """Or a small file would keep a worker for hours."""

    class Counting(io.BytesIO):
        bytes_read = 0

        def read(self, size: int | None = -1) -> bytes:
            data = super().read(size)
            self.bytes_read += len(data)
            return data

    record = b"WARC/1.0\r\nWARC-Type: response\r\nContent-Length: 4000000\r\n\r\n" + b"<p>" * 50 + b"\r\n\r\n"
    file = Counting(record * 2_000 + b" " * 5_000_000)
    items = list(read_warc("a.warc", Source(file), START, 1_000))
    assert len(items) >= 2_000
    assert file.bytes_read < 2_000 * 400_000


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
