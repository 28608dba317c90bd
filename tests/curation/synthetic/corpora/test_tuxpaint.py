"""The real corpus's road from a package to a site, on a package made here."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmcorpus.curation.synthetic.corpora import tuxpaint


@pytest.fixture
def stamps(tmp_path: Path) -> Path:
    root = tmp_path / "package" / "usr/share/tuxpaint/stamps"
    (root / "sky").mkdir(parents=True)
    for name, text in {
        "sky/star": "A star.\nde.utf8=Ein Stern.\nja.utf8=ほし\nes.utf8=\n",
        "sky/moon": "\ufeffThe moon.\r\nde.utf8=Der Mond.\r\n",
        "sky/untold": None,
        "tux": "Tux.\nde.utf8=Tux.\nja.utf8=タックス\n",
    }.items():
        Image.new("RGBA", (40, 30), (10, 20, 30, 128)).save(root / f"{name}.png")
        if text is not None:
            (root / f"{name}.txt").write_text(text, "utf-8")
    (root / "sky/star.svg").write_text("<svg/>")
    (root / "sky/comet.svg").write_text("<svg/>")
    (root / "sky/comet.txt").write_text("A comet.\n")
    return root


@pytest.fixture
def package(stamps: Path, tmp_path: Path) -> str:
    if shutil.which("dpkg-deb") is None:
        assert sys.platform != "linux", "apt-get install dpkg"
        pytest.skip("this machine cannot: it has no dpkg-deb")
    control = tmp_path / "package" / "DEBIAN"
    control.mkdir()
    (control / "control").write_text(
        "Package: stamps\nVersion: 1\nArchitecture: all\nMaintainer: A B <a@b.test>\nDescription: stamps\n"
    )
    command = ["dpkg-deb", "--build", "--root-owner-group", str(tmp_path / "package"), str(tmp_path / "stamps.deb")]
    subprocess.run(command, check=True, capture_output=True)
    return str(tmp_path / "stamps.deb")


def test_stamps_are_raster_pictures_with_english_captions(stamps: Path):
    found, counts = tuxpaint.find_stamps(stamps)
    assert [stamp.path.name for stamp in found] == ["moon.png", "star.png", "tux.png"]
    assert found[0].captions == {"en": "The moon.", "de": "Der Mond."}
    assert counts == {"images": 3, "skipped.vector": 1, "skipped.no_caption": 1}


def test_a_package_becomes_a_site(package: str, tmp_path: Path):
    out = str(tmp_path / "site")
    counts = tuxpaint.fetch(out, languages=("de", "ja"), deb=package)
    assert counts["images"] == 3
    assert counts["pairs"] == 3 + 2 + 2
    assert (counts["language.en"], counts["language.de"], counts["language.ja"]) == (3, 2, 2)
    assert (counts["skipped.language.de"], counts["skipped.language.ja"]) == (1, 1)
    rows = pq.read_table(f"{out}/pairs.parquet").to_pylist()
    assert rows[0] == {"url": "http://tuxpaint.test/stamps/sky/moon.png", "caption": "The moon.", "language": "en"}
    assert [row["language"] for row in rows] == ["en", "de", "en", "de", "ja", "en", "ja"]
    asked = pq.read_table(f"{out}/instructions.parquet").to_pylist()
    assert json.loads(asked[2]["conversations"]) == [
        {"from": "human", "value": "<image>\nWhat is this?"},
        {"from": "gpt", "value": "Tux."},
    ]
    assert tuxpaint.fetch(out, languages=("de", "ja"), deb=package) == counts
    assert tuxpaint.main(["--out", out, "--deb", package]) == 0


def test_what_is_missing_is_said(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    out = str(tmp_path / "site")
    with pytest.raises(ValueError, match="no stamp has it"):
        tuxpaint.fetch(out, languages=("xx",), deb=package)
    with pytest.raises(FileNotFoundError, match="no such package file"):
        tuxpaint.fetch(out, deb=str(tmp_path / "nothing.deb"))
    (tmp_path / "text.deb").write_text("no package")
    with pytest.raises(RuntimeError, match="could not unpack"):
        tuxpaint.fetch(out, deb=str(tmp_path / "text.deb"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="apt-get is needed"):
        tuxpaint.fetch(out)
    with pytest.raises(SystemExit) as stopped:
        tuxpaint.main(["--out", out])
    assert stopped.value.code == 1
    assert "not installed" in capsys.readouterr().err
    assert not Path(out).exists()
