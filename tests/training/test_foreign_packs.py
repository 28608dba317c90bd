"""`mmcorpus train` on a folder of Open-Qwen2VL's pickles: no plan, a step, and what is wrong said before it."""

import base64
import io
import json
import pickle
import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from mmcorpus.packing.foreign import extended
from mmcorpus.packing.lengths import IMAGE_TOKEN
from mmcorpus.packing.tokens import encode_texts, load_tokenizer
from mmcorpus.pipelines.cli import app
from mmcorpus.training.checkpoint import load_model
from tests.training.conftest import noise

EACH = 4
MODEL = [
    *("--model", "vision={hidden_size: 16, intermediate_size: 32, layers: 2, heads: 2, image_size: 16, patch_size: 4}"),
    *("--model", "language={hidden_size: 16, intermediate_size: 32, layers: 1, heads: 2, key_value_heads: 1}"),
    *("--model", f"tokens_per_image={EACH}"),
]
STEP = ["--set", "schedule.steps=1", "--set", "data.batch_sequences=2", "--set", "compute.precision=fp32"]


def pickles(folder: Path, tokenizer_folder: str) -> None:
    tokenizer, rng = extended(load_tokenizer(tokenizer_folder)), random.Random(1)
    vocabulary = tokenizer.get_vocab()
    folder.mkdir(parents=True)
    for number in range(4):
        ids: list[int] = []
        lengths: list[int] = []
        images = []
        for _ in range(2):
            text = encode_texts(tokenizer, ["\n" + rng.choice(["a red dog", "a blue house", "two"])])[0]
            ids += [vocabulary["<s>"], IMAGE_TOKEN, *text, tokenizer.eos_token_id]
            lengths.append(len(text) + 3 + EACH - 1)
            images.append(Image.open(io.BytesIO(noise(rng.randrange(99)))).convert("RGB"))
        padded = torch.tensor(ids + [vocabulary["<|pad|>"]] * 9)
        content = {"image_tensors": images, "input_ids": padded, "lengths": lengths}
        (folder / f"{number}.pkl").write_bytes(pickle.dumps(content))


def packed_json(folder: Path, tokenizer_folder: str) -> None:
    """As their packer leaves it before it is pickled: documents, and how long each is."""
    tokenizer, data, lengths = extended(load_tokenizer(tokenizer_folder)), [], []
    folder.mkdir(parents=True)
    for number, words in enumerate(["a red dog", "a blue house", "two", "one"]):
        image = {"image_base64": base64.b64encode(noise(number)).decode()}
        data.append({"image_info": [image, None], "texts": [None, words], "uid": f"{number:032x}"})
        lengths.append(len(encode_texts(tokenizer, [f"\n{words}"])[0]) + 3 + 144 - 1)
    for half in (slice(2), slice(2, 4)):
        (folder / f"{half.stop}_packed.json").write_text(json.dumps({"data": data[half], "lengths": lengths[half]}))


def call(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, list(arguments), env={"COLUMNS": "300", "TERM": "dumb"})
    assert result.exit_code == code, result.output
    return result.output


@pytest.mark.slow
@pytest.mark.parametrize(("write", "each", "side"), [(pickles, EACH, 16), (packed_json, 144, 48)])
def test_their_packs_are_trained_on(
    tmp_path: Path, tokenizer_folder: str, write: Callable[[Path, str], None], each: int, side: int
) -> None:
    write(tmp_path / "their" / "0", tokenizer_folder)
    model = [*MODEL[:-1], f"tokens_per_image={each}", "--model", f"vision.image_size={side}"]
    command = ["train", str(tmp_path / "their"), "--out", str(tmp_path / "out"), *model, *STEP, "--device", "cpu"]
    assert "say with --tokenizer which tokenizer they are of" in call(*command, code=2)
    assert "1 steps" in call(*command, "--tokenizer", tokenizer_folder)
    _, tokenizer, _ = load_model(str(tmp_path / "out"))
    assert "<|endofchunk|>" in tokenizer.get_vocab(), "the checkpoint's tokenizer knows what it was trained on"


@pytest.mark.parametrize("what", ["another_end", "no_packs"])
def test_what_cannot_be_trained_on_is_said_first(tmp_path: Path, tokenizer_folder: str, what: str) -> None:
    pickles(tmp_path / "pkl", tokenizer_folder)
    own = load_tokenizer(tokenizer_folder)
    own.eos_token = own.convert_ids_to_tokens(260)
    own.save_pretrained(tmp_path / "other")
    root = tmp_path / ("pkl" if what == "another_end" else "nothing")
    (tmp_path / "nothing").mkdir()
    said = call(
        *("train", str(root), "--out", str(tmp_path / "out"), *MODEL, *STEP),
        *("--tokenizer", str(tmp_path / "other"), "--device", "cpu"),
        code=2,
    )
    expected = "packed with another tokenizer" if what == "another_end" else "manifest.json is missing"
    assert expected in " ".join(said.split())
