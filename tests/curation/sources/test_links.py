"""Symbolic links: those that are named and the Hugging Face cache's are read, and none leads to what was not named."""

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.sources import SourceError
from tests.curation.sources.conftest import as_tar, pairs, picture, write_tar

PAIRS = pairs(4)
DATA = {pair["caption"]: (pair["image"],) for pair in PAIRS}
REPOSITORY = "datasets--someone--photos"


def linked(path: Path, target: Path | str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    os.symlink(target, path)
    return path


def write(path: Path, form: str) -> Path:
    """The pairs in a file; those of JSON name images beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if form == "tar":
        return write_tar(path, as_tar(PAIRS))
    if form == "parquet":
        images = [{"bytes": pair["image"], "path": None} for pair in PAIRS]
        pq.write_table(pa.table({"image": images, "text": list(DATA)}), path)
        return path
    for pair in PAIRS:
        (path.parent / f"{pair['key']}.jpg").write_bytes(pair["image"])
    rows = [{"image": f"{pair['key']}.jpg", "caption": pair["caption"]} for pair in PAIRS]
    path.write_text(json.dumps(rows))
    return path


@pytest.mark.parametrize("form", ["tar", "parquet", "json"])
def test_a_link_that_is_named_is_followed(tmp_path: Path, indexed: Any, form: str) -> None:
    target = write(tmp_path / "big" / f"x.{form}", form)
    assert indexed(linked(tmp_path / "in" / f"data.{form}", target)).captions == DATA
    folder = linked(tmp_path / "folder", target.parent)
    assert indexed(folder, out="second", formats=(form,)).captions == DATA


@pytest.mark.parametrize("form", ["tar", "parquet", "json", "files"])
@pytest.mark.parametrize("named", ["file", "snapshot", "repository", "cache", "glob"])
def test_the_cache_of_hugging_face_is_read_by_the_names_of_its_snapshots(
    tmp_path: Path, indexed: Any, form: str, named: str
) -> None:
    if form == "files":
        write_tar(tmp_path / "x.tar", as_tar(PAIRS))
        files = dict(as_tar([{**pair, "json": None} for pair in PAIRS]))
    else:
        write(tmp_path / "made" / f"train.{form}", form)
        files = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
    repository = tmp_path / "hub" / REPOSITORY
    snapshot = repository / "snapshots" / "0123abc"
    (repository / "blobs").mkdir(parents=True)
    for number, (name, data) in enumerate(files.items()):
        (repository / "blobs" / f"{number:040x}").write_bytes(data)
        linked(snapshot / "data" / name, f"../../../blobs/{number:040x}")
    paths = {
        "file": snapshot / "data" / (f"train.{form}" if form != "files" else ""), "snapshot": snapshot,
        "repository": repository, "cache": tmp_path / "hub", "glob": repository / "snapshots" / "*" / "data",
    }  # fmt: skip
    found = indexed(paths[named], formats=(form,))
    assert found.captions == DATA
    assert found.report.failed == found.report.dropped == {}
    (tmp_path / "hub").rename(tmp_path / "moved")  # names are below the roots, so that these can be changed
    text = (tmp_path / "out" / "shards" / "references.json").read_text()
    (tmp_path / "out" / "shards" / "references.json").write_text(
        text.replace("/hub/", "/moved/").replace('/hub"', '/moved"')
    )
    assert found.captions == DATA


def test_links_that_lead_elsewhere_are_named_and_not_read(
    tmp_path: Path, indexed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    secret = write_tar(tmp_path / "secret" / "s.tar", as_tar(pairs(2, first=9)))
    (tmp_path / "secret" / "9.jpg").write_bytes(picture(9))
    only = linked(tmp_path / "only" / "s.tar", secret)
    for path in (only.parent, only.parent / "*.tar"):
        with pytest.raises(SourceError, match=r"only has links that lead to nothing, or to what was not named: s\.tar"):
            indexed(path)
    folder = tmp_path / "in"
    write(folder / "real" / "a.tar", "tar")
    linked(folder / "b.tar", "real/a.tar")
    linked(folder / "again", "real")
    for name, target in (("s.tar", secret), ("folder", secret.parent), ("gone.tar", "nowhere")):
        linked(folder / name, target)
    found = indexed(folder)
    assert (found.captions, found.report.dropped) == (DATA, {}), "what is linked within is read once"
    assert "links that lead to nothing, or to what was not named: folder, gone.tar, s.tar" in caplog.text
    loose = tmp_path / "loose"
    linked(loose / "9.jpg", tmp_path / "secret" / "9.jpg")
    for name, data in as_tar(PAIRS[:1]):
        (loose / name).write_bytes(data)
    linked(loose / "copy.jpg", f"{PAIRS[0]['key']}.jpg")
    (loose / "copy.txt").write_text("the same")
    images = (PAIRS[0]["image"],)
    assert indexed(loose, out="third").captions == {PAIRS[0]["caption"]: images, "the same": images}
    for other in ("snapshots/x", "blobs"):  # of another repository
        (tmp_path / "hub" / REPOSITORY / other).mkdir(parents=True)
    linked(tmp_path / "hub" / REPOSITORY / "snapshots" / "x" / "s.tar", "../../../datasets--other/blobs/s")
    write_tar(tmp_path / "hub" / "datasets--other" / "blobs" / "s", as_tar(pairs(2)))
    with pytest.raises(SourceError, match="to what was not named"):
        indexed(tmp_path / "hub" / REPOSITORY)
