"""Of several captures of a page the latest stays."""

from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.documents.capture import CaptureReport, choose_captures
from mmcorpus.curation.documents.extract import extract_documents
from mmcorpus.curation.documents.read_extracted import surviving
from mmcorpus.curation.store import ledger
from mmcorpus.curation.store.shards import list_shards, read_rows
from mmcorpus.curation.synthetic.write_warc import Capture, write_warc
from tests.curation.documents.page_corpus import HOST, html, pages

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture
def extracted(tmp_path: Path) -> Path:
    """Three crawls of a site of four pages; the second again with one page changed, the third a copy of the first."""

    newer = [Capture(f"{HOST}/1", html(11), date="2024-03-01T00:00:00Z"), *pages(1, date="2023-01-01T00:00:00Z")]
    write_warc(f"{tmp_path}/in/0.warc.gz", pages(4))
    write_warc(f"{tmp_path}/in/1.warc.gz", [*newer, Capture(f"{HOST}/2", b"<p>gone", status=404)])
    write_warc(f"{tmp_path}/in/2.warc.gz", pages(4))
    config = PagesConfig(records_per_shard=3, workers=0)
    extract_documents(config, f"{tmp_path}/in", f"{tmp_path}/documents", f"{tmp_path}/ledger")
    return tmp_path


def choose(root: Path, captures: Any) -> CaptureReport:
    return choose_captures(
        f"{root}/documents", f"{root}/scores", f"{root}/ledger", f"{root}/work", captures=captures, workers=0
    )


def survivors(root: Path) -> list[tuple[str, str]]:
    """Address and date of the documents that stay."""
    kept = []
    for shard in list_shards(f"{root}/documents"):
        keys = set(surviving(shard, f"{root}/scores")["key"].to_pylist())
        kept += [(row["url"][-1], row["date"][:7]) for row in read_rows(shard).to_pylist() if row["key"] in keys]
    return sorted(kept)


def test_the_latest_capture_of_each_address_stays(extracted: Path) -> None:
    report = choose(extracted, "latest")
    assert survivors(extracted) == [("0", "2024-01"), ("1", "2024-03"), ("2", "2024-01"), ("3", "2024-01")]
    assert report == CaptureReport(documents=10, kept=4, dropped={"earlier_capture": 3, "same_record": 3})
    assert ledger.check_balance(f"{extracted}/ledger") == []
    counts = {count.stage: (count.entered, count.kept) for count in ledger.funnel(f"{extracted}/ledger")}
    assert counts == {"extract": (11, 10), "capture": (10, 4)}
    first = (extracted / "ledger" / "capture.parquet").read_bytes()
    choose(extracted, "latest")
    assert (extracted / "ledger" / "capture.parquet").read_bytes() == first


def test_all_captures_stay_but_no_record_twice(extracted: Path) -> None:
    report = choose(extracted, "all")
    assert (report.kept, report.dropped) == (6, {"same_record": 4})
    assert survivors(extracted) == [
        ("0", "2023-01"), ("0", "2024-01"), ("1", "2024-01"), ("1", "2024-03"), ("2", "2024-01"), ("3", "2024-01"),
    ]  # fmt: skip


def test_nothing_extracted_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "documents").mkdir()
    assert choose(tmp_path, "latest") == CaptureReport(documents=0, kept=0, dropped={})
