"""Packs as parquet for Hugging Face `datasets`: what is learned, and how much of it, comes back."""

import dataclasses
import json
import random
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mmcorpus.curation.store.shards import EncodedImage
from mmcorpus.packing import PackReader
from mmcorpus.packing.export.packed import export_packs
from mmcorpus.packing.manifest import write_manifest
from mmcorpus.packing.packs import PackShardWriter
from mmcorpus.packing.pickles import IGNORED, labels_of
from tests.packing.conftest import image_bytes
from tests.packing.test_packs import TOKENIZER, sequence


def packs(root: Path, *, weighted: bool) -> PackReader:
    """Two shards of two sequences; if weighted, the first sample of the second has half the weight, the others 1."""
    rng = random.Random(1)
    images = tuple(EncodedImage(extension="jpg", data=image_bytes(rng)) for _ in range(2))
    records = []
    for shard in range(2):
        with PackShardWriter(str(root), f"{shard:05d}", tokens_per_image=4) as writer:
            for number in (2 * shard, 2 * shard + 1):
                own = dataclasses.replace(sequence(number), images=images)
                if weighted and number == 1:
                    own = dataclasses.replace(own, weights=((0.5,), (), ()))
                writer.write(own)
        records.append(writer.record)
    write_manifest(str(root), tokenizer=TOKENIZER, tokens_per_image=4, context_length=20, shards=records, parameters={})
    return PackReader(str(root))


@pytest.mark.parametrize("weighted", [False, True])
def test_packs_come_back_as_rows(tmp_path: Path, weighted: bool) -> None:
    reader = packs(tmp_path / "packs", weighted=weighted)
    report = export_packs(reader.root, str(tmp_path / "out"), workers=0)
    assert (report.shards, report.samples, report.images, report.failed) == (2, 12, 8, {})
    rows = [row for shard in (0, 1) for row in pq.read_table(tmp_path / f"out/data/{shard:05d}.parquet").to_pylist()]
    for row, packed in zip(rows, reader, strict=True):
        assert row["sequence"] == packed.sequence
        assert row["input_ids"] == packed.input_ids.tolist()
        assert row["labels"] == labels_of(packed).tolist() == [IGNORED, 5, 6, *[IGNORED] * 2, packed.sequence]
        assert [image["bytes"] for image in row["images"]] == [image.data for image in packed.images]
        assert (row["uids"], row["sources"]) == (list(packed.uids), list(packed.sources))
        assert (row["lengths"], row["token_counts"], row["image_counts"]) == ([6, 1, 5], [3, 1, 2], [1, 0, 1])
        assert row["loss_spans"] == [[[1, 3]], [], [[5, 6]]]
        half = 0.5 if packed.sequence == 1 else 1
        assert row.get("weights") == ([0, half, half, 0, 0, 1] if weighted else None)
    assert export_packs(reader.root, str(tmp_path / "out"), workers=0).resumed == 2
    told = json.loads(pq.read_schema(tmp_path / "out/data/00000.parquet").metadata[b"huggingface"])
    assert told["info"]["features"] == {"images": [{"_type": "Image"}]}
    assert "data/*.parquet" in (tmp_path / "out/README.md").read_text()
