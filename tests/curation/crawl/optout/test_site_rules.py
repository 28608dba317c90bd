"""Sites' files as a crawl carries them, and block lists."""

import gzip
from pathlib import Path

import pyarrow as pa
import pytest

from mmcorpus.curation.crawl.optout.site_rules import (
    SCHEMA,
    BlockLists,
    SiteFile,
    SiteRules,
    from_table,
    host_of,
    read_site_files,
    site_file,
    to_table,
)
from mmcorpus.curation.store import storage

DENY = b"User-agent: *\nDisallow: /no"


@pytest.mark.parametrize(
    ("url", "status", "body", "kind"),
    [
        ("https://a.org/robots.txt", 200, DENY, "robots.txt"),
        ("https://A.org:443/robots.txt", 200, DENY, "robots.txt"),
        ("http://a.org/ai.txt", 200, DENY, "ai.txt"),
        ("http://a.org/.well-known/ai.txt", 200, DENY, "ai.txt"),
        ("https://a.org/robots.txt", 404, DENY, None),
        ("https://a.org/robots.txt", 200, b"\n <!doctype html><p>Not found", None),
        ("https://a.org/blog/robots.txt", 200, DENY, None),
        ("https://a.org/", 200, DENY, None),
        ("no url", 200, DENY, None),
        ("https://[::1/robots.txt", 200, DENY, None),
    ],
)
def test_site_file(url: str, status: int, body: bytes, kind: str | None) -> None:
    found = site_file(url, status, body, "2024-01-01T00:00:00Z")
    assert (found and (found.host, found.kind)) == (kind and ("a.org", kind))


def test_a_file_has_no_more_than_its_first_half_megabyte_and_no_zero_bytes() -> None:
    found = site_file("https://a.org/robots.txt", 200, b"\0x" * 400_000, "d")
    assert found is not None
    assert found.text == "x" * 256_000


def test_the_latest_capture_counts_in_any_order() -> None:
    old = SiteFile(host="a.org", kind="robots.txt", date="2023-01-01T00:00:00Z", text="User-agent: *\nDisallow: /")
    new = SiteFile(host="a.org", kind="robots.txt", date="2024-01-01T00:00:00Z", text="User-agent: *\nAllow: /")
    other = SiteFile(host="a.org", kind="ai.txt", date="2020-01-01T00:00:00Z", text="")
    assert to_table([old, new, other]).equals(to_table([other, new, old]))
    assert list(from_table(to_table([old, new]))) == [new]
    assert SiteRules([new, old]).refusal("https://a.org/x", "robots.txt", ["us"]) is None
    assert SiteRules([old]).refusal("http://a.org/x", "robots.txt", ["us"]) == "Disallow: / (*)"
    assert SiteRules([old]).refusal("http://b.a.org/x", "robots.txt", ["us"]) is None


def test_tables_of_a_folder(tmp_path: Path) -> None:
    assert list(read_site_files(str(tmp_path / "missing"))) == []
    files = [SiteFile(host=host, kind="robots.txt", date="d", text="") for host in ("b.org", "a.org")]
    for file in files:
        storage.write_table(str(tmp_path / f"{file.host}.parquet"), to_table([file]))
    assert [file.host for file in read_site_files(str(tmp_path))] == ["a.org", "b.org"]
    assert to_table([]).equals(pa.table({name: [] for name in SCHEMA.names}, SCHEMA))


LIST = """# what we do not want
example.com
https://shop.org/gallery/   # the gallery alone
HTTP://Upper.ORG
other.net:8080
"""


@pytest.mark.parametrize(
    ("url", "entry"),
    [
        ("https://example.com/a", "example.com"),
        ("http://cdn.img.example.com:81/a", "example.com"),
        ("https://notexample.com/a", None),
        ("https://example.com.evil.org/a", None),
        ("http://shop.org/gallery/1.jpg", "https://shop.org/gallery/"),
        ("http://shop.org/gallery", None),
        ("http://www.shop.org/gallery/1.jpg", None),
        ("http://upper.org/", "HTTP://Upper.ORG"),
        ("http://other.net:8080/", "other.net:8080"),
        ("http://other.net/", None),
        ("data:image/gif;base64,AAAA", None),
        ("http://[::1", None),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_block_lists(tmp_path: Path, url: str, entry: str | None, compressed: bool) -> None:
    path = tmp_path / ("list.txt.gz" if compressed else "list.txt")
    path.write_bytes(gzip.compress(LIST.encode()) if compressed else LIST.encode())
    assert BlockLists([str(path)]).refusal(url) == (entry and f"{path}: {entry}")


def test_a_block_list_may_be_remote(s3_root: str) -> None:
    path = storage.join(s3_root, "list.txt")
    storage.write_bytes(path, LIST.encode())
    assert BlockLists([path]).refusal("https://example.com/") == f"{path}: example.com"


def test_a_bad_block_list_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no block list at"):
        BlockLists([str(tmp_path / "missing.txt")])
    (tmp_path / "hosts").write_text("ok.org\n0.0.0.0 example.com\n")
    with pytest.raises(ValueError, match=r"hosts, line 2: '0.0.0.0 example.com' is neither a domain"):
        BlockLists([str(tmp_path / "hosts")])


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://A.org:443/", "a.org"),
        ("http://a.org:443/", "a.org:443"),
        ("http://a.org./", "a.org"),
        ("http://user:pw@a.org/", "a.org"),
        ("//a.org/", "a.org"),
        ("http://a.org:99999999/", ""),
        ("data:x", ""),
    ],
)
def test_host_of(url: str, host: str) -> None:
    assert host_of(url) == host
