"""Extraction whose driver is killed at random and run again: the same documents, byte for byte."""

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mmcorpus.curation.store.shards import list_shards
from mmcorpus.curation.synthetic.write_warc import write_warc
from tests.curation.documents.page_corpus import pages, tree
from tests.processes import kill

RUN = """
import sys
from mmcorpus.curation.documents.capture import choose_captures
from mmcorpus.curation.crawl.config import PagesConfig
from mmcorpus.curation.documents.extract import extract_documents

inputs, out = sys.argv[1:]
# Ray's own start would be most of each life; what a killed worker leaves is what a killed driver leaves.
extract_documents(PagesConfig(records_per_shard=40, workers=0), inputs, f"{out}/documents", f"{out}/ledger")
choose_captures(f"{out}/documents", f"{out}/scores", f"{out}/ledger", f"{out}/work", workers=0)
"""


def start(inputs: Path, out: Path) -> subprocess.Popen[bytes]:
    root = Path(__file__).parents[3]
    return subprocess.Popen(
        [sys.executable, "-c", RUN, str(inputs), str(out)], cwd=root, env={**os.environ, "OMP_NUM_THREADS": "1"}
    )


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, pytest.param(8, marks=pytest.mark.soak)])
def test_killed_at_random_and_run_again(tmp_path: Path, kills: int) -> None:
    for number, ending in enumerate((".warc.gz", ".warc.zst", ".warc")):
        write_warc(f"{tmp_path}/in/{number}{ending}", pages(400, begin=100 * number))
    assert start(tmp_path / "in", tmp_path / "whole").wait(300) == 0
    whole = tree(tmp_path / "whole")
    assert len(list_shards(f"{tmp_path}/whole/documents")) == 30
    chance = random.Random(7)
    killed = 0
    for _ in range(kills):
        process = start(tmp_path / "in", tmp_path / "killed")
        # From one commit to the next and a little more, so that each life gets on and few end by themselves.
        before = len(list_shards(f"{tmp_path}/killed/documents"))
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            if len(list_shards(f"{tmp_path}/killed/documents")) > before + chance.randrange(6):
                time.sleep(chance.random() / 50)
                break
            time.sleep(0.005)
        if process.poll() is not None:
            assert process.returncode == 0
            break
        kill(process)
        killed += 1
    assert killed >= min(kills, 3)
    assert start(tmp_path / "in", tmp_path / "killed").wait(300) == 0
    # The deduplication's work files name the times of what they were made from.
    names = [name for name in whole if not name.startswith("work/")]
    assert {name: digest for name, digest in tree(tmp_path / "killed").items() if not name.startswith("work/")} == {
        name: whole[name] for name in names
    }
