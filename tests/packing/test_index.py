"""The index of a whole pack: costs of each sequence, and what is not this pack's own is refused."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage
from mmcorpus.packing import IMAGE_TOKEN, PackedSequence, PackError, PackReader
from mmcorpus.packing.index import COSTS, costs_of, write_index
from mmcorpus.packing.layout import MM1Layout, MolmoLayout
from mmcorpus.packing.manifest import write_manifest
from mmcorpus.packing.packs import PackShardWriter

TOKENIZER = {"name": "none", "vocabulary_size": 9, "special_ids": {"pad": 3}, "special_ids_hash": "", "fingerprint": ""}


def sequence(number: int, words: int = 3) -> PackedSequence:
    """A pair with an image of 4 positions and `words` targets, and a text of two tokens, both within its loss span."""
    return PackedSequence(
        sequence=number,
        input_ids=np.array([IMAGE_TOKEN, *range(5, 5 + words), 7, 8], dtype=np.int32),
        uids=("a" * 32, "b" * 32),
        sources=("web", "text"),
        lengths=(4 + words, 2),
        token_counts=(1 + words, 2),
        image_counts=(1, 0),
        loss_spans=(((1, 1 + words),), ((1 + words, 3 + words),)),
        images=(EncodedImage(extension="jpg", data=b"first" * 30),),
    )


Write = Callable[..., str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """write(name, shards, words) is a pack of so many shards of two sequences; `index=False`: as packs were before."""

    def make(name: str, shards: int = 2, words: int = 3, *, index: bool = True) -> str:
        root, records = str(tmp_path / name), []
        for shard in range(shards):
            with PackShardWriter(root, f"{shard:05d}", tokens_per_image=4) as writer:
                for number in range(2):
                    writer.write(sequence(2 * shard + number, words))
            records.append(writer.record)
        settings: dict[str, Any] = {"tokenizer": TOKENIZER, "tokens_per_image": 4, "context_length": 20}
        names = [record["name"] for record in records]
        if not index:
            for one in names:
                path = f"{root}/{one}.index.parquet"
                storage.write_table(path, storage.read_table(path).drop_columns(list(COSTS)))
        whole = write_index(root, names) if index else None
        write_manifest(root, shards=records, parameters={}, index=whole, **settings)
        return root

    return make


def test_costs_are_positions_targets_crops_and_attention(write: Write) -> None:
    root = write("pack")
    reader = PackReader(root)
    assert [reader.index[name].to_pylist() for name in ("length", *COSTS)] == [[9] * 4, [4] * 4, [1] * 4, [49 + 4] * 4]
    assert reader.index["shard"].to_pylist() == ["00000", "00000", "00001", "00001"]
    for shard in range(2):  # one file is read, however many shards there are
        storage.remove(f"{root}/0000{shard}.index.parquet")
    assert PackReader(root)[3].sequence == 3


def test_crops_are_the_layouts() -> None:
    assert costs_of(sequence(0), MM1Layout())["crops"] == 5
    sized = dataclasses.replace(sequence(0), sizes=((2000, 700),))
    layout = MolmoLayout()
    assert costs_of(sized, layout)["crops"] == int(layout.crop_counts([2000], [700])[0]) > 2


def test_packs_without_it_are_read_and_their_costs_estimated(write: Write) -> None:
    index = PackReader(write("old", index=False)).index
    assert not any(index[name].null_count for name in COSTS)
    assert index["crops"].to_pylist() == [1] * 4
    assert index["targets"].to_pylist() == [5] * 4
    assert index["attention"].to_pylist() == [9 * 9 // 2] * 4


def test_the_index_of_another_pack_is_refused(write: Write) -> None:
    root, other = write("pack"), write("other", words=4)
    storage.write_bytes(f"{root}/index.parquet", storage.read_bytes(f"{other}/index.parquet"))
    with pytest.raises(PackError, match=r"index\.parquet is damaged, or the index of another pack"):
        PackReader(root)
    storage.remove(f"{root}/index.parquet")
    with pytest.raises(PackError, match=r"index\.parquet is missing"):
        PackReader(root)


def change(root: str, **columns: Any) -> None:
    """Give the pack an index whose columns say otherwise, and a manifest that names it."""
    table = storage.read_table(f"{root}/index.parquet")
    for name, values in columns.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, pa.array(values, table.schema.field(name).type))
    storage.write_table(f"{root}/index.parquet", table)
    data = Path(root, "index.parquet").read_bytes()
    manifest = storage.read_json(f"{root}/manifest.json")
    described = {"bytes": len(data), "sha256": storage.sha256(f"{root}/index.parquet")}
    storage.write_json(f"{root}/manifest.json", manifest | {"index": described})


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"offset": [0, 1 << 40, 0, 2560]}, "sequence 1 is bytes 1099511627776 to"),
        ({"offset": [-1, 2560, 0, 2560]}, "sequence 0 is bytes -1"),
        ({"size": [2560, 0, 2560, 2560]}, "sequence 1 is bytes"),
        ({"shard": ["00000", "00001", "00001", "00001"]}, "has 1 sequences of shard 00000, the manifest 2"),
        ({"shard": ["00001", "00001", "00000", "00000"]}, "not of one pack"),
        ({"shard": ["00000", "00000", "../x", "../x"]}, "the manifest 2"),
        ({"size": [2560, None, 2560, 2560]}, "rows without numbers"),
    ],
)
def test_an_index_that_lies_is_refused_before_training(write: Write, columns: dict[str, Any], problem: str) -> None:
    root = write("pack")
    change(root, **columns)
    with pytest.raises(PackError, match=problem):
        PackReader(root)


def test_torn_and_missing_tars_are_named_without_reading_them(write: Write) -> None:
    root = write("pack")
    reader = PackReader(root)
    reader.check_files()
    tar = Path(root, "00001.tar")
    whole = tar.read_bytes()
    tar.write_bytes(whole[:-512])
    with pytest.raises(PackError, match=rf"00001\.tar has {len(whole) - 512:,} of the {len(whole):,} bytes"):
        reader.check_files()
    tar.unlink()
    with pytest.raises(PackError, match=r"00001\.tar is missing"):
        reader.check_files()
