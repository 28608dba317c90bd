"""An export is the model itself: transformers' classes give its logits, its answers, its perplexities."""

import copy
import dataclasses
import functools
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image

from mmcorpus.filters import DecodedImage, decode_image
from mmcorpus.filters.image_perplexity import ImagePerplexityScorer
from mmcorpus.packing.chat import CHATML
from mmcorpus.training import Generator, RandomLanguage, RandomVision, SFTConfig, StageConfig, train
from mmcorpus.training.batch import collate, expand
from mmcorpus.training.caption_perplexity import CheckpointPerplexityScorer
from mmcorpus.training.checkpoint import load_model
from mmcorpus.training.config import ModelConfig
from mmcorpus.training.exchange.export import export_model, exported_template
from mmcorpus.training.exchange.pooled import register
from mmcorpus.training.exchange.tensors import Planned, read_file, write_file
from mmcorpus.training.images import square
from tests.training.conftest import configured, noise

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Stages = Callable[..., StageConfig]
QUESTION = "What color is it?"
LLAVA, POOLED = "LlavaForConditionalGeneration", "PooledLlavaForConditionalGeneration"


@dataclasses.dataclass(frozen=True)
class Case:
    """A checkpoint and its export."""

    checkpoint: str
    folder: str
    architecture: str


def trained(packs: str, out: Path, stage: StageConfig, model: ModelConfig) -> str:
    return train(stage, packs, str(out), model=model).checkpoint


@pytest.fixture(scope="module", params=["patches", "last layer", "pooled", "wide", "tuned"])
def case(
    request: pytest.FixtureRequest,
    pairs: list[Any],
    chats: list[Any],
    make_packs: Callable[..., str],
    tiny: ModelConfig,
    stage: Stages,
    tmp_path_factory: pytest.TempPathFactory,
) -> Case:
    """Every patch a token, from the last block but one or the last; pooled; of another width; instruction-tuned."""
    root = tmp_path_factory.mktemp("export")
    vision = tiny.vision
    assert isinstance(vision, RandomVision)
    settings: dict[str, Any] = {
        "patches": {"vision": dataclasses.replace(vision, image_size=2 * vision.patch_size)},
        "last layer": {"vision": dataclasses.replace(vision, image_size=2 * vision.patch_size), "vision_layer": -1},
        "pooled": {},
        "wide": {
            "vision": dataclasses.replace(vision, image_size=2 * vision.patch_size),
            "projector_hidden": 40,
            "language": RandomLanguage(hidden_size=32, layers=2, heads=2, key_value_heads=1, intermediate_size=64),
        },
        "tuned": {},
    }
    model = dataclasses.replace(tiny, **settings[request.param])
    if request.param == "tuned":
        packs = make_packs([chats], context=256)
        tuning = configured(SFTConfig, steps=20, batch_sequences=1, precision="fp32", num_workers=0, learning_rate=3e-3)
        checkpoint = trained(packs, root / "out", tuning, model)
    else:
        checkpoint = trained(make_packs([pairs[:3]]), root / "out", stage(steps=3, batch_sequences=1), model)
    exported = export_model(checkpoint, str(root / "hf"))
    assert exported.architecture == (LLAVA if request.param in ("patches", "last layer") else POOLED)
    return Case(checkpoint, str(root / "hf"), exported.architecture)


def loaded(case: Case) -> tuple[Any, Any]:
    from transformers import AutoModelForImageTextToText, AutoProcessor

    register()
    model = AutoModelForImageTextToText.from_pretrained(case.folder, dtype=torch.float32).eval()
    return AutoProcessor.from_pretrained(case.folder), model


def picture(seed: int, size: int) -> Image.Image:
    """At the encoder's size, where nobody resizes: processors differ in the last digit of that."""
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size, 3), dtype=np.uint8))


def test_logits_and_answers_are_those_of_the_checkpoint(case: Case) -> None:
    processor, model = loaded(case)
    assert type(model).__name__ == case.architecture
    ours = load_model(case.checkpoint)[0]
    generator = Generator.load(case.checkpoint, "cpu")
    image = picture(3, ours.vision.image_size)
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
    text = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    inputs = processor(text=[text], images=[[image]], return_tensors="pt")
    ids, per_image = generator.prompt_ids(QUESTION), ours.config.tokens_per_image
    length = len(ids) - 1 + per_image
    piece = expand(
        np.array(ids), [length], [len(ids)], [[]], square(image, ours.vision.image_size)[None], [], per_image
    )
    with torch.no_grad():
        expected = ours.logits(collate([piece], multiple=1))
        found = model(**inputs).logits
    assert inputs["input_ids"].shape[1] == length
    rows = expected.shape[-1]
    assert torch.allclose(found[..., :rows], expected, atol=1e-4, rtol=0)
    assert not found[..., rows:].any()
    answer = model.generate(**inputs, max_new_tokens=12)[0, length:]
    assert processor.decode(answer, skip_special_tokens=True).strip() == generator.generate(
        image, QUESTION, max_new_tokens=12
    )


def test_it_judges_as_the_checkpoint_does(case: Case) -> None:
    """The scorer that names the export in one line measures what training's own scorer does."""
    size = load_model(case.checkpoint)[0].vision.image_size
    images = [decode_image(noise(seed, size)) for seed in range(4)]
    assert all(isinstance(image, DecodedImage) for image in images)
    batch = {"caption": ["a red square", "blue", "a green square number 3", "white"], "image": images}
    prompt = QUESTION if "tuned" in case.checkpoint or Generator.load(case.checkpoint, "cpu").chat_template else ""
    ours = CheckpointPerplexityScorer(checkpoint=case.checkpoint, prompt=prompt, device="cpu").load()(batch)
    theirs = ImagePerplexityScorer(model_name=case.folder, prompt=prompt, device="cpu").load()(batch)
    assert theirs["n_tokens"] == ours["n_tokens"]
    assert theirs["nll_sum"] == pytest.approx(ours["nll_sum"], rel=1e-4)


def test_the_template_takes_messages_of_either_form(tokenizer: "PreTrainedTokenizerFast") -> None:
    """Lists of parts as chat APIs send them, plain texts as before; the template that is wrapped sees texts alone."""
    image, text = {"type": "image"}, {"type": "text", "text": "a <b> 'c'"}
    tokenizer = copy.deepcopy(tokenizer)
    for template, asked in ((CHATML, "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"), (None, "{}")):
        tokenizer.chat_template = exported_template(template)

        def said(*content: Any, asked: str = asked) -> bool:
            *given, expected = content
            messages = [{"role": "user", "content": given[0] if isinstance(given[0], str) else given}]
            written = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            return bool(written == asked.format(expected))

        assert said(image, text, "<image>\na <b> 'c'")
        assert said(text, "a <b> 'c'")
        assert said(image, image, text, "<image>\n<image>\na <b> 'c'")
        assert said(text, image, text, "a <b> 'c'<image>\na <b> 'c'")
        assert said("as it is", "as it is")
    answered = [{"role": "user", "content": [image]}, {"role": "assistant", "content": "a cat"}]
    assert tokenizer.apply_chat_template(answered, tokenize=False) == f"<image>\na cat{tokenizer.eos_token}"


def test_weights_pass_one_at_a_time(tmp_path: Path) -> None:
    """A tensor is let go before the next is read, and what is written is what safetensors itself would read."""
    alive, past = list[int](), list[weakref.ref[torch.Tensor]]()

    def made(number: int) -> torch.Tensor:
        alive.append(sum(one() is not None for one in past))
        tensor = torch.full((64, 3), float(number))
        past.append(weakref.ref(tensor))
        return tensor

    planned = [Planned(f"layer.{n}", (64, 3), functools.partial(made, n)) for n in range(5)]
    for dtype in ("fp32", "bf16", "fp16"):
        path = str(tmp_path / f"{dtype}.safetensors")
        assert write_file(path, planned, dtype) == Path(path).stat().st_size
        read = read_file(path)
        assert {name: float(tensor()[63, 2]) for name, tensor in read.items()} == {f"layer.{n}": n for n in range(5)}
    assert max(alive) <= 1, "the one that was written last is let go as the next is bound to its name"
    with pytest.raises(ValueError, match=r"layer.0 has the shape \(64, 3\), not \(3, 64\)"):
        write_file(str(tmp_path / "wrong"), [Planned("layer.0", (3, 64), planned[0].read)], "fp32")


def test_what_cannot_be_exported_is_said(case: Case, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is not empty"):
        export_model(case.checkpoint, case.folder)
    with pytest.raises(FileNotFoundError, match="no checkpoint at"):
        export_model(str(tmp_path / "none"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()
