"""A folder says what it is made from: gone on with, begun, replaced where that is proven stale, or refused in words."""

import re
from pathlib import Path

import pytest

from mmcorpus.curation.engine.made_from import MadeFrom
from mmcorpus.curation.engine.output import RECORD, MadeOtherwise, Output, read_record


def output(root: Path, *, size: int = 1, **options: object) -> Output:
    made_from = MadeFrom(config={"size": size}, inputs={"shards": "a"})
    return Output(folder=str(root / "out"), holds="shards of a test", made_from=made_from, **options)  # type: ignore[arg-type]


def commit(root: Path, name: str = "00000") -> Path:
    path = root / "out" / f"{name}_stats.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text("{}")
    return path


def test_a_free_folder_is_begun_and_gone_on_with(tmp_path: Path) -> None:
    assert not output(tmp_path).claim()
    commit(tmp_path)
    assert output(tmp_path).claim()
    assert read_record(str(tmp_path / "out")) == MadeFrom(config={"size": 1}, inputs={"shards": "a"})


def test_what_is_made_from_something_else_is_refused_and_nothing_written(tmp_path: Path) -> None:
    output(tmp_path).claim()
    kept = commit(tmp_path)
    before = (tmp_path / "out" / RECORD).read_bytes()
    with pytest.raises(
        MadeOtherwise, match=re.escape("(size changed from 1 to 2); name another folder, or move this one away")
    ):
        output(tmp_path, size=2).claim()
    assert kept.exists()
    assert (tmp_path / "out" / RECORD).read_bytes() == before


def test_a_claim_without_anything_committed_binds_nobody(tmp_path: Path) -> None:
    output(tmp_path).claim()
    (tmp_path / "out" / "00000.arrow").write_text("work")
    assert not output(tmp_path, size=2).claim()
    assert [path.name for path in (tmp_path / "out").iterdir()] == [RECORD]


def test_what_is_proven_stale_is_replaced_with_all_it_owns(tmp_path: Path) -> None:
    view = tmp_path / "view"
    view.mkdir()
    (view / "00000.parquet").write_text("rows")
    output(tmp_path).claim()
    kept = commit(tmp_path)
    assert not output(tmp_path, size=2, stale="replace", owns=(str(view),)).claim()
    assert not kept.exists()
    assert not view.exists()
    assert output(tmp_path, size=2).claim()


def test_content_without_a_record_is_never_replaced(tmp_path: Path) -> None:
    """Somebody else's, or ours with its record lost: nothing proves it stale."""
    kept = commit(tmp_path)
    for stale in ("refuse", "replace"):
        with pytest.raises(MadeOtherwise, match=r"without a record.* of a run whose run\.json is there"):
            output(tmp_path, stale=stale).claim()
    assert kept.exists()


def test_a_kill_while_stale_output_is_cleared_leaves_it_known_to_be_stale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output(tmp_path).claim()
    commit(tmp_path, "00000")
    commit(tmp_path, "00001")
    removed: list[str] = []

    def killed(path: str) -> None:
        if removed:
            raise KeyboardInterrupt
        removed.append(path)
        Path(path).unlink()

    with monkeypatch.context() as patch:
        patch.setattr("mmcorpus.curation.store.storage.remove", killed)
        with pytest.raises(KeyboardInterrupt):
            output(tmp_path, size=2, stale="replace").claim()
    assert len(removed) == 1
    assert not output(tmp_path, size=2, stale="replace").claim(), "the rest is cleared, not taken for its own"
    assert not list((tmp_path / "out").glob("*_stats.json"))


def test_a_record_of_an_earlier_version_is_named(tmp_path: Path) -> None:
    commit(tmp_path)
    (tmp_path / "out" / "place.json").write_text("{}")
    with pytest.raises(MadeOtherwise, match=r"begun by an earlier version of mmcorpus \(its place\.json\)"):
        output(tmp_path, earlier=("place.json",)).claim()
    assert not output(tmp_path, stale="replace", earlier=("place.json",)).claim()


def test_a_damaged_record_is_named(tmp_path: Path) -> None:
    output(tmp_path).claim()
    (tmp_path / "out" / RECORD).write_text('{"config": {}}')
    with pytest.raises(ValueError, match="is not the record of an output"):
        output(tmp_path).claim()


@pytest.mark.parametrize(
    "record", ['{"config": 1, "version": 1, "inputs": {}}', '{"config": {}, "version": "1", "inputs": []}']
)
def test_a_record_of_other_types_proves_nothing(tmp_path: Path, record: str) -> None:
    output(tmp_path).claim()
    kept = commit(tmp_path)
    (tmp_path / "out" / RECORD).write_text(record)
    with pytest.raises(ValueError, match="is not the record of an output"):
        output(tmp_path, stale="replace").claim()
    assert kept.exists()


@pytest.mark.parametrize("stale", ["refuse", "replace"])
def test_what_lay_in_the_folder_before_the_claim_is_never_removed(tmp_path: Path, stale: str) -> None:
    """Somebody's home is named by mistake, and the first attempt commits nothing."""
    thesis = tmp_path / "out" / "thesis.txt"
    thesis.parent.mkdir()
    thesis.write_text("years of work")
    output(tmp_path, stale=stale).claim()
    (tmp_path / "out" / "00000.arrow").write_text("work")
    for size in (2, 3):
        assert not output(tmp_path, size=size, stale=stale).claim()
    assert thesis.read_text() == "years of work"
    assert not (tmp_path / "out" / "00000.arrow").exists()


def test_a_folder_of_another_kind_is_refused_whatever_it_is_made_from(tmp_path: Path) -> None:
    output(tmp_path).claim()
    with pytest.raises(MadeOtherwise, match="holds shards of a test, not other things"):
        Output(folder=str(tmp_path / "out"), holds="other things", made_from=output(tmp_path).made_from).claim()


@pytest.mark.parametrize("record", ["place.json", RECORD])
def test_what_the_stage_did_not_write_stays(tmp_path: Path, record: str, caplog: pytest.LogCaptureFixture) -> None:
    """Notes that somebody keeps with their shards, in the folder, in a view and in a folder of work files."""
    view = tmp_path / "view"
    options = {"stale": "replace", "owns": (str(view),), "earlier": ("place.json",), "writes": ("uses", "view.json")}
    if record == RECORD:
        output(tmp_path, **options).claim()
    theirs = [tmp_path / "out/notes.txt", view / "00000.jpg", tmp_path / "out/uses/mine/paper.pdf"]
    ours = [tmp_path / "out/00000.tar", view / "00000.parquet", view / "view.json", tmp_path / "out/uses/00001.arrow"]
    ours += [tmp_path / "out/00000_stats.json", tmp_path / "out/uses/deep/00001.arrow"]
    for path in (*theirs, *ours, tmp_path / "out" / "place.json"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("{}")
    for size in (2, 3):
        assert not output(tmp_path, size=size, **options).claim()
        assert [path for path in theirs if not path.exists()] == []
        assert [path for path in ours if path.exists()] == []
    assert not (tmp_path / "out/uses/deep").exists()
    assert all(path.name in caplog.text for path in theirs)
