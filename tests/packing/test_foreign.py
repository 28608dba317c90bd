"""Open-Qwen2VL's own packs become ours: the same ids, samples, images, and what is learned; other tokenizers show."""

import base64
import io
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from mmcorpus.curation.store.shards import Sample
from mmcorpus.packing import IMAGE_TOKEN, PackConfig, PackReader, PlanConfig, PlanSource, make_plan, write_packs
from mmcorpus.packing.errors import PackError
from mmcorpus.packing.foreign import ADDED, WrongTokenizer, extended, find_foreign, import_packs, with_added
from mmcorpus.packing.pickles import labels_of, write_pickles
from mmcorpus.packing.tokens import encode_texts, load_tokenizer
from mmcorpus.packing.vocabulary import train_tokenizer
from tests.packing.conftest import caption, image_bytes

NUMBER = 144


def theirs(folder: Path, tokenizer: Any, *, sequences: int = 3, context: int = 900) -> list[dict[str, Any]]:
    """Pickles as their packer writes them: `<s>`, an image and a line break, the caption, the end; then padding."""
    rng, made = random.Random(3), []
    folder.mkdir(parents=True)
    for number in range(sequences):
        ids: list[int] = []
        lengths, images = [], []
        for _ in range(3):
            one = [tokenizer.get_vocab()["<s>"], IMAGE_TOKEN, *encode_texts(tokenizer, ["\n" + caption(rng, 5)])[0]]
            ids += [*one, tokenizer.eos_token_id]
            lengths.append(len(one) + 1 + NUMBER - 1)
            images.append(Image.open(io.BytesIO(image_bytes(rng))).convert("RGB"))
        pad = tokenizer.get_vocab()["<|pad|>"]
        content = {
            "image_tensors": images,
            "input_ids": torch.tensor(ids + [pad] * (context - len(ids)), dtype=torch.long),
            "lengths": lengths,
        }
        (folder / f"{rng.getrandbits(64):016x}.pkl").write_bytes(pickle.dumps(content))
        made.append(content | {"tokens": len(ids), "number": number})
    return made


def test_their_pickles_are_packs(tokenizer_folder: str, tmp_path: Path) -> None:
    tokenizer = extended(load_tokenizer(tokenizer_folder))
    made = theirs(tmp_path / "in" / "0", tokenizer)
    import_packs(str(tmp_path / "in"), str(tmp_path / "out"), tokenizer=tokenizer_folder)
    reader = PackReader(str(tmp_path / "out"))
    assert reader.tokens_per_image == NUMBER
    assert len(reader) == 3
    found = {tuple(packed.input_ids.tolist()): packed for packed in reader}
    for content in made:
        packed = found[tuple(content["input_ids"][: content["tokens"]].tolist())]
        assert list(packed.lengths) == content["lengths"]
        for image, encoded in zip(content["image_tensors"], packed.images, strict=True):
            assert Image.open(io.BytesIO(encoded.data)).tobytes() == image.tobytes()
        learned = sum(end - start for spans in packed.loss_spans for start, end in spans)
        assert learned == content["tokens"] - 2 * 3, "all but images and each sample's first token; no padding"
    own = load_tokenizer(tokenizer_folder)
    packed_with = with_added(own, str(tmp_path / "out"))
    assert set(packed_with.get_vocab()) - set(own.get_vocab()) == set(ADDED) - set(own.get_vocab())
    before = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("0*")}
    import_packs(str(tmp_path / "in"), str(tmp_path / "out"), tokenizer=tokenizer_folder)
    assert {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("0*")} == before, "kept"


def test_their_json_is_packs(tokenizer_folder: str, tmp_path: Path) -> None:
    rng = random.Random(5)
    tokenizer = extended(load_tokenizer(tokenizer_folder))
    vocabulary = tokenizer.get_vocab()
    pictures = [image_bytes(rng) for _ in range(3)]
    dot = io.BytesIO()
    Image.new("RGB", (1, 5)).save(dot, "PNG")

    def info(data: bytes) -> dict[str, str]:
        return {"image_base64": base64.b64encode(data).decode()}

    document = [None, "a red clock", None, None, "at noon <|im_end|>"]
    joined = [
        *(IMAGE_TOKEN, *encode_texts(tokenizer, ["\na red clock"])[0], vocabulary["<|endofchunk|>"]),
        *(IMAGE_TOKEN, *encode_texts(tokenizer, ["\nat noon <|im_end|>"])[0], vocabulary["<|endofchunk|>"]),
    ]
    expected = [
        [vocabulary["<s>"], IMAGE_TOKEN, *encode_texts(tokenizer, ["\na blue square"])[0], tokenizer.eos_token_id],
        [vocabulary["<s>"], *joined, tokenizer.eos_token_id],
    ]
    content = {
        "data": [
            {"image_info": [info(pictures[0]), None], "texts": [None, "a blue square"], "uid": "AB" * 16, "key": "0"},
            {"image_info": [info(pictures[1]), None, info(pictures[2]), info(dot.getvalue()), None], "texts": document},
        ],
        "lengths": [len(ids) + 143 * ids.count(IMAGE_TOKEN) for ids in expected],
    }
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "x_packed.json").write_text(json.dumps(content))
    import_packs(str(tmp_path / "in"), str(tmp_path / "out"), tokenizer=tokenizer_folder)
    (packed,) = PackReader(str(tmp_path / "out"))
    assert packed.input_ids.tolist() == expected[0] + expected[1]
    assert [image.data for image in packed.images] == pictures, "their bytes; the one of a pixel's width is left out"
    assert packed.uids[0] == "ab" * 16
    assert packed.lengths == tuple(content["lengths"])
    content["lengths"][1] += 2
    (tmp_path / "in" / "x_packed.json").write_text(json.dumps(content))
    with pytest.raises(WrongTokenizer, match="packed with another tokenizer"):
        import_packs(str(tmp_path / "in"), str(tmp_path / "wrong"), tokenizer=tokenizer_folder)


@pytest.mark.parametrize("conversations", [False, True])
def test_our_pickles_come_back_with_what_is_learned(
    tokenizer_folder: str,
    make_shards: Callable[..., list[Sample]],
    select: Callable[..., pa.Table],
    tmp_path: Path,
    conversations: bool,
) -> None:
    samples = make_shards(tmp_path / "web", 1, 12, conversations=conversations)
    kind: Any = "conversation" if conversations else "pair"
    source = PlanSource(shards=str(tmp_path / "web"), selection=select(samples), kind=kind)
    config, plan = PlanConfig(context_length=200, tokens_per_image=16), str(tmp_path / "plan.parquet")
    make_plan(config, tokenizer=tokenizer_folder, sources={"web": source}, out=plan)
    packs = str(tmp_path / "packs")
    write_packs(PackConfig(), plan=plan, tokenizer=tokenizer_folder, shards={"web": source.shards}, out=packs)
    write_pickles(packs, str(tmp_path / "pickles"))
    import_packs(str(tmp_path / "pickles"), str(tmp_path / "again"), tokenizer=tokenizer_folder)
    ours, again = PackReader(packs), PackReader(str(tmp_path / "again"))
    assert again.tokens_per_image == 16
    for one, other in zip(ours, again, strict=True):
        assert one.input_ids.tolist() == other.input_ids.tolist()
        assert (one.lengths, one.token_counts, one.image_counts) == (
            other.lengths,
            other.token_counts,
            other.image_counts,
        )
        assert labels_of(one).tolist() == labels_of(other).tolist()
        assert 0 < (labels_of(one) != -100).sum() < len(one.input_ids)


def test_another_tokenizer_is_named(tokenizer_folder: str, tmp_path: Path) -> None:
    theirs(tmp_path / "in", extended(load_tokenizer(tokenizer_folder)), sequences=1)
    rng = random.Random(1)
    smaller = train_tokenizer([caption(rng, 12) for _ in range(300)], 320, str(tmp_path / "smaller"))
    with pytest.raises(WrongTokenizer, match=r"has the id \d+, and the tokenizer"):
        import_packs(str(tmp_path / "in"), str(tmp_path / "out"), tokenizer=smaller)
    renamed = load_tokenizer(tokenizer_folder)
    renamed.eos_token = renamed.convert_ids_to_tokens(300)
    renamed.save_pretrained(tmp_path / "renamed")
    with pytest.raises(WrongTokenizer, match="ends a sample with the id"):
        import_packs(str(tmp_path / "in"), str(tmp_path / "out"), tokenizer=str(tmp_path / "renamed"))


def test_a_file_that_cannot_be_read_costs_itself(tokenizer_folder: str, tmp_path: Path) -> None:
    theirs(tmp_path / "in", extended(load_tokenizer(tokenizer_folder)), sequences=2)
    (tmp_path / "in" / "0.pkl").write_bytes(b"cos\nsystem\n(S'touch /tmp/x'\ntR.")
    manifest = import_packs(str(tmp_path / "in"), str(tmp_path / "out"), tokenizer=tokenizer_folder)
    assert manifest["counts"]["sequences"] == 2
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "0.pkl").write_bytes(b"x")
    with pytest.raises(PackError, match="none of the 1 files"):
        import_packs(str(tmp_path / "bad"), str(tmp_path / "none"), tokenizer=tokenizer_folder)
    assert find_foreign(str(tmp_path / "out")) == []
    assert np.all([name.endswith(".pkl") for name in find_foreign(str(tmp_path / "in"))])


def test_wrong_lengths_or_images_in_the_first_files_cost_these_alone(
    tokenizer_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = theirs(tmp_path / "in", extended(load_tokenizer(tokenizer_folder)), sequences=3)
    first = {name: made[0][name] for name in ("image_tensors", "input_ids", "lengths")}
    longer = first | {"lengths": [length + 1 for length in first["lengths"]]}  # as of 145 positions an image
    (tmp_path / "in" / "0.pkl").write_bytes(pickle.dumps(longer))
    (tmp_path / "in" / "00.pkl").write_bytes(pickle.dumps(first | {"image_tensors": first["image_tensors"][1:]}))
    manifest = import_packs(str(tmp_path / "in"), str(tmp_path / "out"), tokenizer=tokenizer_folder)
    assert (manifest["counts"]["sequences"], manifest["tokens_per_image"]) == (3, NUMBER)
    assert "0.pkl: its lengths" in caplog.text
    assert "00.pkl has 3 image marks and 2 images" in caplog.text
    below = first | {"input_ids": torch.full_like(first["input_ids"], -5)}
    (tmp_path / "in" / "00.pkl").write_bytes(pickle.dumps(below))
    with pytest.raises(WrongTokenizer, match=r"00\.pkl has the id -5, "):
        import_packs(str(tmp_path / "in"), str(tmp_path / "below"), tokenizer=tokenizer_folder)


def test_texts_and_lengths_that_cannot_be_cost_their_sample_before_they_are_encoded(
    tokenizer_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = extended(load_tokenizer(tokenizer_folder))
    whole = [tokenizer.get_vocab()["<s>"], *encode_texts(tokenizer, ["a clock"])[0], tokenizer.eos_token_id]
    data = [{"image_info": [None], "texts": [text]} for text in ("a clock", "a b " * 200_000)]
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "0_packed.json").write_text(json.dumps({"data": data, "lengths": [len(whole), 3]}))
    (tmp_path / "in" / "1_packed.json").write_text(json.dumps({"data": data[:1], "lengths": [float("inf")]}))
    import_packs(str(tmp_path / "in"), str(tmp_path / "out"), tokenizer=tokenizer_folder)
    (packed,) = PackReader(str(tmp_path / "out"))
    assert packed.input_ids.tolist() == whole
    assert "its texts, 800,000 characters, cannot be 3 positions" in caplog.text
    assert "1_packed.json is not JSON of Open-Qwen2VL's layout" in caplog.text


def test_pickles_that_are_gone_are_told(
    tokenizer_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = extended(load_tokenizer(tokenizer_folder))
    for shard, sequences, told in (("00000", 2, 2), ("00001", 1, 3)):
        made = theirs(tmp_path / "in" / shard, tokenizer, sequences=sequences)
        stats = {"len": [sum(one["lengths"]) for one in made] + [9] * (told - sequences)}
        (tmp_path / "in" / f"{shard}_stats.json").write_text(json.dumps(stats))
    (tmp_path / "in" / "00002_stats.json").write_text(json.dumps({"len": [1]}))
    manifest = import_packs(str(tmp_path / "in"), str(tmp_path / "out"), tokenizer=tokenizer_folder)
    assert manifest["parameters"]["unreadable"] == 3
    assert "3 files are gone that the _stats.json beside them count: of 00001, 00002" in caplog.text
    assert len(PackReader(str(tmp_path / "out"))) == 3


def test_images_are_named_by_their_first_bytes_and_one_that_cannot_be_read_costs_its_sample(
    tokenizer_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tokenizer = extended(load_tokenizer(tokenizer_folder))
    picture, made = Image.effect_noise((40, 30), 90).convert("RGB"), {}
    for name, kind, more in (
        ("jpg", "MPO", {"save_all": True, "append_images": [picture]}), ("jp2", "JPEG2000", {}),
        ("tiff", "TIFF", {}), ("bmp", "BMP", {}), ("avif", "AVIF", {}),
    ):  # fmt: skip
        file = io.BytesIO()
        picture.save(file, kind, **more)
        made[name] = file.getvalue()
    assert Image.open(io.BytesIO(made["jpg"])).format == "MPO"
    ids = [
        tokenizer.get_vocab()["<s>"],
        IMAGE_TOKEN,
        *encode_texts(tokenizer, ["\na clock"])[0],
        tokenizer.eos_token_id,
    ]
    pictures = [base64.b64encode(data).decode() for data in (b"GIF89a", *made.values(), b"\0" * 99)]
    data = [
        {"image_info": [{"image_base64": text}, None], "texts": [None, "a clock"], "uid": f"{number:032x}"}
        for number, text in enumerate([*pictures, "*no base64*"])
    ]
    (tmp_path / "in").mkdir()
    lengths = [len(ids) + NUMBER - 1] * len(data)
    (tmp_path / "in" / "0_packed.json").write_text(json.dumps({"data": data, "lengths": lengths}))
    (tmp_path / "in" / "1_packed.json").write_text(json.dumps({"data": data[:1], "lengths": lengths[:1]}))
    manifest = import_packs(str(tmp_path / "in"), str(tmp_path / "out"), tokenizer=tokenizer_folder)
    (packed,) = PackReader(str(tmp_path / "out"))
    assert {image.extension: image.data for image in packed.images} == made
    assert packed.uids == tuple(f"{number:032x}" for number in range(1, 6))
    assert packed.input_ids.tolist() == ids * 5
    assert "left out: sample 0 of" in caplog.text
    assert "not_an_image" in caplog.text
    assert manifest["parameters"]["unreadable"] == 1, "a file without any sample"
