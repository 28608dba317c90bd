"""Bytes to text: BOM, header, meta, guess; labels of the standard; declarations that the bytes contradict."""

import pytest

from mmcorpus.curation.html import decode_html

RUSSIAN = "<p>Привет, мир: это страница о погоде и природе, написанная по-русски.</p>" * 3
JAPANESE = "<p>これは日本語で書かれた天気についてのページです。今日は晴れています。</p>" * 3


@pytest.mark.parametrize("codec", ["utf-16-le", "utf-16-be"])
def test_byte_order_mark_wins_over_the_header(codec: str) -> None:
    mark = b"\xff\xfe" if codec.endswith("le") else b"\xfe\xff"
    assert decode_html(mark + "<p>ü".encode(codec), "iso-8859-1") == (
        "<p>ü",
        codec.replace("-le", "le").replace("-be", "be"),
    )


def test_utf8_mark_is_taken_off() -> None:
    assert decode_html(b"\xef\xbb\xbf<p>\xc3\xbc") == ("<p>ü", "utf-8")


def test_header_before_meta() -> None:
    page = b'<meta charset="shift_jis">' + RUSSIAN.encode("cp1251")
    assert decode_html(page, "windows-1251") == ('<meta charset="shift_jis">' + RUSSIAN, "windows-1251")


@pytest.mark.parametrize(
    ("meta", "codec", "text", "name"),
    [
        ('<meta charset="Shift_JIS">', "shift_jis", JAPANESE, "shift_jis"),
        ("<meta charset=x-sjis>", "shift_jis", JAPANESE, "shift_jis"),
        (
            '<META HTTP-EQUIV="Content-Type" CONTENT="text/html; charset=windows-1251">',
            "cp1251",
            RUSSIAN,
            "windows-1251",
        ),
        ("<meta charset='koi8-r'>", "koi8-r", RUSSIAN, "koi8-r"),
        ("<meta charset=euc-jp>", "euc-jp", JAPANESE, "euc-jp"),
    ],
)
def test_meta(meta: str, codec: str, text: str, name: str) -> None:
    assert decode_html((meta + text).encode(codec)) == (meta + text, name)


def test_meta_behind_a_long_head_still_counts() -> None:
    head = "<style>" + "a{} " * 5_000 + '</style><meta charset="windows-1251">'
    assert decode_html((head + RUSSIAN).encode("cp1251"))[1] == "windows-1251"


def test_latin1_is_windows_1252_as_in_browsers() -> None:
    text, name = decode_html(b"<meta charset=iso-8859-1><p>\x93caf\xe9\x94")
    assert (name, text[-6:]) == ("windows-1252", "“café”")


@pytest.mark.parametrize(
    ("codec", "text", "name"), [("cp1251", RUSSIAN, "windows-1251"), ("shift_jis", JAPANESE, "shift_jis")]
)
def test_undeclared_encodings_are_guessed(codec: str, text: str, name: str) -> None:
    assert decode_html(text.encode(codec)) == (text, name)


def test_utf8_whatever_was_declared() -> None:
    page = "<meta charset=iso-8859-1><p>größer als Ångström".encode()
    assert decode_html(page, "windows-1252") == (page.decode(), "utf-8")


def test_a_declaration_that_cannot_be_read_is_passed_over() -> None:
    assert decode_html(("<meta charset=utf-8>" + RUSSIAN).encode("cp1251"))[1] == "windows-1251"


@pytest.mark.parametrize("label", ["utf-16", "utf-16le", "iso-2022-kr", "nonsense", "", "ütf", "x" * 500])
def test_a_meta_that_cannot_be_true_is_not_believed(label: str) -> None:
    assert decode_html(f"<meta charset='{label}'><p>plain".encode())[1] == "utf-8"


def test_iso_2022_jp() -> None:
    page = ("<meta charset=iso-2022-jp>" + JAPANESE).encode("iso-2022-jp")
    assert decode_html(page) == (page.decode("iso-2022-jp"), "iso-2022-jp")


def test_stray_bytes_cost_themselves() -> None:
    text, name = decode_html(b"<meta charset=utf-8><p>" + "wörter ".encode() * 100 + b"\xff\xfe" + "ü".encode() * 50)
    assert name == "utf-8"
    assert text.count("\ufffd") == 2


@pytest.mark.parametrize("data", [b"", b"\x00", b"\xff", b"\xfe\xff", b"\xff\xfe\x00", bytes(range(256)) * 10])
def test_never_raises(data: bytes) -> None:
    text, name = decode_html(data, "utf-7", tld="???")
    assert isinstance(text, str)
    assert name
