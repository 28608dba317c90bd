"""Conversations with any number of images, from their rows to packs and the trainer's tensors."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.packing import (
    IMAGE_TOKEN,
    PackConfig,
    PackReader,
    PlanConfig,
    PlanSource,
    load_tokenizer,
    make_plan,
    write_packs,
)
from mmcorpus.packing.inputs import stored_images
from mmcorpus.packing.layout import NativeLayout
from mmcorpus.packing.pickles import read_pickle, write_pickles
from mmcorpus.packing.samples import Rejection, fit_rows
from mmcorpus.training.data import PackLoader

NATIVE = NativeLayout(patch=4, merge=2, min_pixels=64, max_pixels=4096)
SIZES = [(90, 60), (10, 200), (64, 64), (300, 20)]
LISTED = {"none": 0, "one": 1, "two": 2, "four": 4, "unmarked": 3, "mismatch": 2, "unreachable": 2, "surplus": 0}
MARKS = {**LISTED, "unmarked": 0, "mismatch": 3, "surplus": 1}


def conversation(name: str) -> str:
    marks = [f"{number} <image> " for number in range(MARKS[name])]
    first, second = "".join(marks[:1]), "".join(marks[1:])
    turns = [
        ("user", f"{first}what is {name}?"), ("assistant", "a <image> of red"), ("user", f"{second}and this?"),
        ("assistant", "a clock"),
    ]  # fmt: skip
    return json.dumps([{"role": role, "content": text} for role, text in turns])


def picture(size: tuple[int, int], shade: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, (shade, 40, 200)).save(file, "PNG")
    return file.getvalue()


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> str:
    root = str(tmp_path_factory.mktemp("talk"))
    with ShardWriter(Shard(root=root, name="00000")) as writer:
        for place, (name, count) in enumerate(LISTED.items()):
            there = 1 if name == "unreachable" else count
            files = tuple(EncodedImage(extension="png", data=picture(SIZES[n], 60 * n + place)) for n in range(there))
            listed = SIZES[:count]
            meta = {
                "conversations": conversation(name),
                "widths": [width for width, _ in listed],
                "heights": [height for _, height in listed],
            }
            writer.write(Sample(key=name, uid=f"{place:032x}", caption=None, images=files, meta=meta))
    return root


def uid_of(name: str) -> str:
    return f"{list(LISTED).index(name):032x}"


@pytest.mark.parametrize("layout", [None, NATIVE], ids=["square", "native"])
def test_any_number_of_images_goes_from_rows_to_tensors(
    shards: str, tmp_path: Path, tokenizer_folder: str, layout: Any
) -> None:
    config = PlanConfig(context_length=512, layout=layout, **({} if layout else {"tokens_per_image": 4}))
    uids = [uid_of(name) for name in LISTED]
    source = PlanSource(shards=shards, selection=pa.table({"uid": uids, "count": [1] * len(uids)}), kind="conversation")
    given = {"tokenizer": tokenizer_folder, "ledger_root": f"{tmp_path}/ledger"}
    report = make_plan(config, sources={"talk": source}, out=f"{tmp_path}/plan.parquet", **given)
    assert report.verdicts == {"talk": {"kept": 6, "image_marks": 2}}
    packed = write_packs(
        PackConfig(), plan=f"{tmp_path}/plan.parquet", shards={"talk": shards}, out=f"{tmp_path}/packs", **given
    )
    assert packed.dropped == {"talk": {"missing_image": 1}}, "an image that is not there costs its conversation alone"
    rows = storage.read_table(f"{tmp_path}/ledger/talk/pack.parquet").to_pylist()
    values = {row["uid"]: row["value"] for row in rows}
    assert values[uid_of("mismatch")] == "image_marks: 3 marks <image>, 2 images"
    assert values[uid_of("surplus")] == "image_marks: 1 marks <image>, 0 images"
    assert values[uid_of("unreachable")].startswith("missing_image: 1 images of sample")

    reader, tokenizer = PackReader(f"{tmp_path}/packs"), load_tokenizer(tokenizer_folder)
    seen = []
    for sequence in reader:
        start, first = 0, 0
        per_sample = zip(
            sequence.uids, sequence.token_counts, sequence.image_counts, sequence.lengths, sequence.loss_spans,
            strict=True,
        )  # fmt: skip
        for uid, tokens, images, length, spans in per_sample:
            name = list(LISTED)[int(uid, 16)]
            ids = sequence.input_ids[start : start + tokens]
            assert images == LISTED[name] == int((ids == IMAGE_TOKEN).sum())
            files = sequence.images[first : first + images]
            assert [Image.open(io.BytesIO(file.data)).size for file in files] == SIZES[:images], "in their order"
            positions = [4 if layout is None else layout.layout(*size).length for size in SIZES[:images]]
            assert length == tokens - images + sum(positions)
            answers = [tokenizer.decode(sequence.input_ids[a:b]) for a, b in spans]
            assert answers == ["a <image> of red<|im_end|>", "a clock<|im_end|>"]
            parts = tokenizer.decode([token if token >= 0 else tokenizer.eos_token_id for token in ids.tolist()])
            place = "0 <|endoftext|> what" if MARKS[name] else f"user\n{'<|endoftext|>' + chr(10) if images else ''}"
            assert place in parts
            seen.append(name)
            start, first = start + tokens, first + images
        if layout is None:
            piece = PackLoader(reader, image_size=8).piece(sequence)
            assert len(piece.images) == sum(sequence.image_counts)
            assert int((piece.input_ids == IMAGE_TOKEN).sum()) == 4 * len(piece.images)
    assert sorted(seen) == sorted(set(LISTED) - {"mismatch", "surplus", "unreachable"})
    if layout is None:
        write_pickles(f"{tmp_path}/packs", f"{tmp_path}/pickles")
        pickled = [read_pickle(str(path)) for path in sorted(Path(f"{tmp_path}/pickles").rglob("*.pkl"))]
        assert [one.lengths for one in pickled] == [sequence.lengths for sequence in reader]
        assert [len(one.images) for one in pickled] == [len(sequence.images) for sequence in reader]


def test_a_sequences_limit_of_images_holds_for_conversations(tokenizer_folder: str) -> None:
    tokenizer, config = load_tokenizer(tokenizer_folder), PlanConfig(tokens_per_image=4, max_images=3)
    stored: list[Any] = [((None, None),) * count for count in (2, 4)]
    two, four = fit_rows(tokenizer, "conversation", [conversation("two"), conversation("four")], config, stored)
    assert isinstance(two, tuple)
    assert four == Rejection(rule="too_many_images", value="images=4")


def test_a_cut_conversation_keeps_all_its_images_or_goes(tokenizer_folder: str) -> None:
    tokenizer = load_tokenizer(tokenizer_folder)
    stored: list[Any] = [tuple(SIZES[:2])]
    (whole,) = fit_rows(tokenizer, "conversation", [conversation("two")], PlanConfig(layout=NATIVE), stored)
    assert isinstance(whole, tuple)
    for length in range(140, whole[0].length):
        config = PlanConfig(layout=NATIVE, context_length=length, too_long="truncate")
        (cut,) = fit_rows(tokenizer, "conversation", [conversation("two")], config, stored)
        if isinstance(cut, Rejection):
            assert cut.rule == "too_long"
            continue
        assert cut[0].length == length
        assert int((cut[0].tokens.input_ids == IMAGE_TOKEN).sum()) == 2
    assert isinstance(cut, tuple)


@pytest.mark.parametrize(
    ("row", "stored"),
    [
        ({"widths": [3, 4], "heights": [5, 6], "width": 9, "height": 9}, ((3, 5), (4, 6))),
        ({"widths": [3, 4], "heights": [5]}, ((3, 5), (4, None))),
        ({"widths": [], "heights": []}, ()),
        ({"widths": "[3]", "heights": "[5]"}, ((3, 5),)),
        ({"images": [{"file": "a"}, {"file": "b"}]}, ((None, None),) * 2),
        ({"images": [{"file": "a"}], "width": 7, "height": 8}, ((7, 8),)),
        ({"images": 0}, ()),
        ({"images": 2, "width": 7, "height": 8}, ((None, None),) * 2),
        ({"width": 7, "height": 8}, ((7, 8),)),
        ({"width": None, "height": None}, None),
        ({"text": "x"}, None),
    ],
)
def test_what_a_row_says_of_its_images(row: dict[str, Any], stored: Any) -> None:
    assert stored_images(pa.Table.from_pylist([row])) == [stored]


def test_a_row_that_lists_no_images_has_as_many_as_it_marks(tokenizer_folder: str) -> None:
    tokenizer, config = load_tokenizer(tokenizer_folder), PlanConfig(tokens_per_image=4)
    for name, count in (("none", 1), ("one", 1), ("four", 4)):
        (fitted,) = fit_rows(tokenizer, "conversation", [conversation(name)], config)
        assert isinstance(fitted, tuple)
        assert fitted[0].tokens.image_count == count
    (one,) = fit_rows(tokenizer, "conversation", [conversation("two")], config, [((7, 8),)])
    assert one == Rejection(rule="image_marks", value="image_marks: 2 marks <image>, 1 images")


def test_lengths_with_one_number_for_every_image_and_with_one_for_each_agree() -> None:
    from mmcorpus.packing import expanded_offsets

    ids = np.array([5, IMAGE_TOKEN, 7, IMAGE_TOKEN, 8], dtype=np.int32)
    same = np.array([3, 3], dtype=np.int64)
    assert expanded_offsets(ids, 3).tolist() == expanded_offsets(ids, same).tolist() == [0, 1, 4, 5, 8, 9]
    assert expanded_offsets(ids, np.array([2, 9])).tolist() == [0, 1, 3, 4, 13, 14]
    assert expanded_offsets(ids, np.array([2, 9]), per_text_token=0).tolist() == [0, 0, 2, 2, 11, 11]
    with pytest.raises(ValueError, match="cannot assign"):
        expanded_offsets(ids, np.array([2, 9, 4]))
