"""Who reads shards reads shards of references, too: deduplication, galleries, CLIP's pairs, judges, resharding."""

from pathlib import Path
from typing import Any

import pytest

from mmcorpus.curation.dedup.sources import has_images, images_of
from mmcorpus.curation.scoring.batches import read_encoded, read_shard_rows
from mmcorpus.curation.sources import SourceError
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import Shard, ShardWriter, read_samples
from mmcorpus.pipelines.report.gallery import load_samples
from mmcorpus.training.clip.pairs import PairSource, find_pairs
from tests.curation.sources.conftest import as_tar, pairs, write_tar

PAIRS = pairs(4)
DATA = {pair["caption"]: pair["image"] for pair in PAIRS}


@pytest.fixture
def made(tmp_path: Path, indexed: Any) -> Any:
    return indexed(write_tar(tmp_path / "in" / "a.tar", as_tar(PAIRS)))


def test_each_of_them_gets_the_bytes_that_lie_in_the_tar(tmp_path: Path, made: Any) -> None:
    root, (shard,) = str(tmp_path / "out" / "shards"), made.shards
    by_uid = {row["uid"]: DATA[row["caption"]] for row in made.rows}
    assert has_images(root, shard.name)
    assert images_of(root, shard.name, list(by_uid)[1:3]) == dict(list(by_uid.items())[1:3])
    rows = read_shard_rows(shard, {"caption", "meta"})
    assert {rows.columns["uid"][place]: data for place, data in read_encoded(shard, rows)} == by_uid
    assert all(card.picture for card in load_samples(root, by_uid, 1).values())
    storage.write_bytes(str(tmp_path / "chosen.txt"), "".join(f"{uid}\n" for uid in by_uid).encode())
    found = find_pairs({"s": PairSource(shards=root, selection=str(tmp_path / "chosen.txt"))})
    assert {found.caption(row): found.image(row) for row in range(len(found))} == DATA


def test_written_as_shards_and_indexed_again_they_are_the_same(tmp_path: Path, made: Any, indexed: Any) -> None:
    with ShardWriter(Shard(root=str(tmp_path / "again"), name="00000")) as writer:
        for sample in made.samples:
            writer.write(sample)
    again = indexed(tmp_path / "again", out="second")
    assert again.captions == made.captions
    kept = ("uid", "url", "caption", "width", "height", "images")
    assert [{name: row[name] for name in kept} for row in again.rows] == [
        {name: row[name] for name in kept} for row in made.rows
    ]
    (direct,) = [Shard(root=str(tmp_path / "again"), name="00000")]
    assert [sample.uid for sample in read_samples(direct)] == [row["uid"] for row in made.rows]


def test_an_address_with_a_secret_is_refused(indexed: Any) -> None:
    path: Any = "s3://bucket/a.tar?X-Amz-Signature=0123456789abcdef0123456789abcdef"
    with pytest.raises(SourceError, match="has a secret in it") as error:
        indexed([path])
    assert "0123456789abcdef" not in str(error.value)
