"""Perplexity under our own checkpoints: training's losses, whatever the batch; true captions before swapped ones."""

import dataclasses
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcorpus.filters import DecodedImage, decode_image, judge_batch, load_scorer_class
from mmcorpus.packing.conversations import encode_conversation
from mmcorpus.packing.tokens import encode_pair
from mmcorpus.training import SFTConfig, StageConfig, train
from mmcorpus.training.batch import collate, expand
from mmcorpus.training.caption_perplexity import CheckpointPerplexityScorer
from mmcorpus.training.checkpoint import load_model
from mmcorpus.training.config import ModelConfig
from mmcorpus.training.images import load_square

Stages = Callable[..., StageConfig]


@pytest.fixture(scope="module")
def trained(
    pairs: list[Any],
    make_packs: Callable[..., str],
    tiny: ModelConfig,
    stage: Stages,
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """The folder of a model that has learnt which colour is called what."""
    packs = make_packs([pairs[start : start + 4] for start in range(0, 40, 4)])
    out = str(tmp_path_factory.mktemp("out"))
    train(stage(steps=120, learning_rate=1e-2, checkpoint_every=1000), packs, out, model=tiny)
    return out


def picture(color: tuple[int, int, int], size: int = 20) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (size, size + 4), color).save(file, "PNG")
    return file.getvalue()


def decoded(data: bytes) -> DecodedImage:
    image = decode_image(data)
    assert isinstance(image, DecodedImage)
    return image


CAPTIONS = ["a red square number 3", "a blue square", "a green square number 12 and a white one", "white"]
IMAGES = [picture((220, 20, 20)), picture((20, 20, 220), 31), picture((20, 200, 20)), picture((250, 250, 250))]


def plain(checkpoint: str, encode: Callable[[Any, str], Any]) -> list[float]:
    """One sample at a time, all logits."""
    model, tokenizer, _ = load_model(checkpoint)
    found = []
    for caption, data in zip(CAPTIONS, IMAGES, strict=True):
        sample = encode(tokenizer, caption)
        pixels = load_square(data, model.vision.image_size)
        assert pixels is not None
        count = len(sample.input_ids)
        piece = expand(sample.input_ids, [count + 3], [count], [sample.loss_spans], pixels[None], [], 4)
        with torch.no_grad():
            logits = model.logits(collate([piece], multiple=1))[0]
        losses = torch.nn.functional.cross_entropy(
            logits[piece.predicts].double(), torch.from_numpy(piece.targets), reduction="none"
        )
        found.append(float(losses.sum()))
    return found


def test_it_is_the_loss_of_training_of_one_sample_at_a_time(trained: str) -> None:
    scorer = CheckpointPerplexityScorer(checkpoint=trained, device="cpu", batch_size=3)
    images = [decoded(data) for data in IMAGES]
    columns = scorer.load()({"caption": CAPTIONS, "image": images})
    assert columns["nll_sum"] == pytest.approx(plain(trained, encode_pair), rel=1e-4)
    turned = scorer.load()({"caption": CAPTIONS[::-1], "image": images[::-1]})
    assert turned["nll_sum"][::-1] == pytest.approx(columns["nll_sum"], rel=1e-4)
    assert columns["ppl"] == pytest.approx(np.exp(np.divide(columns["nll_sum"], columns["n_tokens"])).tolist())


def test_the_square_is_the_encoders_also_where_its_config_counts_patches(
    packs: str, tiny: ModelConfig, stage: Stages, tmp_path: Path
) -> None:
    """SigLIP 2's (NaFlex)."""
    family = dataclasses.replace(tiny.vision, family="siglip2")
    train(stage(steps=1), packs, str(tmp_path), model=dataclasses.replace(tiny, vision=family))
    scorer = CheckpointPerplexityScorer(checkpoint=str(tmp_path), device="cpu")
    columns = scorer.load()({"caption": CAPTIONS, "image": [decoded(data) for data in IMAGES]})
    assert columns["nll_sum"] == pytest.approx(plain(str(tmp_path), encode_pair), rel=1e-4)


def test_true_captions_are_likelier_than_swapped_ones(trained: str) -> None:
    judge = CheckpointPerplexityScorer(checkpoint=trained, device="cpu").load()
    colors = {"red": IMAGES[0], "green": IMAGES[2], "blue": IMAGES[1], "white": IMAGES[3]}
    names = sorted(colors)
    by_image = {
        shown: judge(
            {"caption": [f"a {name} square number 7" for name in names], "image": [decoded(colors[shown])] * 4}
        )["ppl"]
        for shown in names
    }
    for shown, ppl in by_image.items():
        assert names[int(np.argmin(ppl))] == shown, by_image


def test_an_instruction_tuned_checkpoint_is_asked(
    trained: str, chats: list[Any], make_packs: Callable[..., str], stage: Stages, tmp_path: Path
) -> None:
    groups = dataclasses.fields(StageConfig)
    settings = stage(steps=2, checkpoint_every=10)
    sft = SFTConfig(**{group.name: getattr(settings, group.name) for group in groups if group.name != "kind"})
    tuned = train(sft, make_packs([chats], context=256), str(tmp_path / "sft"), init=trained).checkpoint
    scorer = CheckpointPerplexityScorer(checkpoint=tuned, device="cpu", prompt="What is it?")
    columns = scorer.load()({"caption": CAPTIONS, "image": [decoded(data) for data in IMAGES]})

    def asked(tokenizer: Any, caption: str) -> Any:
        turns = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": caption}]
        return encode_conversation(tokenizer, turns, 1)

    assert columns["nll_sum"] == pytest.approx(plain(tuned, asked), rel=1e-4)


def test_what_cannot_be_scored_says_why_and_what_is_long_is_cut(trained: str) -> None:
    scorer = CheckpointPerplexityScorer(checkpoint=trained, device="cpu", max_tokens=64)
    images = [decoded(data) for data in IMAGES]
    captions = [None, " ", "a red square", "a red square " * 30, "a red square"]
    table = judge_batch(scorer, scorer.load(), {"caption": captions, "image": [*images, decode_image(b"")]})
    assert table["reason"].to_pylist()[:4] == ["no_caption", "blank", None, None]
    assert table["reason"].to_pylist()[4] is not None
    assert table["truncated"].to_pylist() == [None, None, False, True, None]
    assert table["n_tokens"].to_pylist()[3] < 64


def test_the_fingerprint_follows_the_checkpoint(trained: str) -> None:
    scorer = CheckpointPerplexityScorer(checkpoint=trained)
    assert scorer.model() == CheckpointPerplexityScorer(checkpoint=f"{trained}/checkpoints").model()
    assert "step-00000120@" in scorer.model()
    assert scorer.fingerprint() == CheckpointPerplexityScorer(checkpoint=trained, batch_size=1).fingerprint()
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        CheckpointPerplexityScorer(checkpoint=f"{trained}/nowhere").check()
    with pytest.raises(ValueError, match="checkpoint is empty"):
        CheckpointPerplexityScorer(checkpoint="")


def test_a_recipe_can_name_it() -> None:
    assert load_scorer_class("checkpoint_perplexity") is CheckpointPerplexityScorer
