"""Generation from checkpoints: the cache is exact, prompts are those of training."""

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from mmcorpus.packing.chat import CHATML
from mmcorpus.packing.conversations import encode_conversation
from mmcorpus.packing.tokens import encode_pair
from mmcorpus.training import Generator, SFTConfig, StageConfig, generate, train
from mmcorpus.training.batch import collate, expand
from mmcorpus.training.config import ModelConfig
from mmcorpus.training.images import square
from tests.training.conftest import configured

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
