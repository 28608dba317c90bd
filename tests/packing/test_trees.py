"""Several annotations of an image: as tokens, as copies of a plan, with their weights, up to the trainer's loss."""

import dataclasses
import io
import json
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image

from mmcorpus.curation.store import storage
from mmcorpus.curation.store.shards import EncodedImage, Sample, Shard, ShardWriter
from mmcorpus.packing import (
    IMAGE_TOKEN,
    PackConfig,
    PackReader,
    PlanConfig,
    PlanSource,
    encode_conversation,
    load_tokenizer,
    make_plan,
    write_packs,
)
from mmcorpus.packing.draws import sample_words
from mmcorpus.packing.pickles import write_pickles
from mmcorpus.packing.render import RenderConfig, parse_annotations, render
from mmcorpus.packing.samples import Rejection, fit_rows
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import TokenizedSample, weigh
from mmcorpus.training.data import PackLoader
from mmcorpus.training.loss import weighted_sum

TREE = json.dumps(
    {
        "annotations": [
            {"style": "long_caption", "text": "a red clock at noon " * 5},
            {"style": "vqa2", "question": "what is it?", "answer": "a clock"},
            {"style": "talk", "messages": [
                {"role": "user", "content": "<image>\nis it red?"}, {"role": "assistant", "content": "red"},
                {"role": "user", "content": "and blue?"}, {"role": "assistant", "content": "three of blue"},
            ], "weight": 0.5},
        ]
    }
)  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tokenizer_folder: str) -> Any:
    return load_tokenizer(tokenizer_folder)


def fit(tokenizer: Any, text: str = TREE, word: int = 7, stored: Any = None, **settings: Any) -> Any:
    config = PlanConfig(**{"context_length": 400, "tokens_per_image": 4, **settings})
    return fit_rows(tokenizer, "conversation", [text], config, [stored], [word])[0]


def test_each_branch_is_the_conversation_that_it_is_alone(tokenizer: Any) -> None:
    annotations = parse_annotations(TREE)
    assert annotations is not None
    for word in range(5):
        (fitted,) = fit(tokenizer, word=word)
        sample = fitted.tokens
        branches = render(annotations, RenderConfig(), word)
        head, ids = sample.branches[0], sample.input_ids.tolist()
        assert ids[head - 1] == IMAGE_TOKEN
        spans = []
        for branch, start, end in zip(branches, sample.branches, (*sample.branches[1:], len(ids)), strict=True):
            turns = [{"role": role, "content": text} for role, text in branch.turns]
            alone = encode_conversation(tokenizer, turns, 1)
            assert ids[:head] + ids[start:end] == alone.input_ids.tolist()
            spans += [(a + start - head, b + start - head) for a, b in alone.loss_spans]
        assert sample.loss_spans == tuple(spans)
        styles = [branch.style for branch in branches for _ in range(2 if branch.style == "talk" else 1)]
        assert sample.tags == tuple(styles)
        assert sample.weights == tuple(0.5 if style == "talk" else 1.0 for style in styles)
        assert fitted.annotations == 3
        assert fitted.length == len(ids) - 1 + 4


def test_branches_without_room_are_left_out_and_one_alone_is_a_conversation(tokenizer: Any) -> None:
    (whole,) = fit(tokenizer)
    ends = [*whole.tokens.branches[1:], len(whole.tokens.input_ids)]
    for kept in (1, 2, 3):
        (fitted,) = fit(tokenizer, context_length=ends[kept - 1] + 3)
        assert (fitted.annotations, fitted.left_out) == (kept, 3 - kept)
        assert len(fitted.tokens.input_ids) == ends[kept - 1]
        assert len(fitted.tokens.tags) == len(fitted.tokens.loss_spans)
        assert len(fitted.tokens.branches) == (kept if kept > 1 else 0)
    assert fit(tokenizer, context_length=20).rule == "too_long"


@pytest.mark.parametrize(
    ("change", "stored", "message"),
    [
        ({"question": "<image> or <image>?", "answer": "x"}, None, "an annotation marks 2 images within its text"),
        ({"text": "x"}, (), "it has several annotations and no image"),
        ({"messages": [["system", "be"], ["user", "q"], ["assistant", "a"]]}, None, "between annotation 0 and 1"),
        ({"style": "x"}, None, "annotation 1 has no text"),
    ],
)
def test_annotations_that_fit_no_tree(tokenizer: Any, change: dict[str, Any], stored: Any, message: str) -> None:
    if "messages" in change:
        change = {"messages": [{"role": role, "content": text} for role, text in change["messages"]]}
    text = json.dumps({"annotations": [{"text": "a clock"}, change]})
    rejected = fit(tokenizer, text, stored=stored, render=RenderConfig(shuffle=False))
    assert isinstance(rejected, Rejection)
    assert rejected.rule == "bad_conversation"
    assert message in rejected.value


def test_weights_by_branches_and_by_lengths() -> None:
    ids = np.arange(20, dtype=np.int32)
    tree = TokenizedSample(
        input_ids=ids, loss_spans=((3, 7), (10, 12), (14, 16)), image_count=0, branches=(2, 9), weights=(1.0, 0.5, 0.5)
    )
    assert weigh(tree, ()) is tree
    root = round(1 / 2**0.5, 6)
    assert weigh(tree, ("branches",)).weights == (root, round(0.5 / 2**0.5, 6), round(0.5 / 2**0.5, 6))
    assert weigh(tree, ("lengths",)).weights == (1.0, 0.5, 0.5), "2 / √4 in both"
    plain = TokenizedSample(input_ids=ids, loss_spans=((0, 4),), image_count=0)
    assert weigh(plain, ("branches", "lengths")).weights == ()
    assert weigh(TokenizedSample(input_ids=ids, loss_spans=((0, 16),), image_count=0), ("lengths",)).weights == (0.5,)


@pytest.fixture(scope="module")
def packs(tmp_path_factory: pytest.TempPathFactory, tokenizer_folder: str) -> tuple[str, PlanConfig]:
    root = tmp_path_factory.mktemp("trees")
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (200, 0, 0)).save(file, "PNG")
    plain = json.dumps([{"from": "human", "value": "what?"}, {"from": "gpt", "value": "noon"}])
    with ShardWriter(Shard(root=f"{root}/shards", name="00000")) as writer:
        for place, text in enumerate((TREE, plain, TREE)):
            image = EncodedImage(extension="png", data=file.getvalue())
            meta = {"conversations": text, "width": 8, "height": 8}
            writer.write(Sample(key=f"{place}", uid=f"{place:032x}", caption=None, images=(image,), meta=meta))
    selection = pa.table({"uid": [f"{place:032x}" for place in range(3)], "count": [6, 2, 1]})
    config = PlanConfig(context_length=256, tokens_per_image=4, target_weights=("branches",), seed=3)
    source = PlanSource(shards=f"{root}/shards", selection=selection, kind="conversation")
    made = make_plan(config, tokenizer=tokenizer_folder, sources={"talk": source}, out=f"{root}/plan.parquet")
    assert (made.samples, made.annotated) == (9, 2)
    write_packs(
        PackConfig(sequences_per_shard=3), plan=f"{root}/plan.parquet", tokenizer=tokenizer_folder,
        shards={"talk": f"{root}/shards"}, out=f"{root}/packs",
    )  # fmt: skip
    return str(root), config


def test_copies_are_rendered_anew_in_packs(packs: tuple[str, PlanConfig], tokenizer: Any) -> None:
    root, config = packs
    rows = storage.read_table(f"{root}/plan.parquet").to_pylist()
    assert sorted(row["copy"] for row in rows if row["uid"][-1] == "0") == list(range(6))
    reader = PackReader(f"{root}/packs")
    assert reader.manifest["version"] == 4
    assert (reader.manifest["counts"]["annotated"], reader.manifest["counts"]["weighted"]) == (7, 7)
    seen: dict[tuple[str, int], list[int]] = {}
    for sequence in reader:
        planned = [row for row in rows if row["sequence"] == sequence.sequence]
        start = 0
        for row, tokens, weights, tags, spans in zip(
            planned, sequence.token_counts, sequence.weights, sequence.tags, sequence.loss_spans, strict=True
        ):
            seen[row["uid"][-1], row["copy"]] = ids = sequence.input_ids[start : start + tokens].tolist()
            start += tokens
            if row["uid"][-1] == "1":
                assert (weights, tags) == ((), ())
                continue
            word = int(sample_words(np.array([row["uid"]], "S32"), np.array([row["copy"] % 4]), config.seed)[0])
            (alone,) = fit(tokenizer, word=word, context_length=256, target_weights=config.target_weights)
            assert ids == alone.tokens.input_ids.tolist()
            assert (weights, tags) == (alone.tokens.weights, alone.tokens.tags)
            assert len(weights) == len(spans) == 4
    assert len({tuple(seen["0", copy]) for copy in range(6)}) == 4 == PlanConfig().render.variants
    assert seen["0", 5] == seen["0", 1]
    assert seen["0", 0] != seen["2", 0], "another uid is drawn otherwise"
    with pytest.raises(ValueError, match="has targets with weights, and Open-Qwen2VL's pickles cannot say so"):
        write_pickles(f"{root}/packs", f"{root}/pickles")


def test_the_trainers_loss_weighs_each_target(packs: tuple[str, PlanConfig]) -> None:
    root, _ = packs
    reader = PackReader(f"{root}/packs")
    loader = PackLoader(reader, image_size=8)
    batch = loader.batch(range(len(reader)))
    assert batch.weights_M is not None
    expected = []
    for sequence in reader:
        for own, spans in zip(sequence.weights, sequence.loss_spans, strict=True):
            for (start, end), weight in zip(spans, own or (1.0,) * len(spans), strict=True):
                expected += [weight] * (end - start)
    assert batch.weights_M.tolist() == pytest.approx(expected)
    assert batch.target_weight == pytest.approx(sum(expected))
    losses = torch.rand(batch.target_tokens)
    assert float(weighted_sum(losses, batch.weights_M)) == pytest.approx(
        sum(weight * loss for weight, loss in zip(expected, losses.tolist(), strict=True)), rel=1e-5
    )
    assert float(weighted_sum(losses, None)) == pytest.approx(float(losses.sum()))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": ((1.0,),)}, "weights are of 1 samples"),
        ({"tags": (("a", "b"), ())}, "are not one for each of the loss spans"),
        ({"weights": ((-1.0,), ())}, "negative or not finite"),
        ({"weights": ((float("nan"),), ())}, "negative or not finite"),
        ({"weights": ((float("inf"),), ())}, "negative or not finite"),
    ],
)
def test_what_is_said_of_targets_is_checked(change: dict[str, Any], message: str) -> None:
    sequence = PackedSequence(
        sequence=0, input_ids=np.arange(4, dtype=np.int32), uids=("a", "b"), sources=("x", "x"), lengths=(2, 2),
        token_counts=(2, 2), image_counts=(0, 0), loss_spans=(((0, 2),), ((2, 4),)), images=(),
    )  # fmt: skip
    sequence.check(4)
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(sequence, **change).check(4)
