"""Every layout with every connector: packed = alone, resumed to the bit, and answered with."""

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from mmcorpus.curation.store.shards import EncodedImage
from mmcorpus.packing.layout import LayoutConfig, read_layout
from mmcorpus.packing.layout.base import Token
from mmcorpus.packing.manifest import describe_tokenizer, write_manifest
from mmcorpus.packing.packs import PackReader, PackShardWriter
from mmcorpus.packing.sequence import PackedSequence
from mmcorpus.packing.tokens import encode_captions, load_tokenizer
from mmcorpus.training import Generator, ModelConfig, read_metrics, train
from mmcorpus.training.batch import collate, expand
from mmcorpus.training.checkpoint import read_state, read_tensors
from mmcorpus.training.config import ConnectorConfig, PackCompute, RandomVision, StageConfig
from mmcorpus.training.connector import build_connector
from mmcorpus.training.data import PackLoader
from mmcorpus.training.evaluation import EvaluationConfig, evaluate
from mmcorpus.training.evaluation.answering import Checkpoint, Server
from mmcorpus.training.evaluation.asking import Asked
from mmcorpus.training.generation import Prompt
from mmcorpus.training.images import tile
from mmcorpus.training.model import build_model
from mmcorpus.training.optim import ScheduleConfig
from tests.training.conftest import TINY

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VISION = RandomVision(image_size=16, patch_size=4, hidden_size=32, layers=2, heads=2, intermediate_size=64)
LAYOUTS: dict[str, dict[str, Any]] = {
    "molmo": {"crop": 16, "patch": 4, "margins": [1, 1], "max_crops": 4},
    "catty": {"tile": 16, "patch": 4, "max_tiles": 3},
    "internvl": {"tile": 16, "patch": 4, "max_tiles": 4},
    "mm1": {"side": 16, "patch": 4, "tokens": 4},
    "native": {"patch": 4, "min_pixels": 256, "max_pixels": 1024},
}
KINDS: dict[str, dict[str, Any]] = {
    "average_mlp": {},
    "linear": {},
    "shuffle_mlp": {},
    "attention_mlp": {"heads": 4, "width": 8},
    "attention_pool": {"heads": 4},
    "c_abstractor": {"depth": 1, "hidden": 16},
}
BY_CROP = ("attention_pool", "c_abstractor")
RESUMED: dict[str, tuple[str, str]] = {
    "molmo": ("attention_mlp", "varlen"),
    "catty": ("attention_pool", "sdpa"),
    "internvl": ("shuffle_mlp", "varlen"),
    "mm1": ("c_abstractor", "sdpa"),
    "native": ("linear", "varlen"),
}
"""By layout the connector and the kernel with which a run is resumed, so that each of them once is."""


def settings(kind: str) -> LayoutConfig:
    return read_layout({"kind": kind, **LAYOUTS[kind]})


def picture(number: int) -> tuple[bytes, tuple[int, int]]:
    width, height = ((24, 24), (40, 20), (18, 44))[number % 3]
    pixels = np.random.default_rng(number).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue(), (width, height)


def write(root: str, layout: LayoutConfig, tokenizer_folder: str, groups: list[list[int]]) -> str:
    """Packs of captions on images of several shapes, one sequence a group of numbers."""
    tokenizer = load_tokenizer(tokenizer_folder)
    per_image = layout.constant or layout
    with PackShardWriter(root, "00000", tokens_per_image=per_image) as writer:
        for number, group in enumerate(groups):
            samples = encode_captions(tokenizer, [f"a red square number {one}" for one in group])
            images = [picture(one) for one in group]
            counts = [len(sample.input_ids) for sample in samples]
            starts = np.cumsum([0, *counts])
            lengths = [
                count - 1 + int(layout.lengths([size[0]], [size[1]])[0])
                for count, (_, size) in zip(counts, images, strict=True)
            ]
            writer.write(
                PackedSequence(
                    sequence=number,
                    input_ids=np.concatenate([sample.input_ids for sample in samples]).astype(np.int32),
                    uids=tuple(f"{one:032x}" for one in group),
                    sources=("pairs",) * len(group),
                    lengths=tuple(lengths),
                    token_counts=tuple(counts),
                    image_counts=(1,) * len(group),
                    loss_spans=tuple(
                        tuple((int(start + a), int(start + b)) for a, b in sample.loss_spans)
                        for start, sample in zip(starts[:-1], samples, strict=True)
                    ),
                    images=tuple(EncodedImage(extension="png", data=data) for data, _ in images),
                    sizes=() if layout.constant else tuple(size for _, size in images),
                )
            )
    tokenizer.save_pretrained(f"{root}/tokenizer")
    write_manifest(
        root, tokenizer=describe_tokenizer(tokenizer, tokenizer_folder), tokens_per_image=layout.constant or 0,
        context_length=512, shards=[writer.record], parameters={"sources": {"pairs": "pair"}}, layout=layout,
    )  # fmt: skip
    return root


def model_config(kind: str, connector: str = "average_mlp") -> ModelConfig:
    return ModelConfig(
        vision=VISION,
        language=TINY.language,
        layout=settings(kind),
        connector=ConnectorConfig(kind=connector, **KINDS[connector]),
    )


@pytest.mark.parametrize("kind", sorted(LAYOUTS))
def test_packed_is_alone_and_a_run_is_resumed_to_the_bit(
    kind: str, tokenizer_folder: str, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    layout = settings(kind)
    packed = PackReader(write(str(tmp_path / "packed"), layout, tokenizer_folder, [[0, 1, 2], [3, 4]]))
    single = PackReader(write(str(tmp_path / "single"), layout, tokenizer_folder, [[n] for n in range(5)]))
    together = PackLoader(packed, image_size=16).batch([0, 1])
    apart = [PackLoader(single, image_size=16).batch([n]) for n in range(5)]
    assert together.positions == sum(one.positions for one in apart)
    for connector in KINDS:
        if connector in BY_CROP and kind in ("molmo", "native"):
            with pytest.raises(ValueError, match="tokens of a crop as a whole"):
                build_model(model_config(kind, connector), 300)
            continue
        net = build_model(model_config(kind, connector), len(load_tokenizer(tokenizer_folder))).eval()
        for kernel in ("sdpa", "varlen"):
            net.set_attention(isolated=True, implementation=kernel)  # type: ignore[arg-type]
            with torch.no_grad():
                torch.testing.assert_close(net(together), torch.cat([net(one) for one in apart]), rtol=1e-4, atol=1e-5)
    connector, attention = RESUMED[kind]
    settled, cut = stage(steps=3, batch_sequences=2, checkpoint_every=2, attention=attention), tmp_path / "cut"
    model = model_config(kind, connector)
    whole = train(settled, packed.root, str(tmp_path / "whole"), model=model)
    train(settled, packed.root, str(cut), model=model)
    (cut / "checkpoints" / "step-00000003" / "state.json").unlink()
    again = train(settled, packed.root, str(cut), model=model)
    final = read_tensors(again.checkpoint, "model")
    assert all(torch.equal(value, final[name]) for name, value in read_tensors(whole.checkpoint, "model").items())
    assert (
        read_metrics(f"{cut}/metrics.jsonl")[-1]["loss"] == read_metrics(f"{tmp_path}/whole/metrics.jsonl")[-1]["loss"]
    )
    generator = Generator.load(again.checkpoint, "cpu")
    assert isinstance(generator.generate(picture(7)[0], "a", max_new_tokens=2), str)


def test_each_patch_reaches_its_own_token(tokenizer_folder: str) -> None:
    """Through the batch, a change of one crop's patch moves the tokens that its layout makes of it, and no other."""
    layout = settings("molmo")
    (data, size), (other, other_size) = picture(1), picture(2)
    tiled = tile([data, other], layout, [size, other_size])
    one, two = layout.layout(*size), layout.layout(*other_size)
    patches = len(one.padding)
    assert len(tiled.pixels) == len(one.crops) + len(two.crops)
    assert [template.tolist() for template in tiled.tiling.templates] == [one.template.tolist(), two.template.tolist()]
    assert np.array_equal(tiled.tiling.pool[len(one.pool) :], np.where(two.pool >= 0, two.pool + patches, -1))
    connector = build_connector(ConnectorConfig(), 3, 8, layout, 16)
    features = torch.randn(len(tiled.tiling.padding), 3)
    pool, padding = torch.from_numpy(tiled.tiling.pool), torch.from_numpy(tiled.tiling.padding)
    before = connector(features, pool, padding)
    patch = int(pool[len(one.pool)].max())
    features[patch] += 1
    moved = (connector(features, pool, padding) - before).abs().sum(-1) > 0
    assert moved.tolist() == (pool == patch).any(-1).tolist()
    assert 0 < int(moved.sum()) < len(moved)


def test_a_gather_is_the_average_pool_and_the_pixel_shuffle_of_squares() -> None:
    layout = read_layout({"kind": "square", "tokens": 9, "side": 16, "patch": 4})
    pool = torch.from_numpy(layout.layout(30, 20).pool.astype(np.int64))
    features = torch.randn(1, 16, 6)
    average = build_connector(ConnectorConfig(), 6, 8, 9, 16)
    torch.testing.assert_close(average(features)[0], average(features[0], pool))
    four = read_layout({"kind": "square", "tokens": 4, "side": 16, "patch": 4}).layout(30, 20)
    shuffle = build_connector(ConnectorConfig(kind="shuffle_mlp"), 6, 8, 4, 16)
    torch.testing.assert_close(shuffle(features)[0], shuffle(features[0], torch.from_numpy(four.pool.astype(np.int64))))


def test_marks_are_vectors_of_their_own_that_learn(
    tokenizer: "PreTrainedTokenizerFast", tokenizer_folder: str, tmp_path: Path
) -> None:
    reader = PackReader(write(str(tmp_path), settings("molmo"), tokenizer_folder, [[0, 1]]))
    model = build_model(model_config("molmo"), len(tokenizer))
    batch = PackLoader(reader, image_size=16).batch([0])
    assert batch.marks is not None
    assert set(batch.marks.tolist()) == {Token.START, Token.END, Token.COLUMN}
    model(batch).sum().backward()
    assert model.projector.marks is not None
    grads = model.projector.marks.weight.grad
    assert grads is not None
    assert grads[[Token.START - 1, Token.END - 1, Token.COLUMN - 1]].abs().sum(-1).gt(0).all()
    assert model.projector.padded is not None
    assert model.projector.padded.grad is not None


@pytest.mark.parametrize(
    ("kind", "connector"),
    [("molmo", "average_mlp"), ("molmo", "attention_mlp"), ("catty", "shuffle_mlp"), *(("catty", c) for c in BY_CROP)],
)
def test_a_batch_without_images_gives_every_part_a_gradient(kind: str, connector: str) -> None:
    """Or devices that have images would wait for those that have none."""
    net = build_model(model_config(kind, connector), 300)
    text = expand(np.array([3, 4, 5]), [3], [3], [[(1, 3)]], np.zeros((0, 3, 16, 16), np.uint8), [], 4)
    net(collate([text])).sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_broken_images_and_wrong_sizes_cost_their_sample(tokenizer_folder: str) -> None:
    layout = settings("internvl")
    data, size = picture(1)
    tiled = tile([data, b"no image", data], layout, [size, size, (size[1], size[0])])
    assert tiled.broken == [1, 2]
    assert [len(t) for t in tiled.tiling.templates] == [
        layout.lengths([w], [h])[0] for w, h in (size, size, size[::-1])
    ]
    blank = tile([data], layout, [size], blank=True)
    assert (blank.pixels == 128).all()


def test_a_stage_may_take_another_layout_where_no_weights_depend_on_it(
    packs: str, tokenizer_folder: str, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    tiles = write(str(tmp_path / "tiles"), settings("internvl"), tokenizer_folder, [[0, 1], [2, 3]])
    first = train(stage(steps=2), packs, str(tmp_path / "first"), model=TINY)
    short = {"steps": 1, "batch_sequences": 2}
    with pytest.raises(ValueError, match="set the stage's layout to the packs'"):
        train(stage(**short), tiles, str(tmp_path / "no"), init=first.checkpoint)
    tiled = dataclasses.replace(stage(**short), layout=settings("internvl"))
    second = train(tiled, tiles, str(tmp_path / "second"), init=first.checkpoint)
    added = read_tensors(second.checkpoint, "model").keys() - read_tensors(first.checkpoint, "model").keys()
    assert added == {"projector.marks.weight"}
    third = train(stage(**short), tiles, str(tmp_path / "third"), init=second.checkpoint)
    assert third.totals.step == 1


def test_a_stages_squares_are_told_by_their_tokens(
    packs: str, stage: Callable[..., StageConfig], tmp_path: Path
) -> None:
    """Whether as a number or as a layout, whose side and patch are the encoder's in a model; and a stage goes on."""
    told = dataclasses.replace(stage(steps=2, checkpoint_every=1), layout=read_layout({"kind": "square", "tokens": 4}))
    model = dataclasses.replace(TINY, layout=16)
    report = train(told, packs, str(tmp_path / "out"), model=model)
    (tmp_path / "out" / "checkpoints" / "step-00000002" / "state.json").unlink()
    again = train(told, packs, str(tmp_path / "out"), model=model)
    assert again.totals.step == 2
    assert read_state(report.checkpoint)["model"]["layout"] == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"layout": read_layout({"kind": "internvl"})}, "patches of 14 pixels, the encoder's are of 4"),
        ({"layout": 25}, "the encoder gives 16 patches"),
        ({"layout": 9, "connector": ConnectorConfig(kind="shuffle_mlp")}, "3 divides 4"),
    ],
)
def test_layouts_that_the_encoder_or_connector_cannot_give_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_model(ModelConfig(vision=VISION, language=TINY.language, **changes), 300)


def test_a_shuffle_keeps_its_tokens() -> None:
    net = build_model(
        ModelConfig(vision=VISION, language=TINY.language, layout=4, connector=ConnectorConfig(kind="shuffle_mlp")), 300
    )
    with pytest.raises(ValueError, match="as many patches a token as it was begun with"):
        net.set_layout(16)


def test_other_crops_than_in_training_are_shown_with_a_warning(
    tokenizer_folder: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    packs = write(str(tmp_path / "packs"), settings("molmo"), tokenizer_folder, [[0, 1]])
    stage = StageConfig(schedule=ScheduleConfig(steps=1), certify=0, compute=PackCompute(precision="fp32"))
    made = train(stage, packs, str(tmp_path / "run"), model=model_config("molmo")).checkpoint
    generator = Generator.load(made, "cpu", settings("molmo"))
    assert not caplog.records
    asked = Prompt(turns=(("user", "a"),), images=(picture(1)[0],))
    before = len(generator.prepare(asked).input_ids)
    finer = dataclasses.replace(settings("molmo"), max_crops=1)
    other = Generator.load(made, "cpu", finer)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "was trained with the layout" in caplog.text
    assert "counts and captions get worse" in caplog.text
    assert len(other.prepare(asked).input_ids) < before
    checkpoint = Checkpoint(made, "cpu")
    checkpoint.load(finer)
    answers = checkpoint.answer([Asked(turns=asked.turns, images=asked.images)], 2, 1)
    assert answers == [other.generate(picture(1)[0], "a", max_new_tokens=2)]
    (tmp_path / "a.jpg").write_bytes(picture(1)[0])
    question = {"id": "1", "images": ["a.jpg"], "prompt": "a", "answers": ["b"], "metric": "exact"}
    (tmp_path / "questions.jsonl").write_text(json.dumps(question))
    asking = EvaluationConfig(layout=finer, max_new_tokens=2)
    evaluate(asking, Checkpoint(made, "cpu"), str(tmp_path / "questions.jsonl"), str(tmp_path / "asked"))
    assert pq.read_table(tmp_path / "asked" / "00000.parquet")["answer"].to_pylist() == answers, "the config says how"
    catty = write(str(tmp_path / "catty"), settings("catty"), tokenizer_folder, [[0]])
    made = train(stage, catty, str(tmp_path / "plain"), model=model_config("catty")).checkpoint
    with pytest.raises(ValueError, match="has not learnt the marks of the layout"):
        Generator.load(made, "cpu", finer)
    with pytest.raises(ValueError, match="has not learnt the marks of the layout"):
        evaluate(asking, Checkpoint(made, "cpu"), str(tmp_path / "questions.jsonl"), str(tmp_path / "other"))
    with pytest.raises(ValueError, match="layout is for checkpoints"):
        evaluate(asking, Server("http://127.0.0.1:9", "m"), str(tmp_path / "questions.jsonl"), str(tmp_path / "other"))
