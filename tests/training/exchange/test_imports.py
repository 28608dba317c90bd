"""Released checkpoints come in as they run where they are from: their logits, their prompts."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, AutoProcessor

from mmcorpus.curation.store.storage import Damaged
from mmcorpus.training import Generator
from mmcorpus.training.batch import collate, expand
from mmcorpus.training.exchange.export import export_model
from mmcorpus.training.exchange.imports import import_model
from mmcorpus.training.exchange.own import register
from mmcorpus.training.images import square
from tests.training.exchange.releases import IMAGE, SIZE, Published, llava_release, prismatic_release

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

OPEN_QWEN2VL = (
    "<s><|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "<|im_start|>user\n<image>\nWhat color is it?<|im_end|>assistant\n"
)
MLM_FILTER = (
    "<|im_start|>system\nYou are a helpful assistant<|im_end|>"
    "<|im_start|>user\n<image>\nWhat color is it?<|im_end|><|im_start|>assistant\n"
)


def ids_of(tokenizer: Any, text: str) -> list[int]:
    """As both release's scripts do it: each side of the mark by itself."""
    before, after = (tokenizer(part, add_special_tokens=False).input_ids for part in text.split("<image>"))
    return [*before, IMAGE, *after]


def same_logits(release: Published, checkpoint: str, prompt: str) -> Generator:
    generator = Generator.load(checkpoint, "cpu")
    image = Image.fromarray(np.random.default_rng(5).integers(0, 256, (50, 70, 3), dtype=np.uint8))
    ids = generator.prompt_ids("What color is it?")
    assert ids == ids_of(generator.tokenizer, prompt)
    pixels, per_image = square(image, SIZE).copy(), generator.model.config.tokens_per_image
    piece = expand(np.array(ids), [len(ids) + per_image - 1], [len(ids)], [[]], pixels[None], [], per_image)
    with torch.no_grad():
        found = generator.model.logits(collate([piece], multiple=1))[0]
    expected = release.logits(ids, torch.from_numpy(pixels).float() / 127.5 - 1.0)
    assert expected.std() > 0.1, "a model that says something"
    assert torch.allclose(found, expected, atol=1e-4, rtol=0)
    return generator


def same_exported(release: Published, folder: str) -> None:
    """transformers gives the same logits; the image's token, for which the embedding had no row, gets none but zero."""
    register()
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    asked = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What color is it?"}]}]
    text = processor.apply_chat_template(asked, add_generation_prompt=True, tokenize=False)
    assert text == MLM_FILTER
    image = Image.fromarray(np.random.default_rng(6).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8))
    inputs = processor(text=[text], images=[[image]], return_tensors="pt")
    with torch.no_grad():
        found = model(**inputs).logits[0]
    ids = ids_of(processor.tokenizer, text)
    expected = release.logits(ids, torch.from_numpy(square(image, SIZE).copy()).float() / 127.5 - 1.0)
    rows = expected.shape[1]
    assert torch.allclose(found[:, :rows], expected, atol=1e-4, rtol=0)
    assert found.shape[1] > rows
    assert not found[:, rows:].any()


@pytest.mark.parametrize("files", ["safetensors", "bin"])
def test_mlm_filter(tmp_path: Path, tokenizer: "PreTrainedTokenizerFast", files: str) -> None:
    (tmp_path / "release").mkdir()
    release = llava_release(tmp_path / "release", tokenizer, files=files)
    imported = import_model(release.folder, str(tmp_path / "ours"))
    assert (imported.layout, imported.config.vision_layer, imported.config.tokens_per_image) == ("llava", -1, 4)
    generator = same_logits(release, imported.checkpoint, MLM_FILTER)
    assert generator.model.language.config.rope_parameters["rope_theta"] == 1_000_000.0
    assert generator.model.language.get_input_embeddings().num_embeddings == len(tokenizer)
    exported = export_model(imported.checkpoint, str(tmp_path / "hf"))
    assert exported.own_class
    same_exported(release, exported.folder)


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["full-finetune", "finetune", "full-pretrain"])
def test_open_qwen2vl(tmp_path: Path, tokenizer: "PreTrainedTokenizerFast", stage: str) -> None:
    """timm's own encoder is the measure; one that was not trained is not in the file, but where it is named."""
    (tmp_path / "release").mkdir()
    release = prismatic_release(tmp_path / "release", tokenizer, stage=stage)
    imported = import_model(release.folder, str(tmp_path / "ours"), vision=release.vision, language=release.language)
    assert (imported.layout, imported.config.vision_layer, imported.config.tokens_per_image) == ("prismatic", -2, 4)
    prompt = "<s><image>\nWhat color is it?" if "pretrain" in stage else OPEN_QWEN2VL
    generator = same_logits(release, imported.checkpoint, prompt)
    assert generator.template is not None
    assert [generator.tokenizer.decode(end) for end in generator.template.ends] == ["<|im_end|>"]


def test_what_is_not_known_is_said_and_nothing_is_written(tmp_path: Path, tokenizer: "PreTrainedTokenizerFast") -> None:
    root, out = tmp_path / "release", str(tmp_path / "ours")
    root.mkdir()
    llava_release(root, tokenizer)
    settings = json.loads((root / "config.json").read_text())

    def refused(message: str, **changes: Any) -> None:
        told = {name: value for name, value in {**settings, **changes}.items() if value is not KeyError}
        (root / "config.json").write_text(json.dumps(told))
        with pytest.raises(ValueError, match=message):
            import_model(str(root), out)
        assert not Path(out).exists()

    refused("mm_projector_type is 'resampler'", mm_projector_type="resampler")
    refused("mm_use_im_start_end is True", mm_use_im_start_end=True)
    refused("cut into tiles", image_aspect_ratio="anyres")
    refused("model_type is 'llava_mpt'", model_type="llava_mpt")
    refused(r"config of '/gone' cannot be had; give its folder as --vision", mm_vision_tower="/gone")
    refused(r"fc1.weight of the release is \[32, 32\], but by its configs", hidden_size=64, num_attention_heads=4)
    refused("lacks language.model.layers.2", num_hidden_layers=3, layer_types=None)
    refused("describes no decoder", num_hidden_layers=3)
    refused("lacks 'mm_num_image_tokens', which the layout 'llava' has", mm_num_image_tokens=KeyError)
    (root / "config.json").write_text(json.dumps(settings))
    (root / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(ValueError, match=r"lacks model-00002-of-00002\.safetensors"):
        import_model(str(root), out)
    (root / "model-00002-of-00002.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(Damaged, match=r"model-00002-of-00002\.safetensors is damaged"):
        import_model(str(root), out)
    (root / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="of no layout that is known"):
        import_model(str(root), out)
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match="is not empty"):
        import_model(str(root), out)


def test_no_code_in_a_release_is_run(tmp_path: Path, tokenizer: "PreTrainedTokenizerFast") -> None:
    root = tmp_path / "release"
    root.mkdir()
    llava_release(root, tokenizer, files="bin")
    torch.save({"model.norm.weight": Planted(str(tmp_path / "planted"))}, root / "pytorch_model-00001-of-00002.bin")
    with pytest.raises(Damaged, match=r"pytorch_model-00001-of-00002\.bin"):
        import_model(str(root), str(tmp_path / "ours"))
    assert not (tmp_path / "planted").exists()


class Planted:
    """A pickle that writes a file where it is loaded without care."""

    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[str, str]]:
        return open, (self.path, "w")
