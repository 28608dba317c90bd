"""An image whose resizing stalls or kills its worker costs itself, not its shard."""

import os
import signal
from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.download import run
from mmcorpus.curation.download.config import DownloadConfig
from mmcorpus.curation.download.run import download
from mmcorpus.curation.download.shard import ShardDownloader
from mmcorpus.curation.engine.budget import SampleBudget, use_budget
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import list_shards, read_rows
from tests.curation.download.conftest import Web, encoded, picture

KILLS, STALLS = b"kills the resizer", b"stalls the resizer"


class Fragile(ShardDownloader):
    """Downloads with a resizer that some bytes stall and kill."""

    def _sample(self, outcome: Any, resizer: Any) -> Any:
        data = getattr(outcome, "data", b"")
        if data.endswith(KILLS):
            os.kill(os.getpid(), signal.SIGKILL)
        if data.endswith(STALLS):
            pow(3, 10**9)
        return super()._sample(outcome, resizer)


@pytest.mark.soak
@pytest.mark.usefixtures("ray_local")
def test_images_that_stall_and_kill(tmp_path: Path, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "ShardDownloader", Fragile)
    urls = []
    for number in range(9):
        tail = {1: KILLS, 4: STALLS, 7: KILLS}.get(number, b"")
        urls.append(web.add(f"/{number}.jpg", encoded(picture(60, 50, seed=number)) + tail))
    (tmp_path / "urls.txt").write_text("\n".join(urls))
    tars = []
    for processes in (1, 2):
        out = tmp_path / str(processes)
        config = DownloadConfig(
            connect_to=web.connect_to, number_sample_per_shard=5, retries=0, processes_count=processes, caption_col=None
        )
        with use_budget(SampleBudget(cpu_seconds=1)):
            report = download(
                config, str(tmp_path / "urls.txt"), str(out / "shards"), str(out / "lists"), str(out / "ledger")
            )
        assert not report.failed_shards
        assert report.codes == {"worker_died": 2, "cpu_limit": 1}
        assert report.successes == 6
        tars.append([Path(shard.tar).read_bytes() for shard in list_shards(str(out / "shards"))])
    assert tars[0] == tars[1]
    rows = [row for shard in list_shards(str(out / "shards")) for row in read_rows(shard).to_pylist()]
    assert [(row["status"], row["error_message"]) for row in rows if row["error_message"]] == [
        ("failed_to_resize", "worker_died: twice"),
        ("failed_to_resize", "cpu_limit: over 1 s"),
        ("failed_to_resize", "worker_died: twice"),
    ]
    rules = storage.read_table(str(out / "ledger" / "download.parquet"))["rule"].to_pylist()
    assert sorted(rule for rule in rules if rule) == ["cpu_limit", "worker_died", "worker_died"]
