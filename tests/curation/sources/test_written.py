"""Sources of what a model wrote: another source's images under new texts, wherever those images lie."""

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from mmcorpus.curation.sources import IndexConfig, index
from mmcorpus.curation.sources.written import WrittenConfig, WrittenReport, write_source
from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.curation.store.shards import SUCCESS, list_shards, read_rows, read_samples
from mmcorpus.packing.inputs import open_images
from tests.curation.scoring.servers.conftest import write_shard

FUSED = WrittenConfig(source="pairs", column="capfusion.text")
SAMPLES = 6


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two shards of six pairs, of whose texts the first of each shard is a refusal."""
    for number in range(2):
        write_shard(str(tmp_path / "shards/pairs"), number, SAMPLES)
    write_texts(tmp_path, "pairs")
    return tmp_path


def write_texts(run: Path, source: str, said: str = "A text about") -> None:
    for number, shard in enumerate(list_shards(str(run / "shards" / source))):
        uids = rows_of(run, source, number)["uid"]
        texts = [None, *(f"{said} {uid[:6]}" for uid in uids[1:])]
        table = pa.table({"uid": uids, "text": texts, "reason": ["refusal", *[None] * (len(uids) - 1)]})
        write_scores(
            str(run / "scores" / source), shard.name, table, Origin(scorer="capfusion", version="1", fingerprint="f")
        )


def write(
    run: Path, config: WrittenConfig = FUSED, kind: Any = "pair", out: str = "fused", **more: Any
) -> WrittenReport:
    about = config.source
    return write_source(
        config, kind, str(run / "shards" / about), str(run / "scores" / about), str(run / "shards" / out),
        str(run / "ledger" / out), **more,
    )  # fmt: skip


def rows_of(run: Path, source: str, number: int) -> dict[str, list[Any]]:
    shard = list_shards(str(run / "shards" / source))[number]
    rows = read_rows(shard).to_pylist()
    kept = [row for row in rows if row["status"] == SUCCESS]
    return {column: [row[column] for row in kept] for column in rows[0]}


def images(run: Path, source: str) -> list[bytes]:
    return [sample.images[0].data for one in list_shards(str(run / "shards" / source)) for sample in read_samples(one)]


def test_each_text_has_the_image_that_it_was_written_about_and_what_has_none_is_in_the_ledger(run: Path) -> None:
    report = write(run)
    assert report == WrittenReport(samples=10, original=0, dropped={"refusal": 2}, shards=2)
    before = images(run, "pairs")
    assert images(run, "fused") == [data for place, data in enumerate(before) if place % SAMPLES]
    parents, made = rows_of(run, "pairs", 1), rows_of(run, "fused", 1)
    assert made["parent"] == parents["uid"][1:]
    assert made["original_caption"] == parents["caption"][1:]
    assert made["caption"] == [f"A text about {uid[:6]}" for uid in parents["uid"][1:]]
    assert not set(made["uid"]) & set(parents["uid"]), "another text is another sample"
    told = ledger.read_stages(str(run / "ledger/fused"))["write"].to_pylist()
    assert [row["rule"] for row in told if row["verdict"] == "dropped"] == ["refusal"] * 2
    assert len(told) == 12, "kept and dropped are all that came in"
    one = open_images(list_shards(str(run / "shards/fused"))[1])
    assert one.images(made["key"][2])[0].data == before[SAMPLES + 3], "one by one, as packs read them"


def test_the_original_caption_stands_in_where_nothing_was_written(run: Path) -> None:
    config = WrittenConfig(source="pairs", column="capfusion.text", fallback="original")
    assert write(run, config) == WrittenReport(samples=12, original=2, dropped={}, shards=2)
    assert rows_of(run, "fused", 0)["caption"][0] == rows_of(run, "pairs", 0)["caption"][0]


def test_a_selection_says_whose_and_the_same_again_is_kept(run: Path) -> None:
    chosen = rows_of(run, "pairs", 1)["uid"][2:4]
    path = str(run / "selection.parquet")
    storage.write_table(path, pa.table({"uid": chosen, "count": [1, 2]}))
    assert write(run, selection=path) == WrittenReport(samples=2, original=0, dropped={}, shards=2)
    before = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in (run / "shards/fused").iterdir()}
    write(run, selection=path)
    after = {file.name: (file.stat().st_mtime_ns, file.read_bytes()) for file in (run / "shards/fused").iterdir()}
    del before["references.json"], after["references.json"]
    assert after == before
    write_texts(run, "pairs", "Another text about")
    write(run, selection=path)
    assert rows_of(run, "fused", 1)["caption"] == [f"Another text about {uid[:6]}" for uid in chosen]


def test_of_references_and_of_what_was_written_itself_and_all_of_it_moves(run: Path) -> None:
    """Images that lie in files of others, then texts about texts: questions about a recaptioned image."""
    (run / "other").mkdir()
    shutil.copy(run / "shards/pairs/00000.tar", run / "other/a.tar")
    index(IndexConfig(), [str(run / "other/a.tar")], str(run / "shards/own"), str(run / "ledger/own"), workers=0)
    write_texts(run, "own")
    write(run, WrittenConfig(source="own", column="capfusion.text"))
    turns = json.dumps([{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A clock."}])
    for number, shard in enumerate(list_shards(str(run / "shards/fused"))):
        uids = rows_of(run, "fused", number)["uid"]
        table = pa.table({"uid": uids, "text": [turns] * len(uids)})
        write_scores(str(run / "scores/fused"), shard.name, table, Origin(scorer="qa", version="1", fingerprint="f"))
    report = write(run, WrittenConfig(source="fused", column="qa.text"), "conversation", "asked")
    assert report.samples == len(images(run, "asked")) > 1
    made, parents = rows_of(run, "asked", 0), rows_of(run, "own", 0)
    assert made["conversations"] == [turns] * report.samples
    assert made["original_caption"] == parents["caption"][1:], "that of the first of all"
    shutil.move(run, f"{run}-moved")
    (run / "other").mkdir(parents=True)
    shutil.copy2(f"{run}-moved/other/a.tar", run / "other/a.tar")  # what is of others stays where it was
    assert images(Path(f"{run}-moved"), "asked") == images(Path(f"{run}-moved"), "own")[1:]


def test_a_text_that_is_no_conversation_is_dropped_as_one(run: Path) -> None:
    report = write(run, WrittenConfig(source="pairs", column="capfusion.text"), "conversation")
    assert report.samples == 0
    assert report.dropped == {"bad_conversation": 2 * (SAMPLES - 1), "refusal": 2}


def test_what_cannot_be_is_said(run: Path) -> None:
    with pytest.raises(ValueError, match=r"have no texts 'capfusion\.txt'; they have text, reason"):
        write(run, WrittenConfig(source="pairs", column="capfusion.txt"))
    with pytest.raises(ValueError, match="'recaption' lack shard 00000"):
        write(run, WrittenConfig(source="pairs", column="recaption.text"))
    with pytest.raises(ValueError, match="a caption is no conversation"):
        write(run, WrittenConfig(source="pairs", column="capfusion.text", fallback="original"), "conversation")
    with pytest.raises(ValueError, match="give a column of a scorer"):
        WrittenConfig(source="pairs", column="capfusion")
