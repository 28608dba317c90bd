"""Documents: what they are as tokens, where they are cut, and that parts are whole samples all the way into a pack."""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mmcorpus.curation.store import ledger, storage
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.packing import (
    IMAGE_TOKEN,
    PackConfig,
    PackReader,
    PlanConfig,
    PlanSource,
    load_tokenizer,
    make_plan,
    special_ids,
    write_packs,
)
from mmcorpus.packing.documents import NodeImage, Nodes, cuts, encode_documents
from mmcorpus.packing.lengths import expanded_length
from mmcorpus.packing.samples import Rejection, fit_rows
from tests.packing.conftest import caption, image_bytes

TOKENS_PER_IMAGE = 16
NODES = st.lists(
    st.one_of(
        st.integers(0, 30).map(NodeImage),
        st.text("ab \n.", min_size=1, max_size=40).filter(str.strip),
        st.integers(1, 60).map(lambda words: "red square " * words),
    ),
    max_size=25,
)


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: str) -> Any:
    return load_tokenizer(tokenizer_folder)


def as_json(nodes: Nodes) -> str:
    return json.dumps([{"text": n, "tag": "p"} if isinstance(n, str) else {"image": n.number} for n in nodes])


def fit(tokenizer: Any, nodes: Nodes, too_long: Any = "split", kind: Any = "document", **limits: Any) -> Any:
    limits = {"context_length": 64, "tokens_per_image": TOKENS_PER_IMAGE, **limits}
    return fit_rows(tokenizer, kind, [as_json(nodes)], PlanConfig(too_long=too_long, **limits))[0]


def test_texts_and_images_in_page_order(tokenizer: Any) -> None:
    special = special_ids(tokenizer)

    def plain(text: str) -> list[int]:
        ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    nodes: Nodes = ["a red square.", "a blue circle", NodeImage(4), NodeImage(7), "three clocks", NodeImage(0)]
    (document,) = encode_documents(tokenizer, [nodes])
    image = [IMAGE_TOKEN, *special.newline]
    first, second = plain("a red square.\n\na blue circle\n"), plain("three clocks\n")
    assert document.input_ids.tolist() == [*first, *image, *image, *second, *image, special.eos]
    assert document.images == (NodeImage(4), NodeImage(7), NodeImage(0))
    sample = document.part(0, len(document.input_ids))
    end = len(document.input_ids)
    text = len(first) + 4
    assert sample.loss_spans == ((0, len(first)), (text, text + len(second)), (end - 1, end))
    assert [document.input_ids[start] for start in document.nodes][2:4] == [IMAGE_TOKEN, IMAGE_TOKEN]
    assert len(document.groups) == 4, "the second of two images and the text after them begin no group"


def test_special_tokens_in_a_document_are_plain_text(tokenizer: Any) -> None:
    special = special_ids(tokenizer)
    (document,) = encode_documents(tokenizer, [["<|endoftext|> <image> <|im_end|>", NodeImage(0), "-200 <|pad|>"]])
    controls = {special.eos, special.pad, special.im_start, special.im_end}
    assert not controls & set(document.input_ids[:-1].tolist())
    assert (document.input_ids == IMAGE_TOKEN).sum() == 1


def test_a_text_has_no_images(tokenizer: Any) -> None:
    (sample,) = fit(tokenizer, ["a red square", NodeImage(3), "blue"], kind="text")
    assert sample.tokens.images == ()
    assert tokenizer.decode(sample.tokens.input_ids) == "a red square\n\nblue<|endoftext|>"


@settings(max_examples=150, deadline=None)
@given(nodes=NODES, context=st.integers(20, 90), most=st.one_of(st.none(), st.integers(1, 3)))
def test_parts_fit_and_are_joined_the_document(tokenizer: Any, nodes: Nodes, context: int, most: int | None) -> None:
    (document,) = encode_documents(tokenizer, [nodes])
    edges = cuts(document, context_length=context, tokens_per_image=TOKENS_PER_IMAGE, most=[(1, most)] if most else [])
    assert (edges[0], edges[-1]) == (0, len(document.input_ids))
    parts = [document.part(start, end) for start, end in itertools.pairwise(edges)]
    assert np.concatenate([part.input_ids for part in parts]).tolist() == document.input_ids.tolist()
    assert sum((part.images or () for part in parts), ()) == tuple(image.number for image in document.images)
    targets = np.zeros(len(document.input_ids), dtype=bool)
    for start, part in zip(edges, parts, strict=False):
        assert 0 < expanded_length(len(part.input_ids), part.image_count, TOKENS_PER_IMAGE) <= context
        assert part.image_count <= (most or part.image_count)
        for first, end in part.loss_spans:
            targets[start + first : start + end] = True
    assert targets.tolist() == document.targets.tolist()
    assert not targets[document.input_ids == IMAGE_TOKEN].any()


def test_cuts_lie_at_borders_and_keep_an_image_with_its_text(tokenizer: Any) -> None:
    nodes: Nodes = ["red square circle", NodeImage(0), "blue square circle", NodeImage(1), "green square circle"]
    (document,) = encode_documents(tokenizer, [nodes])
    size = len(document.input_ids)
    edges = cuts(document, context_length=24, tokens_per_image=TOKENS_PER_IMAGE)
    assert edges == [0, *document.groups[1:].tolist(), size]
    edges = cuts(document, context_length=1000, tokens_per_image=TOKENS_PER_IMAGE, most=[(1, 1)])
    assert edges == [0, int(document.groups[2]), size]
    (many,) = encode_documents(tokenizer, [[NodeImage(0), NodeImage(1), NodeImage(2), "red"]])
    edges = cuts(many, context_length=1000, tokens_per_image=TOKENS_PER_IMAGE, most=[(1, 2)])
    assert edges == [0, int(many.nodes[2]), len(many.input_ids)], "more images than a part may have: between images"
    (long,) = encode_documents(tokenizer, [["blue", NodeImage(0), "red square " * 200]])
    first, second, *_ = cuts(long, context_length=64, tokens_per_image=TOKENS_PER_IMAGE)[1:]
    assert first == int(long.groups[1])
    assert second == first + 64 - TOKENS_PER_IMAGE + 1, "within a text that is longer than a sequence: when it is full"


def test_what_is_done_with_a_document_that_is_too_long(tokenizer: Any) -> None:
    nodes: Nodes = ["red square circle " * 6, NodeImage(0), "blue", NodeImage(1), "green " * 30]
    length = fit(tokenizer, nodes, context_length=4096)[0].length
    assert fit(tokenizer, nodes, "drop") == Rejection(rule="too_long", value=f"length={length}")
    (cut,) = fit(tokenizer, nodes, "truncate")
    assert cut.length <= 64 < cut.full_length == length
    parts = fit(tokenizer, nodes)
    assert [part.part for part in parts] == list(range(len(parts)))
    assert parts[0].tokens.input_ids.tolist() == cut.tokens.input_ids.tolist()
    eos = special_ids(tokenizer).eos
    assert [eos in part.tokens.input_ids for part in parts] == [False] * (len(parts) - 1) + [True]
    many = fit(tokenizer, nodes, "drop", context_length=4096, max_images=1)
    assert many == Rejection(rule="too_many_images", value="images=2")
    assert [part.tokens.images for part in fit(tokenizer, nodes, context_length=4096, max_images=1)] == [(0,), (1,)]


def test_a_part_without_anything_to_learn_is_left_out(tokenizer: Any) -> None:
    parts = fit(tokenizer, [*map(NodeImage, range(5)), "red"], max_images=2, context_length=200)
    assert [(part.part, part.tokens.images) for part in parts] == [(2, (4,))]
    long: Nodes = ["red " * 64]
    (document,) = encode_documents(tokenizer, [long])
    whole = len(document.input_ids)
    assert [part.part for part in fit(tokenizer, long, context_length=whole - 1)] == [0], "not the end token alone"


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("no json", "bad_document"),
        ("{}", "bad_document"),
        ('["x"]', "bad_document"),
        ('[{"image": "x.jpg"}]', "bad_document"),
        ('[{"image": -1}]', "bad_document"),
        ('[{"image": true}]', "bad_document"),
        ('[{"image": 1}]', "missing_text"),
        ('[{"text": " "}]', "missing_text"),
        ("[]", "missing_text"),
        (None, "missing_text"),
    ],
)
def test_what_is_no_document(tokenizer: Any, text: str | None, rule: str) -> None:
    config = PlanConfig(context_length=64, tokens_per_image=TOKENS_PER_IMAGE)
    (answer,) = fit_rows(tokenizer, "document", [text], config)
    assert isinstance(answer, Rejection)
    assert answer.rule == rule


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, dict[str, Nodes], dict[str, dict[int, bytes]]]:
    """A folder of two shards of documents: their nodes and pictures, by uid. Some pictures stand in no node."""
    root, rng = str(tmp_path_factory.mktemp("documents")), random.Random(3)
    nodes: dict[str, Nodes] = {}
    pictures: dict[str, dict[int, bytes]] = {}
    for shard in range(2):
        with ShardWriter(Shard(root=root, name=f"{shard:09d}")) as writer:
            for place in range(12):
                uid = f"{shard * 100 + place:032x}"
                images = rng.randint(0, 6)
                files = [image_bytes(rng) for _ in range(images)]
                own: Nodes = [caption(rng, rng.randint(3, 60)) for _ in range(rng.randint(1, 6))]
                for number in range(images):
                    if rng.random() < 0.8:
                        own.insert(rng.randint(0, len(own)), NodeImage(number))
                nodes[uid], pictures[uid] = own, dict(enumerate(files))
                writer.write(
                    Sample(
                        key=f"{shard:05d}{place:04d}",
                        uid=uid,
                        caption=None,
                        images=tuple(EncodedImage(extension="jpg", data=data) for data in files),
                        meta={"nodes": as_json(own), "uid": uid},
                    )
                )
    return root, nodes, pictures


def selection(uids: Any) -> pa.Table:
    return pa.table({"uid": sorted(uids), "count": pa.array([1] * len(uids), pa.int32())})


def packed(config: PlanConfig, root: str, out: Path, tokenizer: str, uids: Any, kind: Any = "document") -> PackReader:
    source = PlanSource(shards=root, selection=selection(uids), kind=kind)
    made = make_plan(
        config, tokenizer=tokenizer, sources={"pages": source}, out=f"{out}/plan.parquet", ledger_root=f"{out}/ledger"
    )
    assert made.verdicts["pages"] == {"kept": len(uids)}
    write_packs(
        PackConfig(sequences_per_shard=7),
        plan=f"{out}/plan.parquet",
        tokenizer=tokenizer,
        shards={"pages": root},
        out=f"{out}/packs",
        ledger_root=f"{out}/ledger",
    )
    return PackReader(f"{out}/packs")


def test_documents_go_into_packs_whole_or_in_parts(
    documents: Any, tmp_path: Path, tokenizer_folder: str, tokenizer: Any
) -> None:
    root, nodes, pictures = documents
    config = PlanConfig(context_length=128, tokens_per_image=16, max_images=3, too_long="split", window_shards=1)
    reader = packed(config, root, tmp_path, tokenizer_folder, nodes)
    plan = storage.read_table(f"{tmp_path}/plan.parquet").to_pylist()
    rows = {(row["sequence"], row["position"]): row for row in plan}
    found: dict[tuple[str, int], tuple[list[int], list[bytes]]] = {}
    for sequence in reader:
        assert sequence.length <= 128
        assert len(sequence.images) <= 3
        ids, images = iter(sequence.input_ids.tolist()), iter(sequence.images)
        for position, (tokens, count) in enumerate(zip(sequence.token_counts, sequence.image_counts, strict=True)):
            row = rows[sequence.sequence, position]
            found[row["uid"], row["part"]] = (
                list(itertools.islice(ids, tokens)),
                [image.data for image in itertools.islice(images, count)],
            )
    assert len(found) == len(plan)
    split = 0
    for uid, own in nodes.items():
        (document,) = encode_documents(tokenizer, [own])
        parts = [found[key] for key in sorted(found) if key[0] == uid]
        split += len(parts) > 1
        if len(parts) == 1 + max(part for other, part in found if other == uid):  # none was without a text
            assert [number for ids, _ in parts for number in ids] == document.input_ids.tolist()
            assert [data for _, images in parts for data in images] == [
                pictures[uid][n.number] for n in own if isinstance(n, NodeImage)
            ]
    assert split > 5
    values = {row["uid"]: row["value"] for row in ledger.read_stages(f"{tmp_path}/ledger/pages")["pack"].to_pylist()}
    assert sum(str(value).startswith("parts=") for value in values.values()) == split


def test_texts_are_packed_without_their_images(documents: Any, tmp_path: Path, tokenizer_folder: str) -> None:
    root, nodes, _ = documents
    config = PlanConfig(context_length=512, tokens_per_image=16)
    reader = packed(config, root, tmp_path, tokenizer_folder, nodes, kind="text")
    assert reader.manifest["counts"]["images"] == 0
    assert reader.manifest["counts"]["samples"] == len(nodes)


def test_a_missing_image_costs_the_whole_document(tmp_path: Path, tokenizer_folder: str) -> None:
    root, rng = f"{tmp_path}/shards", random.Random(0)
    own: Nodes = ["red " * 30, NodeImage(0), "blue " * 30, NodeImage(5), "green " * 30]
    uids = ["a" * 32, "b" * 32]
    with ShardWriter(Shard(root=root, name="000000000")) as writer:
        other: Nodes = ["a clock", NodeImage(0), "at noon"]
        for place, nodes in enumerate([own, other]):
            image = EncodedImage(extension="jpg", data=image_bytes(rng))
            meta = {"nodes": as_json(nodes)}
            writer.write(Sample(key=f"{place:09d}", uid=uids[place], caption=None, images=(image,), meta=meta))
    config = PlanConfig(context_length=64, tokens_per_image=16, too_long="split")
    reader = packed(config, root, tmp_path, tokenizer_folder, uids)
    assert {uid for sequence in reader for uid in sequence.uids} == {"b" * 32}
    rows = {row["uid"]: row for row in ledger.read_stages(f"{tmp_path}/ledger/pages")["pack"].to_pylist()}
    assert (rows["a" * 32]["rule"], rows["b" * 32]["rule"]) == ("missing_image", None)
    assert "no image 5" in rows["a" * 32]["value"]


def test_a_shard_without_nodes_says_so(tmp_path: Path, tokenizer_folder: str, make_shards: Callable[..., Any]) -> None:
    (sample, *_) = make_shards(tmp_path / "web", 1, 2)
    with pytest.raises(ValueError, match=r"no column nodes: is this source of kind 'document'"):
        packed(PlanConfig(), str(tmp_path / "web"), tmp_path, tokenizer_folder, [sample.uid])
