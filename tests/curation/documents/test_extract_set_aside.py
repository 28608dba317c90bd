"""A page that stalls or kills its worker is a row with a reason; its file is read to the end, once for each death."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.documents import extract
from mmcorpus.curation.documents.extract import FileExtractor, extract_documents
from mmcorpus.curation.engine.budget import SampleBudget, use_budget
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import list_shards, read_rows
from mmcorpus.curation.synthetic.write_warc import write_warc
from tests.curation.documents.page_corpus import HOST, pages, tree


class Fragile(FileExtractor):
    """An extractor that some pages stall and kill."""

    def __init__(self, *given: Any, **options: Any) -> None:
        super().__init__(*given, **options)
        contents = self.extractor._contents

        def fragile(found: Any) -> dict[str, Any]:
            if found.url == f"{HOST}/3":
                os.kill(os.getpid(), signal.SIGKILL)
            if found.url == f"{HOST}/5":
                while True:
                    pass
            if found.url == f"{HOST}/17":
                pow(3, 10**9)
            if found.url == f"{HOST}/18":
                bytes(1 << 40)
            return contents(found)

        self.extractor._contents = fragile  # type: ignore[method-assign]


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_pages_that_stall_and_kill(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extract, "FileExtractor", Fragile)
    write_warc(f"{tmp_path}/in/0.warc.gz", pages(20))
    write_warc(f"{tmp_path}/in/1.warc", pages(5, begin=100))
    for workers in (1, 2):
        out = f"{tmp_path}/out{workers}"
        with use_budget(SampleBudget(cpu_seconds=1)):
            report = extract_documents(
                PagesConfig(records_per_shard=8, workers=workers), f"{tmp_path}/in", f"{out}/documents", f"{out}/ledger"
            )
        assert not report.failed_files
        assert report.failed == {"cpu_limit": 2, "worker_died": 1, "memory_limit": 1}
        assert report.documents == 21
    assert tree(f"{tmp_path}/out1/documents") == tree(f"{tmp_path}/out2/documents")
    rows = [row for shard in list_shards(f"{tmp_path}/out1/documents") for row in read_rows(shard).to_pylist()]
    assert {row["url"]: row["error_message"] for row in rows if row["error_message"]} == {
        f"{HOST}/3": "worker_died: twice",
        f"{HOST}/5": "cpu_limit: over 1 s",
        f"{HOST}/17": "cpu_limit: over 1 s",
        f"{HOST}/18": "memory_limit: over 8 GiB",
    }
    verdicts = storage.read_table(f"{tmp_path}/out1/ledger/extract.parquet")
    assert {"cpu_limit", "worker_died", "memory_limit"} < set(verdicts["rule"].to_pylist())
    again = extract_documents(
        PagesConfig(records_per_shard=8), f"{tmp_path}/in", f"{tmp_path}/out1/documents", f"{tmp_path}/out1/ledger"
    )
    assert again.failed == report.failed
