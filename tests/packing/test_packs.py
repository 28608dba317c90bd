"""Pack files: what is written is read, what is damaged or hostile is refused with a message that helps."""

import contextlib
import dataclasses
import io
import json
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, add_member
from mmcorpus.curation.store.written import noting
from mmcorpus.packing import IMAGE_TOKEN, PackedSequence, PackError, PackReader
from mmcorpus.packing.index import INDEX_SCHEMA
from mmcorpus.packing.manifest import write_manifest
from mmcorpus.packing.packs import PackShardWriter

TOKENIZER = {"name": "none", "vocabulary_size": 9, "special_ids": {"pad": 3}, "special_ids_hash": "", "fingerprint": ""}


def sequence(number: int) -> PackedSequence:
    return PackedSequence(
        sequence=number,
        input_ids=np.array([IMAGE_TOKEN, 5, 6, 7, IMAGE_TOKEN, number], dtype=np.int32),
        uids=("a" * 32, "b" * 32, "c" * 32),
        sources=("web", "text", "web"),
        lengths=(6, 1, 5),
        token_counts=(3, 1, 2),
        image_counts=(1, 0, 1),
        loss_spans=(((1, 3),), (), ((5, 6),)),
        images=(EncodedImage(extension="jpg", data=b"first" * 300), EncodedImage(extension="png", data=b"")),
    )


ANNOTATED: dict[str, Any] = {"loss_spans": (((1, 2), (2, 3)), (), ((5, 6),)), "branches": ((1, 2), (), ())}
"""Changes to `sequence`: its first sample has two annotations."""


@pytest.fixture
def root(tmp_path: Path) -> str:
    records = []
    for shard in range(2):
        with PackShardWriter(str(tmp_path), f"{shard:05d}", tokens_per_image=4) as writer:
            for number in range(3):
                writer.write(sequence(3 * shard + number))
        records.append(writer.record)
    write_manifest(
        str(tmp_path), tokenizer=TOKENIZER, tokens_per_image=4, context_length=20, shards=records, parameters={}
    )
    return str(tmp_path)


def same(one: PackedSequence, other: PackedSequence) -> bool:
    fields = [name for name in PackedSequence.__slots__ if name != "input_ids"]
    return np.array_equal(one.input_ids, other.input_ids) and all(
        getattr(one, name) == getattr(other, name) for name in fields
    )


def test_what_is_written_is_read(root: str) -> None:
    reader = PackReader(root)
    assert len(reader) == 6
    assert all(same(reader[number], sequence(number)) for number in range(6))
    assert same(reader[-1], sequence(5))
    assert same(pickle.loads(pickle.dumps(reader))[4], sequence(4)), "data-loading workers get a copy"
    assert reader[0].length == 12 == reader.index["length"][0].as_py()
    assert reader.manifest["counts"] == {"sequences": 6, "samples": 18, "images": 12, "tokens": 36, "positions": 72}
    for wrong in (6, -7):
        with pytest.raises(IndexError, match="6 sequences"):
            reader[wrong]


def test_annotations_are_written_read_and_told(tmp_path: Path) -> None:
    plain, annotated = sequence(0), dataclasses.replace(sequence(1), **ANNOTATED)
    records = []
    for name, packed in (("00000", plain), ("00001", annotated)):
        with PackShardWriter(str(tmp_path), name, tokens_per_image=4) as writer:
            writer.write(packed)
        records.append(writer.record)
    assert [record.get("annotated") for record in records] == [None, 1]

    def read(shards: list[dict[str, Any]]) -> PackReader:
        settings: dict[str, Any] = {"tokenizer": TOKENIZER, "tokens_per_image": 4, "context_length": 20}
        write_manifest(str(tmp_path), shards=shards, parameters={}, **settings)
        return PackReader(str(tmp_path))

    both = read(records)
    assert (both.manifest["version"], both.annotated) == (2, 1), "who reads version 1 alone must not read this"
    assert same(both[0], plain)
    assert same(both[1], annotated)
    alone = read(records[:1])
    assert (alone.manifest["version"], alone.annotated) == (1, 0)
    assert b"branches" not in (tmp_path / "00000.tar").read_bytes()


def test_an_interrupted_shard_leaves_nothing(tmp_path: Path) -> None:
    writer = PackShardWriter(str(tmp_path), "00000", tokens_per_image=4)
    with contextlib.suppress(RuntimeError), writer:
        writer.write(sequence(0))
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"token_counts": (3, 1, 1)}, "token_counts add up"),
        ({"image_counts": (1, 1, 0)}, "images"),
        ({"lengths": (6, 2, 5)}, "length 2"),
        ({"loss_spans": (((1, 4),), (), ())}, "loss span"),
        ({"uids": ("a" * 32,)}, "number of samples"),
        ({"images": ()}, "there are 0 images"),
        (ANNOTATED | {"branches": ((1, 2), ())}, "branches are of 2 samples, there are 3"),
        (ANNOTATED | {"branches": ((1,), (), ())}, "two or more"),
        (ANNOTATED | {"branches": ((0, 2), (), ())}, "in order, inside"),
        (ANNOTATED | {"branches": ((1, 3), (), ())}, "in order, inside"),
        (ANNOTATED | {"branches": ((2, 1), (), ())}, "in order, inside"),
        (ANNOTATED | {"loss_spans": (((1, 3),), (), ())}, "crosses the beginning of a branch"),
        (
            {
                "token_counts": (5, 1),
                "image_counts": (2, 0),
                "lengths": (11, 1),
                "loss_spans": ((), ()),
                "uids": ("a", "b"),
                "sources": ("web",) * 2,
                "branches": ((1, 2), ()),
            },
            "an image stands in one of the branches",
        ),
    ],
)
def test_sequences_that_do_not_add_up_are_not_written(tmp_path: Path, change: dict[str, Any], problem: str) -> None:
    parts = {name: getattr(sequence(0), name) for name in PackedSequence.__slots__} | change
    writer = PackShardWriter(str(tmp_path), "00000", tokens_per_image=4)
    with pytest.raises(ValueError, match=problem), writer:
        writer.write(PackedSequence(**parts))
    assert not storage.exists(str(tmp_path / "00000.tar"))


@pytest.mark.parametrize("extension", ["mpo", "JPG", "jpeg2000", "tar.gz", ""])
def test_an_ending_that_no_reader_takes_is_not_written(tmp_path: Path, extension: str) -> None:
    images = (EncodedImage(extension=extension, data=b"x"), sequence(0).images[1])
    with (
        pytest.raises(ValueError, match="no ending of an image"),
        PackShardWriter(str(tmp_path), "00000", tokens_per_image=4) as writer,
    ):
        writer.write(dataclasses.replace(sequence(0), images=images))
    assert not list(tmp_path.iterdir())


def test_unfinished_missing_and_foreign_packs_say_what_to_do(root: str, tmp_path: Path) -> None:
    with pytest.raises(PackError, match=r"manifest\.json is missing.*pack again"):
        PackReader(str(tmp_path / "nowhere"))
    (tmp_path / "plan.parquet").write_bytes(b"a file")
    with pytest.raises(PackError, match="there is no pack"):
        PackReader(str(tmp_path / "plan.parquet"))
    manifest = storage.read_json(f"{root}/manifest.json")
    for change, problem in (
        ({"format": "other"}, "not the manifest"),
        ({"version": 99}, "version 99"),
        ({"tokens_per_image": "4"}, "tokens_per_image"),
        ({"shards": [{"name": "../../etc/passwd"}]}, "not a number"),
        ({"counts": {"sequences": 7}}, "hold 6 sequences.*says 7"),
    ):
        storage.write_json(f"{root}/manifest.json", manifest | change)
        with pytest.raises(PackError, match=problem):
            PackReader(root)
    storage.write_bytes(f"{root}/manifest.json", b"{")
    with pytest.raises(PackError, match="not JSON"):
        PackReader(root)
    storage.write_json(f"{root}/manifest.json", manifest)
    storage.write_bytes(f"{root}/00001.index.parquet", b"torn")
    with pytest.raises(PackError, match=r"00001\.index\.parquet is damaged"):
        PackReader(root)
    storage.remove(f"{root}/00001.index.parquet")
    with pytest.raises(PackError, match=r"00001\.index\.parquet is missing"):
        PackReader(root)


def test_damage_costs_one_sequence_and_verify_names_the_shard(root: str) -> None:
    reader = PackReader(root)
    path = Path(root, "00000.tar")
    data = bytearray(path.read_bytes())
    data[reader.index["offset"][1].as_py() + 3] ^= 0xFF
    path.write_bytes(data)
    assert same(reader[0], sequence(0))
    assert same(reader[2], sequence(2))
    with pytest.raises(PackError, match=r"00000\.tar: sequence 1 .*checksum.*mmcorpus verify"):
        reader[1]
    assert reader.verify() == ["00000"]
    path.write_bytes(data[: reader.index["offset"][2].as_py() + 100])
    with pytest.raises(PackError, match="the file ends after 100"):
        reader[2]
    path.unlink()
    with pytest.raises(PackError, match=r"00000\.tar is missing"):
        reader[0]
    assert reader.verify() == ["00000"]


def npy(array: Any, allow_pickle: bool = False) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=allow_pickle)
    return file.getvalue()


def hostile_members() -> dict[str, tuple[str, list[tuple[str, bytes]]]]:
    """By name: what the message must say, and the members of sequence 0."""
    good = {
        "json": json.dumps(
            {
                "uids": ["a"],
                "sources": ["x"],
                "lengths": [2],
                "token_counts": [2],
                "image_counts": [0],
                "loss_spans": [[[0, 2]]],
            }
        ).encode(),
        "input_ids.npy": npy(np.array([1, 2], dtype=np.int32)),
    }
    huge = npy(np.array([1, 2], dtype=np.int32)).replace(b"(2,)", b"(9999999999,)", 1)

    def changed(**change: bytes) -> list[tuple[str, bytes]]:
        return [(f"00000000.{name}", data) for name, data in (good | change).items()]

    return {
        "nothing": ("", changed()),
        "an object array": ("is object", changed(**{"input_ids.npy": npy(np.array([{}], dtype=object), True)})),
        "a pickle for an array": ("magic", changed(**{"input_ids.npy": pickle.dumps([1, 2])})),
        "a header that promises gigabytes": ("shape \\(9999999999,\\)", changed(**{"input_ids.npy": huge})),
        "floats": ("is float64", changed(**{"input_ids.npy": npy(np.array([1.0, 2.0]))})),
        "deep json": ("recursion", changed(json=b"[" * 100_000)),
        "json of another shape": ("json or input_ids", changed(json=b"[1]")),
        "json with text for numbers": ("invalid literal", changed(json=good["json"].replace(b"[2]", b'["x"]'))),
        "json with null": ("not iterable", changed(json=good["json"].replace(b"[[[0, 2]]]", b"null"))),
        "no ids": ("input_ids.npy is missing", changed()[:1]),
        "another key": ("another sequence", [*changed(), ("00000001.json", b"{}")]),
        "a stranger": ("not part of a pack", [*changed(), ("00000000.pkl", b"x")]),
        "a path": ("another sequence", [*changed(), ("../00000000.000.jpg", b"x")]),
        "an image too many": ("there are 1 images", [*changed(), ("00000000.000.jpg", b"x")]),
        "images out of order": ("out of order", [*changed(), ("00000000.001.jpg", b"x")]),
    }


@pytest.mark.parametrize("name", sorted(hostile_members()))
def test_hostile_content_is_refused_for_what_it_is(root: str, name: str) -> None:
    problem, members = hostile_members()[name]
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for member, data in members:
            add_member(tar, member, data)
        end = tar.offset
    reader = with_first_sequence(root, file.getvalue()[:end])
    if name == "nothing":
        assert reader[0].uids == ("a",)
        return
    with pytest.raises(PackError, match=f"sequence 0 .* is damaged: .*{problem}"):
        reader[0]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.GNUTYPE_SPARSE, tarfile.GNUTYPE_LONGNAME, tarfile.DIRTYPE])
def test_members_that_are_not_plain_files_are_refused(root: str, kind: bytes) -> None:
    info = tarfile.TarInfo("00000000.json")
    info.type, info.linkname = kind, "/etc/passwd"
    with pytest.raises(PackError, match="not a plain file"):
        with_first_sequence(root, info.tobuf(tarfile.GNU_FORMAT))[0]


def with_first_sequence(root: str, data: bytes) -> PackReader:
    """A reader of the pack with the first sequence's bytes replaced."""
    Path(root, "00000.tar").write_bytes(data)
    path = f"{root}/00000.index.parquet"
    rows = storage.read_table(path).to_pylist()
    rows[0] |= {"offset": 0, "size": len(data), "crc32": zlib.crc32(data)}
    storage.write_table(path, pa.Table.from_pylist(rows, schema=INDEX_SCHEMA))
    manifest = storage.read_json(f"{root}/manifest.json")
    manifest["shards"][0]["bytes"] = max(row["offset"] + row["size"] for row in rows)
    storage.write_json(f"{root}/manifest.json", manifest)
    return PackReader(root)


def test_every_flipped_bit_of_a_sequence_is_seen_when_it_is_read(root: str) -> None:
    reader = PackReader(root)
    path = Path(root, "00000.tar")
    whole = path.read_bytes()
    start, size = (int(reader.index[name][1].as_py()) for name in ("offset", "size"))
    for place in range(start, start + size, 61):
        data = bytearray(whole)
        data[place] ^= 1 << place % 8
        path.write_bytes(data)
        with noting() as notes, pytest.raises(PackError, match=r"sequence 1 .* is damaged"):
            reader[1]
        assert list(notes.damaged) == [str(path)], "the run makes it again"
        assert same(reader[0], sequence(0))


def test_packs_without_checksums_are_read(root: str) -> None:
    """Those of earlier versions."""
    for name in ("00000", "00001"):
        path = f"{root}/{name}.index.parquet"
        storage.write_table(path, storage.read_table(path).drop_columns(["crc32"]))
    assert [len(packed.uids) for packed in PackReader(root)] == [len(sequence(number).uids) for number in range(6)]
