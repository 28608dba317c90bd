"""MosaicML streaming's shards: its own writer's, read in place; damage costs its sample."""

import io
import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from mmcorpus.curation.sources import inputs
from mmcorpus.curation.sources.direct import kind_of
from mmcorpus.curation.store import compressed
from mmcorpus.curation.store.mds import shards_named
from mmcorpus.curation.store.shards import Sample
from mmcorpus.packing.export.mds import MdsExporter
from mmcorpus.packing.export.run import export_samples
from mmcorpus.packing.turns import parse_conversation
from tests.curation.sources.conftest import pairs, picture

COLUMNS = {"image": "bytes", "caption": "str", "score": "float32", "url": "str"}


def write(
    folder: Path, columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]], compression: str | None = None
) -> Path:
    from streaming import MDSWriter

    with MDSWriter(out=str(folder), columns=dict(columns), compression=compression) as writer:
        for row in rows:
            writer.write(dict(row))
    return folder


def captioned(count: int = 4) -> list[dict[str, Any]]:
    return [
        {"image": one["image"], "caption": one["caption"], "score": 0.25, "url": one["json"]["url"]}
        for one in pairs(count)
    ]


@pytest.mark.parametrize("compression", [None, "zstd", "gz"])
def test_pairs_are_read_where_they_lie_and_copied_where_they_are_compressed(
    tmp_path: Path, indexed: Any, compression: str | None
) -> None:
    folder = write(tmp_path / "in", COLUMNS, captioned(), compression)
    found = indexed(folder)
    assert [sample.caption for sample in found.samples] == [f"harbour number {number}" for number in range(4)]
    assert [sample.images[0].data for sample in found.samples] == [picture(number) for number in range(4)]
    assert [(row["score"], row["url"]) for row in found.rows][1] == (0.25, "http://x.test/1.jpg")
    assert found.report.dropped == {}
    copied = list((tmp_path / "out" / "shards").glob("*.tar"))
    assert bool(copied) == (compression is not None)


@pytest.mark.parametrize("several", ["list[jpeg]", "jpeg_array"])
def test_conversations_with_several_images_or_none(tmp_path: Path, indexed: Any, several: str) -> None:
    turns = [{"from": "human", "value": "<image><image> Which?"}, {"from": "gpt", "value": "Both."}]
    files = [picture(1), picture(2)]
    images = [Image.open(io.BytesIO(data)) for data in files] if several == "list[jpeg]" else files
    folder = write(tmp_path / "in", {"images": several, "messages": "json"}, [{"images": images, "messages": turns}])
    found = indexed(folder, kind="conversation")
    assert [len(sample.images) for sample in found.samples] == [2]
    if several == "jpeg_array":
        assert [image.data for image in found.samples[0].images] == files


def test_of_two_columns_of_images_a_pair_has_the_first_and_a_conversation_both(
    tmp_path: Path, indexed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    turns = [{"from": "human", "value": "Which?"}, {"from": "gpt", "value": "Both."}]
    left, right = (Image.open(io.BytesIO(picture(number))) for number in (1, 2))
    columns = {"left": "jpeg", "right": "jpeg", "caption": "str", "messages": "json"}
    folder = write(
        tmp_path / "in", columns, [{"left": left, "right": right, "caption": "a harbour", "messages": turns}]
    )
    assert [len(sample.images) for sample in indexed(folder).samples] == [1]
    assert "right (jpeg)" in caplog.text
    assert [len(one.images) for one in indexed(folder, out="chat", kind="conversation").samples] == [2]


@pytest.mark.parametrize("chat", [False, True])
def test_out_and_in_again(tmp_path: Path, indexed: Any, chat: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Uids, bytes, order and texts of an export are those that went out."""
    from tests.packing.export.test_export import write as write_samples

    samples: list[Sample] = write_samples(tmp_path / "in", images=lambda index: index if chat else 1, chat=chat)
    export_samples(MdsExporter(), str(tmp_path / "in"), str(tmp_path / "mds"), workers=0)
    kind = kind_of(str(tmp_path / "mds"))
    assert kind == ("conversation" if chat else "pair"), "of a conversation the caption is empty, as MDS has no nulls"
    again = indexed(tmp_path / "mds", kind=kind).samples
    assert "passed over" not in caplog.text, "what the export says of itself is known"
    assert [one.uid for one in again] == [one.uid for one in samples]
    assert [[image.data for image in one.images] for one in again] == [[i.data for i in one.images] for one in samples]
    assert [one.meta["url"] for one in again] == [one.meta["url"] for one in samples]
    if chat:
        turns = [[parse_conversation(one.meta["conversations"]) for one in side] for side in (again, samples)]
        assert turns[0] == turns[1]
    else:
        assert [one.caption for one in again] == [one.caption for one in samples]


def test_damage_costs_its_sample_and_what_is_no_image_is_named(
    tmp_path: Path, indexed: Any, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write(tmp_path / "in", {**COLUMNS, "pixels": "pil", "thing": "pkl"}, [
        {**row, "pixels": Image.new("RGB", (4, 4)), "thing": {1}} for row in captioned()
    ])  # fmt: skip
    path = folder / "shard.00000.mds"
    data = bytearray(path.read_bytes())
    begins = struct.unpack_from("<5I", data, 4)
    struct.pack_into("<I", data, begins[1], 1 << 30)  # the second one's caption's size
    data[begins[2] : begins[3]] = b"\xff" * (begins[3] - begins[2])
    path.write_bytes(data[:-5])
    found = indexed(folder)
    assert [sample.caption for sample in found.samples] == ["harbour number 0"]
    assert found.report.dropped == {"bad_row": 3}
    errors = [row["error_message"] for row in found.rows if row["status"] != "success"]
    assert [error.partition(": ")[2].partition(":")[0] for error in errors] == ["sample 1", "sample 2", "sample 3"]
    assert "the file ends inside it" in errors[2]
    assert "pixels (pil), thing (pkl)" in caplog.text
    (error,) = indexed(folder, out="pil", columns={"image": "pixels"}).report.failed.values()
    assert "column 'pixels' (pil) has no encoded images; write them as jpeg, png or bytes" in error


@pytest.mark.parametrize("compression", [None, "gz"])
def test_shards_that_the_index_names_and_that_are_not_there_fail_by_name(
    tmp_path: Path, indexed: Any, compression: str | None
) -> None:
    for part in ("a", "b"):
        write(tmp_path / "in" / part, COLUMNS, captioned(2 if part == "a" else 4), compression)
    index = json.loads((tmp_path / "in" / "b" / "index.json").read_text())
    (gone,) = (tmp_path / "in" / "b").glob("*.mds*")
    kept = gone.read_bytes()
    gone.unlink()
    found = indexed(tmp_path / "in")
    assert len(found.samples) == 2
    ((path, error),) = found.report.failed.items()
    assert path.startswith(str(tmp_path / "in" / "b" / "shard.00000.mds")), path
    assert "named by index.json, and not there" in error
    gone.write_bytes(kept)
    assert indexed(tmp_path / "in").report.failed == {}, "it has come since"
    assert shards_named(index) != []
    (tmp_path / "in" / "a" / "index.json").write_text(json.dumps({"shards": [3, {"format": "mds", "raw_data": 5}]}))
    assert indexed(tmp_path / "in").report.failed == {}


def test_an_index_without_any_of_its_shards(tmp_path: Path, indexed: Any) -> None:
    folder = write(tmp_path / "in", COLUMNS, captioned(2))
    (folder / "shard.00000.mds").unlink()
    found = indexed(folder)
    assert found.report.samples == 0
    assert list(found.report.failed) == [str(folder / "shard.00000.mds")]


def test_a_text_of_nul_bytes_is_no_shard(tmp_path: Path, indexed: Any) -> None:
    from mmcorpus.curation.sources import SourceError

    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.mds").write_bytes(struct.pack("<4I", 1, 30, 60, 0) + b'{"column_names": 3}' + bytes(64))
    with pytest.raises(SourceError, match="nothing there can be read"):
        indexed(tmp_path / "in")


@pytest.mark.parametrize("compression", [None, "zstd"])
def test_parts_of_a_shard_are_read_in_one_go(
    tmp_path: Path, indexed: Any, monkeypatch: pytest.MonkeyPatch, compression: str | None
) -> None:
    """Or the time were quadratic in the shard: what lies before a part has to be decompressed, too."""
    folder = write(tmp_path / "in", COLUMNS, captioned(24), compression)
    opened: list[str] = []
    decompressed = compressed.decompressed

    def noted(path: str, *rest: Any) -> Any:
        opened.append(path)
        return decompressed(path, *rest)

    monkeypatch.setattr(compressed, "decompressed", noted)
    monkeypatch.setattr(inputs, "_RUNS", 1)
    found = indexed(folder, samples_per_shard=2)
    assert [sample.caption for sample in found.samples] == [f"harbour number {number}" for number in range(24)]
    if compression:
        # To be identified, for its header, and for all of its 12 parts together.
        assert len(opened) <= 4
