"""prismatic-vlms' layout, as Open-Qwen2VL is released in (github.com/Victorwz/Open-Qwen2VL).

    config.json                        {"model": {"vision_backbone_id", "llm_backbone_id", "arch_specifier"}, "stage"}
    checkpoints/latest-checkpoint.pt   {"model": {"projector": {…}, "llm_backbone": {…}, "vision_backbone": {…}}}

The encoder is timm's, of which all blocks but the last are run; it is in the file where it was trained. The decoder's
config and tokenizer are those of the model that it started from, with `<|endofchunk|>` and `<s>` added.
"""

import os
import re
from typing import Any, Final

import torch

from mmcorpus.packing.tokens import load_tokenizer
from mmcorpus.training.exchange.checkpoint import PROJECTOR, VISION
from mmcorpus.training.exchange.release import (
    Release,
    Sources,
    config_of,
    decoder_name,
    joined,
    published,
    tower_weights,
    untied,
)
from mmcorpus.training.tensors import Read, Tensors, read_file

LAYOUT: Final = "prismatic"
ENCODERS: Final = {
    "siglip-vit-b16-224px": "google/siglip-base-patch16-224",
    "siglip-vit-b16-256px": "google/siglip-base-patch16-256",
    "siglip-vit-b16-384px": "google/siglip-base-patch16-384",
    "siglip-vit-so400m": "google/siglip-so400m-patch14-224",
    "siglip-vit-so400m-384px": "google/siglip-so400m-patch14-384",
}
"""The encoders that we have, by prismatic's names."""
DECODERS: Final = {
    "qwen2.5-1.5b": "Qwen/Qwen2.5-1.5B",
    "qwen2.5-1.5b-instruct": "Qwen/Qwen2.5-1.5B-Instruct",
    "qwen2.5-3b": "Qwen/Qwen2.5-3B",
    "qwen2.5-7b-instruct": "Qwen/Qwen2.5-7B-Instruct",
}
"""The decoders that came with Open-Qwen2VL; for others, `language` says it."""
ADDED: Final = ("<|endofchunk|>", "<s>")
"""The tokens that it adds to the decoder's, in their order; they take rows that the embedding has to spare."""
_POOLED: Final = re.compile(r"(?:.*\+)?(?:([0-9]+)-)?avgpool\Z")
_PLAIN: Final = re.compile(r"(?!.*fused).*gelu-mlp\Z")
_DEFAULT_TOKENS: Final = 144
_FILE: Final = os.path.join("checkpoints", "latest-checkpoint.pt")
_LLM: Final = "model.llm_backbone.llm."
_TIMM: Final = "model.vision_backbone.featurizer."
_PARTS: Final = {
    "patch_embed.proj": "embeddings.patch_embedding",
    "norm1": "layer_norm1",
    "norm2": "layer_norm2",
    "attn.proj": "self_attn.out_proj",
    "mlp.fc1": "mlp.fc1",
    "mlp.fc2": "mlp.fc2",
}
"""timm's names of an encoder's parts, and SiglipVisionModel's."""


def known(settings: dict[str, Any]) -> bool:
    """Whether a config.json is of this layout."""
    return isinstance(settings.get("model"), dict) and "vision_backbone_id" in settings["model"]


def read(folder: str, settings: dict[str, Any], sources: Sources) -> Release:
    """The release in `folder`; raises ValueError for an encoder, a projector or a file that is not known."""
    model = settings["model"]
    vision_id, language_id = model["vision_backbone_id"], model["llm_backbone_id"]
    if vision_id not in ENCODERS and sources.vision is None:
        raise ValueError(f"its encoder is {vision_id!r}; of prismatic's, {', '.join(ENCODERS)} can be had")
    vision_name = sources.vision or ENCODERS[vision_id]
    language_name = sources.language or DECODERS.get(language_id, "")
    if not language_name:
        raise ValueError(f"its decoder is {language_id!r}; give a Hugging Face id or folder of that one as --language")
    strategy = model.get("image_resize_strategy", "resize-naive")
    if strategy != "resize-naive":
        raise ValueError(f"its images are prepared by {strategy!r}, ours are squashed to a square (resize-naive)")
    path = os.path.join(folder, _FILE)
    if not os.path.exists(path):
        raise ValueError(f"there is no {_FILE} in {folder}: download the release whole")
    file = read_file(path)
    vision = config_of(vision_name, "--vision").to_dict()
    # timm runs SigLIP's blocks with the exact GELU, transformers with its approximation by tanh; both are published.
    vision |= {"hidden_act": "gelu", "vision_use_head": False}
    language = config_of(language_name, "--language").to_dict()
    blocks = vision["num_hidden_layers"] - 1
    projector = file.renamed(_projector_name)
    decoder = file.renamed(lambda name: decoder_name(name.removeprefix(_LLM)) if name.startswith(_LLM) else None)
    own = _timm(file, blocks)
    tokenizer = load_tokenizer(language_name)
    tokenizer.add_tokens(list(ADDED), special_tokens=True)
    tokenizer.bos_token = "<s>"
    pretrained = str(settings.get("stage", "")).endswith(("pretrain", "align"))
    return Release(
        vision_name=vision_name,
        vision=vision,
        vision_layer=-2,
        tokens_per_image=_tokens(model["arch_specifier"], (vision["image_size"] // vision["patch_size"]) ** 2),
        language_name=language_name,
        language=language,
        tokenizer=tokenizer,
        chat_template=published("openqwen2vl_base" if pretrained else "openqwen2vl"),
        weights=untied(joined(own or tower_weights(vision_name, blocks), projector, decoder), language),
    )


def _tokens(specifier: str, patches: int) -> int:
    """The tokens of an image: `no-align+avgpool` is 144, `full-align+729-avgpool` 729, `no-align+gelu-mlp` all."""
    if (pooled := _POOLED.match(specifier)) is not None:
        return int(pooled[1] or _DEFAULT_TOKENS)
    if _PLAIN.match(specifier):
        return patches
    raise ValueError(f"its projector is {specifier!r}; avgpool, N-avgpool and gelu-mlp are known")


def _projector_name(name: str) -> str | None:
    layer = re.fullmatch(r"model\.projector\.(?:mlp_)?projector\.([02])\.(weight|bias)", name)
    return f"{PROJECTOR}fc{1 if layer[1] == '0' else 2}.{layer[2]}" if layer else None


def _timm(file: Tensors, blocks: int) -> Tensors | None:
    """The encoder's weights by our names, if the file has them."""
    readers: dict[str, Read] = {}
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, shape: tuple[int, ...], made: Read) -> None:
        readers[VISION + name], shapes[VISION + name] = made, shape

    for name, made in file.items():
        if not name.startswith(_TIMM):
            continue
        shape, rest = file.shapes[name], name.removeprefix(_TIMM)
        block = re.fullmatch(r"blocks\.([0-9]+)\.(.+)\.(weight|bias)", rest)
        if rest == "pos_embed":
            add("embeddings.position_embedding.weight", shape[1:], _first(made))
        elif rest.startswith("patch_embed.proj."):
            add(rest.replace("patch_embed.proj", _PARTS["patch_embed.proj"]), shape, made)
        elif block and int(block[1]) < blocks:
            layer = f"encoder.layers.{block[1]}."
            if block[2] == "attn.qkv":
                for place, part in enumerate("qkv"):
                    side = (shape[0] // 3, *shape[1:])
                    add(f"{layer}self_attn.{part}_proj.{block[3]}", side, _third(made, place))
            elif block[2] in _PARTS:
                add(f"{layer}{_PARTS[block[2]]}.{block[3]}", shape, made)
    return Tensors(readers, shapes) if readers else None


def _first(made: Read) -> Read:
    return lambda: made()[0]


def _third(made: Read, place: int) -> Read:
    def part() -> torch.Tensor:
        return made().chunk(3)[place]

    return part
