"""HTML files in folders and archives."""

import gzip
import io
import tarfile
import zipfile
from pathlib import Path

import pytest

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.crawl.html_files import read_folder, read_tar, read_zip
from mmcorpus.curation.crawl.records import START, Failure, Item, Other, Page, Position
from mmcorpus.curation.html import ExtractConfig

CONFIG = PagesConfig(url_prefix="https://a.test/", extraction=ExtractConfig(max_bytes=10_000))
FILES = {
    "a/one.html": b"<p>One",
    "a/two ways.htm": b"<p>Two",
    "b.png": b"\x89PNG",
    "big.html": b"<p>" + b"x" * 20_000,
    "c.html": b"<p>Three",
}
URLS = ["https://a.test/a/one.html", "https://a.test/a/two%20ways.htm", "https://a.test/c.html"]


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def read(kind: str, data: bytes, position: Position = START) -> list[Item]:
    if kind == "zip":
        return list(read_zip("a.zip", io.BytesIO(data), CONFIG, position))
    return list(read_tar(f"a.{kind}", io.BytesIO(data), CONFIG, position))


def pack(kind: str) -> bytes:
    if kind == "zip":
        return zipped(FILES)
    return tarred(FILES, "w" if kind == "tar" else "w:gz")


@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_pages_of_an_archive_from_any_place_on(kind: str) -> None:
    data = pack(kind)
    items = read(kind, data)
    assert [item.url for item in items if isinstance(item, Page)] == URLS
    assert [item.body for item in items if isinstance(item, Page)] == [b"<p>One", b"<p>Two", b"<p>Three"]
    assert [(item.code, item.url) for item in items if isinstance(item, Failure)] == [
        ("too_large", "https://a.test/big.html")
    ]
    assert [item.what for item in items if isinstance(item, Other)] == ["file .png"]
    for number, item in enumerate(items):
        assert read(kind, data, item.position) == items[number + 1 :]


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_an_archive_that_breaks_off_ends_with_one_failure(kind: str) -> None:
    data = tarred({f"{number}.html": b"<p>%d" % number * 500 for number in range(9)}, "w" if kind == "tar" else "w:gz")
    items = read(kind, data[: len(data) // 2])
    *pages, last = items
    assert pages
    assert all(isinstance(item, Page) for item in pages)
    assert isinstance(last, Failure)
    assert last.code in ("truncated", "bad_record")


def test_damage_in_a_zip_costs_one_page() -> None:
    data = bytearray(zipped({f"{number}.html": bytes(range(97, 120)) * 20 + b"%d" % number for number in range(4)}))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        spoilt = archive.infolist()[1]
    data[spoilt.header_offset + 40] ^= 0xFF
    items = read("zip", bytes(data))
    assert [type(item) for item in items] == [Page, Failure, Page, Page]
    assert isinstance(items[1], Failure)
    assert items[1].code == "bad_record"
    assert "1.html" in items[1].detail


def test_a_bomb_in_a_zip_is_not_unpacked() -> None:
    (item,) = read("zip", zipped({"bomb.html": bytes(30_000_000)}))
    assert isinstance(item, Failure)
    assert item.code == "too_large"


def test_what_is_no_zip_is_said() -> None:
    with pytest.raises(zipfile.BadZipFile):
        read("zip", b"no zip")


def test_files_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    for name, data in FILES.items():
        (tmp_path / name).write_bytes(data)
    names = ["a/one.html", "a/two ways.htm", "big.html", "c.html", "gone.html"]
    items = list(read_folder(str(tmp_path), names, CONFIG, START))
    assert [item.url for item in items if isinstance(item, Page)] == URLS
    assert [item.code for item in items if isinstance(item, Failure)] == ["too_large", "bad_record"]
    assert list(read_folder(str(tmp_path), names, CONFIG, items[2].position)) == items[3:]


@pytest.mark.parametrize("kind", ["tar", "tar.gz"])
def test_a_size_that_cannot_be_costs_one_page_of_a_tar(kind: str) -> None:
    data = bytearray(tarred({f"{number}.html": b"<p>%d" % number for number in range(4)}))
    at = data.index(b"1.html")
    data[at + 124 : at + 136] = b"\xff" * 11 + b"\xfb"  # minus 5
    data[at + 148 : at + 156] = b" " * 8
    data[at + 148 : at + 156] = b"%06o\0 " % sum(data[at : at + 512])
    sent = bytes(data) if kind == "tar" else gzip.compress(data)
    items = read(kind, sent)
    assert [item.body for item in items if isinstance(item, Page)] == [b"<p>0", b"<p>2", b"<p>3"]
    (lost,) = (item for item in items if isinstance(item, Failure))
    assert (lost.code, lost.detail) == ("bad_record", "1.html: it is sparse, or its size or headers make no sense")
    for number, item in enumerate(items):
        assert read(kind, sent, item.position) == items[number + 1 :]
