"""The handbook's road from a package to a site of WARC files, on a package made here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.handbook import read_pages
from mmcorpus.curation.synthetic.corpora import handbook
from mmcorpus.curation.synthetic.miniweb import read_site

PAGE = """<?xml version="1.0" encoding="UTF-8"?>
<html><head><meta http-equiv="Content-Type" content="text/html; charset=UTF-8" /><title>{title}</title></head><body>
<p id="title"><img alt="Product Site" src="Common_Content/images//left.png" /></p>
<div class="para">{text}</div><img src="images/apt.png" alt="" /><img src="images/gone.png" /></body></html>
"""


@pytest.fixture
def package(tmp_path: Path) -> str:
    if shutil.which("dpkg-deb") is None:
        assert sys.platform != "linux", "apt-get install dpkg"
        pytest.skip("this machine cannot: it has no dpkg-deb")
    root = tmp_path / "package/usr/share/doc/debian-handbook/html"
    for language, text in {"en-US": "A package.", "de-DE": "Ein Paket für alle."}.items():
        (root / language / "images").mkdir(parents=True)
        (root / language / "Common_Content/images").mkdir(parents=True)
        Image.new("RGB", (40, 30), (10, 20, 30)).save(root / language / "images/apt.png")
        Image.new("RGB", (20, 30)).save(root / language / "Common_Content/images/left.png")
        for name in ("apt", "index"):
            (root / language / f"{name}.html").write_text(PAGE.format(title=name, text=text), "utf-8")
    (root / "index.html").write_text("<p>Languages")
    control = tmp_path / "package/DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        "Package: handbook\nVersion: 1\nArchitecture: all\nMaintainer: A B <a@b.test>\nDescription: handbook\n"
    )
    command = ["dpkg-deb", "--build", "--root-owner-group", str(tmp_path / "package"), str(tmp_path / "handbook.deb")]
    subprocess.run(command, check=True, capture_output=True)
    return str(tmp_path / "handbook.deb")


def test_a_package_becomes_warc_files_and_served_images(package: str, tmp_path: Path):
    from warcio.archiveiterator import ArchiveIterator

    out = str(tmp_path / "site")
    counts = handbook.fetch(out, languages=("de-DE",), deb=package)
    assert (counts["pages"], counts["pages.de-DE"], counts["images"], counts["images.missing"]) == (2, 2, 2, 1)
    assert counts["images.de-DE"] == 6
    with open(f"{out}/pages/de-DE.warc.gz", "rb") as file:
        found = {
            record.rec_headers.get_header("WARC-Target-URI"): record.content_stream().read().decode()
            for record in ArchiveIterator(file)
            if record.rec_type == "response"
        }
    assert sorted(found) == ["http://handbook.test/de-DE/apt.html", "http://handbook.test/de-DE/index.html"]
    assert "Ein Paket für alle." in found["http://handbook.test/de-DE/apt.html"]
    routes = read_site(out).routes
    assert routes["handbook.test/de-DE/images/apt.png"].content_type == "image/png"
    assert routes["handbook.test/de-DE/Common_Content/images//left.png"].file is not None
    assert routes["handbook.test/de-DE/images/gone.png"].status == 404
    assert handbook.fetch(out, languages=("de-DE",), deb=package) == counts


def test_all_languages_share_the_files_of_equal_images(package: str, tmp_path: Path, capsys: pytest.CaptureFixture):
    out = tmp_path / "site"
    assert handbook.main(["--out", str(out), "--languages", "all", "--deb", package]) == 0
    assert "4  pages\n" in capsys.readouterr().out
    assert sorted(path.name for path in (out / "pages").iterdir()) == ["de-DE.warc.gz", "en-US.warc.gz"]
    assert len(list((out / "files/handbook.test").iterdir())) == 2


def test_paragraphs_are_read_as_before(package: str):
    assert [(page.language, page.name, page.paragraphs) for page in read_pages(package)][:2] == [
        ("de-DE", "apt", ("Ein Paket für alle.",)),
        ("de-DE", "index", ("Ein Paket für alle.",)),
    ]


def test_what_is_missing_is_said(package: str, tmp_path: Path):
    with pytest.raises(ValueError, match="the package has de-DE, en-US"):
        handbook.fetch(str(tmp_path / "out"), languages=("xx-XX",), deb=package)
    with pytest.raises(FileNotFoundError, match="no such package file"):
        handbook.fetch(str(tmp_path / "out"), deb=str(tmp_path / "nothing.deb"))
    assert not (tmp_path / "out").exists()
