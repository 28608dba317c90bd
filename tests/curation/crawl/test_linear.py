"""Every reader of what comes from the web takes a time linear in it. A new pattern or loop is a new line here."""

import gzip
import io
import json
import zlib
from collections.abc import Callable
from typing import Any

import brotli
import pytest
import zstandard

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.http import (
    Answer,
    charset_of,
    decode_body,
    looks_like_html,
    mime_of,
    parse_answer,
)
from mmcorpus.curation.crawl.members import ZstdMembers
from mmcorpus.curation.crawl.optout.decide import OptOutConfig, decide_page
from mmcorpus.curation.crawl.optout.robots_txt import RobotsTxt
from mmcorpus.curation.crawl.optout.site_rules import SiteRules, host_of, site_file
from mmcorpus.curation.crawl.published import read_table_items
from mmcorpus.curation.crawl.records import START
from mmcorpus.curation.crawl.streams import CHUNK, Source
from mmcorpus.curation.crawl.warc import read_warc
from mmcorpus.curation.store.compressed import decompressed
from tests.linear import assert_linear

LIMIT = 20_000_000
HEAD = b"WARC/1.0\r\nWARC-Type: %s\r\nWARC-Target-URI: http://e.test/\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"


def fill(unit: bytes, size: int, before: bytes = b"", after: bytes = b"") -> bytes:
    return before + unit * (size // len(unit)) + after


def decode(coding: str) -> Callable[[bytes], object]:
    name = "Transfer-Encoding" if coding == "chunked" else "Content-Encoding"
    return lambda body: decode_body(Answer(status=200, reason="", headers=((name, coding),), body=body), LIMIT)


def warc(ending: str = ".warc") -> Callable[[bytes], object]:
    return lambda data: sum(1 for _ in read_warc(f"a{ending}", Source(io.BytesIO(data)), START, LIMIT))


def answer(*lines: bytes) -> bytes:
    return b"\r\n".join((b"HTTP/1.1 200 OK", *lines, b"", b"<p>x"))


def record(
    block: bytes, length: int | None = None, *, kind: bytes = b"response", content: bytes = b"application/http"
) -> bytes:
    return HEAD % (kind, content, length or len(block)) + block + b"\r\n\r\n"


def brotli_blocks(size: int) -> bytes:
    """A byte, then blocks without data (RFC 7932, 9.2: 0, 11, 0, 00 and the rest of the byte)."""
    packer = brotli.Compressor()
    return fill(b"\x06", size, packer.process(b"x") + packer.flush(), b"\x03")


def in_chunks(size: int) -> bytes:
    return fill(b"1\r\nx\r\n", size, after=b"0\r\n\r\n")


def rows(*made: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(row).encode() + b"\n" for row in made)


def table(data: bytes) -> object:
    return sum(1 for _ in read_table_items("a.jsonl", io.BytesIO(data), "auto", PagesConfig(), START))


def unpack(data: bytes) -> object:
    return len(decompressed("a.zst", io.BytesIO(data), 0)[0].read())


def asked(path: str) -> Callable[[str], object]:
    return lambda text: RobotsTxt(text).refusal(path, AGENTS)


def asking(pattern: str) -> Callable[[str], object]:
    return lambda path: RobotsTxt(f"User-agent: *\nDisallow: {pattern}").refusal(path, AGENTS)


def state(data: Any) -> object:
    """The opt-out signal of a page's metas and headers."""
    metas, headers = data
    return decide_page("https://e.test/", metas, headers, SiteRules(), OptOutConfig())


AGENTS = ["gptbot", "ccbot", "x"]
EMPTY_GZIP = gzip.compress(b"", mtime=0)
EMPTY_ZSTD = zstandard.compress(b"")
SMALL_GZIP = gzip.compress(record(answer(b"Content-Type: text/html")), mtime=0)
SMALL_ZSTD = zstandard.compress(record(answer(b"Content-Type: text/html")))
CASES: dict[str, tuple[Callable[[Any], object], Callable[[int], Any]]] = {
    "charset: blanks": (charset_of, lambda n: "text/html; charset=" + " " * n + ";"),
    "charset: blanks and a quote": (charset_of, lambda n: "charset='" + " " * n + ";"),
    "charset: blanks before =": (charset_of, lambda n: "charset" + " " * n),
    "charset: named again and again": (charset_of, lambda n: "charset = " * (n // 10)),
    "type: parameters": (mime_of, lambda n: ";," * (n // 2)),
    "html: blanks": (looks_like_html, lambda n: b" " * n),
    "chunks: of a byte": (decode("chunked"), in_chunks),
    "chunks: a size of many digits": (decode("chunked"), lambda n: fill(b"1", n, after=b"\r\nx")),
    "chunks: a size of zeros": (decode("chunked"), lambda n: b"1\r\nx\r\n" + fill(b"0", n, after=b"1\r\nx")),
    "chunks: blanks": (decode("chunked"), lambda n: fill(b" ", n, b"1\r\nx\r\n1")),
    "chunks: extensions": (decode("chunked"), lambda n: fill(b"1;a=b;c\r\nx\r\n", n)),
    "chunks: an extension without end": (decode("chunked"), lambda n: fill(b";", n, b"1\r\nx\r\n1")),
    "chunks: newlines": (decode("chunked"), lambda n: fill(b"\n", n, b"1\r\nx", b"!")),
    "chunks: trailers": (decode("chunked"), lambda n: fill(b"a: b\r\n", n, b"1\r\nx\r\n0\r\n")),
    "gzip: empty members": (decode("gzip"), lambda n: fill(EMPTY_GZIP, n)),
    "gzip: small members": (decode("gzip"), lambda n: fill(gzip.compress(b"x" * 50), n)),
    "gzip: junk after it": (decode("gzip"), lambda n: fill(b"\x1f\x8b", n, EMPTY_GZIP)),
    "deflate: empty blocks": (decode("deflate"), lambda n: fill(b"\0\0\0\xff\xff", n, b"\x78\x9c")),
    "deflate: bare empty blocks": (decode("deflate"), lambda n: fill(b"\0\0\0\xff\xff", n)),
    "deflate: a bomb": (decode("deflate"), lambda n: zlib.compress(bytes(n))),
    "brotli: blocks of a byte": (decode("br"), brotli_blocks),
    "brotli: junk after it": (decode("br"), lambda n: brotli.compress(b"x") + bytes(n)),
    "zstd: empty frames": (decode("zstd"), lambda n: fill(EMPTY_ZSTD, n)),
    "zstd: frames in a file": (unpack, lambda n: fill(EMPTY_ZSTD, n)),
    "zstd: a file of skippable frames": (unpack, lambda n: fill(b"\x50\x2a\x4d\x18\0\0\0\0", n)),
    "encodings: a list of them": (decode(",".join(["gzip"] * 5)), lambda n: gzip.compress(bytes(n))),
    "warc: wrong lengths": (warc(), lambda n: fill(record(b"hello", 19_000_000), n)),
    "warc: lengths that end a little later": (warc(), lambda n: fill(record(b"hello", 100_000), n, after=b"x" * n)),
    "warc: lengths that reach no end": (warc(), lambda n: fill(record(b"", n), n, after=b"\r" * 200 + b"x")),
    "warc: first lines": (warc(), lambda n: fill(b"WARC/1.0\r\n", n)),
    "warc: first lines of headers": (warc(), lambda n: fill(b"WARC/1.0\r\nA: b\r\n", n)),
    "warc: a header without end": (warc(), lambda n: fill(b"A: b\r\n", n, b"WARC/1.0\r\n")),
    "warc: a line without end": (warc(), lambda n: fill(b"a", n, b"WARC/1.0\r\nA: ")),
    "warc: words that begin like a record": (warc(), lambda n: fill(b"WARC/", n)),
    "warc: newlines": (warc(), lambda n: fill(b"\r\n", n, record(b"x"), record(b"x"))),
    "warc: noise": (warc(), lambda n: fill(b"noise ", n)),
    "warc: small records": (warc(), lambda n: fill(record(b"x"), n)),
    "warc: records that are skipped": (warc(), lambda n: fill(record(b"x", kind=b"request"), n)),
    "warc: small records in one member": (warc(".warc.gz"), lambda n: gzip.compress(fill(record(b"x"), n))),
    "warc.gz: empty members": (warc(".warc.gz"), lambda n: fill(EMPTY_GZIP, n)),
    "warc.gz: small members": (warc(".warc.gz"), lambda n: fill(SMALL_GZIP, n)),
    "warc.gz: magic numbers": (warc(".warc.gz"), lambda n: fill(b"\x1f\x8b\x08", n, SMALL_GZIP)),
    "warc.gz: beginnings of members": (warc(".warc.gz"), lambda n: fill(SMALL_GZIP[:60], n)),
    "warc.zst: empty frames": (warc(".warc.zst"), lambda n: fill(EMPTY_ZSTD, n)),
    "warc.zst: small frames": (warc(".warc.zst"), lambda n: fill(SMALL_ZSTD, n)),
    "warc.zst: magic numbers": (warc(".warc.zst"), lambda n: fill(b"\x28\xb5\x2f\xfd", n, SMALL_ZSTD)),
    "warc.zst: skippable frames": (warc(".warc.zst"), lambda n: fill(b"\x50\x2a\x4d\x18\0\0\0\0", n, after=SMALL_ZSTD)),
    "warc.zst: half a skippable frame": (warc(".warc.zst"), lambda n: fill(b"\x50\x2a\x4d\x18\xff\xff\xff\x00", n)),
    "wet: lines": (warc(), lambda n: record(b"\n" * n, kind=b"conversion", content=b"text/plain")),
    "wet: words": (warc(), lambda n: record(b"a \n" * (n // 3), kind=b"conversion", content=b"text/plain")),
    "robots.txt: agents": (RobotsTxt, lambda n: "User-agent: a\n" * (n // 14) + "Disallow: /"),
    "robots.txt: agents and rules": (
        RobotsTxt,
        lambda n: "".join(f"User-agent: a{i}\n" for i in range(n // 30)) + "Disallow: /\n" * (n // 30),
    ),
    "robots.txt: groups": (asked("/a"), lambda n: "User-agent: *\nAllow: /b\n" * (n // 24)),
    "robots.txt: rules": (
        asked("/a" * 50),
        lambda n: "User-agent: *\n" + "".join(f"Allow: /a{i}\n" for i in range(n // 13)),
    ),
    "robots.txt: patterns": (
        asked("/" + "a" * 50),
        lambda n: "User-agent: *\n" + "".join(f"Allow: /*b{i}\n" for i in range(n // 13)),
    ),
    "robots.txt: stars": (asked("/" + "a" * 10_000), lambda n: "User-agent: *\nDisallow: /" + "*a" * (n // 2) + "b"),
    "robots.txt: a long path": (asking("/*" + "a" * 200 + "b*" + "ab*" * 100 + "c$"), lambda n: "/" + "a" * n),
    "robots.txt: escapes": (asking("/x"), lambda n: "/%41ü" * (n // 5)),
    "robots.txt: signals": (RobotsTxt, lambda n: "User-agent: *\nContent-Signal: " + "ai-train=yes," * (n // 13)),
    "robots.txt: the file": (
        lambda body: site_file("https://e.test/robots.txt", 200, body, ""),
        lambda n: b"\0 " * (n // 2),
    ),
    "opt-out: a robot's long name": (state, lambda n: ([("x-robots-tag", "b" * (n // 2) + ":" + "a," * (n // 4))], [])),
    "opt-out: robots": (state, lambda n: ([("x-robots-tag", "b: a," * (n // 5))], [])),
    "opt-out: metas": (state, lambda n: ([("xbot", "index")] * (n // 10), [])),
    "opt-out: headers": (state, lambda n: ([], [("X-Robots-Tag", "index")] * (n // 20))),
    "host: labels": (host_of, lambda n: "http://" + "a." * (n // 2)),
    "text: newlines": (table, lambda n: rows({"text": "\n" * n})),
    "text: blanks between newlines": (table, lambda n: rows({"text": "x\n" + " \t" * (n // 2) + "x"})),
    "text: paragraphs": (table, lambda n: rows({"text": "x\n\n" * (n // 3)})),
    "table: empty lines": (table, lambda n: rows({"text": "x"}) + b" \n" * (n // 2)),
    "table: lines that are none": (table, lambda n: rows({"text": "x"}) + b"[[{\n" * (n // 4)),
    "table: brackets": (table, lambda n: rows({"text": "x"}) + b"[" * n + b"\n"),
    "table: a number": (table, lambda n: rows({"text": "x"}) + b'{"text": ' + b"9" * n + b"}\n"),
    "mmc4: images": (
        table,
        lambda n: rows({"text_list": ["x"], "image_info": [{"raw_url": "x", "matched_text_index": 9}] * (n // 40)}),
    ),
    "obelics: images": (
        table,
        lambda n: rows({"texts": [], "images": ["a"] * (n // 8), "metadata": "[" * n, "general_metadata": "{"}),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_time_is_linear(name: str) -> None:
    assert_linear(*CASES[name])


@pytest.mark.parametrize(
    ("length", "end"), [(19_000_000, b""), (300_000, b"\r" * 300_000 + b"x")], ids=["beyond the file", "among newlines"]
)
def test_records_with_wrong_lengths_are_not_read_as_far_as_these_reach(length: int, end: bytes) -> None:
    class Counting(io.BytesIO):
        passed = 0

        def read(self, size: int | None = -1) -> bytes:
            found = super().read(size)
            self.passed += len(found)
            return found

    file = Counting(record(b"hello", length) * 2_000 + end)
    assert sum(1 for _ in read_warc("a.warc", Source(file), START, LIMIT)) >= 2_000
    assert file.passed < 2_000 * 25_000 + 3 * len(file.getvalue()), "some kilobytes a record"


HEADS: dict[str, bytes] = {
    "headers": b"a: b\r\n",
    "names of one letter": b"a:\r\n",
    "folded lines": b" x\r\n",
    "lines that are no headers": b"x\r\n",
    "content types": b"Content-Type: text/html; charset= \r\n",
    "encodings": b"Content-Encoding: identity\r\n",
    "x-robots-tags": b"X-Robots-Tag: a: b, c: d\r\n",
}


@pytest.mark.parametrize("name", HEADS)
def test_headers_are_read_in_linear_time(name: str) -> None:
    """As long as they may be at most, which is 64 KiB."""

    def read(block: bytes) -> None:
        found = parse_answer(block)
        assert found is not None
        decode_body(found, LIMIT)
        decide_page("https://e.test/", [], found.headers, SiteRules(), OptOutConfig())

    assert_linear(read, lambda n: answer(b"A: b\r\n" + HEADS[name] * (n // len(HEADS[name]))), most=8_000)


def test_what_a_few_bytes_of_zstd_decode_to_is_handed_out_in_pieces() -> None:
    """Or each of the records in it would copy all that follow."""
    members = ZstdMembers(Source(io.BytesIO(zstandard.compress(bytes(5 << 20)))))
    assert members.start()
    sizes = list(map(len, iter(members.read, b"")))
    assert sum(sizes) == 5 << 20
    assert max(sizes) <= CHUNK
