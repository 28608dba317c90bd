"""URLs taken apart as a client sends them, or refused with a reason."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmcorpus.curation.download.urls import BadUrl, Target, parse, redirected


@pytest.mark.parametrize(
    ("url", "host", "port", "path"),
    [
        ("http://a.test", "a.test", 80, "/"),
        (" HTTPS://A.Test/x y?q=1#part ", "a.test", 443, "/x%20y?q=1"),
        ("http://a.test:8080/%20?a=%C3%BC&b=ü", "a.test", 8080, "/%20?a=%C3%BC&b=%C3%BC"),
        ("http://bücher.test/", "xn--bcher-kva.test", 80, "/"),
        ("http://[2001:DB8::1]:81/", "2001:db8::1", 81, "/"),
    ],
)
def test_parts(url: str, host: str, port: int, path: str) -> None:
    target = parse(url)
    assert (target.host, target.port, target.path) == (host, port, path)
    assert parse(target.url) == target


@pytest.mark.parametrize(
    "url",
    [
        "", "a.test/x", "ftp://a.test/", "file:///etc/passwd", "data:image/png;base64,AA", "javascript:x", "http://",
        "http:///x", "http://a.test:0/", "http://a.test:99999/", "http://a.test:x/", "http://u:p@a.test/",
        "http://a b/",
        "http://a.test/\nHost: evil", "http://a\x00.test/", "http://[::1", "http://[fe80::1%25eth0]/",
        "http://a..b%2f/",
        "http://" + "a" * 300 + "/", "http://a.test/" + "x" * 20_000, "http://a.test/\ud800",
    ],
)  # fmt: skip
def test_refused(url: str) -> None:
    with pytest.raises(BadUrl):
        parse(url)


@given(st.text())
def test_any_text_parses_or_is_refused_and_what_is_sent_is_one_line_of_ascii(text: str) -> None:
    for url in (text, "http://" + text, "http://a.test/" + text):
        try:
            target = parse(url)
        except BadUrl:
            continue
        sent = target.path + target.authority
        assert sent.isascii()
        assert sent.isprintable()
        assert " " not in sent


def test_redirects_are_relative_to_where_they_come_from() -> None:
    target = Target("https", "a.test", 443, "/x/y?z")
    assert redirected(target, "w").url == "https://a.test/x/w"
    assert redirected(target, "//b.test/").url == "https://b.test/"
    assert redirected(target, "/b\xc3\xbc").url == "https://a.test/b%C3%BC"


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("straße.example", "xn--strae-oqa.example"),
        ("STRASSE.example.", "strasse.example"),
        ("faß.de", "xn--fa-hia.de"),
        ("💩.la", "xn--ls8h.la"),
        ("☃.net", "xn--n3h.net"),
        ("ex\u00adample.com", "example.com"),
        ("１２７.0.0.1", "127.0.0.1"),
        ("日本語。jp", "xn--wgv71a119e.jp"),
        ("ex%61mple.com", "example.com"),
        ("b%C3%BCcher.example", "xn--bcher-kva.example"),
    ],
)
def test_host_names_are_those_of_browsers(host: str, expected: str) -> None:
    assert parse(f"http://{host}/x").host == expected


@pytest.mark.parametrize(
    "host", ["a\u200cb.example", "\u0301a.example", "بي1a.example", "a..b", "a" * 64 + ".com", "a%2fb.com", "%ff.com"]
)
def test_host_names_that_browsers_refuse(host: str) -> None:
    with pytest.raises(BadUrl):
        parse(f"http://{host}/")


def test_a_backslash_is_a_slash_before_the_query() -> None:
    target = parse("http:\\\\a.test\\@b.test\\x?y=\\")
    assert (target.host, target.path) == ("a.test", "/@b.test/x?y=%5C")
