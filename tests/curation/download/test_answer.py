"""Answers as servers really send them, read as browsers and curl read them."""

import gzip
import io
import zlib

import brotli
import pytest
import zstandard

from mmcorpus.curation.download.answer import MAX_HEAD_BYTES, Head, read_body, read_head
from mmcorpus.curation.download.connect import Failure
from tests.curation.download.conftest import encoded, picture

TOO_LONG = "headers of more than 262,144 bytes, more than browsers take"
DATA = b"\xff\xd8 a picture " * 50


def parsed(raw: bytes, limit: int = 10_000) -> tuple[Head, bytes]:
    file = io.BufferedReader(io.BytesIO(raw))
    head = read_head(file)
    return head, read_body(file, head, limit)


def failure(raw: bytes, limit: int = 10_000) -> Failure:
    with pytest.raises(Failure) as raised:
        parsed(raw, limit)
    return raised.value


@pytest.mark.parametrize(
    "line",
    [
        b"HTTP/1.1 200 OK", b"HTTP/1.0 200", b"HTTP/1.1  200  Fine", b"HTTP/2 200 ", b"http/1.1 200 ok", b"ICY 200 OK",
        b"HTTP/1.1\t200 OK", b"HTTP/1.1 200OK", b"\r\nHTTP/1.1 200 OK", b"HTTP/1.1 200 \xfcber",
    ],
)  # fmt: skip
def test_odd_status_lines(line: bytes) -> None:
    head, data = parsed(line + b"\r\nContent-Length: 3\r\n\r\nabc and more")
    assert (head.status, data) == (200, b"abc")


@pytest.mark.parametrize("line", [b"\x00\x01 nonsense", b"SSH-2.0", b"HTTP/1.1 2000 OK", b"HTTP/1.1 20 OK", b"<html>"])
def test_what_is_no_status_line(line: bytes) -> None:
    assert (failure(line + b"\r\n\r\n").code, failure(line + b"\r\n\r\n").retry) == ("connection", False)


def test_interim_answers_are_passed_over() -> None:
    raw = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 404 Not Found\r\n\r\n"
    assert parsed(raw)[0].status == 404
    assert parsed(b"HTTP/1.1 102 Processing\n\nHTTP/1.1 200 OK\n\nabc")[1] == b"abc"
    assert failure(b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000).detail == TOO_LONG


def test_hundreds_of_headers_and_none_without_end() -> None:
    many = b"".join(b"X-%d: %d\r\n" % (n, n) for n in range(5_000))
    head, data = parsed(b"HTTP/1.1 200 OK\r\n" + many + b"Content-Type: image/png\r\n\r\nabc")
    assert (len(head.headers), head.content_type, data) == (5_001, "image/png", b"abc")
    assert failure(b"HTTP/1.1 200 OK\r\nX: " + b"x" * MAX_HEAD_BYTES).detail == TOO_LONG
    assert failure(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * MAX_HEAD_BYTES).detail == TOO_LONG


def test_headers_that_are_not_as_they_should_be() -> None:
    raw = b"HTTP/1.1 200 OK\r\nnonsense\r\nX-Robots-Tag : noai,\r\n\tnoindex\nCONTENT-TYPE:Image/JPEG;q\r\n: x\n\nabc"
    head, data = parsed(raw)
    assert head.values("x-robots-tag") == ["noai, noindex"]
    assert (head.content_type, data) == ("image/jpeg", b"abc")
    assert parsed(b"HTTP/1.1 200 OK\r\nContent-Type: picture\r\n\r\nabc")[0].content_type == "text/plain"


@pytest.mark.parametrize(
    ("value", "data"),
    [(b"3", b"abc"), (b"3, 3", b"abc"), (b"-1", b"abcdef"), (b"x", b"abcdef"), (b"", b"abcdef"), (b"+3", b"abcdef")],
)
def test_content_lengths(value: bytes, data: bytes) -> None:
    assert parsed(b"HTTP/1.1 200 OK\r\nContent-Length: " + value + b"\r\n\r\nabcdef")[1] == data


def test_lengths_that_are_wrong() -> None:
    cut = failure(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\nabcdef")
    assert (cut.code, cut.retry) == ("connection", True)
    assert failure(b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 5_000 + b"\r\n\r\nabc").code == "too_many_bytes"


def test_chunks() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n"
    assert parsed(head + b"3;x=y\r\nabc\r\n 2 \r\nde\n0\r\nTrailer: x\r\n\r\n")[1] == b"abcde"
    assert (failure(head + b"3\r\nab").code, failure(head + b"3\r\nab").retry) == ("connection", True)
    assert failure(head + b"3\r\nabc\r\n").retry
    assert failure(head + b"-3\r\nabc\r\n0\r\n\r\n").detail == "malformed body"
    assert failure(head + b"ffffffffff\r\nabc").code == "too_many_bytes"
    assert failure(head + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n").code == "too_many_bytes"


def answer(coding: str, body: bytes, *, length: bool = True) -> bytes:
    head = f"HTTP/1.1 200 OK\r\nContent-Encoding: {coding}\r\n" + (f"Content-Length: {len(body)}\r\n" if length else "")
    return head.encode() + b"\r\n" + body


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("br", brotli.compress(DATA)), ("deflate", raw_deflate(DATA)), ("deflate", zlib.compress(DATA)),
        ("gzip", gzip.compress(DATA[:9]) + gzip.compress(DATA[9:])),
        ("zstd", zstandard.ZstdCompressor().compress(DATA)),
        ("gzip, br", brotli.compress(gzip.compress(DATA))), ("gzip", DATA), ("identity", DATA),
    ],
)  # fmt: skip
def test_codings_sent_unasked(coding: str, body: bytes) -> None:
    assert parsed(answer(coding, body))[1] == DATA
    if coding != "identity":
        image = encoded(picture())
        assert parsed(answer(coding, image))[1] == image, "an image is one, whatever its headers say"
    bomb = raw_deflate(bytes(1_000_000))
    assert failure(answer("deflate", bomb)).code == "too_many_bytes"


@pytest.mark.parametrize("coding", ["aws-chunked", "image/jpeg", "compress", "base64, aws-chunked"])
def test_codings_that_are_none(coding: str) -> None:
    """Amazon's S3 keeps `aws-chunked` from the upload."""
    image = encoded(picture())
    assert parsed(answer(coding, image))[1] == image


def test_what_is_damaged_for_good_is_not_fetched_for_ever() -> None:
    """`connection` is transient: retry_failed would ask again each time."""
    assert failure(answer("br", DATA)).code == "bad_encoding"
    assert failure(answer("compress", DATA)).code == "bad_encoding"
    assert failure(answer("gzip", gzip.compress(DATA)[:-9])).code == "bad_encoding"
    assert failure(answer("gzip", gzip.compress(DATA)[:-9], length=False)).code == "connection"
    coded = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
    packed = gzip.compress(DATA)
    assert parsed(coded + b"%x\r\n%s\r\n0\r\n\r\n" % (len(packed), packed))[1] == DATA
