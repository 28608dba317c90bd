"""Perplexity given an image: what a plain forward pass gives for each sample alone, whatever the batch."""

import io
import random
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcorpus.curation.synthetic.tiny_model import write_tiny_model
from mmcorpus.filters import DecodedImage, decode_image, image_perplexity, judge_batch
from mmcorpus.filters.image_perplexity import MODELS, ImagePerplexityScorer, load_processor, same_shapes, turn

WORDS = ["a", "red", "blue", "clock", "house", "stands", "on", "the", "table"]
CAPTIONS = [" ".join(random.Random(n).choices(WORDS, k=n % 7 + 1)) for n in range(12)]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{% for part in message.content %}"
    "{% if part.type == 'image' %}<image>\n{% else %}{{ part.text }}{% endif %}{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A tiny LLaVA with a ChatML template, which ends an answer with `<|im_end|>`."""
    folder = write_tiny_model(str(tmp_path_factory.mktemp("llava")))
    Path(folder, "chat_template.jinja").write_text(CHATML)
    return folder


def pictures() -> list[DecodedImage]:
    found = []
    for seed in range(len(CAPTIONS)):
        pixels = np.random.default_rng(seed).integers(0, 256, (20 + seed, 30, 3), dtype=np.uint8)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "PNG")
        image = decode_image(file.getvalue())
        assert isinstance(image, DecodedImage)
        found.append(image)
    return found


def plain(folder: str, captions: list[str], images: list[DecodedImage], prompt: str) -> list[float]:
    """One sample at a time: the whole conversation as text, all logits, transformers' own loss over the answer."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    found = []
    for caption, image in zip(captions, images, strict=True):
        asked = f"<|im_start|>user\n<image>\n{prompt}<|im_end|>\n<|im_start|>assistant\n"
        picture = Image.fromarray(image.pixels)
        start = processor(text=[asked], images=[picture], return_tensors="pt")["input_ids"].shape[1]
        inputs = processor(text=[f"{asked}{caption}<|im_end|>"], images=[picture], return_tensors="pt")
        labels = inputs["input_ids"].clone()
        labels[:, :start] = -100
        with torch.no_grad():
            found.append(float(model(**inputs, labels=labels).loss) * int((labels != -100).sum()))
    return found


def test_it_is_what_one_sample_at_a_time_gives(model: str) -> None:
    images = pictures()
    scorer = ImagePerplexityScorer(model_name=model, device="cpu", batch_size=5, prompt="What is it?")
    columns = scorer.load()({"caption": CAPTIONS, "image": images})
    assert columns["nll_sum"] == pytest.approx(plain(model, CAPTIONS, images, "What is it?"), rel=1e-4)
    turned = scorer.load()({"caption": CAPTIONS[::-1], "image": images[::-1]})
    assert turned["nll_sum"][::-1] == pytest.approx(columns["nll_sum"], rel=1e-4)


def test_the_image_matters(model: str) -> None:
    images = pictures()
    judge = ImagePerplexityScorer(model_name=model, device="cpu").load()
    true = judge({"caption": ["a red clock"] * 12, "image": images})["nll_sum"]
    assert len({round(value, 4) for value in true}) == 12


def test_what_cannot_be_scored_says_why_and_what_is_long_is_cut(model: str) -> None:
    scorer = ImagePerplexityScorer(model_name=model, device="cpu", max_tokens=4)
    broken = decode_image(b"nothing")
    batch = {"caption": [None, " ", "a", "a red clock on the table", "a"], "image": [*pictures()[:4], broken]}
    table = judge_batch(scorer, scorer.load(), batch)
    assert table["reason"].to_pylist()[:4] == ["no_caption", "blank", None, None]
    assert table["reason"].to_pylist()[4] is not None
    assert table["truncated"].to_pylist()[2:4] == [False, True]
    assert table["n_tokens"].to_pylist()[2:4] == [2, 4]  # the first with the end of its answer
    assert table["ppl"].is_null().to_pylist() == [True, True, False, False, True]


def test_where_an_answer_begins_and_ends(model: str) -> None:
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(model)
    question, end = turn(processor, "What?")
    assert question == "<|im_start|>user\n<image>\nWhat?<|im_end|>\n<|im_start|>assistant\n"
    assert end == [processor.tokenizer.convert_tokens_to_ids("<|im_end|>")]
    processor.chat_template = None
    with pytest.raises(ValueError, match="no chat template"):
        turn(processor, "What?")


def test_images_of_other_shapes_are_not_put_side_by_side() -> None:
    def encoded(positions: int, tiles: int) -> dict[str, Any]:
        ids = np.zeros((1, positions), np.int64)
        return {"input_ids": ids, "attention_mask": ids, "pixel_values": np.zeros((1, tiles, 3, 4, 4))}

    assert same_shapes([encoded(5, 2), encoded(5, 3), encoded(7, 2), encoded(5, 3)], [0, 1, 2]) == [[0, 2], [1]]


def test_a_type_that_transformers_does_not_know_is_taught_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the entry point of its name alone, so that other models load without what brings it along."""
    taught = list[str]()

    class Teacher(EntryPoint):
        def load(self) -> Any:
            return lambda: taught.append(self.name)

    def installed(*, group: str, name: str) -> list[EntryPoint]:
        there = [Teacher("new_vlm", "a:b", MODELS), Teacher("other", "a:c", MODELS), Teacher("new_vlm", "a:d", "else")]
        return [one for one in there if (one.group, one.name) == (group, name)]

    monkeypatch.setattr(image_perplexity, "entry_points", installed)
    (tmp_path / "config.json").write_text('{"model_type": "new_vlm"}')
    with pytest.raises((OSError, ValueError)):  # it was taught nothing
        load_processor(str(tmp_path), None)
    assert taught == ["new_vlm"]
    (tmp_path / "config.json").write_text('{"model_type": "clip"}')
    with pytest.raises((OSError, ValueError)):
        load_processor(str(tmp_path), None)
    assert taught == ["new_vlm"]
