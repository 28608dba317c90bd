"""Tiny releases in the layouts of others, and what the others' own code makes of a picture and a prompt."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM, SiglipVisionConfig, SiglipVisionModel

WIDTH, HIDDEN, SIZE, PATCH, BLOCKS = 32, 32, 32, 8, 3
IMAGE = -200


@dataclasses.dataclass(frozen=True)
class Published:
    """A release on disk, and its model as it runs there."""

    folder: str
    vision: str
    language: str
    tower: Any
    """Pixels N×3×H×H in [-1, 1] → features."""
    pool: torch.nn.Module
    mlp: torch.nn.Sequential
    decoder: Qwen2ForCausalLM

    def logits(self, ids: list[int], pixels: torch.Tensor) -> torch.Tensor:
        """L×V: the image's features in the place of IMAGE."""
        place = ids.index(IMAGE)
        with torch.no_grad():
            features = self.tower(pixels[None])
            side = round(features.shape[1] ** 0.5)
            grid = self.pool(features.transpose(1, 2).unflatten(2, (side, side)))
            image = self.mlp(grid.flatten(2).transpose(1, 2))[0]
            words = self.decoder.get_input_embeddings()
            before, after = (words(torch.tensor(part)) for part in (ids[:place], ids[place + 1 :]))
            return self.decoder(inputs_embeds=torch.cat([before, image, after])[None]).logits[0]


def language_folder(root: Path, tokenizer: PreTrainedTokenizerFast, *, rows: int) -> Qwen2ForCausalLM:
    """A decoder of so many words, its config and tokenizer in the folder `language`."""
    torch.manual_seed(1)
    config = Qwen2Config(
        vocab_size=rows, hidden_size=WIDTH, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=True, initializer_range=0.3,
        rope_parameters={"rope_type": "default", "rope_theta": 1_000_000.0},
    )  # fmt: skip
    config.save_pretrained(root / "language")
    tokenizer.save_pretrained(root / "language")
    return Qwen2ForCausalLM(config).eval()


def vision_folder(root: Path, *, weights: bool = False) -> SiglipVisionModel:
    """An encoder's config, and its weights if asked for, in the folder `vision`."""
    torch.manual_seed(2)
    config = SiglipVisionConfig(
        hidden_size=HIDDEN, intermediate_size=64, num_hidden_layers=BLOCKS, num_attention_heads=2, image_size=SIZE,
        patch_size=PATCH, vision_use_head=False,
    )  # fmt: skip
    model = SiglipVisionModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    (model if weights else config).save_pretrained(root / "vision")
    return model


def mlp() -> torch.nn.Sequential:
    torch.manual_seed(3)
    return torch.nn.Sequential(torch.nn.Linear(HIDDEN, WIDTH), torch.nn.GELU(), torch.nn.Linear(WIDTH, WIDTH)).eval()


def prismatic_release(root: Path, tokenizer: PreTrainedTokenizerFast, *, stage: str = "full-finetune") -> Published:
    """As Open-Qwen2VL: timm's encoder, read before its last block, in the file if it was trained; pooled to 2×2."""
    import timm

    decoder = language_folder(root, tokenizer, rows=len(tokenizer) + 40)
    frozen = vision_folder(root, weights=True)
    projector = mlp()
    torch.manual_seed(4)
    featurizer: Any = timm.create_model(
        "vit_so400m_patch14_siglip_384", pretrained=False, num_classes=0, img_size=SIZE, patch_size=PATCH,
        embed_dim=HIDDEN, depth=BLOCKS, num_heads=2, mlp_ratio=2.0,
    ).eval()  # fmt: skip
    with torch.no_grad():
        for parameter in featurizer.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    state: dict[str, Any] = {
        "projector": {f"mlp_projector.{name}": value for name, value in projector.state_dict().items()},
        "llm_backbone": {f"llm.{name}": value.bfloat16() for name, value in decoder.state_dict().items()},
    }
    decoder.load_state_dict({name: value.bfloat16().float() for name, value in decoder.state_dict().items()})
    if stage.startswith("full"):
        state["vision_backbone"] = {f"featurizer.{name}": value for name, value in featurizer.state_dict().items()}

    def tower(pixels: torch.Tensor) -> torch.Tensor:
        if not stage.startswith("full"):
            return frozen_features(frozen, pixels, -2, act="gelu")
        features: torch.Tensor = featurizer.get_intermediate_layers(pixels, n={BLOCKS - 2})[0]
        return features

    (root / "checkpoints").mkdir()
    torch.save({"model": state}, root / "checkpoints" / "latest-checkpoint.pt")
    settings = {
        "model": {
            "model_id": "tiny", "arch_specifier": "no-align+4-avgpool", "vision_backbone_id": "siglip-vit-so400m-384px",
            "image_resize_strategy": "resize-naive", "llm_backbone_id": "qwen2.5-1.5b-instruct", "llm_max_length": 4096,
        },
        "mount_path": "Qwen",
        "stage": stage,
    }  # fmt: skip
    (root / "config.json").write_text(json.dumps(settings))
    pool = torch.nn.AdaptiveAvgPool2d(2)
    return Published(str(root), str(root / "vision"), str(root / "language"), tower, pool, projector, decoder)


def frozen_features(model: SiglipVisionModel, pixels: torch.Tensor, layer: int, *, act: str = "") -> torch.Tensor:
    """A SigLIP's hidden state, as transformers tells it."""
    if act:
        for block in model.encoder.layers:
            block.mlp.activation_fn = torch.nn.GELU()
    states = model(pixel_values=pixels, output_hidden_states=True).hidden_states
    assert states is not None
    return states[layer]


def llava_release(root: Path, tokenizer: PreTrainedTokenizerFast, *, files: str = "safetensors") -> Published:
    """As MLM-Filter: one folder, SigLIP's last block without the last norm, pooled; the head beside the embedding."""
    from safetensors.torch import save_file

    decoder = language_folder(root, tokenizer, rows=len(tokenizer))
    encoder = vision_folder(root)
    projector = mlp()
    state = {name: value.clone() for name, value in decoder.state_dict().items()}
    state |= {f"model.mm_projector.mlp_projector.{name}": value for name, value in projector.state_dict().items()}
    state |= {f"model.vision_tower.vision_tower.vision_model.{n}": value for n, value in encoder.state_dict().items()}
    assert "lm_head.weight" in state
    settings: dict[str, Any] = decoder.config.to_dict()
    settings |= {"rope_theta": 1_000_000.0, "rope_scaling": None, "model_type": "llava_qwen"}
    del settings["rope_parameters"]  # as older releases of transformers wrote it
    settings |= {
        "architectures": ["LlavaQwenForCausalLM"], "mm_vision_tower": str(root / "vision"), "mm_hidden_size": HIDDEN,
        "mm_projector_type": "aapool_mlp", "mm_num_image_tokens": 4, "mm_vision_select_layer": -1,
        "mm_vision_select_feature": "patch", "mm_use_im_start_end": False, "mm_use_im_patch_token": False,
        "mm_patch_merge_type": "flat", "image_aspect_ratio": "pad", "tokenizer_model_max_length": 4096,
        "use_mm_proj": True,
    }  # fmt: skip
    tokenizer.save_pretrained(root)
    (root / "config.json").write_text(json.dumps(settings))
    names = sorted(state)
    parts = [{name: state[name].contiguous() for name in half} for half in (names[::2], names[1::2])]
    ending, index = ("safetensors", "model.safetensors") if files == "safetensors" else ("bin", "pytorch_model.bin")
    where = {}
    for number, part in enumerate(parts, 1):
        name = f"{index.removesuffix('.' + ending)}-{number:05d}-of-00002.{ending}"
        save_file(part, root / name) if files == "safetensors" else torch.save(part, root / name)
        where |= dict.fromkeys(part, name)
    (root / f"{index}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    return Published(
        str(root), str(root / "vision"), str(root / "language"),
        lambda pixels: frozen_features(encoder, pixels, -1), torch.nn.AdaptiveAvgPool2d(2), projector, decoder,
    )  # fmt: skip
