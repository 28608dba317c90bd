"""Open-Qwen2VL's pickles: theirs to read, ours to distrust."""

import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, Sample
from mmcorpus.packing import (
    IMAGE_TOKEN,
    PackConfig,
    PackError,
    PackReader,
    PlanConfig,
    PlanSource,
    load_tokenizer,
    make_plan,
    write_packs,
)
from mmcorpus.packing.manifest import describe_tokenizer, write_manifest
from mmcorpus.packing.packs import PackShardWriter
from mmcorpus.packing.pickles import dump_pickle, read_pickle, write_pickles
from mmcorpus.packing.sequence import PackedSequence


@pytest.fixture(scope="module")
def packs(
    tmp_path_factory: pytest.TempPathFactory,
    tokenizer_folder: str,
    make_shards: Callable[..., list[Sample]],
    select: Callable[..., pa.Table],
) -> str:
    root = tmp_path_factory.mktemp("packs")
    samples = make_shards(root / "web", 1, 40)
    source = PlanSource(shards=str(root / "web"), selection=select(samples), kind="pair")
    make_plan(
        PlanConfig(context_length=200, tokens_per_image=16),
        tokenizer=tokenizer_folder,
        sources={"web": source},
        out=str(root / "plan.parquet"),
    )
    write_packs(
        PackConfig(sequences_per_shard=4),
        plan=str(root / "plan.parquet"),
        tokenizer=tokenizer_folder,
        shards={"web": source.shards},
        out=str(root / "packs"),
    )
    return str(root / "packs")


def test_their_layout_is_written_and_read(packs: str, tmp_path: Path) -> None:
    reader = PackReader(packs)
    stats = write_pickles(packs, str(tmp_path))
    pad = reader.manifest["tokenizer"]["special_ids"]["pad"]
    assert [shard["len"] for shard in stats] == [
        [reader[i].length for i, name in enumerate(reader.index["shard"].to_pylist()) if name == shard["shard"]]
        for shard in stats
    ]
    assert all(shard["pad_token_id"] == pad for shard in stats)
    for ours, name in zip(reader, reader.index["shard"].to_pylist(), strict=True):
        path = tmp_path / name / f"{ours.sequence:08d}.pkl"
        theirs = pickle.loads(path.read_bytes())  # as their trainer reads it
        assert set(theirs) == {"image_tensors", "input_ids", "lengths"}
        assert theirs["input_ids"].dtype == torch.int64
        assert theirs["input_ids"].shape == (200,)
        assert theirs["input_ids"][: len(ours.input_ids)].tolist() == ours.input_ids.tolist()
        assert set(theirs["input_ids"][len(ours.input_ids) :].tolist()) <= {pad}
        assert theirs["lengths"] == list(ours.lengths)
        read = read_pickle(str(path))
        assert read.input_ids.tolist() == theirs["input_ids"].tolist()
        assert read.lengths == ours.lengths
        for mine, image, encoded in zip(read.images, theirs["image_tensors"], ours.images, strict=True):
            assert mine.mode == image.mode == "RGB"
            assert mine.tobytes() == image.tobytes() == Image.open(io.BytesIO(encoded.data)).tobytes()


def test_a_rerun_gives_the_same_bytes_and_keeps_what_is_there(packs: str, tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_pickles(packs, str(tmp_path / name))
    one, two = (sorted((tmp_path / name).rglob("*.*")) for name in ("one", "two"))
    assert [path.relative_to(tmp_path / "one") for path in one] == [path.relative_to(tmp_path / "two") for path in two]
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.pkl")}
    write_pickles(packs, str(tmp_path / "one"))
    assert times == {path: path.stat().st_mtime_ns for path in (tmp_path / "one").rglob("*.pkl")}


def test_a_tensor_as_their_packer_pickles_it_is_read(tmp_path: Path) -> None:
    image = Image.new("RGB", (3, 2), (1, 2, 3))
    content = {"image_tensors": [image], "input_ids": torch.tensor([-200, 5, 6]), "lengths": [146]}
    (tmp_path / "theirs.pkl").write_bytes(pickle.dumps(content))
    read = read_pickle(str(tmp_path / "theirs.pkl"))
    assert read.input_ids.tolist() == [-200, 5, 6]
    assert read.images[0].tobytes() == image.tobytes()


def encoded(image: Image.Image) -> EncodedImage:
    file = io.BytesIO()
    image.save(file, "PNG")
    return EncodedImage(extension="png", data=file.getvalue())


def test_shrinking_keeps_the_aspect_and_a_bad_image_costs_its_sample(tmp_path: Path, tokenizer_folder: str) -> None:
    images = (
        encoded(Image.new("RGB", (1000, 500))),
        EncodedImage(extension="jpg", data=b"not an image"),
        encoded(Image.new("RGBA", (700, 300))),
    )
    packed = PackedSequence(
        sequence=0,
        input_ids=np.array([IMAGE_TOKEN, 7, IMAGE_TOKEN, 8, 8, IMAGE_TOKEN, 9], dtype=np.int32),
        uids=("a" * 32, "b" * 32, "c" * 32),
        sources=("web",) * 3,
        lengths=(5, 6, 5),
        token_counts=(2, 3, 2),
        image_counts=(1, 1, 1),
        loss_spans=(((1, 2),), ((3, 5),), ((6, 7),)),
        images=images,
    )
    with PackShardWriter(str(tmp_path / "packs"), "00000", tokens_per_image=4) as writer:
        writer.write(packed)
    tokenizer = describe_tokenizer(load_tokenizer(tokenizer_folder), "small")
    write_manifest(
        str(tmp_path / "packs"),
        tokenizer=tokenizer,
        tokens_per_image=4,
        context_length=20,
        shards=[writer.record],
        parameters={},
    )
    (stats,) = write_pickles(str(tmp_path / "packs"), str(tmp_path / "out"), min_side=384)
    assert stats["undecodable"] == ["b" * 32]
    read = read_pickle(str(tmp_path / "out/00000/00000000.pkl"))
    assert [image.size for image in read.images] == [(768, 384), (700, 300)]
    assert read.lengths == (5, 5)
    assert read.input_ids[:5].tolist() == [IMAGE_TOKEN, 7, IMAGE_TOKEN, 9, tokenizer["special_ids"]["pad"]]


def test_several_captions_of_an_image_are_refused(tmp_path: Path, tokenizer_folder: str) -> None:
    packed = PackedSequence(
        sequence=0,
        input_ids=np.array([IMAGE_TOKEN, 7, 8], dtype=np.int32),
        uids=("a" * 32,),
        sources=("web",),
        lengths=(6,),
        token_counts=(3,),
        image_counts=(1,),
        loss_spans=(((1, 2), (2, 3)),),
        images=(encoded(Image.new("RGB", (9, 9))),),
        branches=((1, 2),),
    )
    with PackShardWriter(str(tmp_path / "packs"), "00000", tokens_per_image=4) as writer:
        writer.write(packed)
    write_manifest(
        str(tmp_path / "packs"),
        tokenizer=describe_tokenizer(load_tokenizer(tokenizer_folder), "small"),
        tokens_per_image=4,
        context_length=20,
        shards=[writer.record],
        parameters={},
    )
    with pytest.raises(ValueError, match=r"1 images with several captions.*plan without annotations"):
        write_pickles(str(tmp_path / "packs"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


class Runs:
    """Pickles into a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def hostile(marker: Path) -> dict[str, bytes]:
    command = f"touch {marker}"
    inner = io.BytesIO()
    torch.save({"x": Runs(os.system, command)}, inner, _use_new_zipfile_serialization=False)
    loader = torch.storage._load_from_bytes
    good = dump_pickle([], np.arange(3), [3], 0, 4)
    return {
        "a call of the system": pickle.dumps({"input_ids": Runs(os.system, command)}),
        "a call of eval": pickle.dumps(Runs(eval, f"__import__('os').system('{command}')")),
        "a call inside torch's storage": pickle.dumps({"input_ids": Runs(loader, inner.getvalue())}),
        "an image larger than its bytes": pickle.dumps({"image_tensors": [Forged()], "input_ids": 0, "lengths": []}),
        "an old protocol": b"cposix\nsystem\n(S'" + command.encode() + b"'\ntR.",
        "not a pickle": b"\xff\xd8\xff",
        "cut short": good[: len(good) // 2],
        "another layout": pickle.dumps([1, 2]),
    }


class Forged:
    """Pickles as a Pillow image whose size promises more than its bytes."""

    def __reduce__(self) -> Any:
        return (Image.Image, (), [{}, "RGB", (200_000, 200_000), None, b"few"])


def test_hostile_pickles_run_nothing_and_say_why(tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    for name, data in hostile(marker).items():
        path = tmp_path / "hostile.pkl"
        path.write_bytes(data)
        with pytest.raises(PackError, match="nothing in it was run"):
            read_pickle(str(path))
        assert not marker.exists(), name
    pickle.loads(hostile(marker)["a call of the system"])
    assert marker.exists(), "the same bytes do run when they are trusted"


def test_pickles_on_s3(packs: str, s3_root: str, tmp_path: Path) -> None:
    write_pickles(packs, f"{s3_root}/out")
    write_pickles(packs, str(tmp_path))
    here, there = (str(tmp_path / "00000/00000000.pkl"), f"{s3_root}/out/00000/00000000.pkl")
    assert storage.read_bytes(here) == storage.read_bytes(there)
    assert read_pickle(there).lengths == read_pickle(here).lengths
