"""HTTP answers as a browser would get them."""

import contextlib
import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from mmcorpus.curation.crawl.http import (
    Answer,
    TooLarge,
    Undecodable,
    charset_of,
    decode_body,
    looks_like_html,
    mime_of,
    parse_answer,
)

PAGE = b"<!doctype html><p>" + b"Hello. " * 1_000


def bare_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


ENCODERS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "gzip": ("gzip", gzip.compress),
    "x-gzip": ("x-gzip", gzip.compress),
    "deflate": ("deflate", zlib.compress),
    "bare deflate": ("deflate", bare_deflate),
    "brotli": ("br", brotli.compress),
    "zstd": ("zstd", zstandard.compress),
    "gzip in brotli": ("gzip, br", lambda data: brotli.compress(gzip.compress(data))),
}


def answer(body: bytes, **headers: str) -> Answer:
    pairs = tuple((name.replace("_", "-"), value) for name, value in headers.items())
    return Answer(status=200, reason="OK", headers=pairs, body=body)


@pytest.mark.parametrize("name", ENCODERS)
def test_content_encodings_are_undone(name: str) -> None:
    coding, encode = ENCODERS[name]
    assert decode_body(answer(encode(PAGE), Content_Encoding=coding), 10_000) == PAGE


@pytest.mark.parametrize("name", ENCODERS)
def test_what_breaks_off_or_is_damaged_is_no_page(name: str) -> None:
    coding, encode = ENCODERS[name]
    packed = encode(PAGE)
    with pytest.raises(Undecodable):
        decode_body(answer(packed[:-8], Content_Encoding=coding), 10_000)
    middle = len(packed) // 2
    spoilt = packed[:middle] + bytes(255 - byte for byte in packed[middle : middle + 6]) + packed[middle + 6 :]
    with contextlib.suppress(Undecodable, TooLarge):
        assert decode_body(answer(spoilt, Content_Encoding=coding), 10_000) != PAGE


@pytest.mark.parametrize("name", ENCODERS)
def test_bombs_are_not_unpacked(name: str) -> None:
    import tracemalloc

    coding, encode = ENCODERS[name]
    bomb = encode(bytes(50_000_000))
    tracemalloc.start()
    with pytest.raises(TooLarge):
        decode_body(answer(bomb, Content_Encoding=coding), 1_000_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20_000_000


@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "identity", "unheard-of"])
def test_an_encoding_that_the_crawler_undid_is_not_undone_again(coding: str) -> None:
    assert decode_body(answer(PAGE, Content_Encoding=coding), 10_000) == PAGE


def test_chunks_are_joined() -> None:
    body = b"5\r\n<p>He\r\n6;name=x\r\nllo wo\r\n0\r\n\r\n"
    assert decode_body(answer(body, Transfer_Encoding="chunked"), 100) == b"<p>Hello wo"
    assert decode_body(answer(PAGE, Transfer_Encoding="chunked"), 10_000) == PAGE
    packed = gzip.compress(PAGE)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed)
    assert decode_body(answer(body, Transfer_Encoding="chunked", Content_Encoding="gzip"), 10_000) == PAGE
    for damaged in (b"3\r\nabc\r\nxyz\r\n", b"3\r\nabcxyz\r\n0\r\n\r\n"):
        with pytest.raises(Undecodable, match="a chunk's size is missing"):
            decode_body(answer(damaged, Transfer_Encoding="chunked"), 100)


LONG = b"<!doctype html>" + b"".join(b"<p>%x" % (number * 7919**3) for number in range(40_000))


@pytest.mark.parametrize("name", ENCODERS)
def test_a_body_that_was_cut_is_read_as_far_as_it_goes(name: str) -> None:
    coding, encode = ENCODERS[name]
    packed = encode(LONG)
    part = packed[: len(packed) // 2]
    found = decode_body(answer(part, Content_Encoding=coding), 1_000_000, cut=True)
    assert LONG.startswith(found)
    assert len(found) > len(LONG) // 5
    # A body in chunks says by itself that it was cut: the last chunk is missing.
    for end in (b"", b"\r\n", b"\r\n1", b"\r\n1f;a=b", b"\r\n1f\r", b"\r\n1f\r\n"):
        body = b"%x\r\n%s%s" % (len(part), part, end)
        assert decode_body(answer(body, Transfer_Encoding="chunked", Content_Encoding=coding), 1_000_000) == found
    with pytest.raises(TooLarge):
        decode_body(answer(part, Content_Encoding=coding), 1_000, cut=True)


@pytest.mark.parametrize("end", [b"", b"\r\n", b"\r\n2", b"\r\n2 ; a"])
def test_chunks_without_the_last_one_are_what_browsers_show(end: bytes) -> None:
    assert (
        decode_body(answer(b"5\r\n<p>He\r\n0006\r\nllo wo" + end, Transfer_Encoding="chunked"), 100) == b"<p>Hello wo"
    )
    assert decode_body(answer(b"ff\r\nabc", Transfer_Encoding="chunked"), 100) == b"abc"
    assert decode_body(answer(b"f" * 40 + b"\r\nabc", Transfer_Encoding="chunked"), 100) == b"abc"


def test_members_and_frames_are_joined() -> None:
    halves = PAGE[:3_000], PAGE[3_000:]
    for coding, encode in (("gzip", gzip.compress), ("zstd", zstandard.compress)):
        body = b"".join(map(encode, (b"", *halves, b"")))
        assert decode_body(answer(body + b"\0" * 100, Content_Encoding=coding), 10_000) == PAGE


def test_encodings_in_one_another_are_limited() -> None:
    packed = PAGE
    for _ in range(6):
        packed = gzip.compress(packed)
    with pytest.raises(Undecodable, match="more than 5 content encodings"):
        decode_body(answer(packed, Content_Encoding="gzip, identity, " + "gzip, " * 5), 10_000)
    assert decode_body(answer(PAGE, Content_Encoding="gzip, " * 6), 10_000) == PAGE


def test_too_large_without_any_encoding() -> None:
    with pytest.raises(TooLarge):
        decode_body(answer(PAGE), 100)


def test_answers_are_parsed() -> None:
    found = parse_answer(
        b'HTTP/1.1 404 Not Found\r\nContent-Type: Text/HTML; Charset="UTF-8"\r\nA: 1\r\n  2\r\n\r\n<p>x'
    )
    assert found is not None
    assert (found.status, found.reason, found.mime, found.body) == (404, "Not Found", "text/html", b"<p>x")
    assert found.get("a") == "1 2"
    assert charset_of(found.get("content-type")) == "UTF-8"
    bare = parse_answer(b"HTTP/1.0 200 OK\nContent-Type: text/html\n\n<p>x")
    assert bare is not None
    assert (bare.mime, bare.body) == ("text/html", b"<p>x")
    for broken in (b"", b"<html>", b"HTTP/1.1 OK\r\n\r\n", b"HTTP/1.1 200 OK\r\nA: b"):
        assert parse_answer(broken) is None


@pytest.mark.parametrize(
    ("headers", "said"),
    [(b"X: " + b"x" * 200_000, "HTTP headers have more than 131,072 bytes"),
     (b"a: b\r\n" * 50_000, "HTTP headers have more than 131,072 bytes"),
     (b"X: " + b"x" * 100_000, "a header line of 100,003 bytes")],
)  # fmt: skip
def test_headers_that_are_too_long_say_which_limit(headers: bytes, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        parse_answer(b"HTTP/1.1 200 OK\r\n" + headers + b"\r\n\r\n<p>x")


def test_types_and_html() -> None:
    assert mime_of(" Text/HTML ;charset=utf-8") == "text/html"
    assert charset_of("text/html; charset='koi8-r'") == "koi8-r"
    assert charset_of("text/html") is None
    assert looks_like_html(b"\n <HTML lang=en>")
    assert looks_like_html(b"<?xml version='1.0'?>")
    assert not looks_like_html(b"hello <html>")
    assert not looks_like_html(b"<pre>")
