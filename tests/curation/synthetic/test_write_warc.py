"""Pages as WARC files."""

import io
from pathlib import Path

import pytest

from mmcorpus.curation.synthetic.write_warc import Capture, write_warc

PAGES = [
    Capture("http://a.test/1", b"<p>One", date="2023-05-06T07:08:09Z"),
    Capture("http://a.test/2", "<p>Zwei ä".encode(), {"Content-Type": "text/html", "X-Robots-Tag": "noai"}, status=404),
]


@pytest.mark.parametrize("ending", [".warc.gz", ".warc.zst", ".warc"])
def test_what_is_written_is_read_by_a_reader_of_another_make(tmp_path: Path, ending: str) -> None:
    import zstandard
    from warcio.archiveiterator import ArchiveIterator

    path = tmp_path / f"pages{ending}"
    assert write_warc(str(path), PAGES) == 2
    data = path.read_bytes()
    if ending == ".warc.zst":
        data = zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True).read()
    info, *records = [
        (record.rec_headers, record.http_headers, record.content_stream().read())
        for record in ArchiveIterator(io.BytesIO(data), check_digests="raise")
    ]
    assert info[0].get_header("WARC-Type") == "warcinfo"
    for page, (headers, http, body) in zip(PAGES, records, strict=True):
        assert headers.get_header("WARC-Target-URI") == page.url
        assert headers.get_header("WARC-Date") == page.date
        assert http.get_statuscode() == str(page.status)
        assert http.get_header("X-Robots-Tag") == page.headers.get("X-Robots-Tag")
        assert body == page.body


@pytest.mark.parametrize(("ending", "magic"), [(".warc.gz", b"\x1f\x8b\x08"), (".warc.zst", b"\x28\xb5\x2f\xfd")])
def test_each_record_is_a_member_of_its_own(tmp_path: Path, ending: str, magic: bytes) -> None:
    path = tmp_path / f"pages{ending}"
    write_warc(str(path), PAGES)
    assert path.read_bytes().count(magic) == 3


@pytest.mark.parametrize("ending", [".warc.gz", ".warc.zst", ".warc"])
def test_equal_pages_give_equal_bytes(tmp_path: Path, ending: str) -> None:
    first, second = tmp_path / f"a{ending}", tmp_path / f"b{ending}"
    write_warc(str(first), PAGES)
    write_warc(str(second), iter(PAGES))
    assert first.read_bytes() == second.read_bytes()


def test_another_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.warc\.gz"):
        write_warc(str(tmp_path / "pages.gz"), PAGES)
