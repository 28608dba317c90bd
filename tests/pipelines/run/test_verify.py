"""What a run committed, read and compared: every fault named, with what it is and what mends it."""

import dataclasses
import json
import os
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from typer.testing import CliRunner

from mmcorpus.curation.engine.records import StageRecord
from mmcorpus.curation.engine.stage import Result, Stage, decide, perform
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.lock import lock
from mmcorpus.curation.store.places import SCHEMA
from mmcorpus.pipelines.cli import app
from mmcorpus.pipelines.run.state import RunState
from mmcorpus.pipelines.run.verify import verify_run


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run of two stages, one of them failed half-way."""
    state = RunState(str(tmp_path), name="small")

    def score() -> Result:
        for number in range(3):
            storage.write_table(str(tmp_path / f"scores/pairs/image/0000{number}.parquet"), pa.table({"x": [number]}))
        return Result()

    def select() -> Result:
        storage.write_table(str(tmp_path / "selections/pairs.parquet"), pa.table({"x": [1]}))
        raise RuntimeError("no more")

    for stage in (
        Stage(name="pairs/score", config={}, outputs=("scores/pairs/image",), run=score),
        Stage(name="pairs/select", config={}, outputs=("selections/pairs.parquet",), run=select),
    ):
        perform(decide(stage, state), state)
    return tmp_path


def command(run: Path, *options: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["verify", str(run), *options], env={"COLUMNS": "400"})
    return done.exit_code, done.output


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def test_a_run_as_it_was_committed_has_no_faults(run: Path) -> None:
    code, told = command(run)
    assert code == 0
    assert re.search(r"^4 files, .* hashes compared, 0 faults", told)
    assert "not finished: pairs/select" in told


def test_each_fault_is_named_with_what_it_is_and_what_mends_it(run: Path) -> None:
    flip(run / "scores/pairs/image/00000.parquet")
    (run / "scores/pairs/image/00001.parquet").unlink()
    (run / "scores/pairs/image/00009.parquet").write_text("mine")
    flip(run / "selections/pairs.parquet")
    code, told = command(run)
    assert code == 1
    again = rf"`mmcorpus run RECIPE --out {re.escape(str(run))}` \(the same command as before\) makes it again"
    for line in (
        rf"scores/pairs/image/00000\.parquet \(a score table, of pairs/score\) has other bytes .*; {again}",
        rf"scores/pairs/image/00001\.parquet \(a score table, of pairs/score\) is gone; {again}",
        r"scores/pairs/image/00009\.parquet \(a score table, of pairs/score\) was not committed .*; .* move it away",
        rf"selections/pairs\.parquet \(a selection, of pairs/select\) has other bytes .*; {again}",
    ):
        assert re.search(line, told), line
    record = RunState.load(str(run)).stages["pairs/score"]
    assert record.status == "damaged"
    assert record.damaged == ["scores/pairs/image/00001.parquet", "scores/pairs/image/00000.parquet"]


def test_some_stages_alone_and_a_sample(run: Path) -> None:
    flip(run / "selections/pairs.parquet")
    assert command(run, "pairs/score")[0] == 0
    assert command(run, "score")[0] == 0
    assert command(run, "select")[0] == 1
    assert command(run, "--sample")[0] == 1
    code, told = command(run, "packs")
    assert code == 2
    assert "has no stage packs; it has: pairs/score, pairs/select" in told


def test_a_folder_in_use_is_verified_and_nothing_noted(run: Path) -> None:
    flip(run / "scores/pairs/image/00000.parquet")
    with lock(str(run)):
        code, told = command(run)
    assert code == 1
    assert "the faults could not be noted" in told
    assert RunState.load(str(run)).stages["pairs/score"].status == "done"


def test_every_flipped_bit_of_the_record_is_seen(run: Path) -> None:
    path = run / "run.json"
    whole = path.read_bytes()
    for place in range(len(whole)):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        found = verify_run(str(run))
        assert [(fault.path, fault.kind) for fault in found.faults] == [("run.json", "the record of the run")]
    path.write_bytes(whole)
    assert not verify_run(str(run)).faults


def test_a_flip_that_leaves_the_records_values_is_seen(run: Path) -> None:
    state = RunState.load(str(run))
    state.put("pairs/score", dataclasses.replace(state.stages["pairs/score"], seconds=1e-05))
    path = run / "run.json"
    path.write_text(path.read_text().replace("1e-05", "1E-05"))
    code, told = command(run)
    assert (code, "run.json (the record of the run, of run) has other bytes than were written" in told) == (1, True)
    RunState.load(str(run)).write()
    assert not verify_run(str(run)).faults


def test_a_record_that_is_gone_is_a_fault(run: Path) -> None:
    (run / "run.json").unlink()
    code, told = command(run)
    assert code == 1
    assert "run.json (the record of the run, of run) is gone; `mmcorpus run RECIPE" in told
    assert "(the same command as before) goes on from what the folders hold" in told


@pytest.mark.parametrize("name", ["status", "inspect", "report"])
@pytest.mark.parametrize("record", ["[1, 2]", '"run"', "{}", "null"])
def test_a_record_that_is_none_is_said_by_what_shows_a_run(run: Path, name: str, record: str) -> None:
    (run / "run.json").write_text(record)
    done = CliRunner().invoke(app, [name, str(run)], env={"COLUMNS": "400"})
    assert done.exit_code == 2
    assert "run.json is not the record of a run" in done.output
    assert not (run / "report.html").exists()


def test_a_run_without_manifests_is_read_for_what_files_tell_of_themselves(run: Path) -> None:
    state = RunState.load(str(run))
    for name, record in state.stages.items():
        state.put(name, StageRecord(**{**vars_of(record), "manifest": ""}))
    code, told = command(run)
    assert (code, "4 files have no hashes yet" in told) == (0, True)
    path = run / "scores/pairs/image/00000.parquet"
    os.truncate(path, path.stat().st_size - 9)
    code, told = command(run)
    assert code == 1
    assert "scores/pairs/image/00000.parquet (a score table, of pairs/score) cannot be read" in told


def vars_of(record: StageRecord) -> dict[str, Any]:
    return {name: getattr(record, name) for name in record.__dataclass_fields__}


def test_what_is_no_run_is_said(tmp_path: Path) -> None:
    code, told = command(tmp_path)
    assert code == 2
    assert "holds no run" in told
    (tmp_path / "run.json").write_text(json.dumps({"hello": 1}))
    code, told = command(tmp_path)
    assert code == 2
    assert "is not the record of a run" in told
    assert "move the file away" in told


def test_rows_of_a_references_table_that_are_of_no_image_are_named(tmp_path: Path) -> None:
    good = {"key": "0", "number": 0, "extension": "png", "root": 0, "file": "a.tar", "offset": 0, "size": 5}
    rows = [good | {"file_size": 10}, good | {"file_size": 10, "offset": 8}, good | {"file_size": 10, "root": 3}]

    def index() -> Result:
        storage.write_json(str(tmp_path / "shards/photos/references.json"), {"roots": ["/data"]})
        table = pa.Table.from_pylist(rows, schema=SCHEMA)
        storage.write_table(str(tmp_path / "shards/photos/00000.images.parquet"), table)
        return Result()

    state = RunState(str(tmp_path), name="small")
    perform(decide(Stage(name="photos/index", config={}, outputs=("shards/photos",), run=index), state), state)
    code, told = command(tmp_path)
    assert code == 1
    assert (
        "00000.images.parquet (the places of a shard's images, of photos/index) cannot be read: 2 of its rows" in told
    )
    assert "offset 8, size 5" in told
