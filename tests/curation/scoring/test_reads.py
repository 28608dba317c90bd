"""Scorers that read others' tables: which these are decides theirs, and what is missing is an error in words."""

from pathlib import Path

import pyarrow as pa
import pytest

from mmcorpus.curation.scoring.reads import read_columns, with_tables_read
from mmcorpus.curation.store.scores import Origin, write_scores
from mmcorpus.filters.caption import CaptionScorer
from mmcorpus.filters.written import WrittenScorer

UIDS = [f"{number:032x}" for number in range(3)]


def table(root: Path, fingerprint: str, *texts: str | None) -> None:
    rows = pa.table({"uid": UIDS[: len(texts)], "text": pa.array(texts, pa.string())})
    write_scores(str(root), "00000", rows, Origin(scorer="recaption", version="1", fingerprint=fingerprint))


def fuses() -> WrittenScorer:
    return WrittenScorer(prompt="capfusion", model_name="m", endpoints=("http://127.0.0.1:1/v1",))


def test_the_tables_that_are_read_decide_the_fingerprint(tmp_path: Path) -> None:
    table(tmp_path, "one", "A red clock.")
    first, plain = with_tables_read([fuses(), CaptionScorer()], str(tmp_path))
    assert plain.fingerprint() == CaptionScorer().fingerprint()
    table(tmp_path, "other", "A red clock.")
    assert with_tables_read([fuses()], str(tmp_path))[0].fingerprint() != first.fingerprint() != fuses().fingerprint()


def test_columns_come_by_uid(tmp_path: Path) -> None:
    table(tmp_path, "one", "A", None, "C")
    found = read_columns(str(tmp_path), "00000", ["recaption.text"], [UIDS[2], UIDS[1], "f" * 32])
    assert found == [{"recaption.text": "C"}, {"recaption.text": None}, {"recaption.text": None}]


def test_what_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"reads recaption\.text, and there is no table of 'recaption' .* yet"):
        with_tables_read([fuses()], str(tmp_path))
    table(tmp_path, "one", "A")
    with pytest.raises(ValueError, match="no table of 'recaption'"):
        with_tables_read([fuses(), CaptionScorer().named("recaption")], str(tmp_path))
    with pytest.raises(ValueError, match="has no table of shard 00001"):
        read_columns(str(tmp_path), "00001", ["recaption.text"], UIDS)
    with pytest.raises(ValueError, match="have no column 'txt'; they have text, reason"):
        read_columns(str(tmp_path), "00000", ["recaption.txt"], UIDS)
