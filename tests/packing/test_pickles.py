"""Open-Qwen2VL's pickles: theirs to read, ours to distrust."""

import io
import os
import pickle
import resource
import signal
import struct
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from mmcorpus.curation.engine.items import run_pending
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
    pickle_reader,
    pickles,
    write_packs,
)
from mmcorpus.packing.manifest import describe_tokenizer, write_manifest
from mmcorpus.packing.packs import PackShardWriter
from mmcorpus.packing.pickles import dump_pickle, labels_of, read_pickle, write_pickles
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
        assert set(theirs) == {"image_tensors", "input_ids", "lengths", "labels"}
        assert theirs["labels"].shape == (200,)
        assert theirs["labels"][: len(ours.input_ids)].tolist() == labels_of(ours).tolist()
        assert set(theirs["labels"][len(ours.input_ids) :].tolist()) <= {-100}, "padding is not learned"
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


def three_samples(tmp_path: Path, tokenizer_folder: str) -> dict[str, Any]:
    """A pack of one sequence, whose second image is none; returns its tokenizer as the manifest has it."""
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
    return tokenizer


def test_shrinking_keeps_the_aspect_and_a_bad_image_costs_its_sample(tmp_path: Path, tokenizer_folder: str) -> None:
    tokenizer = three_samples(tmp_path, tokenizer_folder)
    (stats,) = write_pickles(str(tmp_path / "packs"), str(tmp_path / "out"), min_side=384)
    assert stats["undecodable"] == ["b" * 32]
    read = read_pickle(str(tmp_path / "out/00000/00000000.pkl"))
    assert [image.size for image in read.images] == [(768, 384), (700, 300)]
    assert read.lengths == (5, 5)
    assert read.input_ids[:5].tolist() == [IMAGE_TOKEN, 7, IMAGE_TOKEN, 9, tokenizer["special_ids"]["pad"]]


@pytest.mark.slow
@pytest.mark.usefixtures("ray_local")
def test_an_image_that_kills_its_decoder_costs_its_sample(tmp_path: Path, tokenizer_folder: str) -> None:
    three_samples(tmp_path, tokenizer_folder)
    out = str(tmp_path / "out")

    def spread(work: Any, jobs: Sequence[Any]) -> list[dict[str, Any]]:
        def fragile(job: Any) -> Any:
            plain = pickles._rgb

            def decode(data: bytes, min_side: int | None) -> Image.Image:
                if data == b"not an image":
                    os.kill(os.getpid(), signal.SIGKILL)
                return plain(data, min_side)

            pickles._rgb = decode
            try:
                return work(job)
            finally:
                pickles._rgb = plain

        ran = run_pending(lambda: fragile, jobs, title="packs", aside=out).or_raise()
        return [outcome.result or {} for outcome in ran.outcomes]

    (stats,) = write_pickles(str(tmp_path / "packs"), out, map_fn=spread)
    assert stats["undecodable"] == ["b" * 32]
    assert read_pickle(f"{out}/00000/00000000.pkl").lengths == (5, 5)


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
    good = dump_pickle([], np.arange(3), np.arange(3), [3], 0, 4)
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


def test_what_a_pickle_sets_on_a_stand_in_ends_with_it(tmp_path: Path) -> None:
    functions = [pickle_reader._long_tensor, pickle_reader._rebuild_tensor, pickle_reader._storage]
    names = [("torch", "LongTensor"), ("torch._utils", "_rebuild_tensor_v2"), ("torch.storage", "_load_from_bytes")]
    for module, name in names:
        slots = b"N}(\x8c\x0c__defaults__K\x01\x85\x8c\x04keptK\x01u\x86b."
        (tmp_path / "sets.pkl").write_bytes(b"\x80\x04" + named(module, name) + slots)
        with pytest.raises(PackError, match="nothing in it was run"):
            read_pickle(str(tmp_path / "sets.pkl"))
    assert [(function.__defaults__, function.__dict__) for function in functions] == [(None, {})] * 3


GET = b"\x80\x04(\x8c\rimage_tensors]\x8c\tinput_ids"
"""The beginning of a pickle whose `input_ids` comes next."""
LENGTHS = b"\x8c\x07lengths]d."


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def number(value: int) -> bytes:
    return b"\x8a\x08" + struct.pack("<q", value)


def storage_bytes(tensor: torch.Tensor) -> bytes:
    file = io.BytesIO()
    wrapped = torch.storage.TypedStorage(wrap_storage=tensor.untyped_storage(), dtype=tensor.dtype, _internal=True)
    torch.save(wrapped, file, _use_new_zipfile_serialization=False)
    return file.getvalue()


def loaded(inner: bytes) -> bytes:
    return named("torch.storage", "_load_from_bytes") + b"B" + struct.pack("<I", len(inner)) + inner + b"\x85R"


def tensor(offset: int, size: int, stride: int, inner: bytes | None = None) -> bytes:
    """A pickle with a tensor over a storage of four numbers."""
    of = loaded(storage_bytes(torch.arange(4)) if inner is None else inner)
    parts = number(offset) + number(size) + b"\x85" + number(stride) + b"\x85\x89N"
    return GET + named("torch._utils", "_rebuild_tensor_v2") + b"(" + of + parts + b"tR" + LENGTHS


def greedy() -> dict[str, bytes]:
    """Pickles of some bytes that ask for more memory or time than these warrant."""
    image = named("PIL.Image", "Image") + b")\x81(N\x8c\x03RGB(K\x64K\x64tN"
    shared = b"B" + struct.pack("<I", 30_000) + b"x" * 30_000 + b"\x94"  # memo 0
    torn = bytearray(storage_bytes(torch.arange(4)))
    torn[-40:-32] = struct.pack("<q", 1 << 40)
    zipped = io.BytesIO()
    torch.save(torch.arange(4), zipped)
    made = named("torch", "LongTensor") + b"h\x00\x85R"
    colliding = b"".join(b"\x8a\x0a" + (n * ((1 << 61) - 1)).to_bytes(10, "little") + b"N" for n in range(1, 9))
    return {
        "a storage's end": tensor(0, 5, 1),
        "far beyond a storage": tensor(0, 10**8, 1),
        "an offset beyond": tensor(1 << 40, 4, 1),
        "an offset before": tensor(-1, 4, 1),
        "stride 0": tensor(0, 10**12, 0),
        "stride -1": tensor(3, 4, -1),
        "an overflow": tensor(0, 1 << 62, 4),
        "a storage that claims more": tensor(0, 4, 1, bytes(torn)),
        "a storage of floats": tensor(0, 4, 1, storage_bytes(torch.arange(4.0))),
        "a storage in a zip file": tensor(0, 4, 1, zipped.getvalue()),
        "a bare storage's own tensor": GET + loaded(zipped.getvalue()) + LENGTHS,
        "memo 2^28": b"\x80\x04Nr\xff\xff\xff\x0f.",
        "memo 2^25": b"\x80\x04Nr\xff\xff\xff\x01.",
        "memo 5 of none": b"\x80\x04Nq\x05.",
        "memo in text": b"\x80\x04Np4294967295\n.",
        "memo in the storage": tensor(0, 4, 1, b"\x80\x02Nr\xff\xff\xff\x0f."),
        "a long text": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"x.",
        "a long bytes": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 33) + b"x.",
        "a long bytearray": b"\x80\x05\x96" + struct.pack("<Q", 1 << 31) + b"x.",
        "a long number": b"\x80\x04\x8b" + struct.pack("<i", (1 << 31) - 1) + b"x.",
        "a negative length": b"\x80\x04\x8b" + struct.pack("<i", -5) + b"x.",
        "a long frame": b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.",
        "a number of many digits": b"I" + b"9" * 100_000 + b"\n.",
        "deep tuples": b"\x80\x04N" + b"\x85" * 500_000 + b".",
        "tuples of tuples, doubled": b"\x80\x04N" + b"2\x86" * 40 + b".",
        "lists of lists, doubled": b"\x80\x04]\x94" + b"".join(b"]\x94(h%ch%ce" % (n, n) for n in range(40)) + b".",
        "one image's pixels for many": b"\x80\x04" + shared + b"0(" + (image + b"h\x00tb") * 400 + b"l.",
        "one list for many tensors": GET + b"](" + b"K\x01" * 9999 + b"e\x940(" + made * 400 + b"l" + LENGTHS,
        "keys that collide": b"\x80\x04}(" + colliding + b"u.",
        "a set": b"\x80\x04\x8f(K\x01\x90.",
        "nothing to work on": b"\x80\x04\x85.",
        "no such memo": b"\x80\x04h\x07.",
        "a mark alone": b"\x80\x04(e.",
        "pixels that are a number": b"\x80\x04(\x8c\rimage_tensors](" + image + number(1 << 40) + b"tbe" + LENGTHS,
        "lengths that are no list": GET + b"N" + b"\x8c\x07lengthsJ\xff\xff\xff\x7fd.",
    }  # fmt: skip


GREEDY = greedy()


@pytest.mark.parametrize("name", GREEDY)
def test_a_pickle_takes_no_more_than_its_own_bytes_warrant(name: str, tmp_path: Path) -> None:
    path = tmp_path / "greedy.pkl"
    path.write_bytes(GREEDY[name])
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    held = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    start = time.process_time()
    resource.setrlimit(resource.RLIMIT_DATA, (held + (300 << 20), hard))
    try:
        with pytest.raises(PackError, match="nothing in it was run"):
            read_pickle(str(path))
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    assert time.process_time() - start < 10


def test_a_pickle_of_very_many_opcodes_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs some microseconds, so that 100 MB of them would cost ten minutes."""
    monkeypatch.setattr(pickle_reader, "_MOST_OPCODES", 1000)
    (tmp_path / "many.pkl").write_bytes(b"\x80\x04N" + b"20" * 499 + b".")
    with pytest.raises(PackError, match="more than 1,000 opcodes"):
        read_pickle(str(tmp_path / "many.pkl"))


def test_a_part_of_a_storage_is_read(tmp_path: Path) -> None:
    (tmp_path / "part.pkl").write_bytes(tensor(1, 2, 1))
    assert read_pickle(str(tmp_path / "part.pkl")).input_ids.tolist() == [1, 2]


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_many_small_images_are_no_expansion(protocol: int, tmp_path: Path) -> None:
    images = [Image.new("RGB", (1, 1), (n, n, n)) for n in range(300)]
    content = {"image_tensors": images, "input_ids": torch.arange(4096), "lengths": [1] * 300}
    (tmp_path / "small.pkl").write_bytes(pickle.dumps(content, protocol=protocol))
    read = read_pickle(str(tmp_path / "small.pkl"))
    assert [image.getpixel((0, 0)) for image in read.images] == [(n, n, n) for n in [*range(256), *[255] * 44]]
    assert read.input_ids.tolist() == list(range(4096))


def test_pickles_on_s3(packs: str, s3_root: str, tmp_path: Path) -> None:
    write_pickles(packs, f"{s3_root}/out")
    write_pickles(packs, str(tmp_path))
    here, there = (str(tmp_path / "00000/00000000.pkl"), f"{s3_root}/out/00000/00000000.pkl")
    assert storage.read_bytes(here) == storage.read_bytes(there)
    assert read_pickle(there).lengths == read_pickle(here).lengths
