"""List files are told by their first bytes, read with bounds, and named when they are damaged or something else."""

import bz2
import csv
import gzip
import io
import json
import logging
import lzma
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from mmcorpus.curation.download import list_text
from mmcorpus.curation.download.formats import HEAD, ListError, column_types, find_lists, inspect, read_list
from tests.linear import assert_linear

WANTED = ["url", "caption"]
LINES = b"url,caption\nhttp://a.test/1,one\nhttp://a.test/2,two\n"
ROWS = [{"url": "http://a.test/1", "caption": "one"}, {"url": "http://a.test/2", "caption": "two"}]


def rows(path: Path, data: bytes | None = None) -> list[Any]:
    if data is not None:
        path.write_bytes(data)
    file = inspect(str(path), "url")
    wanted = ["url"] if file.kind == "txt" else WANTED
    column_types(file, wanted)
    return list(read_list(file, wanted, "url"))


def parquet(table: pa.Table, **options: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, **options)
    return buffer.getvalue()


def two_frames(data: bytes) -> bytes:
    compress = zstandard.ZstdCompressor().compress
    return compress(data[:20]) + b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc" + compress(data[20:])


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("l.parquet", LINES),
        ("l.txt", LINES),
        ("l.csv", gzip.compress(LINES)),
        ("l.csv.gz", gzip.compress(LINES[:20]) + gzip.compress(LINES[20:]) + b"\0" * 8),
        ("l.csv.bz2", two_frames(LINES)),
        ("l.tsv", lzma.compress(LINES)),
        ("l.csv.xz", bz2.compress(LINES[:9]) + bz2.compress(LINES[9:])),
        ("l.csv", parquet(pa.Table.from_pylist(ROWS))),
        ("l.csv", b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)),
        ("l.jsonl", b" ,\r\n".join(json.dumps(row).encode() for row in ROWS)),
        ("l.jsonl", LINES),
        ("l.tsv", LINES),
        ("l.csv", LINES.replace(b",", b";")),
        ("l.csv", LINES.replace(b",", b"\t")),
        ("l.csv", LINES.replace(b"\n", b"\r")),
        ("l.csv", LINES.replace(b"\n", b"\r\n")),
        ("l.csv", b"\xef\xbb\xbf" + LINES.replace(b"url,", b" url ,")),
        ("l.csv", LINES.decode().encode("utf-16")),
        ("l.csv", LINES.decode().replace(",", "\t").encode("utf-16-be")),
        ("l.csv", LINES.decode().encode("utf-32")),
    ],
)
def test_what_a_file_is_its_bytes_say(tmp_path: Path, name: str, data: bytes) -> None:
    assert rows(tmp_path / name, data) == ROWS


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("cut.csv.gz", gzip.compress(LINES * 999)[:-30], "cut.csv.gz is damaged: it is cut short: its gzip data ends"),
        ("cut.csv.zst", zstandard.ZstdCompressor().compress(LINES * 999)[:-6], "cut.csv.zst is damaged: .*cut short"),
        ("cut.tsv.bz2", bz2.compress(LINES * 999)[:-9], "cut.tsv.bz2 is damaged: .*cut short"),
        ("cut.csv.xz", lzma.compress(LINES * 999)[:-9], "cut.csv.xz is damaged: .*cut short"),
        ("tail.csv.gz", gzip.compress(LINES) + b"more", "tail.csv.gz is damaged: it cannot be unpacked as gzip"),
        ("plain.csv.gz", LINES, r"plain.csv.gz is not compressed, .*take .gz off its name"),
        ("twice.csv.gz", gzip.compress(gzip.compress(LINES)), "twice.csv.gz is gzip in gzip"),
        ("zip.csv", b"PK\x03\x04" + b"x" * 99, "zip.csv is a zip archive"),
        ("feather.parquet", b"ARROW1\0\0", "feather.parquet is an Arrow"),
        ("odd.csv", LINES.decode().encode("utf-16")[:-1], "odd.csv is damaged: it is not UTF-16-LE"),
        ("page.csv", b"\n<!DOCTYPE HTML><title>404</title>", "page.csv is a web page"),
        ("lfs.parquet", b"version https://git-lfs.github.com/spec/v1\n", "lfs.parquet is a pointer of Git LFS"),
        ("array.jsonl", json.dumps(ROWS).encode(), "array.jsonl is one JSON array"),
        ("zeros.csv", b"\0" * 999, "zeros.csv is not text"),
        ("empty.parquet", b"", "empty.parquet is not a readable parquet file: it is empty"),
        ("cut.parquet", parquet(pa.Table.from_pylist(ROWS))[:-20], "cut.parquet is not a readable parquet file"),
        ("dup.parquet", parquet(pa.table([["http://a.test"]] * 2, names=["url", "url"])), "2 columns named 'url'"),
        ("dup.csv", b"url,url,caption\n", "2 columns named 'url'"),
        ("case.csv", b"URL,CAPTION\n", r"has no column 'url'; did you mean 'URL'\?"),
    ],
)
def test_damaged_files_and_other_things_are_named(tmp_path: Path, name: str, data: bytes, message: str) -> None:
    with pytest.raises(ListError, match=message):
        rows(tmp_path / name, data)


def test_a_head_that_ends_within_a_character_is_no_damage(tmp_path: Path) -> None:
    """The first bytes, by which a format is told, may end between the two halves of a character of UTF-16."""
    lines = "url,caption\nhttp://a.test/1," + "😀" * HEAD + "\n"
    shift = 1 if lines.encode("utf-16")[HEAD - 1] & 0xFC != 0xD8 else 0
    lines = lines.replace("/1", "/1" + "0" * shift)
    assert lines.encode("utf-16")[HEAD - 1] & 0xFC == 0xD8, "the first half is the last there"
    assert len(rows(tmp_path / "l.csv", lines.encode("utf-16"))) == 1


def test_damaged_pages_of_parquet_are_named(tmp_path: Path) -> None:
    table = pa.table({"url": [f"http://a.test/{i}" for i in range(5_000)], "caption": ["x"] * 5_000})
    data = bytearray(parquet(table, compression="zstd", use_dictionary=False))
    data[300:2_000] = bytes(1_700)
    with pytest.raises(ListError, match=r"l.parquet is not a readable parquet file: .*fetch or write it again"):
        rows(tmp_path / "l.parquet", bytes(data))


def test_empty_lists_have_no_rows(tmp_path: Path) -> None:
    assert rows(tmp_path / "l.csv", b"") == []
    assert rows(tmp_path / "l.csv.gz", gzip.compress(b"")) == []
    assert rows(tmp_path / "m.csv", b"url,caption\n") == []
    assert rows(tmp_path / "m.parquet", parquet(pa.table({name: pa.array([], pa.string()) for name in WANTED}))) == []


def tsv(captions: list[str]) -> bytes:
    return "".join(f"{c}\thttp://a.test/{n}\n" for n, c in enumerate(captions)).encode()


@pytest.mark.parametrize("turned", [False, True])
def test_a_quotation_mark_that_is_never_closed_costs_no_other_row(tmp_path: Path, turned: bool) -> None:
    captions = ['"Bright colours', "plain", '"another', 'he said "hi"', 'ends"', '"quoted" and on', '5" nail', '"', "z"]
    data = tsv(captions)
    lines = [line.split("\t") for line in data.decode().splitlines()]
    if turned:
        data = "".join(f"{url}\t{caption}\n" for caption, url in lines).encode()
    head = b"url\tcaption\n" if turned else b"caption\turl\n"
    found = rows(tmp_path / "l.tsv", head + data)
    assert [row["caption"] for row in found] == captions
    assert [row["url"] for row in found] == [url for _, url in lines]


@pytest.mark.parametrize("names", [["url", "caption"], ["caption", "url"], ["n", "caption", "url"]])
@pytest.mark.parametrize("delimiter", [",", "\t"])
def test_proper_quotation_is_undone(tmp_path: Path, names: list[str], delimiter: str) -> None:
    captions = ["two\nlines", 'a "quote"', "a,comma\tand tab", '"', 'x"\n"y', "\r\n", "http://b.test\nsee there"]
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, names, delimiter=delimiter)
    writer.writeheader()
    writer.writerows({"url": f"http://a.test/{n}", "caption": c, "n": "1"} | {} for n, c in enumerate(captions)) if (
        "n" in names
    ) else writer.writerows({"url": f"http://a.test/{n}", "caption": c} for n, c in enumerate(captions))
    found = rows(tmp_path / "l.csv", buffer.getvalue().encode())
    assert [row["caption"] for row in found] == captions


def test_quotation_marks_take_linear_time(tmp_path: Path) -> None:
    def make(size: int) -> bytes:
        return b"url\tcaption\n" + b'http://a.test/1\t"open\n' + b'http://a.test/2\t"a""b\n"""" x\n' * (size // 32)

    assert_linear(lambda data: rows(tmp_path / "l.tsv", data), make)


def test_blanks_before_an_address_behind_an_open_quote_take_linear_time(tmp_path: Path) -> None:
    def make(size: int) -> bytes:
        return b'url\tcaption\nhttp://a.test/1\t"open\n' + b" " * size + b'x\tb"\nhttp://a.test/2\tc\n'

    assert_linear(lambda data: rows(tmp_path / "l.tsv", data), make)


def bomb(kind: str, line: bytes, copies: int) -> bytes:
    """A small compressed list of a good row, a line as long as many copies, and a good row."""
    begin, row, end = {
        "jsonl": (b"", b'{"url": "http://a.test/%d", "caption": "x"}\n', (b'{"url": "', b'"}\n')),
        "txt": (b"", b"http://a.test/%d\n", (b"", b"\n")),
        "csv": (b"url,caption\n", b"http://a.test/%d,x\n", (b"", b",x\n")),
        "tsv": (b"url\tcaption\n", b'http://a.test/%d\t"x\n', (b'"', b"\tx\n")),
    }[kind]
    buffer = io.BytesIO()
    with gzip.open(buffer, "wb", 1) as file:
        file.write(begin + row % 1 + end[0])
        for _ in range(copies):
            file.write(line)
        file.write(end[1] + row % 2)
    return buffer.getvalue()


@pytest.mark.parametrize("copies", [17, 40, 161])
@pytest.mark.parametrize("kind", ["jsonl", "txt", "csv", "tsv"])
def test_a_line_that_is_too_long_costs_itself(
    tmp_path: Path, kind: str, copies: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(list_text, "MAX_LINE", 2**20)
    kept: list[int] = []
    texts = list_text.Lines._texts

    def noted(self: list_text.Lines, block: bytes) -> list[str]:
        kept.append(len(block))
        return texts(self, block)

    monkeypatch.setattr(list_text.Lines, "_texts", noted)
    first, long, last = rows(tmp_path / f"l.{kind}.gz", bomb(kind, b"a" * 2**16, copies))
    assert (first["url"], last["url"]) == ("http://a.test/1", "http://a.test/2")
    assert "a line of more than" in long
    assert max(kept) <= 3 * 2**20


def coded(values: list[Any], places: list[int]) -> Any:
    return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(values))


def test_rows_that_a_dictionary_expands_cost_themselves_and_no_memory(tmp_path: Path) -> None:
    urls = ["http://a.test/1", "http://a.test/" + "a" * 5_000_000, "http://a.test/2"]
    table = pa.table({"url": coded(urls, [0] + [1] * 8_000 + [2]), "caption": ["x"] * 8_002})
    before = pa.total_allocated_bytes()
    path = tmp_path / "l.parquet"
    path.write_bytes(parquet(table, compression="zstd"))
    del table
    file, most, found = inspect(str(path), "url"), 0, []
    for row in read_list(file, WANTED, "url"):
        most = max(most, pa.total_allocated_bytes() - before)
        found.append(row)
    assert [row for row in found if isinstance(row, dict)] == [
        {"url": urls[0], "caption": "x"},
        {"url": urls[2], "caption": "x"},
    ]
    assert found[1] == f"a row of {len(urls[1]) + 1:,} bytes; at most 4,194,304 are read"
    assert most < 100 * 2**20


def test_a_text_that_a_dictionary_has_once_is_made_once_and_a_long_one_never(tmp_path: Path) -> None:
    long, fits = "a" * 3_000_000, "é" * 60_000
    captions = coded([long, fits, "short"], [*[0] * 5_000, *[1] * 5_000, 2, 0])
    path = tmp_path / "l.parquet"
    table = pa.table({"url": [f"http://a.test/{n}" for n in range(10_002)], "caption": captions})
    path.write_bytes(parquet(table, compression="zstd"))
    found = list(read_list(inspect(str(path), "url"), WANTED, "url", WANTED))
    assert found[0] == found[-1] == "caption of 3,000,000 bytes; at most 131,072 are read"
    assert [row["caption"] for row in found if isinstance(row, dict)] == [*[fits] * 5_000, "short"]
    made = {id(row["caption"]) for row in found if isinstance(row, dict)}
    assert len(made) <= 2 * len(range(0, 10_002, 8_192)), "once a batch"


@pytest.mark.parametrize("form", ["plain", "list"])
def test_wide_parquet_rows_are_read_in_bounds(tmp_path: Path, form: str) -> None:
    wide = "w" * 100_000
    values: Any = [f"{n}{wide}" for n in range(3_000)]
    if form == "list":
        values = pa.ListArray.from_arrays(pa.array(range(0, 30_001, 10), pa.int32()), coded([wide], [0] * 30_000))
    table = pa.table({"url": [f"http://a.test/{n}" for n in range(3_000)], "caption": values})
    path = tmp_path / "l.parquet"
    path.write_bytes(parquet(table, compression="zstd", use_dictionary=form == "list"))
    del table, values
    before, most, count = pa.total_allocated_bytes(), 0, 0
    for row in read_list(inspect(str(path), "url"), WANTED, "url"):
        most, count = max(most, pa.total_allocated_bytes() - before), count + isinstance(row, dict)
    assert count == 3_000
    assert most < 200 * 2**20


def test_a_column_that_appears_late_is_found(tmp_path: Path) -> None:
    lines = [{"url": f"http://a.test/{n}"} for n in range(1_500)] + [{"url": "http://a.test/x", "caption": "late"}]
    found = rows(tmp_path / "l.jsonl", "".join(json.dumps(line) + "\n" for line in lines).encode())
    assert (found[0]["caption"], found[-1]["caption"]) == (None, "late")
    with pytest.raises(ListError, match="has no column 'caption'"):
        rows(tmp_path / "m.jsonl", b'{"url": "http://a.test", "captions": "x"}\n' * 2_000)


@pytest.mark.parametrize(
    ("name", "data", "bad"),
    [
        ("latin.csv", "url,caption\nhttp://a.test/1,café\nhttp://a.test/2,tea\n".encode("cp1252"), 1),
        ("cyrillic.tsv", "url\tcaption\nhttp://a.test/1\tчай\nhttp://a.test/2\tкофе\n".encode("cp1251"), 2),
        ("latin.jsonl", '{"url": "http://a.test/1", "caption": "café"}\n'.encode("latin-1"), 1),
        ("sjis.txt", "http://a.test/1\nhttp://a.test/写真\n".encode("shift-jis"), 1),
        ("other.csv", "url,caption,n\nhttp://a.test/1,x,café\n".encode("latin-1"), 0),
    ],
)
def test_lists_in_another_encoding_say_so(
    tmp_path: Path, name: str, data: bytes, bad: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        found = rows(tmp_path / name, data)
    assert sum(isinstance(row, str) and row.startswith("not UTF-8: ") for row in found) == bad
    assert f"{name}: {max(bad, 1)} lines are not UTF-8 (line" in caplog.text


@pytest.mark.parametrize(
    ("text", "encoding", "said"),
    [
        ("Das Café über der Brücke, schön", "cp1252", "WINDOWS-1252"),
        ("Чай с лимоном и сахаром на столе", "cp1251", "WINDOWS-1251"),
        ("Кофе и булочки с корицей утром", "koi8-r", "KOI8-"),
        ("庭に咲いている赤い花の写真です", "shift-jis", "SHIFT_JIS"),
        ("桌子上的一杯茶和两个苹果的照片", "gb18030", "GB"),
        ("창가에 앉아 있는 고양이 사진", "euc-kr", "EUC-KR"),
    ],
)
def test_the_hint_names_an_encoding_that_fits(
    tmp_path: Path, text: str, encoding: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    lines = "url,caption\n" + "".join(f"http://a.test/{n},{text} {n}\n" for n in range(20))
    with caplog.at_level(logging.WARNING):
        rows(tmp_path / "l.csv", lines.encode(encoding))
    assert f"iconv -f {said}" in caplog.text


def test_the_hint_says_that_no_encoding_fits(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    noise = random.Random(0).randbytes(20_000).replace(b"\n", b"").replace(b"\r", b"").replace(b"\0", b"")
    with caplog.at_level(logging.WARNING):
        rows(tmp_path / "l.csv", b"url,caption\nhttp://a.test/1," + noise + b"\n")
    assert "are text in no encoding that is known" in caplog.text
    assert "iconv" not in caplog.text


@pytest.fixture
def spark(tmp_path: Path) -> Path:
    folder = tmp_path / "spark"
    for part in ("day=1", "day=2", "_temporary"):
        (folder / part).mkdir(parents=True)
        (folder / part / "part-0.parquet").write_bytes(parquet(pa.Table.from_pylist(ROWS)))
    for name in ("_SUCCESS", ".part-0.parquet.crc", "LICENSE.txt", "notes.txt", "README.md"):
        (folder / name).write_text("words")
    return folder


def test_a_folder_s_notes_are_no_lists_and_its_folders_are_read(spark: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        found = find_lists(str(spark))
    assert [Path(path).parent.name for path in found] == ["day=1", "day=2"]
    assert "passed over, as no URL lists: LICENSE.txt, README.md, notes.txt" in caplog.text
    (spark / "day=1" / "part-0.parquet").unlink()
    (spark / "day=2" / "part-0.parquet").unlink()
    assert [Path(path).name for path in find_lists(str(spark))] == ["LICENSE.txt", "notes.txt"]


def test_the_beginning_of_a_list_may_end_within_a_character(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mmcorpus.curation.download.formats.HEAD", 256)
    text = "url,caption\n" + "".join(f"http://a.test/{n}.jpg,a 🦆 and a 🦢\n" for n in range(30))
    for cut in range(4):  # so that each byte of a pair of surrogates comes last
        path = tmp_path / f"{cut}.csv"
        path.write_bytes(("x" * cut + text).encode("utf-16"))
        assert inspect(str(path), "x" * cut + "url").kind == "csv"
    (tmp_path / "odd.csv").write_bytes("url,caption\nhttp://a.test/1.jpg,a\n".encode("utf-16") + b"\n")
    with pytest.raises(ListError, match=r"odd\.csv is damaged: it is not UTF-16-LE"):
        inspect(str(tmp_path / "odd.csv"), "url")


@pytest.mark.parametrize(
    "text", ["url,\rcaption\nhttp://a.test/1.jpg,a\n", 'url,caption\nhttp://a.test/1.jpg,"a"\rb"\n']
)
def test_a_carriage_return_amid_a_line_costs_that_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.csv"
    path.write_bytes(text.encode() + b"http://a.test/2.jpg,two\n" * 3)
    file = inspect(str(path), "url")
    wanted = [name for name in file.names if "url" in name][:1]
    rows = list(read_list(file, wanted, "url"))
    assert [row["url"] for row in rows if isinstance(row, dict)][-3:] == ["http://a.test/2.jpg"] * 3
