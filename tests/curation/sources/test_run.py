"""Indexing as a whole: the same for any number of workers; what is kept, found twice, refused."""

import gzip
import json
import lzma
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.engine.output import MadeOtherwise
from mmcorpus.curation.sources import IndexConfig, SourceError, index, run
from mmcorpus.curation.sources.direct import kind_of
from mmcorpus.curation.sources.inputs import Input, beside
from mmcorpus.curation.store import compressed, ledger, storage
from mmcorpus.curation.store.shards import Shard, list_shards, read_rows
from tests.curation.sources.conftest import as_tar, pairs, write_tar

CHAT = [{"from": "human", "value": "What is a port?"}, {"from": "gpt", "value": "A harbour."}]


def corpus(folder: Path) -> Path:
    for number in range(3):
        write_tar(folder / f"part-{number}.tar", as_tar(pairs(4, first=3 * number)))
    return folder


def test_samples_that_come_again_are_dropped_and_every_row_is_in_the_ledger(tmp_path: Path, indexed: Any) -> None:
    found = indexed(corpus(tmp_path / "in"))
    assert (found.report.rows, found.report.samples) == (12, 10)
    assert found.report.dropped == {"listed_twice": 2}
    assert [row["status"] for row in found.rows].index("failed_to_index") == 4, "the first one stays"
    table = ledger.read_stages(str(tmp_path / "out" / "ledger"))["index"]
    assert sorted(table["uid"].to_pylist()) == sorted(row["uid"] for row in found.rows)
    assert ledger.dropped_by(table) == {"listed_twice": 2}
    assert ledger.check_balance(str(tmp_path / "out" / "ledger")) == []


def test_what_is_committed_is_kept_and_what_changed_is_made_anew(tmp_path: Path, indexed: Any) -> None:
    folder = corpus(tmp_path / "in")
    first = indexed(folder)
    before = {path: path.read_bytes() for path in (tmp_path / "out" / "shards").iterdir()}
    os.remove(first.shards[1].stats)
    again = indexed(folder)
    assert again.rows == first.rows
    assert {path: path.read_bytes() for path in before} == before
    write_tar(folder / "part-1.tar", as_tar(pairs(1, first=40)))
    assert indexed(folder).report.rows == 9
    record = {"holds": "downloaded shards", "config": {}, "version": "1", "inputs": {}}
    (tmp_path / "out" / "shards" / "made_from.json").write_text(json.dumps(record))
    with pytest.raises(MadeOtherwise, match="holds downloaded shards"):
        indexed(folder)


def test_killed_while_samples_that_come_again_are_dropped_it_ends_with_the_same_bytes(
    tmp_path: Path, indexed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = corpus(tmp_path / "in")
    whole = indexed(folder)

    def killed(shard: Shard, rows: pa.Table, **_: Any) -> None:
        storage.write_table(shard.parquet, rows)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(run, "commit_shard", killed)
        with pytest.raises(KeyboardInterrupt):
            indexed(folder, out="again")
    again = indexed(folder, out="again")
    assert again.report == whole.report
    of = [{path.name: path.read_bytes() for path in sorted((one.root / "shards").iterdir())} for one in (whole, again)]
    assert of[0] == of[1]


def test_what_is_no_source_is_refused_by_name(tmp_path: Path, indexed: Any, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "notes.txt").write_text("not a sample")
    with pytest.raises(SourceError, match="nothing there can be read as samples"):
        indexed(folder)
    with pytest.raises(SourceError, match=r"notes\.txt is neither a tar, parquet, Arrow, MDS, nor JSON"):
        indexed(folder / "notes.txt")
    with pytest.raises(SourceError, match="there is no such file or folder"):
        indexed(folder / "gone")
    tar = write_tar(folder / "a.tar", as_tar(pairs(1)))
    with pytest.raises(SourceError, match="tar, not parquet or arrow; give it as `shards`"):
        indexed(tar, formats=("parquet", "arrow"))
    assert indexed(folder).report.samples == 1
    assert "passed over, as no samples: notes.txt" in caplog.text


@pytest.mark.parametrize("name", ["part-9.tar", "part-9.tar.gz", "part-0.tgz", "shard.00001.mds.br", "part-9.parquet"])
@pytest.mark.parametrize("data", [b"", b"\x1f\x8b\x08\x00damaged"])
def test_a_file_that_is_not_what_its_name_says_fails_and_the_others_are_read(
    tmp_path: Path, indexed: Any, name: str, data: bytes
) -> None:
    folder = corpus(tmp_path / "in")
    (folder / name).write_bytes(data)
    (folder / "part-9.tar.md5").write_text("0")
    report = indexed(folder).report
    assert (report.samples, [os.path.basename(path) for path in report.failed]) == (10, [name])
    assert kind_of(str(folder)) == "pair"


def test_json_that_cannot_be_looked_into_fails_by_name(tmp_path: Path, indexed: Any) -> None:
    """Compressed, and cut before anything of it can be unpacked; and in an encoding of two bytes a character."""
    rows = "".join(json.dumps({"id": str(n), "conversations": CHAT}) + "\n" for n in range(200))
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "good.jsonl").write_text(rows)
    (folder / "cut.jsonl.gz").write_bytes(gzip.compress(rows.encode())[:20])
    (folder / "cut.json.xz").write_bytes(lzma.compress(rows.encode())[:40])
    (folder / "wide.json").write_bytes(json.dumps([{"id": "1", "conversations": CHAT}]).encode("utf-16"))
    (folder / "notes.json").write_text('{\n "no": "samples"\n}\n')
    found = indexed(folder, kind="conversation")
    assert len(found.samples) == 1
    said = {Path(path).name: error for path, error in found.report.failed.items()}
    assert set(said) == {"cut.jsonl.gz", "cut.json.xz", "wide.json"}
    assert "cut short" in said["cut.jsonl.gz"]
    assert "is UTF-16 or UTF-32; write it as UTF-8" in said["wide.json"]
    for name, why in (("cut.jsonl.gz", "cut short"), ("wide.json", "is UTF-16")):
        with pytest.raises(SourceError, match=why):
            indexed(folder / name, kind="conversation")
    alone = tmp_path / "alone"
    alone.mkdir()
    (folder / "wide.json").rename(alone / "wide.json")
    with pytest.raises(SourceError, match=r"wide\.json is UTF-16"):
        indexed(alone, kind="conversation")


def test_a_root_below_which_no_image_lies_is_asked_about(
    tmp_path: Path, indexed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    turns = [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "Both."}]
    with_image = {"image": "coco/1.jpg", "conversations": [{**turns[0], "value": "<image> Which?"}, turns[1]]}
    (tmp_path / "a.json").write_text(json.dumps([{"conversations": turns}, with_image]))
    (tmp_path / "data" / "coco").mkdir(parents=True)
    root = str(tmp_path / "data")
    assert indexed(tmp_path / "a.json", kind="conversation", image_root=root).report.dropped == {"missing_image": 1}
    assert f"the first: missing_image: coco/1.jpg is not below {root}. Is this the folder" in caplog.text


def test_sparks_folder_is_read_and_the_others_are_named(
    tmp_path: Path, indexed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    spark = tmp_path / "spark"
    (spark / "year=2024").mkdir(parents=True)
    for number, path in enumerate((spark / "part-0.snappy.parquet", spark / "year=2024" / "part-1.parquet")):
        (pair,) = pairs(1, first=number)
        pq.write_table(pa.table({"image": [{"bytes": pair["image"], "path": None}], "text": [pair["caption"]]}), path)
    for name in ("_SUCCESS", ".part-0.crc", "LICENSE.txt", "README.md", "dataset_infos.json"):
        (spark / name).write_text("x")
    assert indexed(spark).report.samples == 2
    assert indexed(tmp_path / "spark" / "*" / "*.parquet", out="glob").report.samples == 1
    assert "LICENSE.txt" in caplog.text
    assert "_SUCCESS" not in caplog.text


@pytest.mark.slow
def test_any_number_of_workers_makes_the_same_shards(tmp_path: Path, ray_local: None) -> None:
    folder = corpus(tmp_path / "in")
    made = []
    for workers in (0, 1, 4):
        out = tmp_path / f"out{workers}"
        index(IndexConfig(), [str(folder)], str(out), str(tmp_path / "l"), workers=workers, shown=False)
        made.append({path.name: path.read_bytes() for path in sorted(out.iterdir())})
        assert [row for shard in list_shards(str(out)) for row in read_rows(shard)["uid"].to_pylist()]
    assert made[0] == made[1] == made[2]


def test_compressed_json_is_decompressed_a_few_times_whatever_its_shards(
    tmp_path: Path, indexed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, count = tmp_path / "chat.jsonl.gz", 32
    lines = [json.dumps({"messages": [{"role": "user", "content": f"{n} " * 5000}]}) for n in range(count)]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    decoded = [0]

    def counted(*args: Any, real: Any = compressed.chunks) -> Iterator[bytes]:
        for data in real(*args):
            decoded[0] += len(data)
            yield data

    monkeypatch.setattr(compressed, "chunks", counted)
    found = indexed(path, kind="conversation", samples_per_shard=1)
    assert (found.report.shards, found.report.samples) == (count, count)
    assert decoded[0] < 7 * len("\n".join(lines))
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in (tmp_path / "out" / "shards").iterdir()}
    lost = found.shards[21]
    os.remove(lost.stats)
    assert indexed(path, kind="conversation", samples_per_shard=1).rows == found.rows
    again = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in before}
    assert {path.name[:9] for path in before if again[path] != before[path]} <= {lost.name, "made_from", "reference"}
    assert {path: data for path, (data, _) in again.items()} == {path: data for path, (data, _) in before.items()}


def test_rows_that_name_ever_more_columns_cost_themselves(tmp_path: Path, indexed: Any) -> None:
    turns = [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A boat."}]
    usual = [{"conversations": turns, "id": number, "note": 1} for number in range(3)]
    wide = {"conversations": turns, "id": "wide"} | {f"k{number}": 1 for number in range(1_001)}
    many = [{"conversations": turns, "id": f"m{n}"} | {f"k{n}.{m}": n for m in range(400)} for n in range(4)]
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in (*usual[:2], wide, *many, usual[2])))
    rows = indexed(path, kind="conversation").rows
    assert len(rows) == 8
    errors = [row["error_message"] for row in rows]
    assert "names 1,002 values" in errors[2]
    assert [bool(error and "columns are kept" in error) for error in errors] == [False] * 2 + [True] + [False] * 2 + [
        True, True, False,
    ]  # fmt: skip
    assert len(rows[0]) < 1_100


def test_a_shard_holds_no_more_text_than_its_rows_warrant(
    tmp_path: Path, indexed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A dictionary of parquet has a text once, however many rows do."""
    monkeypatch.setattr("mmcorpus.curation.sources.shard.MAX_SHARD", 20_000)
    texts = pa.DictionaryArray.from_arrays(pa.array([0, 0, 0, 1, 0], pa.int32()), pa.array(["x" * 7_000, "short"]))
    captions = [f"harbour number {number}" for number in range(5)]
    table = pa.table({"caption": captions, "jpg": [pair["image"] for pair in pairs(5)], "note": texts})
    pq.write_table(table, tmp_path / "x.parquet")
    rows = indexed(tmp_path / "x.parquet", samples_per_shard=10).rows
    assert [row["status"] for row in rows] == ["success"] * 2 + ["failed_to_index", "success", "failed_to_index"]
    assert [len(row["note"] or "") for row in rows] == [7_000, 7_000, 0, 5, 0]
    assert rows[2]["error_message"].startswith("bad_row: 7,")
    assert len({row["uid"] for row in rows}) == 5


def test_beside_a_tar_at_an_address_its_query_names_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr("mmcorpus.curation.store.storage.exists", lambda path: bool(asked.append(path)))
    for name in ("blob?download=true", "a.tar?x=b/c.d"):
        one = Input(root="http://x.test", file=name, format="tar", compression=None, identity=())
        assert beside(one) is None
    assert asked == ["http://x.test/blob.parquet", "http://x.test/a.parquet"]
