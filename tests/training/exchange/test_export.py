"""An export is the model itself: transformers' classes give its logits, its answers, its perplexities."""

import copy
import dataclasses
import functools
import io
import json
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers.processors import TemplateProcessing
from transformers import AutoModelForImageTextToText, AutoProcessor

from mmcorpus.filters import decode_image
from mmcorpus.filters.image_perplexity import ImagePerplexityScorer
from mmcorpus.packing.chat import CHATML
from mmcorpus.packing.layout import read_layout
from mmcorpus.training import Generator
from mmcorpus.training.batch import collate, expand
from mmcorpus.training.caption_perplexity import CheckpointPerplexityScorer
from mmcorpus.training.checkpoint import load_model, save_model
from mmcorpus.training.config import ConnectorConfig, EncoderConfig, ModelConfig, MoEConfig, RandomVision
from mmcorpus.training.exchange.export import export_model, exported_template
from mmcorpus.training.exchange.image_side import INPUTS
from mmcorpus.training.exchange.own import each_image, register
from mmcorpus.training.folder import STATE, new_folder
from mmcorpus.training.images import lay_out_images
from mmcorpus.training.model import VisionLanguageModel, build_model
from mmcorpus.training.tensors import Planned, read_file, write_file
from tests.training.conftest import TINY
from tests.training.test_decoder import saved
from tests.training.test_moe import drawn

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

QUESTION = "What color is it?"
LLAVA, OWN = "LlavaForConditionalGeneration", "MmcorpusForConditionalGeneration"


@dataclasses.dataclass(frozen=True)
class Case:
    """A checkpoint and its export."""

    checkpoint: str
    folder: str
    architecture: str
    prompt: str


VISION = RandomVision(image_size=16, patch_size=4, hidden_size=32, layers=3, heads=2, intermediate_size=64)
CLIP = dataclasses.replace(VISION, family="clip", image_size=16)
SIGLIP = EncoderConfig(source=VISION)
MODELS: dict[str, dict[str, Any]] = {
    "all patches": {"tokens_per_image": 16},
    "last layer": {"tokens_per_image": 16, "vision_layer": -1},
    "first layer": {"tokens_per_image": 16, "vision_layer": -3},
    "pooled": {"tokens_per_image": 9},
    "wide": {"tokens_per_image": 16, "projector_hidden": 40},
    "tuned": {"tokens_per_image": 4},
    "a tokenizer with a BOS": {"tokens_per_image": 4},
    "two encoders": {
        "encoders": (SIGLIP, EncoderConfig(source=CLIP, layers=(-1, -3))),
        "connector": ConnectorConfig(kind="linear"),
        "tokens_per_image": 4,
    },
    "attention of crops": {
        "connector": ConnectorConfig(kind="attention_pool", heads=4),
        "layout": read_layout({"kind": "catty", "tile": 16, "patch": 4, "max_tiles": 3}),
    },
    "averaged encoders": {
        "encoders": (
            EncoderConfig(source=VISION, weight=0.25),
            EncoderConfig(source=VISION, weight=0.0),
            EncoderConfig(source=CLIP, weight=0.75, layers=(-3,)),
        ),
        "layout": read_layout({"kind": "catty", "tile": 16, "patch": 4, "max_tiles": 3}),
    },
    "convolutions": {"connector": ConnectorConfig(kind="c_abstractor", depth=1, hidden=16), "tokens_per_image": 4},
    "shuffled": {"connector": ConnectorConfig(kind="shuffle_mlp"), "tokens_per_image": 4},
    "molmo": {
        "layout": read_layout({"kind": "molmo", "crop": 16, "patch": 4, "margins": [1, 1], "max_crops": 4}),
        "connector": ConnectorConfig(kind="attention_mlp", heads=4, width=8),
    },
    "native": {"layout": read_layout({"kind": "native", "patch": 4, "min_pixels": 256, "max_pixels": 1024})},
}
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 1e4, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}  # fmt: skip
OF_LLAVA = ("all patches", "last layer", "first layer")


def write_random(folder: Path, name: str, tokenizer: "PreTrainedTokenizerFast") -> str:
    """A checkpoint with weights drawn at random, as training leaves it."""
    model = build_model(
        ModelConfig(**{"encoders": (SIGLIP,), "language": TINY.language, **MODELS[name]}), len(tokenizer)
    )
    torch.manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    if "BOS" in name:  # as Llama's, which opens whatever it encodes
        opens = TemplateProcessing(single="<|pad|> $A", special_tokens=[("<|pad|>", tokenizer.pad_token_id)])
        tokenizer.backend_tokenizer.post_processor = opens
        assert tokenizer("a")["input_ids"][0] == tokenizer.pad_token_id
    state = {"kind": "sft" if name == "tuned" else "pretrain", "step": 1, "model": dataclasses.asdict(model.config)}
    with new_folder(str(folder)) as inner:
        save_model(inner, model, tokenizer, dict(model.named_parameters()))
        Path(inner, STATE).write_text(json.dumps(state))
    return str(folder)


@pytest.fixture(scope="module", params=MODELS)
def case(
    request: pytest.FixtureRequest, tokenizer: "PreTrainedTokenizerFast", tmp_path_factory: pytest.TempPathFactory
) -> Case:
    root = tmp_path_factory.mktemp("export")
    checkpoint = write_random(root / "checkpoint", request.param, copy.deepcopy(tokenizer))
    exported = export_model(checkpoint, str(root / "hf"))
    assert exported.architecture == (LLAVA if request.param in OF_LLAVA else OWN)
    return Case(checkpoint, str(root / "hf"), exported.architecture, QUESTION if request.param == "tuned" else "")


def picture(seed: int, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))


def test_logits_and_answers_are_those_of_the_checkpoint(case: Case) -> None:
    """Llava's own processor resizes a little otherwise, so that it gets a picture that nobody resizes."""
    register()
    processor = AutoProcessor.from_pretrained(case.folder)
    model = AutoModelForImageTextToText.from_pretrained(case.folder, dtype=torch.float32).eval()
    assert type(model).__name__ == case.architecture
    generator = Generator.load(case.checkpoint, "cpu")
    ours = generator.model
    for seed, size in enumerate([(16, 16)] if case.architecture == LLAVA else [(40, 20), (18, 44)]):
        image = picture(seed, size)
        asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": QUESTION}]}]
        text = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
        inputs = processor(text=[text], images=[[image]], return_tensors="pt")
        ids = generator.prompt_ids(QUESTION)
        pixels, per_image, _ = lay_out_images([image], ours.config.layout, ours.vision.image_size)
        length = len(ids) - 1 + (per_image if isinstance(per_image, int) else len(per_image.templates[0]))
        piece = expand(np.array(ids), [length], [len(ids)], [[]], pixels, [], per_image)
        with torch.no_grad():
            expected = ours.logits(collate([piece], multiple=1))
            found = model(**inputs).logits
        assert inputs["input_ids"].shape[1] == length
        assert expected.std() > 0.1, "a model that says something"
        assert torch.allclose(found[..., : expected.shape[-1]], expected, atol=1e-4, rtol=0)
        answer = processor.decode(model.generate(**inputs, max_new_tokens=12)[0, length:], skip_special_tokens=True)
        assert answer.strip() == generator.generate(image, QUESTION, max_new_tokens=12)


def write_checkpoint(folder: Path, model: VisionLanguageModel, tokenizer: Any) -> None:
    """A pretrained model as training leaves it."""
    state = {"kind": "pretrain", "step": 1, "model": dataclasses.asdict(model.config)}
    with new_folder(str(folder)) as inner:
        save_model(inner, model, tokenizer, model.kept())
        Path(inner, STATE).write_text(json.dumps(state))


@pytest.mark.parametrize(
    ("kind", "more"),
    [
        ("phi", {"partial_rotary_factor": 0.5}),  # its head has a bias
        ("gemma4_text", {"hidden_size_per_layer_input": 0, "layer_types": ["sliding_attention", "full_attention"]}),
        ("glm4_moe", {"n_routed_experts": 4, "moe_intermediate_size": 16, "first_k_dense_replace": 1,
                      "num_experts_per_tok": 2}),
    ],
)  # fmt: skip
@pytest.mark.parametrize("tokens", [4, 16])
def test_nothing_of_a_decoder_is_lost(
    kind: str, more: dict[str, Any], tokens: int, tokenizer: "PreTrainedTokenizerFast", tmp_path: Path
) -> None:
    """Neither in a checkpoint nor in its export: buffers that it is loaded with, and the bias of its head."""
    config = dataclasses.replace(saved(kind, more, tmp_path / "language"), tokens_per_image=tokens)
    model = build_model(config, len(tokenizer)).eval()
    torch.manual_seed(7)
    for name, value in model.kept().items():
        if name not in dict(model.named_parameters()) or name.endswith("lm_head.bias"):
            value.detach().uniform_(0.5, 1.5)
    write_checkpoint(tmp_path / "checkpoint", model, tokenizer)
    exported = export_model(str(tmp_path / "checkpoint"), str(tmp_path / "hf"))
    register()
    theirs = AutoModelForImageTextToText.from_pretrained(exported.folder, dtype=torch.float32).eval()
    ids = np.arange(5, 25)
    batch = collate([expand(ids, [20], [20], [[]], np.zeros((0, 3, 16, 16), np.uint8), [], 1)], multiple=1)
    with torch.no_grad():
        expected = model.logits(batch)
        reloaded = load_model(str(tmp_path / "checkpoint"))[0].logits(batch)
        found = theirs(input_ids=torch.from_numpy(ids)[None]).logits[..., : expected.shape[-1]]
    torch.testing.assert_close(reloaded, expected)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "more", "every", "tokens", "native"),
    [
        ("qwen2", {}, 2, 4, "qwen2_moe"),
        ("llama", {"rope_parameters": LLAMA3}, 1, 16, "qwen2_moe"),
        ("qwen3", {"rms_norm_eps": 1e-3}, 2, 16, "qwen3_moe"),
    ],
)
def test_experts_become_a_sparse_decoder_of_transformers(
    kind: str, more: dict[str, Any], every: int, tokens: int, native: str, tokenizer: Any, tmp_path: Path
) -> None:
    config = dataclasses.replace(
        saved(kind, more, tmp_path / "language"), tokens_per_image=tokens, moe=MoEConfig(experts=3, every=every)
    )
    model = drawn(build_model(config, len(tokenizer)).eval())
    write_checkpoint(tmp_path / "checkpoint", model, tokenizer)
    exported = export_model(str(tmp_path / "checkpoint"), str(tmp_path / "hf"))
    assert exported.architecture == (LLAVA if tokens == 16 else OWN)
    register()
    theirs, told = AutoModelForImageTextToText.from_pretrained(
        exported.folder, dtype=torch.float32, output_loading_info=True
    )
    assert not any(told.values()), told
    assert theirs.config.text_config.model_type == native
    ids = np.arange(5, 25)
    batch = collate([expand(ids, [20], [20], [[]], np.zeros((0, 3, 16, 16), np.uint8), [], 1)], multiple=1)
    with torch.no_grad():
        expected = model.logits(batch)
        found = theirs.eval()(input_ids=torch.from_numpy(ids)[None]).logits[..., : expected.shape[-1]]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "more", "message"),
    [
        ("gemma3_text", {"sliding_window": 5}, "decoders of the type 'gemma3_text' have no sparse kin in transformers"),
        ("mistral", {"sliding_window": 5}, "its layers have a sliding window"),
        ("qwen2", {"sliding_window": 5, "use_sliding_window": True, "max_window_layers": 1}, "have a sliding window"),
        ("llama", {"attention_bias": True}, r"its attention's output has a bias \(attention_bias\)"),
    ],
)
def test_experts_that_transformers_does_not_have_are_not_exported(
    kind: str, more: dict[str, Any], message: str, tokenizer: Any, tmp_path: Path
) -> None:
    config = dataclasses.replace(saved(kind, more, tmp_path / "language"), moe=MoEConfig(experts=3, every=2))
    write_checkpoint(tmp_path / "checkpoint", build_model(config, len(tokenizer)), tokenizer)
    with pytest.raises(ValueError, match=message):
        export_model(str(tmp_path / "checkpoint"), str(tmp_path / "hf"))
    assert not (tmp_path / "hf").exists()


def test_two_pictures_of_different_shapes_in_one_text(case: Case) -> None:
    """Each stands at its own mark, whatever the other is."""
    if case.architecture == LLAVA:
        return
    register()
    processor = AutoProcessor.from_pretrained(case.folder)
    model = AutoModelForImageTextToText.from_pretrained(case.folder, dtype=torch.float32).eval()
    images = [picture(1, (40, 20)), picture(2, (18, 44))]
    both = processor(text=["a <image> b <image> c"], images=images, return_tensors="pt")
    alone = [processor(text=["<image>"], images=[one], return_tensors="pt") for one in images]
    with torch.no_grad():
        model(**both)
        features = [
            model.model.image_side(one) for given in alone for one in each_image({n: given.get(n) for n in INPUTS})
        ]
        together = [model.model.image_side(one) for one in each_image({n: both.get(n) for n in INPUTS})]
    assert all(torch.allclose(one, other, atol=1e-5) for one, other in zip(features, together, strict=True))
    with pytest.raises(ValueError, match="the text has 1 marks <image> for 2 images"):
        processor(text=["<image>"], images=images)


def test_it_judges_as_the_checkpoint_does(case: Case) -> None:
    """The scorer that names the export in one line measures what training's own scorer does."""
    sizes = [(16, 16)] * 4 if case.architecture == LLAVA else [(16, 16), (40, 20), (40, 20), (18, 44)]
    images = [decode_image(png(picture(seed, size))) for seed, size in enumerate(sizes)]
    batch = {"caption": ["a red square", "blue", "a green square number 3", "white"], "image": images}
    ours = CheckpointPerplexityScorer(checkpoint=case.checkpoint, prompt=case.prompt, device="cpu").load()(batch)
    theirs = ImagePerplexityScorer(model_name=case.folder, prompt=case.prompt, device="cpu").load()(batch)
    assert theirs["n_tokens"] == ours["n_tokens"]
    assert theirs["nll_sum"] == pytest.approx(ours["nll_sum"], rel=1e-4)


def png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


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
