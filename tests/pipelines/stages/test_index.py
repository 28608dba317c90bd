"""What stages after an index know its shards by."""

import os
from pathlib import Path

from mmcorpus.curation.sources import IndexConfig, index
from mmcorpus.curation.store.shards import list_shards, read_samples
from mmcorpus.pipelines.stages.collect import shards_content
from tests.curation.sources.conftest import as_tar, pairs, picture, write_tar


def test_other_images_of_the_same_uids_are_other_content_and_a_new_time_alone_is_not(tmp_path: Path) -> None:
    tar, shards = tmp_path / "in" / "0.tar", f"{tmp_path}/shards"

    def content(seed: int) -> tuple[str, list[str]]:
        """What the shards are known by, and the uids in them."""
        write_tar(tar, as_tar({**pair, "image": picture(seed + number)} for number, pair in enumerate(pairs(3))))
        os.utime(tar, (seed, seed))
        assert index(IndexConfig(), [str(tar)], shards, f"{tmp_path}/ledger", workers=0).samples == 3
        return shards_content(shards), [sample.uid for sample in read_samples(list_shards(shards)[0])]

    first, uids = content(10)
    assert content(20)[1] == uids
    assert content(20)[0] != first
    assert content(10)[0] == first
    os.utime(tar, (99, 99))
    index(IndexConfig(), [str(tar)], shards, f"{tmp_path}/ledger", workers=0)
    assert shards_content(shards) == first
