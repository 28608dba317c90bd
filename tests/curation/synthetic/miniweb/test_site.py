"""Sites of any files and captions."""

from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.synthetic.miniweb import SiteItem, build_site, read_site, serve_site
from mmcorpus.curation.synthetic.miniweb.site import address


@pytest.fixture
def item(tmp_path: Path) -> SiteItem:
    source = tmp_path / "a.png"
    source.write_bytes(b"bytes of a picture")
    return SiteItem(
        url="http://stamps.test/a/b.png",
        source=str(source),
        content_type="image/png",
        captions=("A star.", "Ein Stern."),
        languages=("en", "de"),
        conversations=(("A star.", "[]"),),
    )


def test_files_and_captions_become_a_site(item: SiteItem, tmp_path: Path, get: Callable):
    out = str(tmp_path / "site")
    counts = build_site([item], out, fingerprint="f", counts={"images": 1})
    assert counts == {"pairs": 2, "instructions": 1, "images": 1, "routes": 1, "files": 1, "bytes": 18}
    assert pq.read_table(f"{out}/pairs.parquet").to_pylist() == [
        {"url": item.url, "caption": "A star.", "language": "en"},
        {"url": item.url, "caption": "Ein Stern.", "language": "de"},
    ]
    with serve_site(out) as site:
        assert get(item.url, site.connect_to).body == b"bytes of a picture"
    assert build_site([], out, fingerprint="f") == counts
    assert build_site([], out, fingerprint="g")["pairs"] == 0
    assert read_site(out).routes == {}
    assert not (tmp_path / "site" / "files").exists()


def test_one_address_stands_for_one_file(item: SiteItem, tmp_path: Path):
    other = SiteItem(url=item.url, source=str(tmp_path / "b.png"), content_type="image/png", captions=())
    with pytest.raises(ValueError, match="stands for two files"):
        build_site([item, other], str(tmp_path / "site"), fingerprint="f")


@pytest.mark.parametrize(
    "url",
    [
        "https://a.test/b.png",
        "http://a.test:80/b.png",
        "http://a.test/../b.png",
        "http://a.test/b?c",
        "http://a.test//b",
        "b.png",
    ],
)
def test_addresses_that_a_folder_cannot_hold_are_refused(url: str):
    with pytest.raises(ValueError, match=r"a site serves|must be plain"):
        address(url)
