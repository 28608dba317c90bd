"""Generation from checkpoints: the cache is exact, prompts are those of training."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mmcorpus.packing.chat import CHATML
from mmcorpus.packing.conversations import encode_conversation
from mmcorpus.packing.layout import read_layout
from mmcorpus.packing.tokens import encode_pair
from mmcorpus.training import Generator, SFTConfig, StageConfig, generate, train
from mmcorpus.training.batch import collate, expand
from mmcorpus.training.config import ConnectorConfig, ModelConfig
from mmcorpus.training.evaluation.answering import Checkpoint, Unanswered, grey
from mmcorpus.training.evaluation.asking import Asked
from mmcorpus.training.generation import Prompt
from mmcorpus.training.images import square
from mmcorpus.training.model import build_model
from tests.training.conftest import TINY, configured, noise, png

Stages = Callable[..., StageConfig]


@pytest.fixture(scope="module")
def learnt(
    pairs: list[Any],
    make_packs: Callable[..., str],
    tiny: ModelConfig,
    stage: Stages,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, list[Any]]:
    """A model that has learnt three pairs by heart."""
    packs = make_packs([pairs[:3]])
    settings = stage(steps=150, batch_sequences=1, learning_rate=1e-2, checkpoint_every=1000)
    return train(settings, packs, str(tmp_path_factory.mktemp("out")), model=tiny).checkpoint, pairs[:3]


def test_what_was_learnt_by_heart_is_said(learnt: tuple[str, list[Any]], tmp_path: Path) -> None:
    """A tiny batch is overfitted, and generation from the checkpoint gives each image its caption."""
    checkpoint, items = learnt
    generator = Generator.load(checkpoint, "cpu")
    assert generator.chat_template is None
    by_image = {images[0]: sample for sample, images in items}
    for image, sample in by_image.items():
        said = generator.generate(image)
        alike = [generator.tokenizer.decode(s.input_ids[2:-1].tolist()) for s, images in items if images[0] == image]
        assert said in alike, (said, sample)
    path = tmp_path / "image.png"
    path.write_bytes(items[0][1][0])
    opened = Image.open(io.BytesIO(items[0][1][0]))
    said = generate(checkpoint, str(path), device="cpu")
    assert said == generate(checkpoint, opened, device="cpu") == generator.generate(items[0][1][0])
    assert said == "a " + generator.generate(opened, "a")
    assert generator.generate(opened, max_new_tokens=0) == ""


def test_the_cache_changes_no_logits(learnt: tuple[str, list[Any]]) -> None:
    """Greedy decoding with the cache is the argmax of a full pass over everything said so far."""
    generator = Generator.load(learnt[0], "cpu")
    image = Image.new("RGB", (40, 30), (90, 160, 30))
    ids = generator.prompt_ids("")
    pixels = square(image, generator.model.vision.image_size)[None]
    for _ in range(6):
        length = len(ids) + 3
        piece = expand(torch.tensor(ids).numpy(), [length], [len(ids)], [[]], pixels, [], 4)
        with torch.no_grad():
            logits = generator.model.logits(collate([piece], multiple=1))[0, -1, : len(generator.tokenizer)]
        ids.append(int(logits.argmax()))
    answer = [token for token in ids[2:] if token != generator.tokenizer.eos_token_id]
    assert generator.generate(image, max_new_tokens=6).startswith(generator.tokenizer.decode(answer[:3]).strip())


def test_sampling_is_repeatable(learnt: tuple[str, list[Any]]) -> None:
    generator = Generator.load(learnt[0], "cpu")
    image = learnt[1][0][1][0]
    said = [generator.generate(image, temperature=5.0, seed=seed, max_new_tokens=12) for seed in (1, 1, 2)]
    assert said[0] == said[1] != said[2]
    with pytest.raises(ValueError, match="temperature is -1"):
        generator.generate(image, temperature=-1)


def test_an_image_that_is_none_is_refused(learnt: tuple[str, list[Any]]) -> None:
    with pytest.raises(ValueError, match="cannot be decoded"):
        Generator.load(learnt[0], "cpu").generate(b"no image")


def test_prompts_are_those_of_training(
    learnt: tuple[str, list[Any]], chats: list[Any], make_packs: Callable[..., str], tmp_path: Path
) -> None:
    """The prompt is token for token how the sample begins in a pack, and that is the tokenizer's own chat template."""
    caption = Generator.load(learnt[0], "cpu")
    pair = encode_pair(caption.tokenizer, "a red square")
    assert caption.prompt_ids("") == pair.input_ids[: pair.loss_spans[0][0]].tolist()
    packs = make_packs([chats], context=256)
    stage = configured(SFTConfig, steps=1, batch_sequences=1, precision="fp32", num_workers=0)
    chat = Generator.load(train(stage, packs, str(tmp_path / "sft"), init=learnt[0]).checkpoint, "cpu")
    assert chat.chat_template == CHATML
    turns = [{"from": "human", "value": "<image>\nWhat color is it?"}, {"from": "gpt", "value": "It is red."}]
    sample = encode_conversation(chat.tokenizer, turns, 1)
    prompt = chat.prompt_ids("What color is it?")
    assert prompt == sample.input_ids[: sample.loss_spans[0][0]].tolist()
    text = chat.tokenizer.apply_chat_template(
        [{"role": "user", "content": "<image>\nWhat color is it?"}], tokenize=False, add_generation_prompt=True
    )
    before, after = text.split("<image>")
    encode = chat.tokenizer.encode
    assert prompt == [*encode(before, add_special_tokens=False), -200, *encode(after, add_special_tokens=False)]
    assert isinstance(chat.generate(chats[0][1][0], "What color is it?", max_new_tokens=4), str)


def test_side_by_side_each_answers_as_alone(learnt: tuple[str, list[Any]]) -> None:
    """Prompts of several lengths, with no image to three, in batches of any size: greedy answers and sampled ones."""
    generator = Generator.load(learnt[0], "cpu")
    prompts = [
        Prompt(turns=(("user", "a " * number + "<image> and"),), images=tuple(noise(n) for n in range(1 + number % 3)))
        for number in range(7)
    ]
    prompts.append(Prompt(turns=(("user", "a red"),)))
    alone = [generator.answer([prompt], max_new_tokens=8)[0] for prompt in prompts]
    assert len(set(alone)) > 2, "they do not all say the same"
    for size in (2, 3, 8):
        assert generator.answer(prompts, max_new_tokens=8, batch_size=size) == alone
    drawn = [generator.answer([prompt], max_new_tokens=8, temperature=3.0, seed=4)[0] for prompt in prompts]
    assert generator.answer(prompts, max_new_tokens=8, temperature=3.0, seed=4) == drawn
    assert generator.answer([]) == []


def test_images_stand_where_their_marks_do(learnt: tuple[str, list[Any]]) -> None:
    """Those without a mark stand before the first text, a line each; an earlier answer ends as a caption does."""
    generator = Generator.load(learnt[0], "cpu")
    tokenizer = generator.tokenizer
    encode = lambda text: tokenizer.encode(text, add_special_tokens=False)  # noqa: E731
    newline, eos = encode("\n"), tokenizer.eos_token_id
    assert generator.prompt_ids("a <image>b", 2) == [-200, *newline, *encode("a "), -200, *newline, *encode("b")]
    turns = [("user", "<image>\nred?"), ("assistant", "yes"), ("user", "<image>\nblue?")]
    expected = [-200, *newline, *encode("red?"), *encode(" yes"), eos, -200, *newline, *encode("blue?")]
    assert generator.prompt_ids(turns, 2) == expected
    shown = [("user", "<image>"), ("assistant", "a red square"), ("user", "<image>")]
    caption = encode_pair(tokenizer, "a red square").input_ids.tolist()
    assert generator.prompt_ids(shown, 2) == [*caption, -200, *newline], "demonstrations are pairs"
    with pytest.raises(ValueError, match="2 marks of images and 1 images"):
        generator.prepare(Prompt(turns=(("user", "<image><image>"),), images=(noise(1),)))
    both = generator.generate([noise(1), noise(2)], "a", max_new_tokens=4)
    assert both == generator.generate((noise(1), noise(2)), "<image>\n<image>\na", max_new_tokens=4)


def test_a_checkpoint_answers_evaluations_and_a_bad_question_costs_itself(learnt: tuple[str, list[Any]]) -> None:
    model = Checkpoint(learnt[0], "cpu")
    assert model.identity() == Checkpoint(learnt[0]).identity()
    image = learnt[1][0][1][0]
    asked = [
        Asked(turns=(("user", "<image>\n"),), images=(picture,)) for picture in (image, b"none", "missing.png", grey())
    ] + [Asked(turns=(("user", "a " * 40_000),), images=())]
    said = model.answer(asked, 12, 3)
    assert said[0] == Generator.load(learnt[0], "cpu").generate(image, max_new_tokens=12)
    lost = [one.reason for one in said if isinstance(one, Unanswered)]
    assert len(lost) == 3
    assert "cannot be decoded" in lost[0]
    assert "missing.png" in lost[1]
    assert "positions and an answer are more than" in lost[2]


@pytest.mark.parametrize(
    ("layout", "low"),
    [
        (16, 4),
        ({"kind": "mm1", "side": 16, "patch": 4, "tokens": 4}, {"kind": "square", "side": 16, "patch": 4, "tokens": 4}),
        (
            {"kind": "mm1", "side": 16, "patch": 4, "tokens": 4},
            {"kind": "mm1", "side": 24, "grid": 1, "patch": 4, "tokens": 1},
        ),
    ],
)
@torch.no_grad()
def test_images_of_one_prompt_may_have_layouts_of_their_own(layout: Any, low: Any, tokenizer: Any) -> None:
    """Each has the tokens that it has alone, whatever is beside it."""
    given = [one if isinstance(one, int) else read_layout(one) for one in (layout, low)]
    net = build_model(dataclasses.replace(TINY, layout=given[0]), len(tokenizer)).eval()
    own = Generator(model=net, tokenizer=tokenizer, chat_template=None)
    images = tuple(png((40 * n, 200, 9 * n)) for n in range(3))
    several = Prompt(turns=(("user", "<image><image><image>what"),), images=images, layouts=(given[1], None, given[1]))
    found = net.image_tokens(collate([own.prepare(several)], multiple=1))
    parts = []
    for image, one in zip(images, several.layouts, strict=True):
        net.set_layout(given[0] if one is None else one)
        alone = own.prepare(Prompt(turns=(("user", "<image>"),), images=(image,)))
        parts.append(net.image_tokens(collate([alone], multiple=1)))
        net.set_layout(given[0])
    torch.testing.assert_close(found, torch.cat(parts), rtol=1e-5, atol=1e-5)
    assert len(own.answer([several], max_new_tokens=2)) == 1


@pytest.mark.parametrize(
    ("connector", "low", "message"),
    [
        ("shuffle_mlp", 4, "was not made for images of 4 tokens beside those of 16 tokens"),
        ("c_abstractor", 4, "was not made for images of 4 tokens beside those of 16 tokens"),
        ("average_mlp", {"kind": "molmo", "crop": 16, "patch": 4, "margins": [1, 1]}, "was not made for images of the"),
        ("average_mlp", {"kind": "square", "patch": 8, "side": 16, "tokens": 4}, "has patches of 8 pixels"),
    ],
)
def test_a_layout_that_cannot_stand_beside_the_models_is_refused(
    connector: Any, low: Any, message: str, tokenizer: Any
) -> None:
    kind = ConnectorConfig(kind=connector, **({"depth": 1} if connector == "c_abstractor" else {}))
    net = build_model(dataclasses.replace(TINY, layout=16, connector=kind), len(tokenizer)).eval()
    layout = low if isinstance(low, int) else read_layout(low)
    prompt = Prompt(turns=(("user", "x"),), images=(png((1, 2, 3)),), layouts=(layout,))
    with pytest.raises(ValueError, match=message):
        Generator(model=net, tokenizer=tokenizer, chat_template=None).prepare(prompt)
