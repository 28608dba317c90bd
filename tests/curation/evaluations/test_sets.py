"""Evaluation sets as they come: every form gives the same items."""

import base64
import gzip
import io
import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from mmcorpus.curation.evaluations import EvaluationSet
from mmcorpus.curation.evaluations.sets import Item, read_items
from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.random.default_rng(seed).integers(0, 255, (24, 32, 3), np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def items(path: Path | str, **settings: tuple[str, ...] | str) -> list[Item]:
    return list(read_items("set", EvaluationSet(path=str(path), **settings)))  # type: ignore[arg-type]


def as_datasets(folder: Path, table: pa.Table) -> None:
    """What `Dataset.save_to_disk` writes: an Arrow stream and two JSON files; beside it a cache that is no data."""
    folder.mkdir(parents=True)
    for name in ("data-00000-of-00001.arrow", "cache-0123456789abcdef.arrow"):
        with pa.OSFile(str(folder / name), "wb") as file, pa.ipc.new_stream(file, table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": "data-00000-of-00001.arrow"}]}))
    (folder / "dataset_info.json").write_text("{}")


TABLE = pa.table(
    {
        "id": ["a", "b"],
        "question": ["What is it?", "How many?"],
        "choices": [["one", "two"], []],
        "image": [{"bytes": png(0), "path": "0.png"}, {"bytes": None, "path": None}],
    },
    schema=pa.schema(
        {
            "id": pa.string(),
            "question": pa.string(),
            "choices": pa.list_(pa.string()),
            "image": pa.struct({"bytes": pa.binary(), "path": pa.string()}),
        }
    ),
)
EXPECTED = [
    Item(name="set/a", texts=("What is it?", "one", "two"), images=(png(0),)),
    Item(name="set/b", texts=("How many?",), images=()),
]


def test_datasets_on_disk_parquet_and_arrow_files(tmp_path: Path) -> None:
    as_datasets(tmp_path / "saved", TABLE)
    assert items(tmp_path / "saved") == EXPECTED
    as_datasets(tmp_path / "splits" / "validation", TABLE)
    as_datasets(tmp_path / "splits" / "test", TABLE)
    assert items(tmp_path / "splits") == EXPECTED * 2
    pq.write_table(TABLE, tmp_path / "rows.parquet")
    assert items(tmp_path / "rows.parquet") == EXPECTED
    with pa.OSFile(str(tmp_path / "file.arrow"), "wb") as file, pa.ipc.new_file(file, TABLE.schema) as writer:
        writer.write_table(TABLE)
    assert items(tmp_path / "file.arrow") == EXPECTED


def test_json_lines_with_pictures_by_path_and_in_base64(tmp_path: Path) -> None:
    (tmp_path / "val").mkdir()
    (tmp_path / "val" / "1.png").write_bytes(png(1))
    rows = [
        {"image": "val/1.png", "conversations": [{"from": "human", "value": "What?"}], "year": 2020},
        {"image": base64.b64encode(png(2)).decode(), "captions": ["one", "two"]},
        {"image": "val/gone.png"},
        "plain text",
    ]
    lines = "\n".join(json.dumps(row) for row in rows).encode()
    (tmp_path / "set.jsonl").write_bytes(lines)
    (tmp_path / "set.jsonl.gz").write_bytes(gzip.compress(lines))
    found = items(tmp_path / "set.jsonl")
    assert found[0] == Item(name="set/set.jsonl#0", texts=("human", "What?"), images=(png(1),))
    assert found[1] == Item(name="set/set.jsonl#1", texts=("one", "two"), images=(png(2),))
    assert found[2] == Item(name="set/set.jsonl#2", texts=(), images=(), unreadable=("val/gone.png",))
    assert found[3].texts == ("plain text",)
    packed = items(tmp_path / "set.jsonl.gz")
    assert [item.texts for item in packed] == [item.texts for item in found]


def test_columns_that_are_named_are_the_only_ones(tmp_path: Path) -> None:
    pq.write_table(TABLE, tmp_path / "rows.parquet")
    only = items(tmp_path / "rows.parquet", texts=("question",))
    assert [item.texts for item in only] == [("What is it?",), ("How many?",)]
    assert only[0].images == (png(0),)
    assert items(tmp_path / "rows.parquet", id="question")[0].name == "set/What is it?"
    with pytest.raises(ValueError, match="has no column 'caption'; it has id, question, choices, image"):
        items(tmp_path / "rows.parquet", texts=("caption",))


def test_a_folder_of_pictures_and_texts(tmp_path: Path) -> None:
    (tmp_path / "dogs").mkdir()
    (tmp_path / "dogs" / "a.png").write_bytes(png(1))
    (tmp_path / "dogs" / "a.txt").write_text("A dog.\n")
    (tmp_path / "b.png").write_bytes(png(2))
    (tmp_path / "c.txt").write_text("No picture.")
    (tmp_path / "README.md").write_text("not an item")
    assert items(tmp_path) == [
        Item(name="set/b.png", texts=(), images=(png(2),)),
        Item(name="set/dogs/a.png", texts=("A dog.",), images=(png(1),)),
        Item(name="set/c.txt", texts=("No picture.",), images=()),
    ]


def test_shards(tmp_path: Path) -> None:
    uid = "0" * 31 + "1"
    with ShardWriter(Shard(root=str(tmp_path), name="00000")) as writer:
        image = EncodedImage(extension="png", data=png(3))
        writer.write(Sample(key="00000", uid=uid, caption="A red cube.", images=(image,)))
    assert items(tmp_path) == [Item(name=f"set/{uid}", texts=("A red cube.",), images=(png(3),))]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="evaluation set set: there is nothing at"):
        items(tmp_path / "nowhere")
    (tmp_path / "a.csv").write_text("x\n")
    with pytest.raises(ValueError, match=r"is no \.jsonl, \.parquet or \.arrow file"):
        items(tmp_path / "a.csv")
    with pytest.raises(ValueError, match="holds no items"):
        items(tmp_path)
    (tmp_path / "bad.jsonl").write_text('{"a": 1}\n{"a"\n')
    with pytest.raises(ValueError, match=r"bad.jsonl, line 2: no JSON"):
        items(tmp_path / "bad.jsonl")


@pytest.mark.slow
def test_a_remote_set(s3_root: str, tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text(json.dumps({"id": 1, "image": "1.png", "text": "remote"}))
    storage.write_bytes(f"{s3_root}/eval/rows.jsonl", (tmp_path / "rows.jsonl").read_bytes())
    storage.write_bytes(f"{s3_root}/eval/1.png", png(1))
    expected = [Item(name="set/1", texts=("remote",), images=(png(1),))]
    assert items(f"{s3_root}/eval") == items(f"{s3_root}/eval/rows.jsonl") == expected
